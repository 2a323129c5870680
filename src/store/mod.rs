//! The result store: bytes by key, crash-only, in plain files.
//!
//! ```text
//! ablate-store                       the format of the whole, `1`
//! blobs/ab/<digest>                  content, named by its BLAKE3
//! records/ab/<key>.record            a finished result: a sealed header, the pre-image, the caller's body, its blobs
//! records/ab/<key>.preimage          the pre-image once more, for `diff` and `grep`; never read back
//! records/ab/<key>.divergence-<d>    a later result that differs from the record; the first one wins
//! records/ab/<key>.dropped           which blobs of the record were given up on purpose
//! failures/ab/<key>.record           the last failure, never a hit
//! claims/<key>                       who computes the key now: advice, not truth
//! progress/<key>                     an in-flight checkpoint, sealed, and the blobs it has left so far
//! pins/<key>                         a key to keep whole
//! ```
//!
//! A file appears whole or not at all: it is written under a temporary name, its length checked, synced, renamed, and
//! the directories above it synced. A record is written after all it names, so a record that is there is complete.
//! Reading trusts nothing: whatever does not prove itself is a miss that says why. Losing a claim costs duplicate work,
//! never a result. Nothing here knows what a record means.

pub mod check;
mod claim;
mod disk;
mod divergence;
mod dropped;
mod entry;
mod error;
pub mod fs;
pub mod gc;
mod held;
mod inventory;
mod pin;
mod process;
mod progress;
mod references;
mod sealed;
mod temporary;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::content::Key;
use crate::store::disk::{Disk, Kind};
use crate::store::fs::{Fs, RealFs};

pub use crate::store::claim::{Claim, Committed, Divergence, Owner, Progress};
pub use crate::store::entry::{BlobRef, Dropped, Entry};
pub use crate::store::error::StoreError;
pub use crate::store::held::{Claimed, give_back_all};
pub use crate::store::pin::Pin;
#[cfg(test)]
pub(crate) use crate::store::tests::tally::tally;

/// A store on disk. Clones share it; several processes and hosts may use one directory at once.
#[derive(Clone)]
pub struct Store {
    disk: Arc<Disk>,
}

/// What the store answers to one who is ready to compute.
#[derive(Debug)]
pub enum Lookup {
    Hit(Entry),
    Miss(Miss),
    /// Another claim on the key is alive, here or in another process.
    Taken(Owner),
}

/// Leave to compute a key.
#[derive(Debug)]
pub struct Miss {
    pub claim: Claim,
    /// Why a record that is there did not count.
    pub damage: Option<String>,
    /// Why an earlier claim did not count.
    pub taken_over: Option<String>,
}

/// What the store answers to one who only looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peek {
    Hit(Entry),
    Absent,
    /// There is a record, but it cannot be trusted; names the file and what is wrong with it.
    Damaged(String),
}

impl Store {
    /// Opens the store at `root`, and creates it where there is none. An existing store is only read.
    ///
    /// # Errors
    /// [`StoreError::UnknownVersion`] for a format this program does not know, [`StoreError::NotAStore`] for a directory
    /// that holds other files, [`StoreError::Io`].
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        Store::open_on(root, Box::new(RealFs))
    }

    /// Opens the store with all its input and output going through `fs`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(root: &Path, fs: Box<dyn Fs>) -> Result<Store, StoreError> {
        let disk = Disk::new(root, fs);
        disk.open_or_create()?;
        Ok(Store { disk: Arc::new(disk) })
    }

    pub fn root(&self) -> &Path {
        self.disk.root()
    }

    /// Where the record of a key is or would be.
    pub fn record_path(&self, key: &Key) -> PathBuf {
        self.disk.record_path(Kind::Result, key)
    }

    /// Where a blob is or would be.
    pub fn blob_path(&self, digest: &Key) -> PathBuf {
        self.disk.blob_path(digest)
    }

    /// Finds the result of a key, or claims the key for this caller. A hit writes nothing.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the disk refuses, [`StoreError::ClaimBusy`]; a damaged record is a miss, not an error.
    pub fn lookup(&self, key: &Key) -> Result<Lookup, StoreError> {
        self.find_or_claim(key, |_| true)
    }

    /// As [`Store::lookup`], for a caller that needs every blob: a record some of whose blobs were dropped is a miss, which
    /// says so in [`Miss::damage`]. A commit of the same blobs makes the record whole again.
    ///
    /// # Errors
    /// As [`Store::lookup`].
    pub fn lookup_whole(&self, key: &Key) -> Result<Lookup, StoreError> {
        self.find_or_claim(key, |entry| entry.dropped.is_empty())
    }

    fn find_or_claim(&self, key: &Key, is_enough: impl Fn(&Entry) -> bool) -> Result<Lookup, StoreError> {
        match self.peek(key)? {
            Peek::Hit(entry) if is_enough(&entry) => return Ok(Lookup::Hit(entry)),
            Peek::Hit(_) | Peek::Absent | Peek::Damaged(_) => {}
        }
        self.disk.remove_leftovers();
        let (claim, taken_over) = match claim::acquire(&self.disk, key)? {
            claim::Acquired::Taken(owner) => return Ok(Lookup::Taken(owner)),
            claim::Acquired::Claimed { claim, taken_over } => (claim, taken_over),
        };
        // Another process may have committed between the first look and the claim.
        let damage = match self.peek(key)? {
            Peek::Hit(entry) if is_enough(&entry) => return Ok(Lookup::Hit(entry)),
            Peek::Hit(entry) => {
                let names: Vec<String> = entry.dropped.keys().map(|name| format!("`{name}`")).collect();
                let path = self.record_path(key);
                Some(format!("record `{}` names {}, which `gc` dropped", path.display(), names.join(", ")))
            }
            Peek::Absent => None,
            Peek::Damaged(why) => Some(why),
        };
        Ok(Lookup::Miss(Miss { claim, damage, taken_over }))
    }

    /// Finds the result of a key; claims and writes nothing. Checks the record's digest, format and key and that each
    /// blob is there with its length or was dropped on purpose ([`Entry::dropped`]), not the blobs' bytes.
    ///
    /// # Errors
    /// [`StoreError::Io`] for a refusal that says nothing about the record, such as too many open files.
    pub fn peek(&self, key: &Key) -> Result<Peek, StoreError> {
        self.disk.peek(Kind::Result, key)
    }

    /// As [`Store::peek`], and reads every blob to its last byte.
    ///
    /// # Errors
    /// As [`Store::peek`].
    pub fn verify(&self, key: &Key) -> Result<Peek, StoreError> {
        let entry = match self.peek(key)? {
            Peek::Hit(entry) => entry,
            Peek::Absent => return Ok(Peek::Absent),
            Peek::Damaged(why) => return Ok(Peek::Damaged(why)),
        };
        for (_, blob) in entry.blobs.iter().filter(|(name, _)| !entry.dropped.contains_key(*name)) {
            match self.disk.read_blob(blob) {
                Ok(_) => {}
                Err(damage @ StoreError::DamagedBlob { .. }) => return Ok(Peek::Damaged(damage.to_string())),
                Err(error) => return Err(error),
            }
        }
        Ok(Peek::Hit(entry))
    }

    /// The last failure of a key, if a readable one is kept; a later success removes it.
    ///
    /// # Errors
    /// As [`Store::peek`].
    pub fn failure(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(match self.disk.peek(Kind::Failure, key)? {
            Peek::Hit(entry) => Some(entry),
            Peek::Absent | Peek::Damaged(_) => None,
        })
    }

    /// The bytes of a blob, checked against its length and digest.
    ///
    /// # Errors
    /// [`StoreError::DamagedBlob`], which [`Store::set_aside`] turns into a miss of the records that name it.
    pub fn read_blob(&self, blob: &BlobRef) -> Result<Vec<u8>, StoreError> {
        self.disk.read_blob(blob)
    }

    /// Renames a blob whose bytes are damaged to `<digest>.damaged`, so that the next lookup of a record that names it
    /// is a miss. A sound or missing blob is left as it is.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn set_aside(&self, blob: &BlobRef) -> Result<(), StoreError> {
        self.disk.set_aside(blob)
    }

    /// Renames the record of a key to `<key>.retired`: its bytes are sound, but the caller cannot use what they say, so the
    /// next lookup is a miss. The newest retired record is kept.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn retire(&self, key: &Key) -> Result<(), StoreError> {
        self.disk.retire(key)
    }

    /// Every claim that can be read, with whether its owner is alive, by key.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn claims(&self) -> Result<Vec<Claimed>, StoreError> {
        held::claims(&self.disk)
    }

    /// Bytes this user may still write where the store is; none where the filesystem does not tell.
    pub fn free_bytes(&self) -> Option<u64> {
        self.disk.fs().free_bytes(self.root()).ok()
    }

    /// The keys that have a record, sound or not, in order.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn keys(&self) -> Result<Vec<Key>, StoreError> {
        Ok(self.disk.keys(Kind::Result, "")?.into_iter().collect())
    }

    /// The keys with a record or a failure that begin with `prefix`, in order; none for what begins no key.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn find(&self, prefix: &str) -> Result<Vec<Key>, StoreError> {
        let mut keys: BTreeSet<Key> = self.disk.keys(Kind::Result, prefix)?;
        keys.extend(self.disk.keys(Kind::Failure, prefix)?);
        Ok(keys.into_iter().collect())
    }
}
