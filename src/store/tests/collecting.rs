//! What `gc` takes, what it leaves, and who may come between its looking and its doing.

use std::sync::Mutex;
use std::time::Duration;

use super::faulty::{Call, Fate, FaultyFs};
use super::scenarios::{age, checkpoints_scope, collect, everything, leftovers_scope, progress_scope};
use super::*;
use crate::store::gc::{self, Scope, Target, YOUNG};

fn words(store: &Store, scope: &Scope) -> Vec<&'static str> {
    let mut words: Vec<_> = gc::plan(store, scope).unwrap().removals.iter().map(|of| of.target.word()).collect();
    words.sort_unstable();
    words
}

/// One record with a checkpoint nobody else has.
fn own(store: &Store, name: &str) -> (Key, BlobRef) {
    let mut claim = miss(store, &key(name)).claim;
    let blob = claim.put_blob("checkpoint", name.as_bytes()).unwrap();
    claim.put_blob("history", b"losses").unwrap();
    claim.commit(BODY, PREIMAGE).unwrap();
    (key(name), blob)
}

#[test]
fn without_a_scope_nothing_goes() {
    let (_directory, store) = store();
    everything(&store);
    assert_eq!(words(&store, &Scope::default()), [""; 0]);
    assert_eq!(words(&store, &leftovers_scope()), [""; 0]);
}

#[test]
fn a_dropped_checkpoint_is_a_hit_that_says_so() {
    let (_directory, store) = store();
    let (key, blob) = own(&store, "a");
    let plan = gc::plan(&store, &checkpoints_scope()).unwrap();
    assert_eq!((plan.removals.len(), plan.bytes()), (1, blob.bytes));
    assert!(store.blob_path(&blob.digest).exists(), "a plan removes nothing");
    let done = gc::carry_out(&store, &plan).unwrap();
    assert_eq!((done.removed, done.bytes, done.stayed.len()), (1, blob.bytes, 0));
    let entry = hit(&store, &key);
    assert_eq!(entry.dropped.keys().collect::<Vec<_>>(), ["checkpoint"]);
    assert_eq!(store.verify(&key).unwrap(), Peek::Hit(entry.clone()));
    assert_eq!(store.read_blob(&entry.blobs["history"]).unwrap(), b"losses");
    let Lookup::Miss(miss) = store.lookup_whole(&key).unwrap() else { panic!("its checkpoint is gone") };
    let why = miss.damage.unwrap();
    assert!(why.contains("names `checkpoint`, which `gc` dropped"), "{why}");
    assert_eq!(words(&store, &checkpoints_scope()), [""; 0], "what is gone goes but once");
    // Another blob that is missing is damage, and so is this one when its marker does not name it.
    fs::remove_file(store.blob_path(&entry.blobs["history"].digest)).unwrap();
    assert!(matches!(store.peek(&key).unwrap(), Peek::Damaged(why) if why.contains("`history`")));
}

#[test]
fn equal_bits_make_a_record_whole_again_and_others_are_kept_beside_it() {
    let (_directory, store) = store();
    let (key, blob) = own(&store, "a");
    collect(&store, &checkpoints_scope()).unwrap();
    let again = |checkpoint: &[u8]| {
        let Lookup::Miss(Miss { mut claim, .. }) = store.lookup_whole(&key).unwrap() else { panic!("it is whole") };
        claim.put_blob("checkpoint", checkpoint).unwrap();
        claim.put_blob("history", b"losses").unwrap();
        claim.commit("another time", PREIMAGE).unwrap()
    };
    let other = again(b"other bits");
    assert_eq!(other.entry.dropped.len(), 1, "the first stays as it is");
    assert!(!other.divergence.unwrap().blobs_agree);
    assert_eq!(store.divergences(&key).unwrap().len(), 1);
    let same = again(b"a");
    assert_eq!((same.divergence, same.entry.dropped.len(), same.entry.body.as_str()), (None, 0, BODY));
    assert!(!store.disk.dropped_path(&key).exists());
    assert!(matches!(store.lookup_whole(&key).unwrap(), Lookup::Hit(entry) if entry.dropped.is_empty()));
    fs::remove_file(store.blob_path(&blob.digest)).unwrap();
    assert!(matches!(store.peek(&key).unwrap(), Peek::Damaged(_)), "nothing excuses it any more");
}

#[test]
fn pinned_kept_young_or_in_work_stays() {
    let (_directory, store) = store();
    let (a, blob) = own(&store, "a");
    let check = |scope: Scope, goes: bool, why: &str| {
        let expected: &[&str] = if goes { &["dropped blob"] } else { &[] };
        assert_eq!(words(&store, &scope), expected, "{why}");
    };
    let with = |keep: BTreeSet<Key>, older_than: Option<Duration>| Scope { keep, older_than, ..checkpoints_scope() };
    check(checkpoints_scope(), true, "nothing speaks for it");
    check(with([a].into(), None), false, "an experiment keeps it");
    check(with(BTreeSet::new(), Some(YOUNG)), false, "it is young");
    age(&store.record_path(&a), 2 * YOUNG);
    check(with(BTreeSet::new(), Some(YOUNG)), true, "it is old");
    store.pin(&a, "").unwrap();
    check(checkpoints_scope(), false, "it is pinned");
    overwrite(&store.disk.pin_path(&a), b"torn");
    check(checkpoints_scope(), false, "a torn pin pins");
    assert!(store.unpin(&a).unwrap() && !store.unpin(&a).unwrap());
    let claim = crate::store::claim::acquire(&store.disk, &a).unwrap();
    check(checkpoints_scope(), false, "it is in work");
    drop(claim);
    check(checkpoints_scope(), true, "nothing speaks for it any more");
    // The same bytes under another key that is pinned.
    let mut claim = miss(&store, &key("b")).claim;
    claim.put_blob("checkpoint", b"a").unwrap();
    claim.commit(BODY, PREIMAGE).unwrap();
    check(checkpoints_scope(), true, "two records may go together");
    store.pin(&key("b"), "").unwrap();
    check(checkpoints_scope(), false, "another record needs it");
    assert!(store.blob_path(&blob.digest).exists());
}

#[test]
fn a_record_that_cannot_be_read_may_name_anything() {
    let (_directory, store) = store();
    let (key, _) = own(&store, "a");
    let unnamed = store.disk.put_blob(b"unnamed").unwrap();
    age(&store.blob_path(&unnamed.digest), 2 * YOUNG);
    assert_eq!(words(&store, &leftovers_scope()), ["unnamed blob"]);
    let sound = fs::read(store.record_path(&key)).unwrap();
    overwrite(&store.record_path(&key), &sound[..sound.len() / 2]);
    let plan = gc::plan(&store, &leftovers_scope()).unwrap();
    assert_eq!(plan.removals, []);
    assert!(plan.stays.iter().any(|why| why.contains(&key.to_string())), "{:?}", plan.stays);
    collect(&store, &Scope { leftovers: true, progress: true, ..checkpoints_scope() }).unwrap();
    assert!(store.record_path(&key).exists(), "a damaged record stays for whoever can mend it");
}

#[test]
fn progress_goes_only_where_nobody_is_at_it() {
    let (_directory, store) = store();
    let key = key("a");
    let claim = miss(&store, &key).claim;
    claim.save_progress(b"step 1").unwrap();
    assert_eq!(words(&store, &progress_scope()), [""; 0]);
    drop(claim);
    assert_eq!(words(&store, &leftovers_scope()), [""; 0], "a run may go on from it");
    let plan = gc::plan(&store, &progress_scope()).unwrap();
    let claim = miss(&store, &key).claim;
    let done = gc::carry_out(&store, &plan).unwrap();
    assert!(done.removed == 0 && done.stayed[0].contains("has its key in work"), "{done:?}");
    drop(claim);
    assert_eq!(gc::carry_out(&store, &plan).unwrap().removed, 1);
    assert!(!store.disk.progress_path(&key).exists());
}

/// A writer that finds the blob `gc` is about to remove, at each call of the removal: it names a blob that is there.
#[test]
fn a_writer_between_the_look_and_the_removal_wins() {
    for at in 0.. {
        let (_directory, store) = store();
        let unnamed = store.disk.put_blob(b"weights").unwrap();
        age(&store.blob_path(&unnamed.digest), 2 * YOUNG);
        let plan = gc::plan(&store, &leftovers_scope()).unwrap();
        assert!(matches!(plan.removals[0].target, Target::UnnamedBlob(digest) if digest == unnamed.digest));
        let (writer, kept) = (store.clone(), Arc::new(Mutex::new(0)));
        let counter = Arc::clone(&kept);
        let collector = FaultyFs::new(move |_: Call| {
            let mut number = counter.lock().unwrap();
            if *number == at {
                keep(&writer, &key("a"));
            }
            *number += 1;
            Fate::Done
        });
        let collector = Store { disk: Arc::new(crate::store::disk::Disk::new(store.root(), Box::new(collector))) };
        gc::carry_out(&collector, &plan).unwrap();
        if *kept.lock().unwrap() <= at {
            assert!(at > 3, "only {at} calls");
            crate::store::tally("gc beside writers", "a writer comes between each two calls of a removal", at);
            return;
        }
        assert!(matches!(store.verify(&key("a")).unwrap(), Peek::Hit(_)), "before call {at}");
    }
}

/// A `gc` that died between taking a blob away and removing it, or giving it back.
#[test]
fn what_a_dead_gc_took_away_is_given_back_where_it_is_needed() {
    let (_directory, store) = store();
    let (key, blob) = own(&store, "a");
    let path = store.blob_path(&blob.digest);
    fs::rename(&path, path.with_added_extension("condemned")).unwrap();
    assert!(matches!(store.peek(&key).unwrap(), Peek::Damaged(_)));
    collect(&store, &leftovers_scope()).unwrap();
    assert!(matches!(store.verify(&key).unwrap(), Peek::Hit(_)));
    fs::write(path.with_added_extension("condemned"), "a").unwrap();
    collect(&store, &leftovers_scope()).unwrap();
    assert!(path.exists() && !path.with_added_extension("condemned").exists());
}

#[test]
fn two_do_not_collect_at_once() {
    let (_directory, store) = store();
    let plan = gc::plan(&store, &leftovers_scope()).unwrap();
    let lock = fs::File::open(store.root().join("ablate-store")).unwrap();
    lock.lock().unwrap();
    assert!(matches!(gc::carry_out(&store, &plan), Err(StoreError::GcBusy { .. })));
    drop(lock);
    gc::carry_out(&store, &plan).unwrap();
}

#[test]
fn pins_and_claims_are_told() {
    let (_directory, store) = store();
    store.pin(&key("a"), "two\nlines").unwrap();
    let pins = store.pins().unwrap();
    assert_eq!((pins[0].key, pins[0].note.as_str(), pins[0].damage.as_ref()), (key("a"), "two\nlines", None));
    let claim = miss(&store, &key("b")).claim;
    let claims = store.claims().unwrap();
    assert_eq!((claims.len(), claims[0].key, claims[0].is_alive), (1, key("b"), true));
    assert_eq!(claims[0].owner.pid(), std::process::id());
    drop(claim);
    assert_eq!(store.claims().unwrap(), []);
    assert!(store.free_bytes().is_some_and(|bytes| bytes > 0));
}

#[test]
fn a_check_tells_what_does_not_belong() {
    let (_directory, store) = store();
    everything(&store);
    let misplaced = store.root().join("records/zz");
    fs::write(store.root().join("notes.txt"), "mine").unwrap();
    fs::create_dir(&misplaced).unwrap();
    let report = store.check(false, &mut |_| {}).unwrap();
    assert_eq!((report.problems.len(), report.is_damaged(), report.read_bytes), (2, false, 0));
    let record = store.record_path(&key("a"));
    let wrong = store.root().join("records").join(if record.to_string_lossy().contains("/00/") { "01" } else { "00" });
    fs::create_dir_all(&wrong).unwrap();
    fs::copy(&record, wrong.join(record.file_name().unwrap())).unwrap();
    assert!(store.check(false, &mut |_| {}).unwrap().is_damaged());
}

/// What was left before work was cut off stays until the record names it, however old, and is the next claim's.
#[test]
fn progress_keeps_the_blobs_it_names() {
    let (_directory, store) = store();
    let key = key("a");
    let mut claim = miss(&store, &key).claim;
    let blob = claim.put_blob("snapshot-1", b"one").unwrap();
    claim.save_progress(b"step 2").unwrap();
    drop(claim);
    age(&store.blob_path(&blob.digest), 2 * YOUNG);
    assert_eq!(words(&store, &leftovers_scope()), [""; 0], "work that goes on needs it");
    let named = Scope { blobs: ["snapshot".to_owned()].into(), ..leftovers_scope() };
    assert_eq!(words(&store, &named), [""; 0]);
    let mut claim = miss(&store, &key).claim;
    assert_eq!(claim.progress().unwrap(), Progress::Saved(b"step 2".to_vec()));
    claim.put_blob("snapshot-3", b"three").unwrap();
    claim.put_blob("checkpoint", b"a").unwrap();
    let entry = claim.commit(BODY, PREIMAGE).unwrap().entry;
    assert_eq!(entry.blobs.keys().collect::<Vec<_>>(), ["checkpoint", "snapshot-1", "snapshot-3"]);
    assert_eq!(entry.blobs["snapshot-1"], blob);
    assert_eq!(words(&store, &named), ["dropped blob"; 2], "a name takes its family");
    collect(&store, &named).unwrap();
    assert_eq!(hit(&store, &key).dropped.keys().collect::<Vec<_>>(), ["snapshot-1", "snapshot-3"]);
}

#[test]
fn progress_whose_blobs_are_gone_is_damaged_and_its_blobs_go_with_it() {
    let (_directory, store) = store();
    let key = key("a");
    let mut claim = miss(&store, &key).claim;
    let blob = claim.put_blob("snapshot-1", b"one").unwrap();
    claim.save_progress(b"step 2").unwrap();
    drop(claim);
    age(&store.blob_path(&blob.digest), 2 * YOUNG);
    collect(&store, &progress_scope()).unwrap();
    assert_eq!(words(&store, &leftovers_scope()), ["unnamed blob"]);
    let mut claim = miss(&store, &key).claim;
    claim.put_blob("snapshot-1", b"one").unwrap();
    claim.save_progress(b"step 2").unwrap();
    drop(claim);
    fs::remove_file(store.blob_path(&blob.digest)).unwrap();
    let mut claim = miss(&store, &key).claim;
    let found = claim.progress().unwrap();
    assert!(matches!(&found, Progress::Damaged(why) if why.contains("snapshot-1")), "{found:?}");
    assert!(claim.commit(BODY, PREIMAGE).unwrap().entry.blobs.is_empty(), "what is not there is not named");
}
