//! The claims of this process, for an exit that runs no destructor, and those of everybody, for one who asks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::content::Key;
use crate::store::claim::{Owner, Standing, judge};
use crate::store::disk::{Disk, Found};
use crate::store::error::StoreError;

/// A claim that somebody made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub key: Key,
    pub owner: Owner,
    /// Whether its owner still lives, as far as that can be told: one of another host does until it has been silent.
    pub is_alive: bool,
}

/// By the path of the claim.
static HELD: Mutex<BTreeMap<PathBuf, (Arc<Disk>, Owner)>> = Mutex::new(BTreeMap::new());

pub(super) fn register(disk: &Arc<Disk>, key: &Key, owner: &Owner) {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.insert(disk.claim_path(key), (Arc::clone(disk), owner.clone()));
}

/// Removes a claim that is still this owner's. One that cannot be removed now is stale as soon as this process is dead.
pub(super) fn give_back(disk: &Disk, key: &Key, owner: &Owner) {
    let path = disk.claim_path(key);
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if held.get(&path).is_some_and(|(_, other)| other == owner) {
        held.remove(&path);
    }
    drop(held);
    remove(disk, &path, owner);
}

fn remove(disk: &Disk, path: &Path, owner: &Owner) {
    if matches!(disk.read(path), Ok(Found::Bytes(bytes)) if bytes == owner.encode().as_bytes()) {
        let _ = disk.fs().remove(path);
    }
}

/// Gives back every claim this process holds, in all stores: for one who is about to leave without running destructors,
/// a second Ctrl-C for one. Progress stays. A claim dropped later finds nothing left to do.
pub fn give_back_all() {
    let held = std::mem::take(&mut *HELD.lock().unwrap_or_else(PoisonError::into_inner));
    for (path, (disk, owner)) in held {
        remove(&disk, &path, &owner);
    }
}

/// Every readable claim, by key. One that cannot be read is what a power cut left: the next claimant takes it over.
pub(super) fn claims(disk: &Disk) -> Result<Vec<Claimed>, StoreError> {
    let names = disk.list(&disk.root().join("claims"))?;
    let mut keys: Vec<Key> = names.iter().filter_map(|name| name.parse().ok()).collect();
    keys.sort_unstable();
    let mut claims = Vec::new();
    for key in keys {
        match judge(disk, &disk.claim_path(&key))? {
            Standing::Held(owner) => claims.push(Claimed { key, owner, is_alive: true }),
            Standing::Stale { owner: Some(owner), .. } => claims.push(Claimed { key, owner, is_alive: false }),
            Standing::Stale { owner: None, .. } | Standing::Gone => {}
        }
    }
    Ok(claims)
}
