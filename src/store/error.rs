//! What can go wrong with a store, and all the wording of it.

use std::io;
use std::path::{Path, PathBuf};

use crate::content::Key;
use crate::store::claim::Owner;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("failed to {action} `{}`: {source}{}", path.display(), advice(source))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("failed to sync directory `{}`: {source}; the file is in place but may not outlive a power cut{}", path.display(), advice(source))]
    SyncDirectory { path: PathBuf, source: io::Error },
    #[error("`{}` is not a result store: it holds files but no `ablate-store`; name a new or an empty directory", path.display())]
    NotAStore { path: PathBuf },
    #[error("`{}` says format `{found}`, expected `{expected}`: use the version of ablate that wrote this store, or another directory", path.display())]
    UnknownVersion { path: PathBuf, found: String, expected: u32 },
    #[error("wrote {expected} bytes to `{}` and found {found}: check the disk and the quota", path.display())]
    ShortWrite { path: PathBuf, expected: u64, found: u64 },
    #[error("blob `{}` {what}", path.display())]
    DamagedBlob { path: PathBuf, what: String },
    #[error("`{0}` cannot name a blob: expected letters, digits, `-`, `_` and `.`")]
    BlobName(String),
    #[error("the claim `{}` is being taken over by another process again and again; try again, or remove it", path.display())]
    ClaimBusy { path: PathBuf },
    #[error("the claim on `{key}` was lost: {}; a result can still be committed", lost_to(owner.as_ref()))]
    ClaimLost { key: Key, owner: Option<Owner> },
    #[error("another `ablate gc` is at work in `{}`; try again when it is done", path.display())]
    GcBusy { path: PathBuf },
}

impl StoreError {
    /// Names the call that failed.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io { action, path, source }
    }
}

/// Linux's numbers for "too many open files", of the process and of the system; `io::ErrorKind` has no name for them.
const TOO_MANY_OPEN_FILES: [i32; 2] = [24, 23];

fn advice(error: &io::Error) -> &'static str {
    if error.raw_os_error().is_some_and(|number| TOO_MANY_OPEN_FILES.contains(&number)) {
        return "; allow more open files (`ulimit -n`) and run again";
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "; free some space and run again"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "; make the store writable to you",
        _ => "",
    }
}

fn lost_to(owner: Option<&Owner>) -> String {
    owner.map_or_else(|| "its file is gone".to_owned(), |owner| format!("{owner} has it now"))
}
