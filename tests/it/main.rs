//! One test binary.

mod command_line;
mod compile_fail;
mod explanations;

mod harness;
mod kernels;
mod miniature;

mod tidy;
