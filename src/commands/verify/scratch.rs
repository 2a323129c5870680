//! The store that second results are computed into: fresh, and gone afterwards unless it is to be kept.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::commands::error::CommandError;
use crate::commands::paragraph::note;

/// A folder with a store in it. Dropping it removes what is not to be kept, whichever way the command ends.
pub struct Scratch {
    folder: PathBuf,
    store: PathBuf,
    keep: bool,
}

impl Scratch {
    /// A new folder beside the store, on the same disk.
    pub fn beside(store: &Path) -> Result<Scratch, CommandError> {
        // A store named by `.` or through a link has its own folder's name and neighbours.
        let store = store.canonicalize().unwrap_or_else(|_| store.to_owned());
        let mut name = store.file_name().map_or_else(|| OsString::from("store"), OsString::from);
        let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        name.push(format!("-verify-{}-{now_ns}", std::process::id()));
        let folder = store.with_file_name(name);
        std::fs::create_dir(&folder).map_err(|source| CommandError::Write { path: folder.clone(), source })?;
        Ok(Scratch { store: folder.join("store"), folder, keep: false })
    }

    /// This folder, which must be new or empty: what is in it already would be found instead of computed.
    pub fn kept(folder: &Path) -> Result<Scratch, CommandError> {
        if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(CommandError::Usage(format!(
                "`--keep {}` is not empty: name a new or an empty folder for the second results",
                folder.display()
            )));
        }
        Ok(Scratch { folder: folder.to_owned(), store: folder.to_owned(), keep: true })
    }

    pub fn store(&self) -> &Path {
        &self.store
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            note(&format!("`{}` can be removed, it is not needed any more: {error}", self.folder.display()));
        }
    }
}
