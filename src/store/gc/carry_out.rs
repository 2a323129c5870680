//! Doing what a plan says, looking again right before each step: the store may have moved on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::content::Key;
use crate::store::claim::{Acquired, Claim, acquire};
use crate::store::disk::{Disk, Kind, MARKER};
use crate::store::dropped::Marker;
use crate::store::entry::Dropped;
use crate::store::error::StoreError;
use crate::store::gc::plan::stat;
use crate::store::gc::{Plan, Removal, Target};
use crate::store::{Peek, Store};

/// How often another's lock is looked at.
const ATTEMPTS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(5);

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    pub removed: usize,
    pub bytes: u64,
    /// Why something planned stayed, a line each.
    pub stayed: Vec<String>,
}

/// Carries out a plan. After an error what is done is done; a new plan goes on from there.
///
/// # Errors
/// [`StoreError::GcBusy`] while another process is at it, [`StoreError::Io`].
pub fn carry_out(store: &Store, plan: &Plan) -> Result<Done, StoreError> {
    let disk = &store.disk;
    let _lock = lock(disk)?;
    for digest in &plan.returns {
        put_back(disk, &disk.blob_path(digest))?;
    }
    let mut done = Done::default();
    for removal in &plan.removals {
        match remove(disk, plan, removal)? {
            Stay::Went => {
                done.removed += 1;
                done.bytes += removal.bytes;
            }
            Stay::Gone => {}
            Stay::Because(why) => done.stayed.push(format!("`{}` stays: {why}", removal.path.display())),
        }
    }
    Ok(done)
}

/// The lock that keeps a second `gc` out. Where a filesystem has no locks two may be at it, and do the same.
fn lock(disk: &Disk) -> Result<Option<File>, StoreError> {
    let marker = disk.root().join(MARKER);
    // A child process that has not come to its own program yet may hold a lock that was just given up.
    for _ in 0..ATTEMPTS {
        match disk.fs().try_lock(&marker) {
            Ok(None) => std::thread::sleep(PAUSE),
            Ok(lock) => return Ok(lock),
            Err(_) => return Ok(None),
        }
    }
    Err(StoreError::GcBusy { path: disk.root().to_owned() })
}

/// What became of a file that was to go.
enum Stay {
    Went,
    /// It was not there any more.
    Gone,
    Because(String),
}

fn remove(disk: &Arc<Disk>, plan: &Plan, removal: &Removal) -> Result<Stay, StoreError> {
    match &removal.target {
        Target::Temporary | Target::SetAside => remove_file(disk, &removal.path),
        Target::UnnamedBlob(digest) => remove_blob(disk, digest, plan.unnamed_before),
        // Only who has the lock drops blobs, so what is whole now stays so until the marker is gone.
        Target::StaleMarker(key) => match disk.peek(Kind::Result, key)? {
            Peek::Hit(entry) if entry.dropped.is_empty() => remove_file(disk, &removal.path),
            Peek::Hit(_) | Peek::Absent | Peek::Damaged(_) => Ok(Stay::Because("it is of use again".to_owned())),
        },
        // A claim that is acquired is this process's, whoever had it, and is given back.
        Target::StaleClaim(key) => Ok(match claimed(disk, key)? {
            Ok(_claim) => Stay::Went,
            Err(why) => Stay::Because(why),
        }),
        Target::Progress(key) => match claimed(disk, key)? {
            Ok(_claim) => remove_file(disk, &removal.path),
            Err(why) => Ok(Stay::Because(why)),
        },
        Target::NamedBlob { digest, by } => drop_blob(disk, plan, digest, by),
    }
}

/// The claim on a key, so that nobody begins to compute it meanwhile; else why not.
fn claimed(disk: &Arc<Disk>, key: &Key) -> Result<Result<Claim, String>, StoreError> {
    Ok(match acquire(disk, key)? {
        Acquired::Claimed { claim, .. } => Ok(claim),
        Acquired::Taken(owner) => Err(format!("{owner} has its key in work")),
    })
}

fn drop_blob(disk: &Arc<Disk>, plan: &Plan, digest: &Key, by: &[(Key, String)]) -> Result<Stay, StoreError> {
    let at_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut claims = BTreeMap::new();
    for (key, _) in by {
        if claims.contains_key(key) {
            continue;
        }
        match claimed(disk, key)? {
            Ok(claim) => claims.insert(*key, claim),
            Err(why) => return Ok(Stay::Because(why)),
        };
        if stat(disk, &disk.pin_path(key))?.is_some() {
            return Ok(Stay::Because("its key was pinned meanwhile".to_owned()));
        }
        if !matches!(disk.peek(Kind::Result, key)?, Peek::Hit(_)) {
            return Ok(Stay::Because("its record is not sound any more".to_owned()));
        }
    }
    for key in claims.keys() {
        let names = by.iter().filter(|(other, _)| other == key);
        let marker: Marker = names.map(|(_, name)| (name.clone(), (*digest, Dropped { at_unix_s }))).collect();
        disk.put_dropped(key, marker)?;
    }
    remove_blob(disk, digest, plan.made)
}

/// Removes a blob unless it was modified after `cutoff`: a writer that found it there has touched it. It is taken away
/// before the last look, so that a writer that comes later finds nothing and puts it once more.
fn remove_blob(disk: &Disk, digest: &Key, cutoff: SystemTime) -> Result<Stay, StoreError> {
    const YOUNG: &str = "it was put once more meanwhile";
    let path = disk.blob_path(digest);
    match stat(disk, &path)? {
        None => return Ok(Stay::Gone),
        Some(stat) if stat.modified > cutoff => return Ok(Stay::Because(YOUNG.to_owned())),
        Some(_) => {}
    }
    let aside = path.with_added_extension("condemned");
    match disk.fs().rename(&path, &aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Stay::Gone),
        outcome => outcome.map_err(StoreError::io("rename", &path))?,
    }
    match stat(disk, &aside) {
        Ok(Some(stat)) if stat.modified <= cutoff => remove_file(disk, &aside),
        Ok(None) => Ok(Stay::Went),
        Ok(Some(_)) => put_back(disk, &path).map(|()| Stay::Because(YOUNG.to_owned())),
        Err(error) => put_back(disk, &path).and(Err(error)),
    }
}

/// Gives a blob that was taken away its name again, unless there is another by now.
fn put_back(disk: &Disk, path: &Path) -> Result<(), StoreError> {
    let aside = path.with_added_extension("condemned");
    match disk.fs().link(&aside, path) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
        Err(error) => return Err(StoreError::io("link", &aside)(error)),
    }
    disk.sync_above(path)?;
    remove_file(disk, &aside).map(drop)
}

fn remove_file(disk: &Disk, path: &Path) -> Result<Stay, StoreError> {
    match disk.fs().remove(path) {
        Ok(()) => Ok(Stay::Went),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Stay::Gone),
        Err(error) => Err(StoreError::io("remove", path)(error)),
    }
}
