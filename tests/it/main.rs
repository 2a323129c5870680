//! One test binary.

mod command_line;
mod compile_fail;

mod harness;
mod kernels;
mod miniature;
mod store_commands;

mod tidy;
