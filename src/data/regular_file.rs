//! Opens a file of a data set: opening a pipe would wait for ever, and a device never ends.

use std::fs::File;
use std::io;
use std::path::Path;

/// # Errors
/// As [`File::open`], and for what is no regular file, before it is opened.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let kind = path.metadata()?.file_type();
    if !kind.is_file() {
        let found = if kind.is_dir() { "a folder" } else { "a pipe, a socket or a device" };
        return Err(io::Error::other(format!("it is {found}: expected a regular file")));
    }
    File::open(path)
}
