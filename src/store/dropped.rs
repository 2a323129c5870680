//! Blobs given up on purpose: a sealed marker beside the record names them, and is there before the first of them goes.
//!
//! ```text
//! ablate-dropped 1 <digest of all below>
//! key <key>
//! blob <digest> <when, in seconds since 1970> <name>
//! ```
//!
//! A blob that is there is there, whatever a marker says: a marker that outlives the return of its blob does no harm.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::content::Key;
use crate::store::disk::{Disk, Found, Kind};
use crate::store::entry::{Dropped, check_blob_name};
use crate::store::error::StoreError;
use crate::store::sealed;

const SEAL: &str = "ablate-dropped";

/// The blobs a marker gives up, by name, each with its digest: another content of the same name is not excused.
pub(super) type Marker = BTreeMap<String, (Key, Dropped)>;

fn encode(key: &Key, marker: &Marker) -> String {
    let mut text = format!("key {key}\n");
    for (name, (digest, dropped)) in marker {
        text.push_str(&format!("blob {digest} {} {name}\n", dropped.at_unix_s));
    }
    sealed::header(SEAL, text.as_bytes()) + &text
}

/// The marker of `key`, or what is wrong with it, worded to follow the file's name.
pub(super) fn decode(key: &Key, bytes: &[u8]) -> Result<Marker, String> {
    let text = std::str::from_utf8(sealed::open(SEAL, bytes)?).map_err(|error| format!("is not UTF-8: {error}"))?;
    let mut lines = text.lines();
    if lines.next() != Some(&format!("key {key}")) {
        return Err(format!("is not of `{key}`"));
    }
    lines.map(|line| blob(line).ok_or_else(|| format!("has an unreadable line `{line}`"))).collect()
}

fn blob(line: &str) -> Option<(String, (Key, Dropped))> {
    let mut words = line.strip_prefix("blob ")?.split(' ');
    let (digest, at_unix_s) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let name = words.next()?;
    check_blob_name(name).ok()?;
    words.next().is_none().then(|| (name.to_owned(), (digest, Dropped { at_unix_s })))
}

impl Disk {
    pub fn dropped_path(&self, key: &Key) -> PathBuf {
        self.record_path(Kind::Result, key).with_extension("dropped")
    }

    /// What was given up of a key's record; one that cannot be read excuses nothing.
    pub fn dropped(&self, key: &Key) -> Result<Marker, StoreError> {
        Ok(match self.read(&self.dropped_path(key))? {
            Found::Bytes(bytes) => decode(key, &bytes).unwrap_or_default(),
            Found::Absent | Found::NotAFile => Marker::new(),
        })
    }

    /// Adds to what was given up of a key's record, durably.
    pub fn put_dropped(&self, key: &Key, more: Marker) -> Result<(), StoreError> {
        let mut marker = self.dropped(key)?;
        marker.extend(more);
        self.publish(&self.dropped_path(key), &[encode(key, &marker).as_bytes()])
    }

    /// Forgets that blobs were given up: they are there again. Whether there was a marker.
    pub fn remove_dropped(&self, key: &Key) -> Result<bool, StoreError> {
        let path = self.dropped_path(key);
        match self.fs().remove(&path) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(StoreError::io("remove", &path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decode_undoes_encode(blobs in prop::collection::btree_map("[a-z._-]{1,8}", any::<(u64, u64)>(), 0..4)) {
            let key = Key::of_bytes(b"a");
            let given_up = |(seed, at_unix_s): (u64, u64)| (Key::of_bytes(&seed.to_le_bytes()), Dropped { at_unix_s });
            let marker: Marker = blobs.into_iter().map(|(name, of)| (name, given_up(of))).collect();
            let text = encode(&key, &marker);
            prop_assert_eq!(decode(&key, text.as_bytes()), Ok(marker));
            prop_assert!(decode(&Key::of_bytes(b"b"), text.as_bytes()).is_err());
        }

        #[test]
        fn no_payload_panics(noise in "(?s).{0,60}") {
            let key = Key::of_bytes(b"a");
            for text in [noise.clone(), format!("key {key}\nblob {noise}")] {
                let _ = decode(&key, (sealed::header(SEAL, text.as_bytes()) + &text).as_bytes());
                prop_assert!(decode(&key, noise.as_bytes()).is_err());
            }
        }
    }
}
