//! Sweeps on a disk that is full or refuses, and on a store whose checkpoints were given up.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::experiment::Experiment;
use crate::record::{FailureKind, blob};
use crate::runner::tests::{POLICY, Recorder, digests, sweep, tiny, try_sweep};
use crate::runner::{Interrupt, Policy, Summary};
use crate::store::gc::{self, Scope};
use crate::store::tests::faulty::{Call, Fate, FaultyFs};
use crate::store::{Entry, Lookup, Peek, Store};

/// A store in which new files of an area cannot be made for the first `refusals` times.
fn refusing(root: &Path, area: &'static str, kind: io::ErrorKind, refusals: u64) -> Store {
    let left = Arc::new(AtomicU64::new(refusals));
    let rule = move |call: Call| {
        let is_meant = call.operation == "create_new" && call.path.to_string_lossy().contains(area);
        let take = |left: u64| left.checked_sub(1);
        if is_meant && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            Fate::Failed(io::Error::from(kind))
        } else {
            Fate::Done
        }
    };
    Store::open_on(root, Box::new(FaultyFs::new(rule))).expect("a store")
}

fn kinds(summary: &Summary) -> Vec<(usize, FailureKind)> {
    summary.failed.iter().map(|(place, stage)| (place.cell, stage.failure.kind)).collect()
}

#[test]
fn a_full_disk_fails_the_run_stops_the_sweep_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let experiment = tiny("train.temperature", "[0.1, 0.2, 0.5]");
    let checkpointed = with_checkpoints(&experiment);
    for (area, refusals) in [("/blobs/", u64::MAX), ("/progress/", u64::MAX), ("/records/", u64::MAX)] {
        let root = folder.path().join(format!("without {}", area.trim_matches('/')));
        let store = refusing(&root, area, io::ErrorKind::StorageFull, refusals);
        let summary = sweep(&store, &checkpointed, (1, false), &Interrupt::default(), &mut Recorder::default());
        assert_eq!(kinds(&summary), [(0, FailureKind::DiskFull)], "{area}");
        assert_eq!((summary.without_room, summary.computed, summary.departure), (2, 0, None), "{area}");
        assert!(summary.shortage.is_some());
        // With space again all of it is computed.
        let store = Store::open(&root).expect("a store");
        let summary = sweep(&store, &checkpointed, (1, false), &Interrupt::default(), &mut Recorder::default());
        assert_eq!(summary, Summary { computed: 3, ..Summary::default() }, "{area}");
    }
}

fn with_checkpoints(experiment: &Experiment) -> Experiment {
    let mut experiment = experiment.clone();
    experiment.cells.iter_mut().for_each(|cell| cell.runs[0].bookkeeping.checkpoint_every_steps = 1);
    experiment
}

#[test]
fn a_disk_that_refuses_one_run_serves_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let experiment = tiny("evaluate", "[[Knn(k: 1)], [Knn(k: 2)], [Knn(k: 3)]]");
    for area in ["/blobs/", "/records/", "/claims/"] {
        let root = folder.path().join(format!("without {}", area.trim_matches('/')));
        let store = refusing(&root, area, io::ErrorKind::Other, 1);
        let summary = sweep(&store, &experiment, (1, false), &Interrupt::default(), &mut Recorder::default());
        assert_eq!(kinds(&summary), [(0, FailureKind::Storage)], "{area}");
        assert_eq!((summary.computed, summary.without_room), (2, 0), "{area}");
        let summary = sweep(&store, &experiment, (1, false), &Interrupt::default(), &mut Recorder::default());
        assert_eq!((summary.computed, summary.cached, summary.failed.len()), (1, 2, 0), "{area}");
    }
}

/// The run's training on record.
fn training(store: &Store, experiment: &Experiment) -> Entry {
    match store.peek(&experiment.cells[0].runs[0].pretrain_key()).expect("a readable store") {
        Peek::Hit(entry) => entry,
        other => panic!("{other:?}"),
    }
}

fn drop_checkpoints(store: &Store) {
    let scope = Scope { blobs: BTreeSet::from([blob::CHECKPOINT.to_owned()]), ..Scope::default() };
    let plan = gc::plan(store, &scope).expect("a plan");
    assert_eq!(plan.removals.len(), 1, "{plan:?}");
    gc::carry_out(store, &plan).expect("what was planned");
}

#[test]
fn an_evaluation_of_a_dropped_checkpoint_trains_it_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("store")).expect("a store");
    let (one, more) = (tiny("evaluate", "[[Knn(k: 1)]]"), tiny("evaluate", "[[Knn(k: 1), Knn(k: 2)]]"));
    sweep(&store, &one, (1, false), &Interrupt::default(), &mut Recorder::default());
    let first = training(&store, &one);
    drop_checkpoints(&store);
    assert!(training(&store, &one).dropped.contains_key(blob::CHECKPOINT));
    let summary = sweep(&store, &one, (1, false), &Interrupt::default(), &mut Recorder::default());
    assert_eq!(summary.cached, 1, "what is complete needs no checkpoint");
    let mut recorder = Recorder::default();
    let summary = sweep(&store, &more, (1, false), &Interrupt::default(), &mut recorder);
    assert_eq!(summary, Summary { computed: 1, ..Summary::default() }, "{:?}", recorder.said);
    assert_eq!(recorder.count("trains"), 1);
    assert!(recorder.said.values().flatten().any(|said| said.contains("which `gc` dropped")), "{:?}", recorder.said);
    assert_eq!(training(&store, &one), first, "the first record stands, and is whole");
}

/// Where training again gives other bits than those on record, nothing of the two is mixed.
#[test]
fn other_bits_than_those_that_were_dropped_fail_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("store")).expect("a store");
    let (one, more) = (tiny("evaluate", "[[Knn(k: 1)]]"), tiny("evaluate", "[[Knn(k: 1), Knn(k: 2)]]"));
    sweep(&store, &one, (1, false), &Interrupt::default(), &mut Recorder::default());
    let ours = training(&store, &one);
    // The record of another machine, say.
    store.retire(&ours.key).expect("a record to retire");
    let Lookup::Miss(mut miss) = store.lookup(&ours.key).expect("a store") else { panic!("it was retired") };
    for (name, kept) in &ours.blobs {
        let bytes = store.read_blob(kept).expect("a blob");
        miss.claim.put_blob(name, if name == blob::CHECKPOINT { b"other bits" } else { &bytes }).expect("a blob");
    }
    let theirs = miss.claim.commit(&ours.body, &ours.preimage).expect("a record").entry;
    drop_checkpoints(&store);
    let policy = Policy { wait: true, ..POLICY };
    let summary = try_sweep(&store, &more, policy, &Interrupt::default(), &mut Recorder::default()).expect("a sweep");
    assert_eq!(kinds(&summary), [(0, FailureKind::Other)]);
    let message = &summary.failed[0].1.failure.message;
    for expected in ["other bits than on record", "both records are kept", ".divergence-"] {
        assert!(message.contains(expected), "`{expected}` is not in {message}");
    }
    let kept = training(&store, &one);
    assert_eq!((&kept.body, &kept.blobs), (&theirs.body, &theirs.blobs), "the first record stands");
    assert!(kept.dropped.contains_key(blob::CHECKPOINT));
    let evaluation = more.cells[0].runs[0].keys().evaluations[1];
    assert_eq!(store.peek(&evaluation).expect("a readable store"), Peek::Absent, "no encoder was taken for another");
    assert!(digests(&store).keys().all(|name| !name.starts_with(&evaluation.to_string())));
}
