//! One test binary.

mod command_line;
mod compile_fail;

mod harness;
mod miniature;

mod tidy;
