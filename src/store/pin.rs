//! Keys to keep whole: `gc` drops nothing that the record of a pinned key names.
//!
//! The name of the file pins; what is in it is a note for people. So a pin that cannot be read still pins.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::content::Key;
use crate::store::disk::{Disk, Found};
use crate::store::error::StoreError;
use crate::store::{Store, sealed};

const SEAL: &str = "ablate-pin";

/// A key to keep whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub key: Key,
    /// Empty where none was given.
    pub note: String,
    /// When it was pinned, in seconds since 1970.
    pub since_unix_s: u64,
    /// What is wrong with the file; the pin counts all the same.
    pub damage: Option<String>,
}

impl Store {
    /// Pins a key, with or without a record; a second time replaces the note.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn pin(&self, key: &Key, note: &str) -> Result<(), StoreError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let text = format!("since {since}\n{note}");
        let header = sealed::header(SEAL, text.as_bytes());
        self.disk.publish(&self.disk.pin_path(key), &[header.as_bytes(), text.as_bytes()])
    }

    /// Takes a pin back; says whether there was one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn unpin(&self, key: &Key) -> Result<bool, StoreError> {
        let path = self.disk.pin_path(key);
        match self.disk.fs().remove(&path) {
            Ok(()) => self.disk.sync_above(&path).map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("remove", &path)(error)),
        }
    }

    /// Every pin, by key.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn pins(&self) -> Result<Vec<Pin>, StoreError> {
        let names = self.disk.list(&self.disk.root().join("pins"))?;
        let mut keys: Vec<Key> = names.iter().filter_map(|name| name.parse().ok()).collect();
        keys.sort_unstable();
        let mut pins = Vec::new();
        for key in keys {
            let found = match self.disk.read(&self.disk.pin_path(&key))? {
                Found::Bytes(bytes) => decode(&bytes),
                Found::NotAFile => Err("is not a file".to_owned()),
                Found::Absent => continue,
            };
            pins.push(match found {
                Ok((since_unix_s, note)) => Pin { key, note, since_unix_s, damage: None },
                Err(what) => Pin { key, note: String::new(), since_unix_s: 0, damage: Some(what) },
            });
        }
        Ok(pins)
    }
}

impl Disk {
    pub fn pin_path(&self, key: &Key) -> PathBuf {
        self.root().join("pins").join(key.to_string())
    }
}

/// When it was pinned, and the note.
pub(super) fn decode(bytes: &[u8]) -> Result<(u64, String), String> {
    let text = std::str::from_utf8(sealed::open(SEAL, bytes)?).map_err(|error| format!("is not UTF-8: {error}"))?;
    let split = text.split_once('\n').and_then(|(line, note)| Some((line.strip_prefix("since ")?, note)));
    let (since, note) = split.ok_or("has no `since` line")?;
    let since_unix_s = since.parse().map_err(|_| format!("has `{since}` for the time it was made"))?;
    Ok((since_unix_s, note.to_owned()))
}
