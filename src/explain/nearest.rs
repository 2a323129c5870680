//! The stored stage nearest to a meaning, with all that differs.

use serde::Serialize;

use crate::content::Key;
use crate::explain::change::{Change, changes};
use crate::explain::index::Index;
use crate::explain::meaning::Meaning;
use crate::store::{Peek, Store};

/// Neighbours looked at before giving up: a record whose pre-image cannot be read is left out.
const TRIED: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nearest {
    pub key: Key,
    /// How many leaves of the wanted meaning it has, and how many there are.
    pub shared_leaves: u32,
    pub all_leaves: u32,
    /// From the stored stage to the wanted one.
    pub changes: Vec<Change>,
}

/// The stored stages nearest to `preimage`, at most `n`, the nearest first; never the one of `except`. What cannot be read
/// is left out.
pub fn nearest(store: &Store, index: &Index, preimage: &str, except: Option<&Key>, n: usize) -> Vec<Nearest> {
    let Some(wanted) = Meaning::read(preimage) else { return Vec::new() };
    let mut found = Vec::new();
    for near in index.nearest(preimage, except, n + TRIED) {
        if found.len() == n {
            break;
        }
        let Ok(Peek::Hit(entry)) = store.peek(&near.key) else { continue };
        let Some(stored) = Meaning::read(&entry.preimage) else { continue };
        found.push(Nearest {
            key: near.key,
            shared_leaves: near.shared,
            all_leaves: near.of,
            changes: changes(&stored, &wanted),
        });
    }
    found
}

impl Nearest {
    /// The first `n` differences in a line, and how many more there are.
    pub fn line(&self, n: usize) -> String {
        let told: Vec<&str> = self.changes.iter().take(n).map(|change| change.text.as_str()).collect();
        let more = match self.changes.len().saturating_sub(n) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let told = if told.is_empty() { "no field that can be told".to_owned() } else { told.join("; ") };
        format!("{told}{more} (nearest {})", self.key.short())
    }
}
