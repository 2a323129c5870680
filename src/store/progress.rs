//! In-flight checkpoints: the caller's bytes, and which blobs the work so far has left.
//!
//! ```text
//! ablate-progress 1 <digest of all below>
//! <the caller's bytes>
//!
//! ablate-progress-with-blobs 1 <digest of all below>
//! blob <digest> <bytes> <name>
//!
//! <the caller's bytes>
//! ```
//!
//! The second form, of work that has put blobs, keeps them from `gc` until the record names them.

use std::collections::BTreeMap;

use crate::store::entry::{BlobRef, check_blob_name};
use crate::store::sealed;

const SEAL: &str = "ablate-progress";
const SEAL_WITH_BLOBS: &str = "ablate-progress-with-blobs";

/// What to write before the caller's bytes.
pub(super) fn header(blobs: &BTreeMap<String, BlobRef>, bytes: &[u8]) -> Vec<u8> {
    if blobs.is_empty() {
        return sealed::header(SEAL, bytes).into_bytes();
    }
    let mut names = String::new();
    for (name, blob) in blobs {
        names.push_str(&format!("blob {} {} {name}\n", blob.digest, blob.bytes));
    }
    names.push('\n');
    let header = sealed::header(SEAL_WITH_BLOBS, &[names.as_bytes(), bytes].concat());
    [header.into_bytes(), names.into_bytes()].concat()
}

/// The blobs and the caller's bytes of a file, or what is wrong with it, worded to follow the file's name.
pub(super) fn decode(bytes: &[u8]) -> Result<(BTreeMap<String, BlobRef>, &[u8]), String> {
    if !bytes.starts_with(SEAL_WITH_BLOBS.as_bytes()) {
        return Ok((BTreeMap::new(), sealed::open(SEAL, bytes)?));
    }
    let mut rest = sealed::open(SEAL_WITH_BLOBS, bytes)?;
    let mut blobs = BTreeMap::new();
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or("has no end of its blobs")?;
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if line.is_empty() {
            return Ok((blobs, rest));
        }
        let (name, blob) = std::str::from_utf8(line).ok().and_then(blob).ok_or("has an unreadable line of a blob")?;
        blobs.insert(name, blob);
    }
}

fn blob(line: &str) -> Option<(String, BlobRef)> {
    let mut words = line.strip_prefix("blob ")?.split(' ');
    let blob = BlobRef { digest: words.next()?.parse().ok()?, bytes: words.next()?.parse().ok()? };
    let name = words.next()?;
    check_blob_name(name).ok()?;
    words.next().is_none().then(|| (name.to_owned(), blob))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(blobs: &BTreeMap<String, BlobRef>, bytes: &[u8]) -> Vec<u8> {
        [header(blobs, bytes), bytes.to_vec()].concat()
    }

    #[test]
    fn blobs_come_back_with_the_bytes() {
        let blobs: BTreeMap<String, BlobRef> =
            [("snapshot-3".to_owned(), BlobRef::of(b"three")), ("snapshot-6".to_owned(), BlobRef::of(b""))].into();
        for bytes in [&b""[..], b"\n", b"blob x\n\n", b"step 7"] {
            for blobs in [&BTreeMap::new(), &blobs] {
                assert_eq!(decode(&written(blobs, bytes)), Ok((blobs.clone(), bytes)), "{bytes:?}");
            }
        }
    }

    #[test]
    fn what_is_torn_is_refused() {
        let blobs: BTreeMap<String, BlobRef> = [("snapshot-3".to_owned(), BlobRef::of(b"three"))].into();
        let file = written(&blobs, b"step 7");
        for end in 0..file.len() {
            assert!(decode(&file[..end]).is_err(), "{end} bytes");
        }
        for payload in ["blob 12 snapshot-3\n\n", "blob\n\n", "step 7"] {
            let sealed = [sealed::header(SEAL_WITH_BLOBS, payload.as_bytes()).as_bytes(), payload.as_bytes()].concat();
            assert!(decode(&sealed).is_err(), "{payload}");
        }
    }
}
