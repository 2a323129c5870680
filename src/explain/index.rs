//! Every stored stage by its leaves: built once where something is to be explained.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;

use crate::content::Key;
use crate::explain::cost::Profile;
use crate::explain::features::{Leaf, leaves};
use crate::explain::meaning::StageKind;
use crate::store::{Peek, Store, StoreError};

/// Which stored stages share which leaves. Holds hashes and keys, no record.
#[derive(Debug, Default)]
pub struct Index {
    records: Vec<Indexed>,
    /// The records that have a leaf, by stage and the leaf's hash.
    having: HashMap<(StageKind, u64), Vec<u32>>,
    /// Records of equal cost, in the order of their keys.
    by_profile: BTreeMap<Profile, Vec<u32>>,
}

#[derive(Debug)]
struct Indexed {
    key: Key,
    stage: StageKind,
    n_leaves: u32,
}

/// A stored stage and how much it has in common with another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Near {
    pub key: Key,
    /// Leaves that both have.
    pub shared: u32,
    /// Leaves of the meaning it is near to.
    pub of: u32,
    /// Leaves that only one of them has.
    pub differing: u32,
}

/// What is read of a record.
struct Read {
    key: Key,
    stage: StageKind,
    hashes: Vec<u64>,
    profiles: Vec<Profile>,
}

impl Index {
    /// Reads every record that is sound and whose meaning says which stage it is of. What cannot be read explains nothing
    /// and is left out: an explanation never fails for the sake of a neighbour.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the store cannot be listed.
    pub fn build(store: &Store) -> Result<Index, StoreError> {
        let keys = store.keys()?;
        let read: Vec<Read> = keys.par_iter().filter_map(|key| read(store, *key)).collect();
        let mut index = Index::default();
        for read in read {
            index.add(read);
        }
        Ok(index)
    }

    fn add(&mut self, read: Read) {
        let number = self.records.len() as u32;
        let Read { key, stage, hashes, profiles } = read;
        self.records.push(Indexed { key, stage, n_leaves: hashes.len() as u32 });
        hashes.into_iter().for_each(|hash| self.having.entry((stage, hash)).or_default().push(number));
        profiles.into_iter().for_each(|profile| self.by_profile.entry(profile).or_default().push(number));
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The stored stages of the kind of `preimage` that share the most leaves with it, the nearest first; of equals the one
    /// with fewer leaves of its own, then in the order of keys. `except` is not among them.
    pub fn nearest(&self, preimage: &str, except: Option<&Key>, n: usize) -> Vec<Near> {
        let Some(stage) = StageKind::of_preimage(preimage) else { return Vec::new() };
        let hashes = unique_hashes(&leaves(preimage).collect::<Vec<_>>());
        let mut shared = vec![0_u32; self.records.len()];
        for record in hashes.iter().filter_map(|hash| self.having.get(&(stage, *hash))).flatten() {
            shared[*record as usize] += 1;
        }
        let candidates = self.records.iter().zip(shared).filter(|(record, _)| record.stage == stage);
        let mut near: Vec<Near> = candidates
            .filter(|(record, _)| Some(&record.key) != except)
            .map(|(record, shared)| {
                let differing = record.n_leaves + hashes.len() as u32 - 2 * shared;
                Near { key: record.key, shared, of: hashes.len() as u32, differing }
            })
            .collect();
        let rank = |near: &Near| (u32::MAX - near.shared, near.differing, near.key);
        if n > 0 && near.len() > n {
            near.select_nth_unstable_by_key(n - 1, rank);
        }
        near.truncate(n);
        near.sort_by_key(rank);
        near
    }

    /// At most `n` stored stages of this cost, in the order of their keys.
    pub fn of_profile(&self, profile: &Profile, n: usize) -> impl Iterator<Item = Key> {
        let records = self.by_profile.get(profile).map(Vec::as_slice).unwrap_or_default();
        records.iter().take(n).map(|record| self.records[*record as usize].key)
    }
}

fn read(store: &Store, key: Key) -> Option<Read> {
    let Ok(Peek::Hit(entry)) = store.peek(&key) else { return None };
    let stage = StageKind::of_preimage(&entry.preimage)?;
    let leaves: Vec<Leaf> = leaves(&entry.preimage).collect();
    Some(Read { key, stage, hashes: unique_hashes(&leaves), profiles: Profile::of_leaves(stage, &leaves) })
}

/// Each leaf once, sorted: two equal augmentations in a list are one leaf here.
fn unique_hashes(leaves: &[Leaf]) -> Vec<u64> {
    let mut hashes: Vec<u64> = leaves.iter().map(Leaf::hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}
