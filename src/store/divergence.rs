//! Second results of a key that are not the first: kept beside the record as evidence, never a hit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::content::Key;
use crate::store::claim::Divergence;
use crate::store::disk::{Disk, Found, Kind};
use crate::store::entry::{self, BlobRef, Entry, check_blob_name};
use crate::store::error::StoreError;
use crate::store::{Peek, Store};

const INFIX: &str = ".divergence-";

impl Store {
    /// Keeps a second result of `entry.key` beside the first, its blobs before it: those given, in place of what
    /// `entry.blobs` says. The same result again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::BlobName`], or the disk's; the divergence is then there whole or not at all.
    pub fn keep_divergence(&self, entry: &Entry, blobs: &BTreeMap<String, Vec<u8>>) -> Result<Divergence, StoreError> {
        let mut named: BTreeMap<String, BlobRef> = BTreeMap::new();
        for (name, bytes) in blobs {
            check_blob_name(name)?;
            named.insert(name.clone(), self.disk.put_blob(bytes)?);
        }
        let entry = Entry { blobs: named, ..entry.clone() };
        let path = self.disk.put_divergence(&entry)?;
        let blobs_agree = matches!(self.peek(&entry.key)?, Peek::Hit(first) if first.blobs == entry.blobs);
        Ok(Divergence { path, blobs_agree })
    }

    /// The second results kept of a key, by the names of their files; one that cannot be read says the file and why.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn divergences(&self, key: &Key) -> Result<Vec<Result<Entry, String>>, StoreError> {
        let record = self.record_path(key);
        let Some(shard) = record.parent() else { return Ok(Vec::new()) };
        let mut names = self.disk.list(shard)?;
        names.retain(|name| name.starts_with(&format!("{key}{INFIX}")) && !name.contains(".displaced."));
        names.sort_unstable();
        let mut found = Vec::new();
        for path in names.into_iter().map(|name| shard.join(name)) {
            let outcome = match self.disk.read(&path)? {
                Found::Absent => continue,
                Found::NotAFile => Err("is not a file".to_owned()),
                Found::Bytes(bytes) => entry::decode(Kind::Result, key, &bytes),
            };
            found.push(outcome.map_err(|what| format!("divergence `{}` {what}", path.display())));
        }
        Ok(found)
    }
}

impl Disk {
    /// Keeps a result that lost to another; where.
    pub fn put_divergence(&self, entry: &Entry) -> Result<PathBuf, StoreError> {
        let (header, payload) = entry::encode(Kind::Result, entry);
        let digest = Key::of_bytes(payload.as_bytes());
        let path = self.record_path(Kind::Result, &entry.key).with_extension(format!("divergence-{digest}"));
        self.publish(&path, &[header.as_bytes(), payload.as_bytes()])?;
        Ok(path)
    }
}
