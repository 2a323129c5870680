//! Who computes a key now. Claims are advice: one that is lost or wrongly taken over costs duplicate work, no more.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::content::Key;
use crate::store::disk::{Disk, Found, Kind};
use crate::store::entry::{BlobRef, Entry, check_blob_name};
use crate::store::error::StoreError;
use crate::store::held;
use crate::store::process::{Liveness, Process};
use crate::store::progress;
use crate::store::sealed;
use crate::store::temporary::{Temporary, age};

const SEAL: &str = "ablate-claim";

/// A claim of another host without a heartbeat for this long is stale.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(600);

/// How often a claim is looked at while another process is about to take it over.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// Who holds a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    process: Process,
    /// Counts the claims of one process.
    number: u64,
    since_unix_s: u64,
}

impl Owner {
    fn current() -> Owner {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let since_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Owner { process: Process::current().clone(), number: COUNT.fetch_add(1, Ordering::Relaxed), since_unix_s }
    }

    pub fn host(&self) -> &str {
        &self.process.host
    }

    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// When the claim was made, in seconds since 1970.
    pub fn since_unix_s(&self) -> u64 {
        self.since_unix_s
    }

    pub(super) fn encode(&self) -> String {
        let Owner { process: Process { host, pid, start_ticks }, number, since_unix_s } = self;
        let text = format!("host {host}\npid {pid}\nstart {start_ticks}\nnumber {number}\nsince {since_unix_s}\n");
        sealed::header(SEAL, text.as_bytes()) + &text
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Owner, String> {
        let payload = sealed::open(SEAL, bytes)?;
        let text = std::str::from_utf8(payload).map_err(|error| format!("is not UTF-8: {error}"))?;
        let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(' ')).collect();
        let field = |name: &str| fields.get(name).copied().ok_or_else(|| format!("has no `{name}` line"));
        let number = |name: &str| field(name)?.parse::<u64>().map_err(|_| format!("has no number for `{name}`"));
        let pid = u32::try_from(number("pid")?).map_err(|_| "has no process number for `pid`".to_owned())?;
        let process = Process { host: field("host")?.to_owned(), pid, start_ticks: number("start")? };
        Ok(Owner { process, number: number("number")?, since_unix_s: number("since")? })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on `{}`", self.pid(), self.host())
    }
}

/// The right to compute a key. Dropping it gives the claim back and keeps the progress.
#[derive(Debug)]
pub struct Claim {
    disk: Arc<Disk>,
    key: Key,
    owner: Owner,
    blobs: BTreeMap<String, BlobRef>,
}

/// What a commit came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// What lookups answer from now on.
    pub entry: Entry,
    /// Set where an earlier result stays in place of this one.
    pub divergence: Option<Divergence>,
}

/// A second result of one key that is not the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// Where the second is kept.
    pub path: PathBuf,
    /// Whether both name the same blobs, so that only the bodies differ: in timings, say.
    pub blobs_agree: bool,
}

/// An in-flight checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Absent,
    Saved(Vec<u8>),
    /// There was one, but it is torn; names the file and what is wrong with it.
    Damaged(String),
}

impl Claim {
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Makes a blob durable and has the record name it. The same name again replaces the first.
    ///
    /// # Errors
    /// [`StoreError::BlobName`], or the disk's.
    pub fn put_blob(&mut self, name: &str, bytes: &[u8]) -> Result<BlobRef, StoreError> {
        check_blob_name(name)?;
        let blob = self.disk.put_blob(bytes)?;
        self.blobs.insert(name.to_owned(), blob);
        Ok(blob)
    }

    /// The record will not name the blobs with these names.
    pub fn forget_blobs(&mut self, is_meant: impl Fn(&str) -> bool) {
        self.blobs.retain(|name, _| !is_meant(name));
    }

    /// Publishes the result and gives the claim back. A broken record is replaced; of two sound ones that differ the
    /// first wins and the second is kept beside it. Where blobs of the first were dropped, equal blobs make it whole
    /// again; with other blobs [`Committed::entry`] still says what of the first is gone.
    ///
    /// # Errors
    /// The disk's; the record is then there whole or not at all.
    pub fn commit(self, body: &str, preimage: &str) -> Result<Committed, StoreError> {
        let entry = self.entry(body, preimage);
        let committed = match self.disk.put_record(&entry)? {
            None => Committed { entry, divergence: None },
            Some(first) if first.blobs == entry.blobs && (self.is_return(&first)? || first.body == entry.body) => {
                Committed { entry: first, divergence: None }
            }
            Some(first) => {
                let path = self.disk.put_divergence(&entry)?;
                let blobs_agree = first.blobs == entry.blobs;
                Committed { entry: first, divergence: Some(Divergence { path, blobs_agree }) }
            }
        };
        // The result stands; what is left over of the way there is ignored by every reader of it.
        let _ = self.disk.fs().remove(&self.disk.progress_path(&self.key));
        let _ = self.disk.fs().remove(&self.disk.record_path(Kind::Failure, &self.key));
        Ok(committed)
    }

    /// Whether blobs of `first` were dropped, and are there again.
    fn is_return(&self, first: &Entry) -> Result<bool, StoreError> {
        Ok(first.dropped.is_empty() && self.disk.remove_dropped(&self.key)?)
    }

    /// Keeps a failure, in place of the last one, and gives the claim back.
    ///
    /// # Errors
    /// The disk's.
    pub fn fail(self, body: &str, preimage: &str) -> Result<(), StoreError> {
        self.disk.put_failure(&self.entry(body, preimage))
    }

    /// Saves an in-flight checkpoint, in place of the last one. It names the blobs put so far, which stay with it.
    ///
    /// # Errors
    /// The disk's; the last one is then still there.
    pub fn save_progress(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let header = progress::header(&self.blobs, bytes);
        self.disk.publish(&self.disk.progress_path(&self.key), &[&header, bytes])
    }

    /// Forgets the in-flight checkpoint: it leads where no run should go on from.
    ///
    /// # Errors
    /// The disk's.
    pub fn drop_progress(&self) -> Result<(), StoreError> {
        let path = self.disk.progress_path(&self.key);
        match self.disk.fs().remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// The last in-flight checkpoint, of this claim or of an earlier one. The blobs it names are this claim's from now on.
    ///
    /// # Errors
    /// The disk's; a torn one, and one whose blobs are not all there, is [`Progress::Damaged`].
    pub fn progress(&mut self) -> Result<Progress, StoreError> {
        let path = self.disk.progress_path(&self.key);
        let damaged = |what: &str| Progress::Damaged(format!("progress `{}` {what}", path.display()));
        Ok(match self.disk.read(&path)? {
            Found::Absent => Progress::Absent,
            Found::NotAFile => damaged("is not a file"),
            Found::Bytes(bytes) => match progress::decode(&bytes) {
                Ok((blobs, payload)) => {
                    for (name, blob) in &blobs {
                        match self.disk.keep_blob(blob) {
                            Ok(()) => {}
                            Err(damage @ StoreError::DamagedBlob { .. }) => {
                                return Ok(damaged(&format!("names `{name}`, but {damage}")));
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    self.blobs.extend(blobs);
                    Progress::Saved(payload.to_vec())
                }
                Err(what) => damaged(&what),
            },
        })
    }

    /// Tells other hosts that the work goes on; due well within ten minutes.
    ///
    /// # Errors
    /// [`StoreError::ClaimLost`] where the claim is no longer this one's, or the disk's.
    pub fn heartbeat(&self) -> Result<(), StoreError> {
        let path = self.disk.claim_path(&self.key);
        let owner = match self.disk.read(&path)? {
            Found::Bytes(bytes) => Owner::decode(&bytes).ok(),
            Found::Absent | Found::NotAFile => None,
        };
        if owner.as_ref() != Some(&self.owner) {
            return Err(StoreError::ClaimLost { key: self.key, owner });
        }
        self.disk.fs().touch(&path).map_err(StoreError::io("touch", &path))
    }

    fn entry(&self, body: &str, preimage: &str) -> Entry {
        let (body, preimage, blobs) = (body.to_owned(), preimage.to_owned(), self.blobs.clone());
        Entry { key: self.key, body, preimage, blobs, dropped: BTreeMap::new() }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        held::give_back(&self.disk, &self.key, &self.owner);
    }
}

pub(super) enum Acquired {
    Taken(Owner),
    Claimed {
        claim: Claim,
        /// Why an earlier claim did not count.
        taken_over: Option<String>,
    },
}

pub(super) enum Standing {
    Gone,
    Held(Owner),
    Stale {
        why: String,
        found: Found,
        /// None where it cannot be read.
        owner: Option<Owner>,
    },
}

pub(super) fn acquire(disk: &Arc<Disk>, key: &Key) -> Result<Acquired, StoreError> {
    let path = disk.claim_path(key);
    let owner = Owner::current();
    let text = owner.encode();
    let directory = disk.root().join("claims");
    let mut temporary = Temporary::write(disk.fs(), &directory, &[text.as_bytes()], false)?;
    let claimed = |taken_over| {
        held::register(disk, key, &owner);
        let claim = Claim { disk: Arc::clone(disk), key: *key, owner: owner.clone(), blobs: BTreeMap::new() };
        Acquired::Claimed { claim, taken_over }
    };
    for _ in 0..ATTEMPTS {
        if temporary.claim_name(&path)? {
            return Ok(claimed(None));
        }
        match judge(disk, &path)? {
            Standing::Gone => {}
            Standing::Held(owner) => return Ok(Acquired::Taken(owner)),
            Standing::Stale { why, found, owner: _ } => match take_over(disk, temporary, &path, &found)? {
                None => return Ok(claimed(Some(why))),
                Some(unused) => {
                    temporary = unused;
                    std::thread::sleep(PAUSE);
                }
            },
        }
    }
    Err(StoreError::ClaimBusy { path })
}

/// A claim appears whole, so one that cannot be read is what a power cut left.
pub(super) fn judge(disk: &Disk, path: &Path) -> Result<Standing, StoreError> {
    let found = disk.read(path)?;
    let owner = match &found {
        Found::Absent => return Ok(Standing::Gone),
        Found::NotAFile => Err("is not a file".to_owned()),
        Found::Bytes(bytes) => Owner::decode(bytes),
    };
    let owner = match owner {
        Ok(owner) => owner,
        Err(what) => {
            let why = format!("claim `{}` {what}", path.display());
            return Ok(Standing::Stale { why, found, owner: None });
        }
    };
    let why = match owner.process.liveness() {
        Liveness::Alive => return Ok(Standing::Held(owner)),
        Liveness::Dead => format!("{owner} is dead"),
        Liveness::Elsewhere => match age(disk.fs(), path) {
            Some(age) if age > SILENT_AFTER => format!("{owner} has been silent for {} s", age.as_secs()),
            _ => return Ok(Standing::Held(owner)),
        },
    };
    Ok(Standing::Stale { why, found, owner: Some(owner) })
}

/// Puts `temporary` in place of the stale claim `found`, unless another process does so first: then gives it back.
/// Takers exclude each other by the kernel's lock on the stale file, which dies with them. Where a filesystem has no
/// locks two may win.
fn take_over<'a>(
    disk: &Disk,
    temporary: Temporary<'a>,
    path: &Path,
    found: &Found,
) -> Result<Option<Temporary<'a>>, StoreError> {
    let lock = match disk.fs().try_lock(path) {
        Ok(None) => return Ok(Some(temporary)),
        Ok(lock) => lock,
        Err(_) => None,
    };
    if disk.read(path)? != *found {
        return Ok(Some(temporary));
    }
    temporary.replace(path)?;
    drop(lock);
    Ok(None)
}
