//! What tells, without reading them, that the files of a data set are still those that were hashed.
//!
//! As in git's index: the path, size, modification and change time and inode of every file. A file modified so recently
//! that a second change could carry the same time is never trusted ("racily clean").

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rayon::prelude::*;

use crate::content::{Key, Value};
use crate::data::{DataError, digest};

/// Coarser than the clock of any file system in use (FAT: 2 s).
const SETTLED_AFTER_NS: i128 = 2_000_000_000;

#[derive(Debug, Clone)]
pub(super) struct Fingerprint {
    /// The kind of data set.
    pub dataset: &'static str,
    /// The canonical root, or the parameters of a data set without files.
    pub place: String,
    /// Over the state of every file.
    pub state: Key,
    newest_change_ns: Option<i128>,
    taken_ns: i128,
}

/// The state of one file.
struct FileState {
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
    inode: u64,
}

impl Fingerprint {
    /// Of files below `root`.
    pub fn of_files(dataset: &'static str, root: &Path, files: &[PathBuf]) -> Result<Fingerprint, DataError> {
        let taken_ns = nanoseconds(SystemTime::now());
        let canonical = root.canonicalize().map_err(|source| DataError::io(root, source))?;
        let states: Vec<Result<FileState, DataError>> = files
            .par_iter()
            .map(|path| path.metadata().map(|found| state(&found)).map_err(|source| DataError::io(path, source)))
            .collect();
        let mut bytes = Vec::with_capacity(files.len() * 80);
        preamble(dataset, &mut bytes);
        text(canonical.as_os_str().as_encoded_bytes(), &mut bytes);
        let mut newest_change_ns = None;
        for (path, state) in files.iter().zip(states) {
            let state = state?;
            text(path.strip_prefix(root).unwrap_or(path).as_os_str().as_encoded_bytes(), &mut bytes);
            for number in [state.size.into(), state.modified_ns, state.changed_ns, state.inode.into()] {
                bytes.extend(number.to_le_bytes());
            }
            newest_change_ns = newest_change_ns.max(Some(state.modified_ns));
        }
        let place = canonical.to_string_lossy().into_owned();
        Ok(Fingerprint { dataset, place, state: Key::of_bytes(&bytes), newest_change_ns, taken_ns })
    }

    /// Of a data set that follows from its parameters alone; `place` spells them for people.
    pub fn of_parameters(dataset: &'static str, place: String, parameters: &Value) -> Fingerprint {
        let mut bytes = Vec::new();
        preamble(dataset, &mut bytes);
        parameters.encode(&mut bytes);
        let state = Key::of_bytes(&bytes);
        Fingerprint { dataset, place, state, newest_change_ns: None, taken_ns: nanoseconds(SystemTime::now()) }
    }

    /// Whether a change from now on would show.
    pub fn is_settled(&self) -> bool {
        self.newest_change_ns.is_none_or(|newest| newest + SETTLED_AFTER_NS <= self.taken_ns)
    }

    pub fn same_files(&self, other: &Fingerprint) -> bool {
        self.state == other.state
    }
}

/// Another encoding, or another program with other decoders, trusts no old digest.
fn preamble(dataset: &str, bytes: &mut Vec<u8>) {
    for part in [digest::DOMAIN, env!("CARGO_PKG_VERSION"), dataset] {
        text(part.as_bytes(), bytes);
    }
}

fn text(content: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend((content.len() as u64).to_le_bytes());
    bytes.extend(content);
}

#[cfg(unix)]
fn state(found: &Metadata) -> FileState {
    use std::os::unix::fs::MetadataExt;
    let join = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    FileState {
        size: found.size(),
        modified_ns: join(found.mtime(), found.mtime_nsec()),
        changed_ns: join(found.ctime(), found.ctime_nsec()),
        inode: found.ino(),
    }
}

/// Without inodes and change times; where there is no modification time either, nothing is ever settled.
#[cfg(not(unix))]
fn state(found: &Metadata) -> FileState {
    let modified_ns = found.modified().map_or(i128::MAX / 2, nanoseconds);
    FileState { size: found.len(), modified_ns, changed_ns: 0, inode: 0 }
}

/// Since 1970; negative before.
fn nanoseconds(time: SystemTime) -> i128 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}
