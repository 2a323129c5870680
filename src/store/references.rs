//! Which blobs are named, and by what. A file that cannot be read may name any.

use std::collections::BTreeMap;

use crate::content::Key;
use crate::store::disk::{Disk, Found, Kind};
use crate::store::entry::{self, BlobRef};
use crate::store::error::StoreError;
use crate::store::inventory::{Item, Sort};
use crate::store::progress;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Record,
    Failure,
    Divergence,
    /// An in-flight checkpoint: work that was cut off, and goes on from the blobs it has left.
    Progress,
}

/// One file that names one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub source: Source,
    pub key: Key,
    pub name: String,
}

#[derive(Debug, Default)]
pub(super) struct References {
    /// By the blob's digest.
    pub by_digest: BTreeMap<Key, Vec<Reference>>,
    /// The files that may name any blob, each with why it cannot be read.
    pub unreadable: Vec<String>,
}

impl References {
    pub fn read(disk: &Disk, items: &[Item]) -> Result<References, StoreError> {
        let mut references = References::default();
        for item in items {
            let (key, source, kind) = match item.sort {
                Sort::Progress(key) => {
                    references.read_progress(disk, item, key)?;
                    continue;
                }
                Sort::Record(key) => (key, Source::Record, Kind::Result),
                Sort::Divergence(key) => (key, Source::Divergence, Kind::Result),
                Sort::Failure(key) => (key, Source::Failure, Kind::Failure),
                // Where nobody looks there may be a record all the same.
                Sort::Misplaced => {
                    references.unreadable.push(format!("`{}` is not where it belongs", item.path.display()));
                    continue;
                }
                Sort::Format
                | Sort::Preimage(_)
                | Sort::DroppedMarker(_)
                | Sort::Blob(_)
                | Sort::Claim(_)
                | Sort::Pin(_)
                | Sort::Temporary
                | Sort::Condemned(_)
                | Sort::SetAside
                | Sort::Unknown => continue,
            };
            let decoded = match disk.read(&item.path)? {
                Found::Absent => continue,
                Found::NotAFile => Err("is not a file".to_owned()),
                Found::Bytes(bytes) => entry::decode(kind, &key, &bytes),
            };
            match decoded {
                Ok(entry) => references.add(source, key, entry.blobs),
                Err(what) => references.unreadable.push(format!("`{}` {what}", item.path.display())),
            }
        }
        Ok(references)
    }

    /// One that is torn is of no use, and keeps nothing.
    fn read_progress(&mut self, disk: &Disk, item: &Item, key: Key) -> Result<(), StoreError> {
        if let Found::Bytes(bytes) = disk.read(&item.path)?
            && let Ok((blobs, _)) = progress::decode(&bytes)
        {
            self.add(Source::Progress, key, blobs);
        }
        Ok(())
    }

    fn add(&mut self, source: Source, key: Key, blobs: BTreeMap<String, BlobRef>) {
        for (name, blob) in blobs {
            self.by_digest.entry(blob.digest).or_default().push(Reference { source, key, name });
        }
    }

    pub fn of(&self, digest: &Key) -> &[Reference] {
        self.by_digest.get(digest).map_or(&[], Vec::as_slice)
    }
}
