//! Where everything is, and the two ways to touch it: read with suspicion, publish whole.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::content::Key;
use crate::store::Peek;
use crate::store::entry::{self, BlobRef, Entry};
use crate::store::error::StoreError;
use crate::store::fs::Fs;
use crate::store::temporary::{self, Temporary};

/// The layout of the whole store.
const VERSION: u32 = 1;

/// The file that says a directory is a store.
pub(super) const MARKER: &str = "ablate-store";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Result,
    Failure,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Result => "result",
            Kind::Failure => "failure",
        }
    }

    fn area(self) -> &'static str {
        match self {
            Kind::Result => "records",
            Kind::Failure => "failures",
        }
    }
}

/// A file that may be there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Absent,
    Bytes(Vec<u8>),
    /// Something that is no file.
    NotAFile,
}

/// What a look at a blob from outside finds wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    Missing,
    NotAFile,
    /// It has this many bytes.
    Length(u64),
}

impl Lack {
    /// Worded to follow the blob's path.
    pub fn text(self, blob: &BlobRef) -> String {
        match self {
            Lack::Missing => "is missing".to_owned(),
            Lack::NotAFile => "is not a file".to_owned(),
            Lack::Length(found) => format!("has {found} bytes, expected {}", blob.bytes),
        }
    }
}

pub(super) struct Disk {
    root: PathBuf,
    fs: Box<dyn Fs>,
    leftovers_removed: AtomicBool,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disk({})", self.root.display())
    }
}

impl Disk {
    pub fn new(root: &Path, fs: Box<dyn Fs>) -> Disk {
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        Disk { root: root.to_owned(), fs, leftovers_removed: AtomicBool::new(false) }
    }

    pub fn fs(&self) -> &dyn Fs {
        &*self.fs
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn record_path(&self, kind: Kind, key: &Key) -> PathBuf {
        let digits = key.to_string();
        self.root.join(kind.area()).join(&digits[..2]).join(format!("{digits}.record"))
    }

    pub fn blob_path(&self, digest: &Key) -> PathBuf {
        let digits = digest.to_string();
        self.root.join("blobs").join(&digits[..2]).join(digits)
    }

    pub fn claim_path(&self, key: &Key) -> PathBuf {
        self.root.join("claims").join(key.to_string())
    }

    pub fn progress_path(&self, key: &Key) -> PathBuf {
        self.root.join("progress").join(key.to_string())
    }

    pub fn open_or_create(&self) -> Result<(), StoreError> {
        if self.is_store()? {
            return Ok(());
        }
        let names = match self.fs.list(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            outcome => outcome.map_err(StoreError::io("list", &self.root))?,
        };
        // A process that died while creating the store leaves a temporary file and no more; one that lives may have
        // finished it since the first look, and have begun to use it.
        if !names.iter().all(|name| temporary::is_temporary(name)) {
            return if self.is_store()? { Ok(()) } else { Err(StoreError::NotAStore { path: self.root.clone() }) };
        }
        let path = self.root.join(MARKER);
        let expected = format!("{VERSION}\n");
        self.publish(&path, &[expected.as_bytes()])?;
        // The directories above may be new as well, or another's that may not be synced.
        for directory in self.root.ancestors().skip(1) {
            let _ = self.fs.sync_directory(directory);
        }
        Ok(())
    }

    /// Whether a store of this program's format is here; another format is an error.
    fn is_store(&self) -> Result<bool, StoreError> {
        let path = self.root.join(MARKER);
        match self.read(&path)? {
            Found::Absent => Ok(false),
            Found::Bytes(found) if found == format!("{VERSION}\n").as_bytes() => Ok(true),
            Found::Bytes(found) => {
                let found = String::from_utf8_lossy(&found).trim().chars().take(40).collect();
                Err(StoreError::UnknownVersion { path, found, expected: VERSION })
            }
            Found::NotAFile => Err(StoreError::NotAStore { path: self.root.clone() }),
        }
    }

    /// Reads a file. An error says that the file could not be judged, never that it is bad.
    pub fn read(&self, path: &Path) -> Result<Found, StoreError> {
        match self.fs.read(path) {
            Ok(bytes) => Ok(Found::Bytes(bytes)),
            Err(error) => match error.kind() {
                ErrorKind::NotFound => Ok(Found::Absent),
                ErrorKind::IsADirectory | ErrorKind::NotADirectory => Ok(Found::NotAFile),
                _ => Err(StoreError::io("read", path)(error)),
            },
        }
    }

    /// Puts a whole file at `target`, durably, in place of what is there.
    pub fn publish(&self, target: &Path, parts: &[&[u8]]) -> Result<(), StoreError> {
        Temporary::write(self.fs(), parent(target), parts, true)?.replace(target)?;
        self.sync_above(target)
    }

    /// Makes the names of `target` and of the directories above it durable, up to the root: any of them may be new,
    /// made by this process or by another that has not come to syncing it.
    pub fn sync_above(&self, target: &Path) -> Result<(), StoreError> {
        for directory in target.ancestors().skip(1).take_while(|path| path.starts_with(&self.root)) {
            self.fs
                .sync_directory(directory)
                .map_err(|source| StoreError::SyncDirectory { path: directory.to_owned(), source })?;
        }
        Ok(())
    }

    pub fn peek(&self, kind: Kind, key: &Key) -> Result<Peek, StoreError> {
        let path = self.record_path(kind, key);
        let damaged = |what: &str| Ok(Peek::Damaged(format!("record `{}` {what}", path.display())));
        let bytes = match self.read(&path)? {
            Found::Absent => return Ok(Peek::Absent),
            Found::NotAFile => return damaged("is not a file"),
            Found::Bytes(bytes) => bytes,
        };
        let mut entry = match entry::decode(kind, key, &bytes) {
            Ok(entry) => entry,
            Err(what) => return damaged(&what),
        };
        for (name, lack) in self.lacks(&entry)? {
            let blob = entry.blobs[&name];
            // Read once more for every missing blob, of which a record has few.
            let given_up = match kind {
                Kind::Result if lack == Lack::Missing => self.dropped(key)?.remove(&name),
                Kind::Result | Kind::Failure => None,
            };
            match given_up.filter(|(digest, _)| *digest == blob.digest) {
                Some((_, dropped)) => drop(entry.dropped.insert(name, dropped)),
                None => {
                    let path = self.blob_path(&blob.digest);
                    return damaged(&format!("names blob `{name}`, and `{}` {}", path.display(), lack.text(&blob)));
                }
            }
        }
        Ok(Peek::Hit(entry))
    }

    /// What a look from outside finds wrong with the blobs an entry names.
    pub fn lacks(&self, entry: &Entry) -> Result<Vec<(String, Lack)>, StoreError> {
        let mut lacks = Vec::new();
        for (name, blob) in &entry.blobs {
            let path = self.blob_path(&blob.digest);
            match self.fs.stat(&path) {
                Ok(stat) if !stat.is_file => lacks.push((name.clone(), Lack::NotAFile)),
                Ok(stat) if stat.bytes != blob.bytes => lacks.push((name.clone(), Lack::Length(stat.bytes))),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    lacks.push((name.clone(), Lack::Missing));
                }
                Err(error) => return Err(StoreError::io("look at", &path)(error)),
            }
        }
        Ok(lacks)
    }

    pub fn read_blob(&self, blob: &BlobRef) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(&blob.digest);
        let what = match self.read(&path)? {
            Found::Absent => "is missing".to_owned(),
            Found::NotAFile => "is not a file".to_owned(),
            Found::Bytes(bytes) => {
                let found = BlobRef::of(&bytes);
                if found == *blob {
                    return Ok(bytes);
                }
                format!("has {} bytes with digest `{}`, expected {}", found.bytes, found.digest, blob.bytes)
            }
        };
        Err(StoreError::DamagedBlob { path, what })
    }

    /// Makes a blob that is there as young as one put now, which `gc` spares.
    ///
    /// # Errors
    /// [`StoreError::DamagedBlob`] where it is not there whole, or the disk's.
    pub fn keep_blob(&self, blob: &BlobRef) -> Result<(), StoreError> {
        let (bytes, path) = (self.read_blob(blob)?, self.blob_path(&blob.digest));
        // One that went away since the look, or is another user's, is put once more.
        if self.fs.touch(&path).is_ok() { self.sync_above(&path) } else { self.publish(&path, &[&bytes]) }
    }

    pub fn put_blob(&self, bytes: &[u8]) -> Result<BlobRef, StoreError> {
        let blob = BlobRef::of(bytes);
        let path = self.blob_path(&blob.digest);
        let is_there = match self.read_blob(&blob) {
            Ok(_) => true,
            Err(StoreError::DamagedBlob { .. }) => false,
            Err(error) => return Err(error),
        };
        // `gc` spares what is young: a blob found here is as young as one put here, and one that went away since the look,
        // or is another user's, is put once more.
        if is_there && self.fs.touch(&path).is_ok() {
            self.sync_above(&path)?;
        } else {
            self.publish(&path, &[bytes])?;
        }
        Ok(blob)
    }

    pub fn set_aside(&self, blob: &BlobRef) -> Result<(), StoreError> {
        match self.read_blob(blob) {
            Ok(_) => return Ok(()),
            Err(StoreError::DamagedBlob { .. }) => {}
            Err(error) => return Err(error),
        }
        let path = self.blob_path(&blob.digest);
        match self.fs.rename(&path, &path.with_added_extension("damaged")) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("set aside", &path)(error)),
            _ => self.sync_above(&path),
        }
    }

    pub fn retire(&self, key: &Key) -> Result<(), StoreError> {
        let path = self.record_path(Kind::Result, key);
        match self.fs.rename(&path, &path.with_extension("retired")) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("retire", &path)(error)),
            _ => self.sync_above(&path),
        }
    }

    /// Writes a record where none is sound. The first of two results stays; what it is comes back.
    pub fn put_record(&self, entry: &Entry) -> Result<Option<Entry>, StoreError> {
        let key = &entry.key;
        let path = self.record_path(Kind::Result, key);
        let (header, payload) = entry::encode(Kind::Result, entry);
        self.publish(&path.with_extension("preimage"), &[entry.preimage.as_bytes()])?;
        let temporary = Temporary::write(self.fs(), parent(&path), &[header.as_bytes(), payload.as_bytes()], true)?;
        // Between a look that finds nothing and a rename another might commit; a link takes the name or leaves it.
        if self.peek(Kind::Result, key)? == Peek::Absent && temporary.claim_name(&path)? {
            self.sync_above(&path)?;
            return Ok(None);
        }
        match self.peek(Kind::Result, key)? {
            Peek::Hit(first) => {
                self.sync_above(&path)?;
                Ok(Some(first))
            }
            Peek::Absent | Peek::Damaged(_) => {
                temporary.replace(&path)?;
                self.sync_above(&path)?;
                Ok(None)
            }
        }
    }

    pub fn put_failure(&self, entry: &Entry) -> Result<(), StoreError> {
        let (header, payload) = entry::encode(Kind::Failure, entry);
        self.publish(&self.record_path(Kind::Failure, &entry.key), &[header.as_bytes(), payload.as_bytes()])
    }

    pub fn keys(&self, kind: Kind, prefix: &str) -> Result<BTreeSet<Key>, StoreError> {
        let area = self.root.join(kind.area());
        let mut keys = BTreeSet::new();
        for shard in self.list(&area)? {
            if shard.len() != 2 || !(prefix.starts_with(&shard) || shard.starts_with(prefix)) {
                continue;
            }
            let names = self.list(&area.join(shard))?;
            let records = names.iter().filter_map(|name| name.strip_suffix(".record"));
            keys.extend(records.filter(|name| name.starts_with(prefix)).filter_map(|name| name.parse::<Key>().ok()));
        }
        Ok(keys)
    }

    /// The names in a directory that may not be there.
    pub fn list(&self, directory: &Path) -> Result<Vec<String>, StoreError> {
        match self.fs.list(directory) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
            outcome => outcome.map_err(StoreError::io("list", directory)),
        }
    }

    /// Removes the temporary files of dead processes, at the first call.
    pub fn remove_leftovers(&self) {
        if self.leftovers_removed.swap(true, Ordering::Relaxed) {
            return;
        }
        let root = &self.root;
        [root.clone(), root.join("claims"), root.join("progress"), root.join("pins")]
            .iter()
            .for_each(|directory| temporary::remove_leftovers(self.fs(), directory));
        for area in ["blobs", "records", "failures"].map(|area| root.join(area)) {
            for shard in self.list(&area).unwrap_or_default() {
                temporary::remove_leftovers(self.fs(), &area.join(shard));
            }
        }
    }
}

/// Every path of the store has one.
fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
