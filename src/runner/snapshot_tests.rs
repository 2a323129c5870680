//! Sweeps that keep encoders on the way: the same training, a record an encoder, and nothing lost to what cuts it off.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::content::Key;
use crate::experiment::Experiment;
use crate::record::blob;
use crate::report::collect::from_store;
use crate::report::row::{EncoderKind, Status};
use crate::results;
use crate::runner::tests::{Recorder, digests, sweep, tiny};
use crate::runner::{Departure, Interrupt, Place, Summary, bytes_needed};
use crate::store::gc::{self, Scope};
use crate::store::{Peek, Store};

/// Five steps, four an epoch, with a checkpoint every other one.
fn experiment(snapshots_every_steps: Option<u64>) -> Experiment {
    let mut experiment = tiny("train.temperature", "[0.5]");
    let run = &mut experiment.cells[0].runs[0];
    run.train.length_steps = 5;
    run.train.snapshots_every_steps = snapshots_every_steps;
    run.bookkeeping.checkpoint_every_steps = 2;
    experiment
}

fn swept(store: &Store, experiment: &Experiment) -> (Summary, Recorder<'static>) {
    let mut recorder = Recorder::default();
    let summary = sweep(store, experiment, (1, false), &Interrupt::default(), &mut recorder);
    (summary, recorder)
}

/// The digests of a training's encoders, by name.
fn encoders(store: &Store, experiment: &Experiment) -> BTreeMap<String, Key> {
    let key = experiment.cells[0].runs[0].pretrain_key();
    let Peek::Hit(entry) = store.verify(&key).expect("a store") else { panic!("no sound record") };
    let kept = entry.blobs.into_iter().filter(|(name, _)| blob::is_encoder(name));
    kept.map(|(name, blob)| (name, blob.digest)).collect()
}

#[test]
fn a_training_has_the_same_bits_with_snapshots_and_each_is_evaluated() {
    let folder = tempfile::tempdir().expect("a folder");
    let (plain, kept) = (experiment(None), experiment(Some(2)));
    let store = Store::open(folder.path()).expect("a store");
    assert_eq!(swept(&store, &plain).0, Summary { computed: 1, ..Summary::default() });
    let (summary, recorder) = swept(&store, &kept);
    assert_eq!(summary, Summary { computed: 1, ..Summary::default() }, "{:?}", recorder.said);
    assert_eq!((recorder.count("trains"), recorder.count("evaluates")), (1, 3));
    let (alone, all) = (encoders(&store, &plain), encoders(&store, &kept));
    assert_eq!(all.keys().collect::<Vec<_>>(), ["checkpoint", "snapshot-2", "snapshot-4"]);
    assert_eq!(alone["checkpoint"], all["checkpoint"], "snapshots change no bit of the training");
    // What a training of two steps ends with is the snapshot after two.
    let key = kept.cells[0].runs[0].pretrain_key();
    let training = results::pretrain(&store, key).expect("a store").hit().expect("a training").stage;
    let told: Vec<_> = training.snapshots.iter().map(|kept| (kept.step, kept.epoch, kept.blob.as_str())).collect();
    assert_eq!(told, [(2, 0.5, "snapshot-2"), (4, 1.0, "snapshot-4")]);
    // Nothing is computed again, and an added evaluation is made of all of them.
    assert_eq!(swept(&store, &kept).0.cached, 1);
    let mut more = kept.clone();
    let run = &mut more.cells[0].runs[0];
    run.evaluate.extend(tiny("evaluate", "[[Knn(k: 2)]]").cells[0].runs[0].evaluate.clone());
    let (summary, recorder) = swept(&store, &more);
    assert_eq!((summary.computed, recorder.count("trains"), recorder.count("evaluates")), (1, 0, 3));
}

#[test]
fn rows_say_which_encoder_they_are_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    let experiment = experiment(Some(2));
    swept(&store, &experiment);
    let rows = from_store(Some(&store), &[&experiment], &|_| ()).expect("a store").rows;
    assert!(rows.iter().all(|row| row.status == Status::Done), "{rows:?}");
    let told: Vec<_> = rows.iter().map(|row| (row.full_metric(), row.encoder, row.encoder_step)).collect();
    let of = |metric: &str, kind, step| (metric.to_owned(), kind, Some(step));
    for expected in [
        of("pretrain.loss_last_epoch", EncoderKind::Final, 5),
        of("knn.top1", EncoderKind::Final, 5),
        of("knn.top1", EncoderKind::Snapshot, 2),
        of("knn.top1", EncoderKind::Snapshot, 4),
    ] {
        assert!(told.contains(&expected), "{expected:?} is not in {told:?}");
    }
    let value = |row: &&crate::report::row::Row| row.value.expect("a value");
    let best = rows.iter().find(|row| row.full_metric() == "knn.top1_best").expect("a best");
    let all: Vec<_> = rows.iter().filter(|row| row.full_metric() == "knn.top1").collect();
    let highest = all.iter().map(value).fold(0.0, f64::max);
    let first = all.iter().filter(|row| row.value == Some(highest)).filter_map(|row| row.encoder_step).min();
    assert_eq!((value(&best), best.encoder, best.encoder_step), (highest, EncoderKind::Best, first));
}

/// The checkpoint of step 2 names the snapshot of step 1, which `gc` leaves alone though no record names it yet.
#[test]
fn what_cuts_a_training_off_loses_no_snapshot() {
    let folder = tempfile::tempdir().expect("a folder");
    let experiment = experiment(Some(1));
    let whole = Store::open(&folder.path().join("whole")).expect("a store");
    swept(&whole, &experiment);
    let place = Place { cell: 0, seed: 0 };
    for departure in [Departure::Preempted, Departure::Interrupted] {
        let store = Store::open(&folder.path().join(format!("{departure:?}"))).expect("a store");
        // The second sitting is asked after its first step as well; the first may have kept no checkpoint.
        for _ in 0..2 {
            let interrupt = Interrupt::default();
            let mut recorder = Recorder { stop_at: Some((place, &interrupt, departure)), ..Recorder::default() };
            assert_eq!(sweep(&store, &experiment, (1, false), &interrupt, &mut recorder).departure, Some(departure));
            let scope = Scope {
                leftovers: true,
                blobs: [blob::CHECKPOINT, blob::SNAPSHOT].map(str::to_owned).into(),
                ..Scope::default()
            };
            aged(&store);
            let plan = gc::plan(&store, &scope).expect("a plan");
            gc::carry_out(&store, &plan).expect("what was planned");
        }
        let (summary, recorder) = swept(&store, &experiment);
        assert_eq!(summary.computed, 1, "{:?}", recorder.said);
        if departure == Departure::Preempted {
            assert!(recorder.said[&place].iter().any(|said| said.starts_with("resumes at ")), "{:?}", recorder.said);
        }
        assert_eq!(digests(&store), digests(&whole));
    }
}

/// Every blob as old as `gc` wants it.
fn aged(store: &Store) {
    let old = std::time::SystemTime::now() - 2 * gc::YOUNG - Duration::from_secs(60);
    let folders = std::fs::read_dir(store.root().join("blobs")).into_iter().flatten().flatten();
    for file in folders.flat_map(|folder| std::fs::read_dir(folder.path()).expect("a folder")).flatten() {
        let file = std::fs::File::options().write(true).open(file.path()).expect("a blob");
        file.set_modified(old).expect("a time to set");
    }
}

#[test]
fn dropped_or_damaged_snapshots_are_trained_again_where_they_are_needed() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    let experiment = experiment(Some(3));
    swept(&store, &experiment);
    let before = encoders(&store, &experiment);
    let scope = Scope { blobs: [blob::SNAPSHOT.to_owned()].into(), ..Scope::default() };
    gc::carry_out(&store, &gc::plan(&store, &scope).expect("a plan")).expect("what was planned");
    assert_eq!(swept(&store, &experiment).0.cached, 1, "what is complete needs no encoder");
    let mut more = experiment.clone();
    more.cells[0].runs[0].evaluate.extend(tiny("evaluate", "[[Knn(k: 2)]]").cells[0].runs[0].evaluate.clone());
    let (summary, recorder) = swept(&store, &more);
    assert_eq!((summary.computed, recorder.count("trains")), (1, 1), "{:?}", recorder.said);
    assert_eq!(encoders(&store, &experiment), before);
    // Another bit where there was one: told, put aside and trained again.
    let path = store.blob_path(&before["snapshot-3"]);
    let mut bytes = std::fs::read(&path).expect("a blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&path).expect("a removable file");
    std::fs::write(&path, bytes).expect("a writable file");
    more.cells[0].runs[0].evaluate.extend(tiny("evaluate", "[[Knn(k: 1)]]").cells[0].runs[0].evaluate.clone());
    let (summary, recorder) = swept(&store, &more);
    assert_eq!((summary.computed, recorder.count("trains")), (1, 1), "{:?}", recorder.said);
    assert_eq!(encoders(&store, &experiment), before);
}

#[test]
fn the_space_a_run_needs_counts_its_snapshots() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    let experiment = experiment(Some(1));
    swept(&store, &experiment);
    let mut kept_bytes = 0;
    for key in store.keys().expect("keys") {
        let Peek::Hit(entry) = store.peek(&key).expect("a record") else { panic!("{key} is not whole") };
        kept_bytes += entry.blobs.values().map(|blob| blob.bytes).sum::<u64>() + entry.body.len() as u64;
    }
    let estimated = bytes_needed(&experiment.cells[0].runs[0]);
    assert!((kept_bytes..kept_bytes + kept_bytes / 10).contains(&estimated), "{kept_bytes}, estimated {estimated}");
}
