//! The disk fails at every call, once or for good, or the power does: a record is there whole or not at all.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::store::tests::faulty::{Cache, Call, Fate, FaultyFs, Unsynced};

/// Which calls fail, counted from 0.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Once(u64),
    From(u64),
    /// Does nothing but to a write.
    Short(u64),
}

impl Fault {
    fn disk(self) -> FaultyFs {
        let failed = || Fate::Failed(io::Error::other("injected"));
        FaultyFs::new(move |call| match self {
            Fault::Once(at) if call.number == at => failed(),
            Fault::From(at) if call.number >= at => failed(),
            Fault::Short(at) if call.number == at => Fate::Short,
            Fault::Once(_) | Fault::From(_) | Fault::Short(_) => Fate::Done,
        })
    }
}

/// A store on a faulty disk.
struct Trial {
    directory: TempDir,
    calls: Arc<AtomicU64>,
    cache: Arc<Mutex<Cache>>,
    outcome: Result<Lookup, StoreError>,
}

impl Trial {
    fn run(fault: Fault, prepare: &impl Fn(&Store)) -> Trial {
        let directory = directory();
        let root = directory.path().join("store");
        prepare_at(&root, prepare);
        let fs = fault.disk();
        let (calls, cache) = (Arc::clone(&fs.calls), Arc::clone(&fs.cache));
        let outcome = publish(&root, fs);
        Trial { directory, calls, cache, outcome }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Opens what is left with a sound disk, asserts that it holds all or nothing, and that it can be made whole.
    fn check(&self, context: &str) {
        let opened = Store::open_on(&self.root(), FaultyFs::sound());
        let store = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
        let key = key("a");
        match store.verify(&key).unwrap() {
            Peek::Hit(entry) => assert_eq!((entry.body.as_str(), entry.blobs.len()), (BODY, 2), "{context}"),
            Peek::Absent => assert!(self.outcome.is_err(), "{context}: a committed record is gone"),
            Peek::Damaged(why) => panic!("{context}: {why}"),
        }
        // The claim of this very process may have been impossible to give back; after a crash it would be stale.
        let _ = fs::remove_file(store.disk.claim_path(&key));
        if let Lookup::Miss(mut miss) = store.lookup(&key).unwrap() {
            let progress = miss.claim.progress().unwrap();
            let sound = |bytes: &[u8]| bytes == b"step 1" || bytes == b"step 2";
            match progress {
                Progress::Absent => {}
                Progress::Saved(bytes) => assert!(sound(&bytes), "{context}"),
                Progress::Damaged(why) => panic!("{context}: {why}"),
            }
            put(&mut miss.claim).unwrap();
            miss.claim.commit(BODY, PREIMAGE).unwrap();
        }
        assert!(matches!(store.verify(&key).unwrap(), Peek::Hit(_)), "{context}");
    }

    /// Forgets names from the `kept`-th on that are not synced, and all bytes that are not.
    fn lose_power(&self, kept: usize) {
        let cache = std::mem::take(&mut *self.cache.lock().unwrap());
        let mut pending = vec![self.directory.path().to_owned()];
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(fs::read_dir(&path).unwrap().map(|item| item.unwrap().path()));
            } else if cache.contents.contains(&fs::metadata(&path).unwrap().ino()) {
                overwrite(&path, b"");
            }
        }
        cache.names.iter().skip(kept).rev().for_each(Unsynced::undo);
    }
}

fn prepare_at(root: &Path, prepare: &impl Fn(&Store)) {
    let store = Store::open_on(root, FaultyFs::sound()).unwrap();
    prepare(&store);
    if store.keys().unwrap().is_empty() {
        fs::remove_dir_all(root).unwrap();
    }
}

fn put(claim: &mut Claim) -> Result<(), StoreError> {
    claim.put_blob("checkpoint", b"weights")?;
    claim.put_blob("history", b"losses").map(drop)
}

/// All the store does for a run, from opening it to finding the result.
fn publish(root: &Path, fs: FaultyFs) -> Result<Lookup, StoreError> {
    let store = Store::open_on(root, Box::new(fs))?;
    let mut claim = match store.lookup(&key("a"))? {
        Lookup::Miss(miss) => miss.claim,
        found => return Ok(found),
    };
    claim.save_progress(b"step 1")?;
    put(&mut claim)?;
    claim.heartbeat()?;
    claim.save_progress(b"step 2")?;
    claim.commit(BODY, PREIMAGE)?;
    store.lookup(&key("a"))
}

fn nothing(_: &Store) {}

/// An earlier record of the key, broken.
fn broken(store: &Store) {
    keep(store, &key("a"));
    overwrite(&store.record_path(&key("a")), b"ablate-record 1 torn");
}

/// Runs the trial with the n-th call failing, for every n up to the first run that none of its calls fails.
fn check_every_call(fault: impl Fn(u64) -> Fault, prepare: impl Fn(&Store), check: impl Fn(&Trial, u64)) {
    for at in 0.. {
        let trial = Trial::run(fault(at), &prepare);
        check(&trial, at);
        if trial.calls.load(Ordering::Relaxed) <= at {
            assert!(matches!(trial.outcome, Ok(Lookup::Hit(_))), "{:?}", trial.outcome);
            assert!(at > 50, "only {at} calls");
            return;
        }
    }
}

/// A broken record stays a miss until it is replaced; all else is whole or absent.
fn check_replaced(trial: &Trial, at: u64) {
    let store = Store::open(&trial.root()).unwrap();
    match store.verify(&key("a")).unwrap() {
        Peek::Hit(entry) => assert_eq!(entry.body, BODY),
        Peek::Absent => panic!("call {at}: the broken record went before its successor came"),
        Peek::Damaged(_) => assert!(trial.outcome.is_err(), "call {at}"),
    }
}

#[test]
fn one_call_fails() {
    check_every_call(Fault::Once, nothing, |trial, at| trial.check(&format!("call {at}")));
    check_every_call(Fault::Once, broken, check_replaced);
}

#[test]
fn every_call_fails_from_some_on() {
    check_every_call(Fault::From, nothing, |trial, at| trial.check(&format!("call {at}")));
    check_every_call(Fault::From, broken, check_replaced);
}

/// The process dies with the machine at the n-th call. What was not synced is lost: all of it, the later half of the
/// names, or only the bytes.
#[test]
fn the_power_fails() {
    for share in [0, 1, 2] {
        check_every_call(Fault::From, nothing, |trial, at| {
            let unsynced = trial.cache.lock().unwrap().names.len();
            trial.lose_power(unsynced * share / 2);
            trial.check(&format!("call {at}, {share}/2 of {unsynced} names kept"));
        });
    }
}

/// The proof above has teeth: a file whose bytes were never synced does not survive it.
#[test]
fn a_power_cut_loses_what_is_not_synced() {
    let trial = Trial::run(Fault::From(u64::MAX), &nothing);
    let mut fs = FaultyFs::sound();
    fs.cache = Arc::clone(&trial.cache);
    let path = trial.root().join("unsynced");
    let mut file = fs.create_new(&path).unwrap();
    fs.write(&mut file, b"bytes").unwrap();
    trial.lose_power(usize::MAX);
    assert_eq!(fs::read(&path).unwrap(), b"");
    assert!(matches!(Store::open(&trial.root()).unwrap().verify(&key("a")).unwrap(), Peek::Hit(_)));
}

/// A disk that lies about a write is found out by the length.
#[test]
fn one_write_is_short() {
    let short = Mutex::new(0);
    check_every_call(Fault::Short, nothing, |trial, at| {
        trial.check(&format!("call {at}"));
        *short.lock().unwrap() += u64::from(matches!(trial.outcome, Err(StoreError::ShortWrite { .. })));
    });
    assert!(short.into_inner().unwrap() > 8);
}

fn open(store: &Store, rule: impl Fn(Call) -> Fate + Send + Sync + 'static) -> Store {
    Store::open_on(store.root(), Box::new(FaultyFs::new(rule))).unwrap()
}

/// No write is asked of a store that is only read.
#[test]
fn a_store_is_read_without_a_write() {
    let (_directory, store) = store();
    let key = key("a");
    let kept = keep(&store, &key);
    let reader = open(&store, |call| match call.operation {
        "read" | "stat" | "list" => Fate::Done,
        _ => Fate::Failed(io::ErrorKind::ReadOnlyFilesystem.into()),
    });
    assert_eq!(hit(&reader, &key), kept);
    assert_eq!(reader.verify(&key).unwrap(), Peek::Hit(kept));
    assert_eq!(reader.find(&key.short()).unwrap(), [key]);
    assert_eq!(reader.failure(&key).unwrap(), None);
    let error = reader.lookup(&super::key("b")).unwrap_err();
    assert!(error.to_string().ends_with("; make the store writable to you"), "{error}");
}

/// A refusal that says nothing about the file, too many open files for one, must not cost a good result.
#[test]
fn a_record_that_cannot_be_judged_is_an_error() {
    let (_directory, store) = store();
    let key = key("a");
    keep(&store, &key);
    for refused in ["records", "blobs"] {
        let reader = open(&store, move |call| {
            let is_refused = call.path.components().any(|part| part.as_os_str() == refused);
            if is_refused { Fate::Failed(io::Error::from_raw_os_error(24)) } else { Fate::Done }
        });
        assert!(matches!(reader.lookup(&key), Err(StoreError::Io { .. })), "{refused}");
    }
}

#[test]
fn a_full_disk_is_named() {
    let (_directory, store) = store();
    let full = open(&store, |call| match call.operation {
        "sync" => Fate::Failed(io::ErrorKind::StorageFull.into()),
        _ => Fate::Done,
    });
    let error = miss(&full, &key("a")).claim.commit(BODY, PREIMAGE).unwrap_err();
    assert!(error.to_string().ends_with("; free some space and run again"), "{error}");
}

/// A store for which another process commits at the worst moment: when a name that holds `moment` is about to be taken.
fn outrun(store: &Store, key: Key, moment: &'static str) -> Store {
    let other = store.clone();
    open(store, move |call| {
        if call.operation == "link" && call.path.to_string_lossy().contains(moment) {
            let _ = fs::remove_file(other.disk.claim_path(&key));
            keep(&other, &key);
        }
        Fate::Done
    })
}

#[test]
fn a_commit_just_before_the_claim_is_a_hit() {
    let (_directory, store) = store();
    let key = key("a");
    assert_eq!(hit(&outrun(&store, key, "claims"), &key).body, BODY);
    assert!(!store.disk.claim_path(&key).exists());
}

#[test]
fn a_commit_just_before_the_commit_wins() {
    let (_directory, store) = store();
    let key = key("a");
    let committed = miss(&outrun(&store, key, ".record"), &key).claim.commit("second", PREIMAGE).unwrap();
    assert_eq!(committed.entry.body, BODY);
    assert!(committed.divergence.unwrap().path.exists());
    assert_eq!(hit(&store, &key), committed.entry);
}
