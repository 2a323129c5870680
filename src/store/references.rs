//! Which blobs are named, and by what. A file that cannot be read may name any.

use std::collections::BTreeMap;

use crate::content::Key;
use crate::store::disk::{Disk, Found, Kind};
use crate::store::entry;
use crate::store::error::StoreError;
use crate::store::inventory::{Item, Sort};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Record,
    Failure,
    Divergence,
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
                | Sort::Progress(_)
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
                Ok(entry) => {
                    for (name, blob) in entry.blobs {
                        let named_by = references.by_digest.entry(blob.digest).or_default();
                        named_by.push(Reference { source, key, name });
                    }
                }
                Err(what) => references.unreadable.push(format!("`{}` {what}", item.path.display())),
            }
        }
        Ok(references)
    }

    pub fn of(&self, digest: &Key) -> &[Reference] {
        self.by_digest.get(digest).map_or(&[], Vec::as_slice)
    }
}
