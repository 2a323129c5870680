//! A store's own files, with the seal forged so that what is under it is reached: a record, a claim, a progress.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use ablate::content::Key;
use ablate::results;
use ablate::store::{Lookup, Peek, Progress, Store};
use ablate_fuzz::{forged, payload, scratch};
use libfuzzer_sys::fuzz_target;

struct Place {
    store: Store,
    root: PathBuf,
    key: Key,
    record: Vec<u8>,
    claim: Vec<u8>,
    progress: Vec<u8>,
}

fn claimed(store: &Store, key: &Key) -> ablate::store::Claim {
    match store.lookup(key).expect("a store in memory") {
        Lookup::Miss(miss) => miss.claim,
        Lookup::Hit(_) | Lookup::Taken(_) => panic!("expected a miss"),
    }
}

/// Files of a real store, of which the headers are taken, and a blob that a record may name.
static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let root = scratch("store");
    let _ = fs::remove_dir_all(&root);
    let store = Store::open(&root).expect("a new store");
    let (key, other) = (Key::of_bytes(b"fuzzed"), Key::of_bytes(b"other"));
    let mut claim = claimed(&store, &other);
    let claim_file = fs::read(root.join("claims").join(other.to_string())).expect("a claim");
    claim.save_progress(b"0123456789").expect("progress");
    let progress = fs::read(root.join("progress").join(other.to_string())).expect("a progress");
    claim.put_blob("checkpoint", b"blob").expect("a blob");
    claim.commit("body", "preimage").expect("a record");
    let record = fs::read(store.record_path(&other)).expect("a record's file");
    fs::create_dir_all(store.record_path(&key).parent().expect("a folder")).expect("a folder");
    Place { store, root, key, record, claim: claim_file, progress }
});

fuzz_target!(|data: &[u8]| {
    let Some((&choice, body)) = data.split_first() else { return };
    match choice % 4 {
        0 => record(body),
        1 => claim(body),
        2 => progress(body),
        _ => unsealed(body),
    }
});

/// `KEY` and `BLOB` in the payload stand for the key that is looked up and for the digest of the blob that is there.
fn with_names(body: &[u8]) -> Vec<u8> {
    let put = |bytes: &[u8], name: &[u8], value: Key| match bytes.windows(name.len()).position(|window| window == name)
    {
        Some(at) => [&bytes[..at], value.to_string().as_bytes(), &bytes[at + name.len()..]].concat(),
        None => bytes.to_vec(),
    };
    put(&put(body, b"KEY", PLACE.key), b"BLOB", Key::of_bytes(b"blob"))
}

fn record(body: &[u8]) {
    check_record(&forged(&PLACE.record, &with_names(body)));
}

fn unsealed(body: &[u8]) {
    check_record(body);
}

fn check_record(file: &[u8]) {
    let Place { store, key, .. } = &*PLACE;
    fs::write(store.record_path(key), file).expect("a file in memory");
    match store.peek(key).expect("no error of the disk") {
        Peek::Hit(entry) => {
            assert_eq!(entry.key, *key);
            let content = payload(file);
            let holds = |text: &str| content.windows(text.len().max(1)).any(|window| window == text.as_bytes());
            assert!(entry.body.is_empty() || holds(&entry.body));
            assert!(entry.preimage.is_empty() || holds(&entry.preimage));
            for blob in entry.blobs.values() {
                assert_eq!(fs::metadata(store.blob_path(&blob.digest)).expect("a blob").len(), blob.bytes);
            }
            assert!(matches!(store.verify(key), Ok(Peek::Hit(again)) if again == entry));
            assert!(store.find(&key.to_string()[..8]).expect("a listing").contains(key));
            results::pretrain(store, *key).expect("unusable is no error");
            results::evaluation(store, *key, None).expect("unusable is no error");
        }
        Peek::Damaged(why) => assert!(!why.is_empty()),
        Peek::Absent => panic!("a record that is there"),
    }
    fs::remove_file(store.record_path(key)).expect("a file to remove");
}

fn claim(body: &[u8]) {
    let Place { store, root, key, claim, .. } = &*PLACE;
    let path = root.join("claims").join(key.to_string());
    fs::write(&path, forged(claim, body)).expect("a file in memory");
    match store.lookup(key).expect("a claim is advice") {
        Lookup::Miss(miss) => drop(miss.claim),
        Lookup::Taken(owner) => assert!(!owner.to_string().is_empty()),
        Lookup::Hit(_) => panic!("there is no record"),
    }
    let _ = fs::remove_file(&path);
}

fn progress(body: &[u8]) {
    let Place { store, root, key, progress, .. } = &*PLACE;
    let path = root.join("progress").join(key.to_string());
    let mut claim = claimed(store, key);
    let (flag, body) = body.split_first().map_or((0, body), |(flag, body)| (*flag, body));
    let file = if flag % 2 == 0 { forged(progress, body) } else { body.to_vec() };
    fs::write(&path, &file).expect("a file in memory");
    match claim.progress().expect("no error of the disk") {
        Progress::Saved(bytes) => assert_eq!(bytes, payload(&file)),
        Progress::Damaged(why) => assert!(flag % 2 == 1 && !why.is_empty(), "{why}"),
        Progress::Absent => panic!("a progress that is there"),
    }
    claim.drop_progress().expect("a file to remove");
}
