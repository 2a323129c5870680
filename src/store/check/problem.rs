//! What can be wrong with a file of a store, and what to do about it.

use std::path::PathBuf;

use crate::content::Key;

/// One file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub path: PathBuf,
    pub kind: ProblemKind,
    /// What is wrong, worded to follow the path.
    pub what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// A record that proves nothing.
    Record(Key),
    /// A blob that the record of a key needs and that a look from outside finds wanting.
    BlobOfRecord(Key),
    /// Bytes that are not what the blob's name says.
    BlobBytes,
    Failure(Key),
    BlobOfFailure(Key),
    Divergence(Key),
    BlobOfDivergence(Key),
    DroppedMarker(Key),
    Preimage(Key),
    Progress(Key),
    Claim(Key),
    Pin(Key),
    /// A file of the store's where nobody looks for it.
    Misplaced,
    /// Nothing the store wrote.
    Unknown,
}

impl ProblemKind {
    /// Whether something kept is lost, or may be; the rest mends itself or was never the store's.
    pub fn is_damage(self) -> bool {
        match self {
            ProblemKind::Record(_)
            | ProblemKind::BlobOfRecord(_)
            | ProblemKind::BlobBytes
            | ProblemKind::Failure(_)
            | ProblemKind::BlobOfFailure(_)
            | ProblemKind::Divergence(_)
            | ProblemKind::BlobOfDivergence(_)
            | ProblemKind::DroppedMarker(_)
            | ProblemKind::Misplaced => true,
            ProblemKind::Preimage(_)
            | ProblemKind::Progress(_)
            | ProblemKind::Claim(_)
            | ProblemKind::Pin(_)
            | ProblemKind::Unknown => false,
        }
    }

    /// What happens next, and what there is to do.
    pub fn advice(self) -> &'static str {
        match self {
            ProblemKind::Record(_) | ProblemKind::BlobOfRecord(_) => "the next sweep computes this key again",
            ProblemKind::BlobBytes => "remove the file: the next sweep computes the keys that name it again",
            ProblemKind::Failure(_) | ProblemKind::BlobOfFailure(_) => "the next sweep tries this key again",
            ProblemKind::Divergence(_) | ProblemKind::BlobOfDivergence(_) => {
                "no sweep reads it: the record stands, the evidence against it is incomplete"
            }
            ProblemKind::DroppedMarker(_) => {
                "what was dropped counts as missing: the next sweep computes this key again"
            }
            ProblemKind::Preimage(_) => "a copy for people; `ablate show` prints the record's own",
            ProblemKind::Progress(_) => "the next sweep begins this key anew",
            ProblemKind::Claim(_) => "the next sweep takes it over",
            ProblemKind::Pin(_) => "the key is pinned all the same; pin it again for a readable note",
            ProblemKind::Misplaced => "nobody looks for it here: move it to where its name belongs, or remove it",
            ProblemKind::Unknown => "the store did not write it: move it away",
        }
    }

    /// The key it concerns, where it concerns one.
    pub fn key(self) -> Option<Key> {
        match self {
            ProblemKind::Record(key)
            | ProblemKind::BlobOfRecord(key)
            | ProblemKind::Failure(key)
            | ProblemKind::BlobOfFailure(key)
            | ProblemKind::Divergence(key)
            | ProblemKind::BlobOfDivergence(key)
            | ProblemKind::DroppedMarker(key)
            | ProblemKind::Preimage(key)
            | ProblemKind::Progress(key)
            | ProblemKind::Claim(key)
            | ProblemKind::Pin(key) => Some(key),
            ProblemKind::BlobBytes | ProblemKind::Misplaced | ProblemKind::Unknown => None,
        }
    }
}
