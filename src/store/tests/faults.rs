//! The disk fails at every call, once or for good, or the power does: a record is there whole or not at all.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::*;
use crate::store::fs::Stat;

/// Which calls fail, counted from 0.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Once(u64),
    From(u64),
}

/// Something the disk has not promised to remember.
enum Unsynced {
    NewDirectory(PathBuf),
    NewName(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<Vec<u8>> },
    Removed(PathBuf, Vec<u8>),
}

impl Unsynced {
    /// The name whose directory must be synced.
    fn name(&self) -> &Path {
        match self {
            Unsynced::NewDirectory(path) | Unsynced::NewName(path) | Unsynced::Removed(path, _) => path,
            Unsynced::Renamed { to, .. } => to,
        }
    }

    fn undo(&self) {
        match self {
            Unsynced::NewDirectory(path) => fs::remove_dir_all(path).unwrap(),
            Unsynced::NewName(path) => fs::remove_file(path).unwrap(),
            Unsynced::Removed(path, bytes) => fs::write(path, bytes).unwrap(),
            Unsynced::Renamed { from, to, replaced } => {
                fs::rename(to, from).unwrap();
                replaced.iter().for_each(|bytes| fs::write(to, bytes).unwrap());
            }
        }
    }
}

#[derive(Default)]
struct Cache {
    names: Vec<Unsynced>,
    /// Files by inode whose bytes are not synced.
    contents: BTreeSet<u64>,
}

/// A real disk with a fault, and with a memory of what is not synced.
struct FaultyFs {
    fault: Fault,
    calls: Arc<AtomicU64>,
    cache: Arc<Mutex<Cache>>,
}

impl FaultyFs {
    fn call(&self) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let fails = match self.fault {
            Fault::Once(at) => call == at,
            Fault::From(at) => call >= at,
        };
        if fails { Err(io::Error::other("injected")) } else { Ok(()) }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap()
    }
}

impl Fs for FaultyFs {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call().and_then(|()| RealFs.read(path))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.call().and_then(|()| RealFs.stat(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.call().and_then(|()| RealFs.list(directory))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        let new: Vec<PathBuf> = path.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        RealFs.create_directory(path)?;
        self.cache().names.extend(new.into_iter().rev().map(Unsynced::NewDirectory));
        Ok(())
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        self.call()?;
        let file = RealFs.create_new(path)?;
        self.cache().names.push(Unsynced::NewName(path.to_owned()));
        self.cache().contents.insert(file.metadata()?.ino());
        Ok(file)
    }

    /// A write that fails has written half.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let outcome = self.call();
        let written = if outcome.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        RealFs.write(file, written)?;
        outcome
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.call()?;
        self.cache().contents.remove(&file.metadata()?.ino());
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        self.cache().names.retain(|unsynced| unsynced.name().parent() != Some(path));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        let replaced = fs::read(to).ok();
        RealFs.rename(from, to)?;
        self.cache().names.push(Unsynced::Renamed { from: from.to_owned(), to: to.to_owned(), replaced });
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        RealFs.link(from, to)?;
        self.cache().names.push(Unsynced::NewName(to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        let bytes = fs::read(path)?;
        RealFs.remove(path)?;
        self.cache().names.push(Unsynced::Removed(path.to_owned(), bytes));
        Ok(())
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        self.call().and_then(|()| RealFs.touch(path))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<File>> {
        self.call().and_then(|()| RealFs.try_lock(path))
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
        let directory = TempDir::new().unwrap();
        let root = directory.path().join("store");
        prepare_at(&root, prepare);
        let (calls, cache) = (Arc::default(), Arc::default());
        let fs = FaultyFs { fault, calls: Arc::clone(&calls), cache: Arc::clone(&cache) };
        let outcome = publish(&root, fs);
        Trial { directory, calls, cache, outcome }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Opens what is left with a sound disk, asserts that it holds all or nothing, and that it can be made whole.
    fn check(&self, context: &str) {
        let store = Store::open(&self.root()).unwrap_or_else(|error| panic!("{context}: {error}"));
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
    let store = Store::open(root).unwrap();
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
    let fs = FaultyFs { fault: Fault::From(u64::MAX), calls: Arc::default(), cache: Arc::clone(&trial.cache) };
    let path = trial.root().join("unsynced");
    let mut file = fs.create_new(&path).unwrap();
    fs.write(&mut file, b"bytes").unwrap();
    trial.lose_power(usize::MAX);
    assert_eq!(fs::read(&path).unwrap(), b"");
    assert!(matches!(Store::open(&trial.root()).unwrap().verify(&key("a")).unwrap(), Peek::Hit(_)));
}

/// No write is asked of a store that is only read.
#[test]
fn a_store_is_read_without_a_write() {
    struct ReadOnlyFs;
    fn refused<T>() -> io::Result<T> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    impl Fs for ReadOnlyFs {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            RealFs.read(path)
        }
        fn stat(&self, path: &Path) -> io::Result<Stat> {
            RealFs.stat(path)
        }
        fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
            RealFs.list(directory)
        }
        fn create_directory(&self, _: &Path) -> io::Result<()> {
            refused()
        }
        fn create_new(&self, _: &Path) -> io::Result<File> {
            refused()
        }
        fn write(&self, _: &mut File, _: &[u8]) -> io::Result<()> {
            refused()
        }
        fn sync(&self, _: &File) -> io::Result<()> {
            refused()
        }
        fn sync_directory(&self, _: &Path) -> io::Result<()> {
            refused()
        }
        fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
            refused()
        }
        fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
            refused()
        }
        fn remove(&self, _: &Path) -> io::Result<()> {
            refused()
        }
        fn touch(&self, _: &Path) -> io::Result<()> {
            refused()
        }
        fn try_lock(&self, _: &Path) -> io::Result<Option<File>> {
            refused()
        }
    }
    let (_directory, store) = store();
    let key = key("a");
    let kept = keep(&store, &key);
    let reader = Store::open_on(store.root(), Box::new(ReadOnlyFs)).unwrap();
    assert_eq!(hit(&reader, &key), kept);
    assert_eq!(reader.verify(&key).unwrap(), Peek::Hit(kept));
    assert_eq!(reader.find(&key.short()).unwrap(), [key]);
    assert_eq!(reader.failure(&key).unwrap(), None);
    let error = reader.lookup(&super::key("b")).unwrap_err();
    assert!(error.to_string().ends_with("; make the store writable to you"), "{error}");
}
