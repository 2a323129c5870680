//! Giving space back: plan, show, do. Nothing goes without a scope that names it.
//!
//! What stays, whatever the scope: every record, failure, divergence and pin; all a pinned or kept key names, and all the
//! key of a living claim names; a blob no record names as long as it is young, for a writer puts blobs before the record
//! that names them. A dropped blob is given up in writing first ([`Entry::dropped`](crate::store::Entry)).
//! A crash at any point loses nothing that was not to go, and the next `gc` goes on.

mod carry_out;
mod plan;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::content::Key;

pub use crate::store::gc::carry_out::{Done, carry_out};
pub use crate::store::gc::plan::plan;

/// A blob that nothing names is left alone this long.
pub const YOUNG: Duration = Duration::from_secs(3600);

/// What may go. The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// What crashes and repairs left: temporaries of the dead, blobs that nothing names, what was set aside, stale claims,
    /// progress of keys that have a sound record.
    pub leftovers: bool,
    /// In-flight checkpoints of keys that nobody has in work.
    pub progress: bool,
    /// Blobs of these names and of families of them (`snapshot` takes `snapshot-10`), of sound records.
    pub blobs: BTreeSet<String>,
    /// Of `blobs`, only those whose record is at least this old.
    pub older_than: Option<Duration>,
    /// Keys of which nothing goes.
    pub keep: BTreeSet<Key>,
}

/// What would go, and why some of it would not.
#[derive(Debug, Clone)]
pub struct Plan {
    pub removals: Vec<Removal>,
    /// Why something within the scope stays, a line each.
    pub stays: Vec<String>,
    /// Blobs a `gc` that died had taken away and that a record needs.
    returns: Vec<Key>,
    made: SystemTime,
    /// A blob that nothing names goes only if it was modified before.
    unnamed_before: SystemTime,
}

impl Plan {
    pub fn bytes(&self) -> u64 {
        self.removals.iter().map(|removal| removal.bytes).sum()
    }
}

/// One file that would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub target: Target,
    pub path: PathBuf,
    pub bytes: u64,
}

/// What a file is that would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Written by a process that is dead.
    Temporary,
    /// A damaged blob, a record of no use, or a companion of a record that is gone.
    SetAside,
    /// Says of the key that blobs were dropped, and all are there again.
    StaleMarker(Key),
    /// Of the key.
    StaleClaim(Key),
    /// Of the key.
    Progress(Key),
    /// Of this digest; nothing names it.
    UnnamedBlob(Key),
    NamedBlob {
        digest: Key,
        /// The keys whose records name it, and under which name.
        by: Vec<(Key, String)>,
    },
}

impl Target {
    /// A word for the kind, for counting.
    pub fn word(&self) -> &'static str {
        match self {
            Target::Temporary => "temporary",
            Target::SetAside => "set aside",
            Target::StaleMarker(_) => "stale marker",
            Target::StaleClaim(_) => "stale claim",
            Target::Progress(_) => "progress",
            Target::UnnamedBlob(_) => "unnamed blob",
            Target::NamedBlob { .. } => "dropped blob",
        }
    }

    /// The keys it belongs to.
    pub fn keys(&self) -> Vec<Key> {
        match self {
            Target::Temporary | Target::SetAside | Target::UnnamedBlob(_) => Vec::new(),
            Target::StaleMarker(key) | Target::StaleClaim(key) | Target::Progress(key) => vec![*key],
            Target::NamedBlob { by, .. } => by.iter().map(|(key, _)| *key).collect(),
        }
    }
}
