//! What would go, from a look at everything; writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::content::Key;
use crate::store::claim::{Standing, judge};
use crate::store::disk::{Disk, Kind};
use crate::store::error::StoreError;
use crate::store::fs::Stat;
use crate::store::gc::{Plan, Removal, Scope, Target, YOUNG};
use crate::store::inventory::{self, Item, Sort};
use crate::store::references::{Reference, References, Source};
use crate::store::{Peek, Store, held, temporary};

/// Between the clock that says when a claim was made and the one that says when a blob was written.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(60);

/// What would go of `store` within `scope`.
///
/// # Errors
/// [`StoreError::Io`]: what cannot be judged must not be planned for.
pub fn plan(store: &Store, scope: &Scope) -> Result<Plan, StoreError> {
    let look = Look::at(store, scope)?;
    let mut plan = look.empty_plan();
    for item in &look.items {
        if let Some(target) = look.target(item, &mut plan)?
            && let Some(stat) = stat(look.disk, &item.path)?
        {
            if stat.is_file {
                plan.removals.push(Removal { target, path: item.path.clone(), bytes: stat.bytes });
            } else {
                plan.stays.push(format!("`{}` is not a file: look into it and remove it by hand", item.path.display()));
            }
        }
    }
    if look.unnamed_stay > 0 {
        let why = look.references.unreadable.join("; ");
        let what = "blobs that nothing seems to name stay, for a file that cannot be read may name them";
        plan.stays.push(format!("{what}: {why}"));
    }
    Ok(plan)
}

/// Everything there is to know before the first file is judged.
struct Look<'a> {
    disk: &'a Disk,
    scope: &'a Scope,
    items: Vec<Item>,
    references: References,
    /// Pinned, asked to be kept, or in work now.
    kept: BTreeSet<Key>,
    in_work: BTreeSet<Key>,
    /// Whether the record of a key is sound, and when it was written; keys without a record are not here.
    records: BTreeMap<Key, (bool, SystemTime)>,
    oldest_claim: Option<SystemTime>,
    now: SystemTime,
    unnamed_stay: usize,
}

impl<'a> Look<'a> {
    fn at(store: &'a Store, scope: &'a Scope) -> Result<Look<'a>, StoreError> {
        let disk = &*store.disk;
        let (now, claims) = (SystemTime::now(), held::claims(disk)?);
        let alive = || claims.iter().filter(|claim| claim.is_alive);
        let in_work: BTreeSet<Key> = alive().map(|claim| claim.key).collect();
        let oldest_claim = alive().map(|claim| UNIX_EPOCH + Duration::from_secs(claim.owner.since_unix_s())).min();
        let items = inventory::walk(disk)?;
        let references = References::read(disk, &items)?;
        let pinned = items.iter().filter_map(|item| if let Sort::Pin(key) = item.sort { Some(key) } else { None });
        let kept = pinned.chain(scope.keep.iter().copied()).chain(in_work.iter().copied()).collect();
        let mut records = BTreeMap::new();
        for item in &items {
            if let (Sort::Record(key), Some(stat)) = (item.sort, stat(disk, &item.path)?) {
                let is_sound = matches!(disk.peek(Kind::Result, &key)?, Peek::Hit(_));
                records.insert(key, (is_sound, stat.modified));
            }
        }
        let unnamed_stay = if scope.leftovers && !references.unreadable.is_empty() {
            let unnamed = |item: &&Item| matches!(item.sort, Sort::Blob(digest) if references.of(&digest).is_empty());
            items.iter().filter(unnamed).count()
        } else {
            0
        };
        Ok(Look { disk, scope, items, references, kept, in_work, records, oldest_claim, now, unnamed_stay })
    }

    fn empty_plan(&self) -> Plan {
        let before = |time: SystemTime, by| time.checked_sub(by).unwrap_or(UNIX_EPOCH);
        // Whoever has a key in work may name a blob put since then.
        let claimed = self.oldest_claim.map_or(self.now, |since| before(since, CLOCK_DIFFERENCE));
        let unnamed_before = before(self.now, YOUNG).min(claimed);
        Plan { removals: Vec::new(), stays: Vec::new(), returns: Vec::new(), made: self.now, unnamed_before }
    }

    fn is_sound(&self, key: &Key) -> bool {
        self.records.get(key).is_some_and(|(is_sound, _)| *is_sound)
    }

    fn target(&self, item: &Item, plan: &mut Plan) -> Result<Option<Target>, StoreError> {
        let leftovers = self.scope.leftovers;
        Ok(match item.sort {
            Sort::Temporary if leftovers => {
                temporary::is_abandoned(self.disk.fs(), &item.path).then_some(Target::Temporary)
            }
            Sort::SetAside if leftovers => Some(Target::SetAside),
            // A companion is written before its record: an old one without a record belongs to nothing.
            Sort::Preimage(key) | Sort::DroppedMarker(key) if leftovers && !self.records.contains_key(&key) => {
                let age = temporary::age(self.disk.fs(), &item.path);
                age.is_some_and(|age| age > YOUNG).then_some(Target::SetAside)
            }
            Sort::DroppedMarker(key) if leftovers => {
                let peek = self.disk.peek(Kind::Result, &key)?;
                let is_whole = matches!(peek, Peek::Hit(entry) if entry.dropped.is_empty());
                is_whole.then_some(Target::StaleMarker(key))
            }
            Sort::Condemned(digest) if leftovers => self.condemned(digest, plan)?,
            Sort::Claim(key) if leftovers => {
                let is_stale = matches!(judge(self.disk, &item.path)?, Standing::Stale { .. });
                is_stale.then_some(Target::StaleClaim(key))
            }
            Sort::Progress(key) => {
                let of_no_use = leftovers && self.is_sound(&key) && !self.in_work.contains(&key);
                let given_up = self.scope.progress && !self.kept.contains(&key);
                (of_no_use || given_up).then_some(Target::Progress(key))
            }
            Sort::Blob(digest) => self.blob(digest, &item.path, plan)?,
            Sort::Format | Sort::Record(_) | Sort::Divergence(_) | Sort::Failure(_) | Sort::Pin(_) => None,
            Sort::Misplaced | Sort::Unknown => None,
            Sort::Temporary | Sort::SetAside | Sort::Preimage(_) | Sort::DroppedMarker(_) => None,
            Sort::Condemned(_) | Sort::Claim(_) => None,
        })
    }

    /// A blob that a `gc` took away and did not come to remove: a record may need it back.
    fn condemned(&self, digest: Key, plan: &mut Plan) -> Result<Option<Target>, StoreError> {
        let is_there = stat(self.disk, &self.disk.blob_path(&digest))?.is_some();
        let named_by = self.references.of(&digest);
        if is_there || (named_by.is_empty() && self.references.unreadable.is_empty()) {
            return Ok(Some(Target::SetAside));
        }
        let mut is_given_up = !named_by.is_empty();
        for Reference { key, name, .. } in named_by {
            is_given_up &= self.disk.dropped(key)?.get(name).is_some_and(|(dropped, _)| *dropped == digest);
        }
        if is_given_up {
            return Ok(Some(Target::SetAside));
        }
        plan.returns.push(digest);
        Ok(None)
    }

    fn blob(&self, digest: Key, path: &Path, plan: &mut Plan) -> Result<Option<Target>, StoreError> {
        let named_by = self.references.of(&digest);
        if named_by.is_empty() {
            let goes = self.scope.leftovers && self.references.unreadable.is_empty();
            let old =
                || Ok::<_, StoreError>(stat(self.disk, path)?.is_some_and(|stat| stat.modified <= plan.unnamed_before));
            return Ok((goes && old()?).then_some(Target::UnnamedBlob(digest)));
        }
        let mut by: Vec<(Key, String)> = Vec::new();
        let records = named_by.iter().filter(|reference| reference.source == Source::Record);
        for Reference { key, name, .. } in records {
            if !self.may_drop(key, name) {
                return Ok(None);
            }
            by.push((*key, name.clone()));
        }
        // A failure is no record to compute again from, cut-off work needs what it has left; a divergence goes with its record
        // if it names the same blob.
        let go_along = named_by.iter().all(|reference| match reference.source {
            Source::Record => true,
            Source::Failure | Source::Progress => false,
            Source::Divergence => by.contains(&(reference.key, reference.name.clone())),
        });
        Ok((!by.is_empty() && go_along).then_some(Target::NamedBlob { digest, by }))
    }

    fn may_drop(&self, key: &Key, name: &str) -> bool {
        let is_old_enough = |written: SystemTime| {
            let age = self.now.duration_since(written).unwrap_or_default();
            self.scope.older_than.is_none_or(|least| age >= least)
        };
        let record = self.records.get(key);
        let is_of = |family: &String| {
            name.strip_prefix(family.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        self.scope.blobs.iter().any(is_of)
            && !self.kept.contains(key)
            && record.is_some_and(|(is_sound, written)| *is_sound && is_old_enough(*written))
    }
}

/// None where there is nothing.
pub(super) fn stat(disk: &Disk, path: &Path) -> Result<Option<Stat>, StoreError> {
    match disk.fs().stat(path) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(StoreError::io("look at", path)(error)),
    }
}
