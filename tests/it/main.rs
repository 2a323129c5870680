//! One test binary.

mod command_line;
mod compile_fail;
mod golden;

mod harness;
mod kernels;
mod miniature;

mod tidy;
mod verify;
