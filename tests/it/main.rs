//! One test binary.

mod command_line;

mod harness;
mod miniature;

mod tidy;
