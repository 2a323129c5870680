//! All a store is asked to do, one piece each, and what must hold when a piece is cut short anywhere.

use super::claims::{claim_of, dead, plant};
use super::faulty::FaultyFs;
use super::*;
use crate::store::claim::{Acquired, acquire};
use crate::store::gc::{self, Scope};

/// One piece of work. Doing it again after it was cut short, or after it was done, must lead to the same end.
pub struct Scenario {
    pub name: &'static str,
    pub prepare: fn(&Store),
    pub act: fn(&Store) -> Result<(), StoreError>,
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "publish", prepare: |_| {}, act: publish },
    Scenario { name: "take over a claim", prepare: stale_claim, act: publish },
    Scenario { name: "replace a broken record", prepare: broken, act: publish },
    Scenario { name: "read", prepare: everything, act: read },
    Scenario { name: "resume", prepare: |store| save(store, b"step 1").unwrap(), act: resume },
    Scenario {
        name: "keep a failure",
        prepare: |store| fail(store, "first").unwrap(),
        act: |store| fail(store, "last"),
    },
    Scenario { name: "diverge", prepare: |store| drop(keep(store, &key("a"))), act: diverge },
    Scenario { name: "verify and diverge", prepare: |store| drop(keep(store, &key("a"))), act: keep_second },
    Scenario { name: "pin", prepare: everything, act: |store| store.pin(&key("b"), "for the paper") },
    Scenario { name: "unpin", prepare: everything, act: |store| store.unpin(&key("a")).map(drop) },
    Scenario { name: "retire", prepare: everything, act: |store| store.retire(&key("a")) },
    Scenario { name: "gc of leftovers", prepare: leftovers, act: |store| collect(store, &leftovers_scope()) },
    Scenario { name: "gc of progress", prepare: leftovers, act: |store| collect(store, &progress_scope()) },
    Scenario { name: "gc of checkpoints", prepare: everything, act: |store| collect(store, &checkpoints_scope()) },
    Scenario { name: "bring a dropped blob back", prepare: dropped, act: |store| train_again(store, b"weights") },
    Scenario { name: "train again with other bits", prepare: dropped, act: |store| train_again(store, b"others") },
    Scenario { name: "check", prepare: everything, act: check },
];

pub fn leftovers_scope() -> Scope {
    Scope { leftovers: true, ..Scope::default() }
}

pub fn progress_scope() -> Scope {
    Scope { progress: true, ..Scope::default() }
}

pub fn checkpoints_scope() -> Scope {
    Scope { blobs: ["checkpoint".to_owned()].into(), ..Scope::default() }
}

pub fn collect(store: &Store, scope: &Scope) -> Result<(), StoreError> {
    gc::carry_out(store, &gc::plan(store, scope)?).map(drop)
}

fn stale_claim(store: &Store) {
    plant(store, &key("a"), &claim_of(&dead()));
}

fn broken(store: &Store) {
    keep(store, &key("a"));
    overwrite(&store.record_path(&key("a")), b"ablate-record 1 torn");
}

/// Of each kind of file one: a pinned record, one with a checkpoint of its own, a failure, a divergence, progress
/// and what it has left so far.
pub fn everything(store: &Store) {
    keep(store, &key("a"));
    store.pin(&key("a"), "the baseline").unwrap();
    let mut claim = miss(store, &key("own")).claim;
    claim.put_blob("checkpoint", b"its own").unwrap();
    claim.commit(BODY, PREIMAGE).unwrap();
    fail(store, "first").unwrap();
    keep_second(store).unwrap();
    save(store, b"step 1").unwrap();
}

/// What crashes leave, beside what must stay.
fn leftovers(store: &Store) {
    everything(store);
    let unnamed = store.disk.put_blob(b"nobody names this").unwrap();
    age(&store.blob_path(&unnamed.digest), 2 * gc::YOUNG);
    store.disk.put_blob(b"nobody names this yet").unwrap();
    let record = store.record_path(&key("a"));
    let process = dead();
    let temporary = format!(".tmp-3-{}-{}-{}", process.pid, process.start_ticks, process.host);
    fs::write(record.with_file_name(temporary), "half").unwrap();
    fs::write(record.with_extension("retired"), "of no use").unwrap();
    fs::write(store.blob_path(&unnamed.digest).with_added_extension("damaged"), "bad").unwrap();
    plant(store, &key("stale"), &claim_of(&process));
    fs::write(store.disk.progress_path(&key("a")), "of a record that is there").unwrap();
}

pub fn age(path: &Path, by: std::time::Duration) {
    fs::File::open(path).unwrap().set_modified(std::time::SystemTime::now() - by).unwrap();
}

fn dropped(store: &Store) {
    keep(store, &key("a"));
    collect(store, &checkpoints_scope()).unwrap();
    assert_eq!(hit(store, &key("a")).dropped.len(), 1);
}

fn publish(store: &Store) -> Result<(), StoreError> {
    let Lookup::Miss(Miss { mut claim, .. }) = store.lookup(&key("a"))? else { return Ok(()) };
    claim.save_progress(b"step 1")?;
    claim.put_blob("checkpoint", b"weights")?;
    claim.put_blob("history", b"losses")?;
    claim.heartbeat()?;
    claim.commit(BODY, PREIMAGE).map(drop)
}

fn save(store: &Store, bytes: &[u8]) -> Result<(), StoreError> {
    let Lookup::Miss(mut miss) = store.lookup(&key("c"))? else { return Ok(()) };
    miss.claim.put_blob("snapshot-1", b"one")?;
    miss.claim.save_progress(bytes)
}

fn resume(store: &Store) -> Result<(), StoreError> {
    let Lookup::Miss(mut miss) = store.lookup(&key("c"))? else { panic!("nobody committed it") };
    match miss.claim.progress()? {
        Progress::Saved(bytes) => assert!([b"step 1", b"step 2"].iter().any(|step| bytes == *step)),
        other => panic!("a checkpoint that was saved is {other:?}"),
    }
    miss.claim.put_blob("snapshot-2", b"two")?;
    miss.claim.save_progress(b"step 2")
}

fn fail(store: &Store, body: &str) -> Result<(), StoreError> {
    let Lookup::Miss(Miss { mut claim, .. }) = store.lookup(&key("b"))? else { return Ok(()) };
    claim.put_blob("history", b"nan")?;
    claim.fail(body, PREIMAGE)
}

/// A second result of a process that lost its claim.
fn diverge(store: &Store) -> Result<(), StoreError> {
    let Acquired::Claimed { mut claim, .. } = acquire(&store.disk, &key("a"))? else { panic!("nobody has it") };
    claim.put_blob("checkpoint", b"others")?;
    assert!(claim.commit(BODY, PREIMAGE)?.divergence.is_some());
    Ok(())
}

fn keep_second(store: &Store) -> Result<(), StoreError> {
    let blobs = BTreeMap::from([("checkpoint".to_owned(), b"second".to_vec())]);
    let named = BTreeMap::from([("checkpoint".to_owned(), BlobRef::of(b"second"))]);
    let (body, preimage) = ("second".to_owned(), PREIMAGE.to_owned());
    let entry = Entry { key: key("a"), body, preimage, blobs: named, dropped: BTreeMap::new() };
    store.keep_divergence(&entry, &blobs).map(drop)
}

fn train_again(store: &Store, weights: &[u8]) -> Result<(), StoreError> {
    let Lookup::Miss(Miss { mut claim, .. }) = store.lookup_whole(&key("a"))? else { return Ok(()) };
    claim.put_blob("checkpoint", weights)?;
    claim.put_blob("history", b"losses")?;
    let committed = claim.commit("of another time", PREIMAGE)?;
    assert_eq!(committed.entry.body, BODY, "the first stays");
    assert_eq!(committed.divergence.is_some(), weights != b"weights");
    assert_eq!(committed.entry.dropped.is_empty(), weights == b"weights");
    Ok(())
}

/// Every question, each answered right or not at all.
fn read(store: &Store) -> Result<(), StoreError> {
    let key = key("a");
    let entry = match store.verify(&key)? {
        Peek::Hit(entry) => entry,
        other => panic!("a sound record is {other:?}"),
    };
    assert_eq!(entry.body, BODY);
    assert_eq!(store.read_blob(&entry.blobs["checkpoint"])?, b"weights");
    assert_eq!(store.keys()?.len(), 2);
    assert_eq!(store.find(&key.short())?, [key]);
    assert_eq!(store.failure(&super::key("b"))?.map(|entry| entry.body), Some("first".to_owned()));
    assert_eq!(store.divergences(&key)?.len(), 1);
    assert_eq!(store.pins()?.len(), 1);
    assert_eq!(store.claims()?, []);
    assert!(matches!(store.lookup(&key)?, Lookup::Hit(found) if found == entry));
    Ok(())
}

fn check(store: &Store) -> Result<(), StoreError> {
    let report = store.check(true, &mut |_| {})?;
    assert_eq!((report.records, report.divergences.len(), report.failures.len()), (2, 1, 1));
    assert_eq!(report.problems, []);
    Ok(())
}

/// What a store answers to every question, free of times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// None for a record that does not count.
    records: BTreeMap<Key, Option<Entry>>,
    dropped: BTreeSet<(Key, String)>,
    failures: BTreeMap<Key, Entry>,
    divergences: BTreeMap<Key, Vec<Entry>>,
    pins: BTreeMap<Key, String>,
    progress: BTreeMap<Key, Vec<u8>>,
    /// All but what one process at work may have beside another.
    files: BTreeSet<PathBuf>,
}

impl Content {
    /// Reads everything, to the last byte of every blob.
    pub fn of(store: &Store) -> Content {
        let keys = ["a", "b", "c", "own", "stale"].map(key);
        let (mut records, mut dropped) = (BTreeMap::new(), BTreeSet::new());
        for key in keys {
            match store.verify(&key).unwrap() {
                Peek::Hit(entry) => {
                    dropped.extend(entry.dropped.keys().map(|name| (key, name.clone())));
                    records.insert(key, Some(Entry { dropped: BTreeMap::new(), ..entry }));
                }
                Peek::Damaged(_) => drop(records.insert(key, None)),
                Peek::Absent => {}
            }
        }
        let second = |key: &Key| store.divergences(key).unwrap().into_iter().map(|found| found.unwrap()).collect();
        let mut progress = BTreeMap::new();
        for key in keys {
            if let Found::Bytes(bytes) = store.disk.read(&store.disk.progress_path(&key)).unwrap() {
                progress.insert(key, bytes);
            }
        }
        Content {
            records,
            dropped,
            failures: keys.into_iter().filter_map(|key| Some((key, store.failure(&key).unwrap()?))).collect(),
            divergences: keys.iter().map(|key| (*key, second(key))).collect(),
            pins: store.pins().unwrap().into_iter().map(|pin| (pin.key, pin.note)).collect(),
            progress,
            files: files(store.root()).into_iter().filter(|path| is_kept(path)).collect(),
        }
    }

    /// A commit that could not remove the progress, the failure or the marker of its key stands all the same: every reader
    /// ignores them, and `gc` takes them away.
    fn tolerate_leftovers_of(&mut self, found: &Content) {
        let is_kept = |key: &Key| found.records.get(key).is_some_and(Option::is_some);
        self.progress.extend(found.progress.iter().filter(|(key, _)| is_kept(key)).map(|(key, of)| (*key, of.clone())));
        self.failures.extend(found.failures.iter().filter(|(key, _)| is_kept(key)).map(|(key, of)| (*key, of.clone())));
        let of_a_kept_key = |path: &&PathBuf| {
            let key = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let is_of_use = path.starts_with("records") && path.extension().is_none_or(|of| of != "dropped");
            !path.starts_with("blobs") && !is_of_use && key.is_some_and(|key| is_kept(&key))
        };
        self.files.extend(found.files.iter().filter(of_a_kept_key).cloned());
    }

    /// Each answer is that of before or that of after; after a success it is that of after, but that what was removed
    /// may be there again where `power` failed.
    pub fn assert_between(&self, before: &Content, after: &Content, is_done: bool, power: bool, context: &str) {
        fn check<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
            [found, before, after]: [&BTreeMap<K, V>; 3],
            is_done: bool,
            power: bool,
            context: &str,
        ) {
            for key in before.keys().chain(after.keys()).chain(found.keys()) {
                let found = found.get(key);
                let is_old = found == before.get(key) && (!is_done || (power && after.get(key).is_none()));
                assert!(is_old || found == after.get(key), "{context}: {key:?} is {found:?}");
            }
        }
        check([&self.records, &before.records, &after.records], is_done, power, context);
        check([&self.failures, &before.failures, &after.failures], is_done, power, context);
        check([&self.divergences, &before.divergences, &after.divergences], is_done, power, context);
        check([&self.pins, &before.pins, &after.pins], is_done, power, context);
        let excused: BTreeSet<_> = before.dropped.union(&after.dropped).collect();
        assert!(self.dropped.iter().all(|dropped| excused.contains(dropped)), "{context}: {:?}", self.dropped);
        for (key, bytes) in &self.progress {
            let known = [before, after].iter().any(|content| content.progress.get(key) == Some(bytes));
            let payload = sealed::open("ablate-progress", bytes);
            assert!(known || payload.is_ok_and(|step| step.starts_with(b"step ")), "{context}: progress of {key}");
        }
        for key in before.progress.keys().filter(|key| after.progress.contains_key(key)) {
            assert!(self.progress.contains_key(key), "{context}: the progress of {key} is gone");
        }
    }
}

/// What a work under way has for itself is not compared.
fn is_kept(path: &Path) -> bool {
    let name = path.to_string_lossy();
    ![".tmp-", ".condemned", "claims/"].iter().any(|part| name.contains(part))
}

/// Every file below `root`, by its path from there.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let (mut pending, mut files) = (vec![root.to_owned()], Vec::new());
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|item| item.unwrap().path()));
        } else {
            files.push(path.strip_prefix(root).unwrap().to_owned());
        }
    }
    files.sort();
    files
}

/// A store in which a scenario is prepared, on a disk that remembers all of it.
pub fn prepared(scenario: &Scenario) -> (TempDir, PathBuf) {
    let directory = directory();
    let root = directory.path().join("store");
    let store = Store::open_on(&root, FaultyFs::sound()).unwrap();
    (scenario.prepare)(&store);
    (directory, root)
}

/// What the store answers before and after a scenario, when nothing fails.
pub fn before_and_after(scenario: &Scenario) -> (Content, Content) {
    let (_directory, root) = prepared(scenario);
    let store = Store::open_on(&root, FaultyFs::sound()).unwrap();
    let before = Content::of(&store);
    (scenario.act)(&store).unwrap();
    let after = Content::of(&store);
    (scenario.act)(&store).unwrap();
    assert_eq!(Content::of(&store), after, "{}: once more changes nothing", scenario.name);
    (before, after)
}

/// Does the work once more on what is left, with nothing failing, and asserts that it ends as if nothing ever had.
pub fn assert_mended(root: &Path, scenario: &Scenario, after: &Content, context: &str) {
    forget_claims(root);
    let store = Store::open_on(root, FaultyFs::sound()).unwrap_or_else(|error| panic!("{context}: {error}"));
    (scenario.act)(&store).unwrap_or_else(|error| panic!("{context}: again: {error}"));
    let (found, mut after) = (Content::of(&store), after.clone());
    after.tolerate_leftovers_of(&found);
    assert_eq!(found, after, "{context}: done again");
    let report = store.check(true, &mut |_| {}).unwrap();
    assert!(!report.is_damaged(), "{context}: {:?}", report.problems);
}

/// The claims of this very process may have been impossible to give back; after a crash they would be stale.
pub fn forget_claims(root: &Path) {
    let mine = format!("pid {}\n", std::process::id());
    for item in fs::read_dir(root.join("claims")).into_iter().flatten() {
        let path = item.unwrap().path();
        if fs::read_to_string(&path).is_ok_and(|text| text.contains(&mine)) {
            fs::remove_file(&path).unwrap();
        }
    }
}
