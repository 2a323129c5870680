//! Messages where nobody may be listening.

use std::fmt::Arguments;
use std::io::Write;

/// Writes as much as is taken: `eprint!` would panic where the other end of a pipe is closed.
pub fn write(text: Arguments) {
    let _ = std::io::stderr().write_fmt(text);
}
