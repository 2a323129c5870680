//! The store kept and found again; what breaks it is in the files beside.

mod bytes;
mod claims;
mod collecting;
mod damage;
mod every_call;
mod faults;
pub(crate) mod faulty;
mod power;
mod processes;
mod scenarios;
pub(crate) mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::store::disk::Found;

const BODY: &str = "{\"top1\": 0.5}";
const PREIMAGE: &str = "ablate/test/k1\ntrain.batch = 256\n";

fn key(text: &str) -> Key {
    Key::of_bytes(text.as_bytes())
}

/// In memory where the system offers it: what a test proves here does not hang on a real disk, its time does.
fn directory() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

fn store() -> (TempDir, Store) {
    let directory = directory();
    let store = Store::open(&directory.path().join("store")).unwrap();
    (directory, store)
}

fn miss(store: &Store, key: &Key) -> Miss {
    match store.lookup(key).unwrap() {
        Lookup::Miss(miss) => miss,
        other => panic!("expected a miss, found {other:?}"),
    }
}

fn hit(store: &Store, key: &Key) -> Entry {
    match store.lookup(key).unwrap() {
        Lookup::Hit(entry) => entry,
        other => panic!("expected a hit, found {other:?}"),
    }
}

/// Commits a record of two blobs.
fn keep(store: &Store, key: &Key) -> Entry {
    let mut claim = miss(store, key).claim;
    claim.put_blob("checkpoint", b"weights").unwrap();
    claim.put_blob("history", b"losses").unwrap();
    claim.commit(BODY, PREIMAGE).unwrap().entry
}

/// Published files are read-only, so they are damaged by another in their place.
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_record_comes_back_as_it_was_kept() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(&directory.path().join("new/store")).unwrap();
    let key = key("a");
    assert_eq!(store.peek(&key).unwrap(), Peek::Absent);
    let kept = keep(&store, &key);
    let again = Store::open(store.root()).unwrap();
    for found in [hit(&store, &key), hit(&again, &key)] {
        assert_eq!(found, kept);
        assert_eq!((found.body.as_str(), found.preimage.as_str()), (BODY, PREIMAGE));
        assert_eq!(found.blobs.keys().collect::<Vec<_>>(), ["checkpoint", "history"]);
        assert_eq!(again.read_blob(&found.blobs["checkpoint"]).unwrap(), b"weights");
    }
    assert_eq!(again.verify(&key).unwrap(), Peek::Hit(kept));
    assert_eq!(fs::read_to_string(store.record_path(&key).with_extension("preimage")).unwrap(), PREIMAGE);
}

#[test]
fn keys_are_found_by_prefix() {
    let (_directory, store) = store();
    let (kept, failed) = (key("kept"), key("failed"));
    keep(&store, &kept);
    miss(&store, &failed).claim.fail("{}", PREIMAGE).unwrap();
    assert_eq!(store.keys().unwrap(), [kept]);
    let check = |prefix: &str, expected: &[Key]| assert_eq!(store.find(prefix).unwrap(), expected, "{prefix}");
    check(&kept.to_string(), &[kept]);
    check(&kept.short(), &[kept]);
    check(&kept.to_string()[..1], &[kept]);
    check(&failed.short(), &[failed]);
    check(&format!("{kept}0"), &[]);
    check("../", &[]);
    check("xyz", &[]);
    let mut both = [kept, failed];
    both.sort();
    check("", &both);
}

#[test]
fn a_failure_is_kept_but_never_a_hit() {
    let (_directory, store) = store();
    let key = key("a");
    for body in ["first", "last"] {
        let mut claim = miss(&store, &key).claim;
        claim.put_blob("history", b"nan").unwrap();
        claim.save_progress(b"step 3").unwrap();
        claim.fail(body, PREIMAGE).unwrap();
    }
    let failure = store.failure(&key).unwrap().unwrap();
    assert_eq!(failure.body, "last");
    assert_eq!(store.read_blob(&failure.blobs["history"]).unwrap(), b"nan");
    let record = store.record_path(&key);
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    fs::copy(store.disk.record_path(Kind::Failure, &key), &record).unwrap();
    assert!(matches!(store.peek(&key).unwrap(), Peek::Damaged(why) if why.contains("kind `failure`")));
    keep(&store, &key);
    assert_eq!(store.failure(&key).unwrap(), None);
}

#[test]
fn the_first_of_two_results_wins() {
    let (_directory, store) = store();
    let key = key("a");
    let put = |body: &str, weights: &[u8]| {
        let mut claim = miss(&store, &key).claim;
        // Both computed at once, which needs no more than a lost claim.
        keep_beside(&store, &key);
        claim.put_blob("checkpoint", weights).unwrap();
        claim.put_blob("history", b"losses").unwrap();
        let committed = claim.commit(body, PREIMAGE).unwrap();
        let found = hit(&store, &key);
        assert_eq!(committed.entry, found);
        assert_eq!(found.body, BODY);
        fs::remove_file(store.record_path(&key)).unwrap();
        committed.divergence
    };
    assert_eq!(put(BODY, b"weights"), None);
    let check = |body: &str, weights: &[u8], blobs_agree: bool| {
        let divergence = put(body, weights).unwrap();
        assert_eq!(divergence.blobs_agree, blobs_agree, "{body}");
        let name = divergence.path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with(&format!("{key}.divergence-")), "{name}");
        let bytes = fs::read(&divergence.path).unwrap();
        assert_eq!(entry::decode(Kind::Result, &key, &bytes).unwrap().body, body);
    };
    check("another", b"weights", true);
    check(BODY, b"other weights", false);
    assert_eq!(store.keys().unwrap(), []);
}

/// Commits as a process would that lost its claim.
fn keep_beside(store: &Store, key: &Key) {
    fs::remove_file(store.disk.claim_path(key)).unwrap();
    keep(store, key);
}

#[test]
fn a_blob_is_named_by_a_word() {
    let (_directory, store) = store();
    let mut claim = miss(&store, &key("a")).claim;
    for wrong in ["", "two words", "line\nbreak"] {
        assert!(matches!(claim.put_blob(wrong, b""), Err(StoreError::BlobName(name)) if name == wrong));
    }
    let first = claim.put_blob("same", b"1").unwrap();
    let last = claim.put_blob("same", b"2").unwrap();
    assert_ne!(first, last);
    assert_eq!(claim.commit(BODY, PREIMAGE).unwrap().entry.blobs, [("same".to_owned(), last)].into());
}

#[test]
fn only_a_store_is_opened() {
    let (directory, store) = store();
    let version = store.root().join("ablate-store");
    assert_eq!(fs::read(&version).unwrap(), b"1\n");
    for wrong in ["2\n", "", "1", "a store"] {
        overwrite(&version, wrong.as_bytes());
        let error = Store::open(store.root()).err().unwrap();
        assert!(matches!(&error, StoreError::UnknownVersion { found, .. } if found == wrong.trim()), "{error}");
    }
    let other = directory.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join(".tmp-0-1-2-host"), "").unwrap();
    Store::open(&other).unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    for wrong in ["", "file"] {
        let error = Store::open(&directory.path().join(wrong)).err().unwrap();
        assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    }
}

/// A thousand records of three blobs are looked through in well under 100 ms; the bound allows a busy machine.
#[test]
fn looking_is_fast() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let blobs = [b"a", b"b", b"c"].map(|bytes| store.disk.put_blob(bytes).unwrap());
    let keys: Vec<Key> = (0..1000).map(|index| key(&index.to_string())).collect();
    for key in &keys {
        let named = ["a", "b", "c"].map(str::to_owned).into_iter().zip(blobs).collect();
        let entry = Entry {
            key: *key,
            body: "x".repeat(2000),
            preimage: "y".repeat(2000),
            blobs: named,
            dropped: BTreeMap::new(),
        };
        let path = store.record_path(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let (header, payload) = entry::encode(Kind::Result, &entry);
        fs::write(path, header + &payload).unwrap();
    }
    let started = std::time::Instant::now();
    assert!(keys.iter().all(|key| matches!(store.peek(key).unwrap(), Peek::Hit(_))));
    let peeked = started.elapsed();
    println!("peek of 1000 records: {:.1} ms", peeked.as_secs_f64() * 1e3);
    assert!(peeked.as_millis() < 400, "{peeked:?}");
}
