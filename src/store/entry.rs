//! A record's text: which key, which blobs, the pre-image and the caller's body, sealed.
//!
//! ```text
//! ablate-record 1 <digest of all below>
//! kind result
//! key <key>
//! blob <digest> <bytes> <name>
//! preimage <bytes>
//! body <bytes>
//!
//! <pre-image>
//! <body>
//! ```

use std::collections::BTreeMap;

use crate::content::Key;
use crate::store::disk::Kind;
use crate::store::error::StoreError;
use crate::store::sealed;

const SEAL: &str = "ablate-record";

/// A finished result, or a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    /// The caller's text, unread by the store.
    pub body: String,
    /// What the key is the hash of, for people.
    pub preimage: String,
    /// By name.
    pub blobs: BTreeMap<String, BlobRef>,
    /// Those of `blobs` that were dropped on purpose and are not there; nothing of a file, but what a look at the disk adds.
    pub dropped: BTreeMap<String, Dropped>,
}

/// A blob given up on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// In seconds since 1970.
    pub at_unix_s: u64,
}

/// Content by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRef {
    pub digest: Key,
    pub bytes: u64,
}

impl BlobRef {
    pub(super) fn of(bytes: &[u8]) -> BlobRef {
        BlobRef { digest: Key::of_bytes(bytes), bytes: bytes.len() as u64 }
    }
}

/// Names are words of a line.
pub(super) fn check_blob_name(name: &str) -> Result<(), StoreError> {
    let sound = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(sound) {
        return Err(StoreError::BlobName(name.to_owned()));
    }
    Ok(())
}

/// The header and the payload of a record.
pub(super) fn encode(kind: Kind, entry: &Entry) -> (String, String) {
    let Entry { key, body, preimage, blobs, dropped: _ } = entry;
    let mut text = format!("kind {}\nkey {key}\n", kind.word());
    for (name, blob) in blobs {
        text.push_str(&format!("blob {} {} {name}\n", blob.digest, blob.bytes));
    }
    text.push_str(&format!("preimage {}\nbody {}\n\n{preimage}\n{body}\n", preimage.len(), body.len()));
    (sealed::header(SEAL, text.as_bytes()), text)
}

/// The record of `key` from a file's bytes, or what is wrong with them, worded to follow the file's name.
pub(super) fn decode(kind: Kind, key: &Key, bytes: &[u8]) -> Result<Entry, String> {
    let payload = sealed::open(SEAL, bytes)?;
    let text = std::str::from_utf8(payload).map_err(|error| format!("is not UTF-8: {error}"))?;
    let mut lines = Lines { rest: text };
    let found = lines.field("kind")?;
    if found != kind.word() {
        return Err(format!("is of kind `{found}`, expected `{}`", kind.word()));
    }
    let found = lines.field("key")?;
    if found != key.to_string() {
        return Err(format!("is the record of `{found}`, expected `{key}`"));
    }
    let mut blobs = BTreeMap::new();
    while lines.rest.starts_with("blob ") {
        let line = lines.field("blob")?;
        let (name, blob) = blob(line).ok_or_else(|| format!("has an unreadable blob line `{line}`"))?;
        blobs.insert(name, blob);
    }
    let preimage_bytes = lines.length("preimage")?;
    let body_bytes = lines.length("body")?;
    lines.text(0)?;
    let preimage = lines.text(preimage_bytes)?.to_owned();
    let body = lines.text(body_bytes)?.to_owned();
    if !lines.rest.is_empty() {
        return Err("goes on after its end".to_owned());
    }
    Ok(Entry { key: *key, body, preimage, blobs, dropped: BTreeMap::new() })
}

fn blob(line: &str) -> Option<(String, BlobRef)> {
    let mut words = line.split(' ');
    let blob = BlobRef { digest: words.next()?.parse().ok()?, bytes: words.next()?.parse().ok()? };
    let name = words.next()?;
    check_blob_name(name).ok()?;
    words.next().is_none().then(|| (name.to_owned(), blob))
}

struct Lines<'a> {
    rest: &'a str,
}

impl<'a> Lines<'a> {
    /// What follows `name` and a space on the next line.
    fn field(&mut self, name: &str) -> Result<&'a str, String> {
        let split = self.rest.split_once('\n').and_then(|(line, rest)| Some((line.split_once(' ')?, rest)));
        match split {
            Some(((found, value), rest)) if found == name => {
                self.rest = rest;
                Ok(value)
            }
            _ => Err(format!("has no `{name}` line where one is due")),
        }
    }

    fn length(&mut self, name: &str) -> Result<usize, String> {
        let text = self.field(name)?;
        text.parse().map_err(|_| format!("has `{text}` for the length of its {name}"))
    }

    /// The next `bytes` bytes, which a line's end must follow.
    fn text(&mut self, bytes: usize) -> Result<&'a str, String> {
        let split = self.rest.split_at_checked(bytes).and_then(|(text, rest)| Some((text, rest.strip_prefix('\n')?)));
        let (text, rest) = split.ok_or_else(|| format!("has no text of {bytes} bytes where one is due"))?;
        self.rest = rest;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes((header, payload): (String, String)) -> Vec<u8> {
        [header, payload].concat().into_bytes()
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let blobs = prop::collection::btree_map("[a-z._-]{1,8}", (any::<u64>(), any::<u64>()), 0..4);
        ("(?s).{0,40}", "(?s).{0,40}", blobs).prop_map(|(body, preimage, blobs)| {
            let blob = |(seed, bytes): (u64, u64)| BlobRef { digest: Key::of_bytes(&seed.to_le_bytes()), bytes };
            let blobs = blobs.into_iter().map(|(name, of)| (name, blob(of))).collect();
            Entry { key: Key::of_bytes(body.as_bytes()), body, preimage, blobs, dropped: BTreeMap::new() }
        })
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(entry in any_entry()) {
            let encoded = bytes(encode(Kind::Result, &entry));
            prop_assert_eq!(decode(Kind::Result, &entry.key, &encoded), Ok(entry.clone()));
            prop_assert!(decode(Kind::Failure, &entry.key, &encoded).is_err());
            prop_assert!(decode(Kind::Result, &Key::of_bytes(b"another"), &encoded).is_err());
        }

        /// A forged seal gets no further than an error, whatever is under it.
        #[test]
        fn no_payload_panics(entry in any_entry(), cut in any::<prop::sample::Index>(), noise in "(?s).{0,12}") {
            let (_, payload) = encode(Kind::Result, &entry);
            let at = payload.floor_char_boundary(cut.index(payload.len() + 1));
            let forged = [&payload[..at], &noise, &payload[at..]].concat();
            let sealed = bytes((sealed::header(SEAL, forged.as_bytes()), forged.clone()));
            if let Ok(read) = decode(Kind::Result, &entry.key, &sealed) {
                prop_assert_eq!(bytes(encode(Kind::Result, &read)), sealed);
            }
        }

        #[test]
        fn no_bytes_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(Kind::Result, &Key::of_bytes(b"k"), &noise).is_err());
        }
    }

    #[test]
    fn blob_names_are_words() {
        for sound in ["checkpoint", "a-b_c.0"] {
            assert!(check_blob_name(sound).is_ok(), "{sound}");
        }
        for wrong in ["", "a b", "a\nb", "ä", "a/b"] {
            assert!(check_blob_name(wrong).is_err(), "{wrong}");
        }
    }
}
