//! A file that is there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::report::ReportError;

/// Sets apart the temporary files of one process.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Writes beside `path`, flushes to the disk and renames: readers see the old file or the new one, after a power cut too.
/// The folder must exist.
///
/// # Errors
/// When the system refuses; the old file is then untouched and nothing is left beside it.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    let refused = |source| ReportError::Write { path: path.to_owned(), source };
    let temporary = temporary_beside(path).map_err(refused)?;
    let renamed = write_whole(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = renamed {
        // The first error is the one to tell; a file left behind is only untidy.
        let _ = fs::remove_file(&temporary);
        return Err(refused(source));
    }
    sync_folder(path).map_err(refused)
}

fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "expected the path of a file");
    let name = path.file_name().ok_or_else(no_name)?.to_string_lossy();
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    Ok(path.with_file_name(format!(".{name}.{}.{number}.tmp", std::process::id())))
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.parquet");
        for bytes in [&b"first"[..], b"", b"third and longer"] {
            write_atomically(&path, bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_refused_write_says_which_file_and_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let occupied = folder.path().join("occupied");
        fs::create_dir_all(occupied.join("inside")).unwrap();
        for path in [&occupied, &folder.path().join("absent/results.parquet"), Path::new("/")] {
            let error = write_atomically(path, b"x").unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot write `{}`: ", path.display())), "{error}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
