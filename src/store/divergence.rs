//! Second results of a key that are not the first: kept beside the record as evidence, never a hit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::content::Key;
use crate::store::Store;
use crate::store::disk::{Disk, Found, Kind};
use crate::store::entry::{self, BlobRef, Entry, check_blob_name};
use crate::store::error::StoreError;

const INFIX: &str = ".divergence-";

impl Store {
    /// Keeps a second result of a key beside the first: `blobs` holds the bytes of every blob that `entry` names, and they
    /// are put before it. Where. The same result again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::BlobName`] for a name without bytes, [`StoreError::DamagedBlob`] for bytes that are not what `entry`
    /// names, or the disk's; the divergence is then there whole or not at all.
    pub fn keep_divergence(&self, entry: &Entry, blobs: &BTreeMap<String, Vec<u8>>) -> Result<PathBuf, StoreError> {
        for (name, blob) in &entry.blobs {
            check_blob_name(name)?;
            let bytes = blobs.get(name).ok_or_else(|| StoreError::BlobName(name.clone()))?;
            if BlobRef::of(bytes) != *blob {
                let what = format!("has other bytes than the record names for `{name}`");
                return Err(StoreError::DamagedBlob { path: self.blob_path(&blob.digest), what });
            }
        }
        for name in entry.blobs.keys() {
            self.disk.put_blob(&blobs[name])?;
        }
        self.disk.put_divergence(entry)
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
