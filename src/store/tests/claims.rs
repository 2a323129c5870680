//! One computes, the others are told who; nobody waits for the dead.

use std::fs::File;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, SystemTime};

use super::*;
use crate::store::claim::SILENT_AFTER;
use crate::store::process::Process;
use crate::store::tests::faulty::{Fate, FaultyFs};

/// A claim's text as another process would have written it.
pub fn claim_of(process: &Process) -> String {
    let Process { host, pid, start_ticks } = process;
    let text = format!("host {host}\npid {pid}\nstart {start_ticks}\nnumber 0\nsince 7\n");
    sealed::header("ablate-claim", text.as_bytes()) + &text
}

/// A process that ended; its start is none that a process of its number could have.
pub fn dead() -> Process {
    static DEAD: std::sync::OnceLock<Process> = std::sync::OnceLock::new();
    let of_a_child = || {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        Process { pid, start_ticks: 1, ..Process::current().clone() }
    };
    DEAD.get_or_init(of_a_child).clone()
}

fn elsewhere() -> Process {
    Process { host: format!("{}-other", Process::current().host), pid: 7, start_ticks: 1 }
}

pub fn plant(store: &Store, key: &Key, text: &str) -> PathBuf {
    let path = store.disk.claim_path(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_held_key_is_taken_until_it_is_given_back() {
    let (_directory, store) = store();
    let again = Store::open(store.root()).unwrap();
    let key = key("a");
    let claim = miss(&store, &key).claim;
    for store in [&store, &again] {
        let Lookup::Taken(owner) = store.lookup(&key).unwrap() else { panic!("expected a taken key") };
        assert_eq!((owner.pid(), owner.host()), (std::process::id(), Process::current().host.as_str()));
        assert!(owner.since_unix_s() > 0);
    }
    claim.heartbeat().unwrap();
    drop(claim);
    assert!(!store.disk.claim_path(&key).exists());
    let miss = miss(&again, &key);
    assert_eq!((miss.damage, miss.taken_over), (None, None));
    miss.claim.commit(BODY, PREIMAGE).unwrap();
    assert!(!store.disk.claim_path(&key).exists());
}

/// Eight threads, each with a store of its own, ask for one key at once; the winner's record serves the rest.
fn check_one_winner(prepare: impl Fn(&Store, &Key)) {
    for round in 0..20 {
        let (_directory, store) = store();
        let key = key(&round.to_string());
        prepare(&store, &key);
        let start = Barrier::new(8);
        let lookups: Vec<Lookup> = std::thread::scope(|scope| {
            let ask = || {
                let own = Store::open(store.root()).unwrap();
                start.wait();
                own.lookup(&key).unwrap()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let won = lookups.iter().filter(|lookup| matches!(lookup, Lookup::Miss(_))).count();
        let taken = lookups.iter().filter(|lookup| matches!(lookup, Lookup::Taken(_))).count();
        assert_eq!((won, taken), (1, 7), "round {round}");
        let names: Vec<_> =
            fs::read_dir(store.root().join("claims")).unwrap().map(|item| item.unwrap().path()).collect();
        assert_eq!(names, [store.disk.claim_path(&key)]);
    }
}

#[test]
fn of_many_claimants_one_wins() {
    check_one_winner(|_, _| {});
}

#[test]
fn of_many_takers_of_a_stale_claim_one_wins() {
    let text = claim_of(&dead());
    check_one_winner(|store, key| {
        plant(store, key, &text);
    });
}

/// A second taker that judged the claim stale comes too late, and leaves the first one's in place.
#[test]
fn a_late_taker_steps_back() {
    let (_directory, store) = store();
    let key = key("a");
    plant(&store, &key, &claim_of(&dead()));
    let (first, first_miss) = (store.clone(), Arc::new(Mutex::new(None)));
    let kept = Arc::clone(&first_miss);
    let late = FaultyFs::new(move |call| {
        if call.operation == "try_lock" {
            kept.lock().unwrap().get_or_insert_with(|| miss(&first, &key));
        }
        Fate::Done
    });
    let late = Store::open_on(store.root(), Box::new(late)).unwrap();
    assert!(matches!(late.lookup(&key).unwrap(), Lookup::Taken(_)));
    let first_miss = first_miss.lock().unwrap().take().unwrap();
    assert!(first_miss.taken_over.is_some());
    first_miss.claim.heartbeat().unwrap();
}

#[test]
fn what_makes_a_claim_stale() {
    let (_directory, store) = store();
    let here = Process::current().clone();
    let silent = |path: &Path, by: Duration| {
        File::open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
    };
    let check = |text: &str, age: Duration, expected: Option<&str>| {
        let key = key(text);
        silent(&plant(&store, &key, text), age);
        match (store.lookup(&key).unwrap(), expected) {
            (Lookup::Taken(owner), None) => assert_eq!(owner.since_unix_s(), 7),
            (Lookup::Miss(miss), Some(why)) => {
                let found = miss.taken_over.as_ref().unwrap();
                assert!(found.contains(why), "expected `{why}` in: {found}");
                miss.claim.heartbeat().unwrap();
                assert!(matches!(store.lookup(&key).unwrap(), Lookup::Taken(_)), "{why}");
            }
            (other, _) => panic!("expected {expected:?}, found {other:?}"),
        }
    };
    let (fresh, old) = (Duration::ZERO, SILENT_AFTER + Duration::from_secs(5));
    let torn = &claim_of(&here)[..90];
    check(&claim_of(&here), old, None);
    check(&claim_of(&dead()), fresh, Some("is dead"));
    if here.start_ticks != 0 {
        check(&claim_of(&Process { start_ticks: here.start_ticks + 1, ..here.clone() }), fresh, Some("is dead"));
    }
    check(&claim_of(&elsewhere()), SILENT_AFTER - Duration::from_secs(60), None);
    check(&claim_of(&Process { pid: 8, ..elsewhere() }), old, Some("has been silent for 60"));
    check(torn, fresh, Some("digest"));
    check("", fresh, Some("is empty"));
    let key = key("a directory");
    fs::create_dir_all(store.disk.claim_path(&key)).unwrap();
    assert!(miss(&store, &key).taken_over.unwrap().contains("is not a file"));
}

#[test]
fn a_heartbeat_keeps_a_claim_and_notices_its_loss() {
    let (_directory, store) = store();
    let key = key("a");
    let claim = miss(&store, &key).claim;
    let path = store.disk.claim_path(&key);
    File::open(&path).unwrap().set_modified(SystemTime::now() - SILENT_AFTER).unwrap();
    claim.heartbeat().unwrap();
    assert!(fs::metadata(&path).unwrap().modified().unwrap().elapsed().unwrap() < SILENT_AFTER / 2);
    overwrite(&path, claim_of(&elsewhere()).as_bytes());
    let error = claim.heartbeat().unwrap_err();
    assert!(matches!(&error, StoreError::ClaimLost { owner: Some(owner), .. } if owner.pid() == 7), "{error}");
    drop(claim);
    assert!(path.exists(), "a claim of another is not given back");
    fs::remove_file(&path).unwrap();
    let claim = miss(&store, &key).claim;
    fs::remove_file(&path).unwrap();
    assert!(matches!(claim.heartbeat(), Err(StoreError::ClaimLost { owner: None, .. })));
    claim.commit(BODY, PREIMAGE).unwrap();
    hit(&store, &key);
}

/// Only what the dead left is removed, and only by one who is about to write.
#[test]
fn leftovers_of_the_dead_are_removed() {
    let (_directory, store) = store();
    keep(&store, &key("a"));
    let name = |process: &Process| format!(".tmp-3-{}-{}-{}", process.pid, process.start_ticks, process.host);
    let shard = store.record_path(&key("a")).parent().unwrap().to_owned();
    let directories = [store.root().to_owned(), store.root().join("claims"), shard];
    let left = |process: &Process| directories.iter().filter(|path| path.join(name(process)).exists()).count();
    let (dead, alive, elsewhere) = (dead(), Process::current(), elsewhere());
    for directory in &directories {
        for process in [&dead, alive, &elsewhere] {
            fs::write(directory.join(name(process)), "half").unwrap();
        }
    }
    let again = Store::open(store.root()).unwrap();
    hit(&again, &key("a"));
    assert_eq!(again.keys().unwrap(), [key("a")]);
    assert_eq!(left(&dead), 3);
    miss(&again, &key("b"));
    assert_eq!((left(&dead), left(alive), left(&elsewhere)), (0, 3, 3));
}

/// Another program's lock on the stale file is waited for, then reported.
#[test]
fn a_takeover_that_is_held_up_is_an_error() {
    let (_directory, store) = store();
    let key = key("a");
    let path = plant(&store, &key, &claim_of(&dead()));
    let lock = File::open(&path).unwrap();
    lock.lock().unwrap();
    assert!(matches!(store.lookup(&key), Err(StoreError::ClaimBusy { .. })));
    drop(lock);
    assert!(miss(&store, &key).taken_over.is_some());
}

/// Another process creates the store, and begins to use it, between this one's look for it and its look around.
#[test]
fn a_store_that_appears_while_it_is_created_is_opened() {
    let directory = directory();
    let root = directory.path().join("store");
    let (path, held) = (root.clone(), Mutex::new(None));
    let overtaken = FaultyFs::new(move |call| {
        if call.operation == "list" {
            let first = Store::open(&path).unwrap();
            held.lock().unwrap().get_or_insert_with(|| miss(&first, &key("a")));
        }
        Fate::Done
    });
    let late = Store::open_on(&root, Box::new(overtaken)).unwrap();
    miss(&late, &key("b")).claim.commit(BODY, PREIMAGE).unwrap();
    hit(&Store::open(&root).unwrap(), &key("b"));
}
