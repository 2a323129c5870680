//! One test binary.

mod command_line;
mod compile_fail;

mod harness;
mod hostile;
mod kernels;
mod miniature;

mod tidy;
