//! What can go wrong with a store, and all the wording of it.

use std::io;
use std::path::{Path, PathBuf};

use crate::content::Key;
use crate::store::claim::Owner;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("failed to {action} `{}`: {source}{}", path.display(), advice(source.kind()))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("failed to sync directory `{}`: {source}; the file is in place but may not outlive a power cut", path.display())]
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
}

impl StoreError {
    /// Names the call that failed.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io { action, path, source }
    }
}

fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space and run again",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "; make the store writable to you",
        _ => "",
    }
}

fn lost_to(owner: Option<&Owner>) -> String {
    owner.map_or_else(|| "its file is gone".to_owned(), |owner| format!("{owner} has it now"))
}
