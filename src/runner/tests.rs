//! Sweeps with several members: what is handed out to whom, and whole sweeps of a second against those of one member.

use std::collections::BTreeMap;
use std::path::Path;

use crate::content::Key;
use crate::data;
use crate::experiment::recipe::{Backend, Dataset, Split};
use crate::experiment::{self, Experiment, LoadOptions};
use crate::record::FailureKind;
use crate::runner::provenance::Origin;
use crate::runner::{
    Audience, Departure, Event, Interrupt, Outcome, Place, Policy, RunnerError, Shortage, Summary, Sweep, bytes_needed,
};
use crate::store::{Lookup, Peek, Store};

const TINY: &str = r#"Experiment(
    question: "What do members change?",
    dataset: Builtin(n_classes: 2, train_per_class: 8, test_per_class: 4, seed: 1),
    model: (backbone: ResNet18(stem: ImageNet), side: 32, head: Mlp(layers: 2, hidden: 512, output: 64)),
    train: (
        length: Steps(3), batch: 4, temperature: 0.5, learning_rate: 0.001,
        checkpoint_every: Steps(100), metrics_every: Steps(2),
    ),
    evaluate: [Knn(k: 3)],
    seeds: [0],
    sweep: [SWEEP],
    table: (rows: "ROWS", metric: "knn.top1"),
)
"#;

pub fn tiny(path: &str, values: &str) -> Experiment {
    let text = TINY.replace("SWEEP", &format!("Axis(\"{path}\", {values})")).replace("ROWS", path);
    let facts = |dataset: &Dataset, split: Split| data::facts(dataset, split, None).map_err(|error| error.to_string());
    let options = LoadOptions {
        overrides: &[],
        smoke: false,
        backend: Backend::Cpu,
        data_root: None,
        ignore_sweep: false,
        facts: &facts,
    };
    experiment::load("tiny.ron", &text, &options).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Every event in words, by run; asked to leave at the first step of `stop_at`, where there is one.
#[derive(Default)]
pub struct Recorder<'a> {
    pub said: BTreeMap<Place, Vec<String>>,
    pub stop_at: Option<(Place, &'a Interrupt, Departure)>,
}

impl Recorder<'_> {
    /// How many runs said exactly this.
    pub fn count(&self, what: &str) -> usize {
        self.said.values().flatten().filter(|said| *said == what).count()
    }
}

impl Audience for Recorder<'_> {
    fn tell(&mut self, place: Place, event: &Event) {
        let said = match event {
            Event::TrainingStarted { done: 0 } => "trains".to_owned(),
            Event::TrainingStarted { done } => format!("resumes at {done}"),
            Event::Training(progress) => {
                if let Some((stop_at, interrupt, departure)) = self.stop_at
                    && stop_at == place
                {
                    interrupt.ask(departure);
                }
                format!("step {}", progress.step)
            }
            Event::EvaluationStarted { .. } => "evaluates".to_owned(),
            Event::TrainingStopped { done, kept } => format!("stopped at {done}, kept {kept}"),
            Event::Failed(failure) => format!("failed: {:?}", failure.failure.kind),
            Event::Waits { .. } => "waits".to_owned(),
            Event::Note(text) => format!("note: {text}"),
            Event::Ended(outcome) => match outcome {
                Outcome::Computed => "finished".to_owned(),
                Outcome::TrainingFailed(_) | Outcome::EvaluationsFailed(_) => "ended without a result".to_owned(),
                Outcome::Cached => "cached".to_owned(),
                Outcome::Taken(_) => "taken".to_owned(),
                Outcome::NoRoom(_) => "no room".to_owned(),
                Outcome::Interrupted => "interrupted".to_owned(),
            },
        };
        self.said.entry(place).or_default().push(said);
    }
}

pub const POLICY: Policy = Policy { retry_failed: false, fail_fast: false, jobs: 1, wait: false, disk_floor_bytes: 0 };

pub fn try_sweep(
    store: &Store,
    experiment: &Experiment,
    policy: Policy,
    interrupt: &Interrupt,
    recorder: &mut Recorder,
) -> Result<Summary, RunnerError> {
    let origin =
        Origin { backend: Backend::Cpu, device: 0, threads: 2, jobs: 1, host: String::new(), command: String::new() };
    Sweep { store, origin, policy, interrupt, plans: None }.compute(experiment, recorder)
}

pub fn sweep(
    store: &Store,
    experiment: &Experiment,
    (jobs, fail_fast): (usize, bool),
    interrupt: &Interrupt,
    recorder: &mut Recorder,
) -> Summary {
    let policy = Policy { jobs, fail_fast, ..POLICY };
    try_sweep(store, experiment, policy, interrupt, recorder).expect("a sweep")
}

fn with_jobs(folder: &Path, experiment: &Experiment, jobs: usize) -> (Store, Summary, BTreeMap<Place, Vec<String>>) {
    let store = Store::open(&folder.join(jobs.to_string())).expect("a store");
    let mut recorder = Recorder::default();
    let summary = sweep(&store, experiment, (jobs, false), &Interrupt::default(), &mut recorder);
    (store, summary, recorder.said)
}

/// The digest of every result, by key and name.
pub fn digests(store: &Store) -> BTreeMap<String, Key> {
    let mut digests = BTreeMap::new();
    for key in store.keys().expect("keys") {
        let Peek::Hit(entry) = store.verify(&key).expect("a readable record") else { panic!("{key} is not whole") };
        digests.extend(entry.blobs.iter().map(|(name, blob)| (format!("{key}.{name}"), blob.digest)));
    }
    digests
}

/// A log has times in it.
fn without_logs(mut summary: Summary) -> Summary {
    summary.failed.iter_mut().for_each(|(_, stage)| stage.failure.log.clear());
    summary
}

#[test]
fn members_give_the_bits_and_the_summary_of_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let experiment = tiny("train.learning_rate", "[1e30, 0.001, 2e30, 0.002]");
    let (one, first, said) = with_jobs(folder.path(), &experiment, 1);
    let (three, second, also_said) = with_jobs(folder.path(), &experiment, 3);
    assert_eq!(without_logs(first.clone()), without_logs(second));
    assert_eq!(said, also_said, "each run tells the same, whoever is beside it");
    let failed: Vec<(usize, FailureKind)> =
        first.failed.iter().map(|(place, stage)| (place.cell, stage.failure.kind)).collect();
    assert_eq!(failed, [(0, FailureKind::NotFinite), (2, FailureKind::NotFinite)]);
    assert_eq!((first.computed, first.cached, first.taken, first.departure), (2, 0, 0, None));
    let results = digests(&one);
    assert_eq!(results.keys().filter(|name| name.ends_with(".checkpoint")).count(), 2);
    assert_eq!(results, digests(&three));
}

#[test]
fn a_run_without_memory_fails_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut experiment = tiny("train.temperature", "[0.1, 0.5]");
    experiment.cells[0].runs[0].train.batch = 1 << 30;
    let (store, summary, said) = with_jobs(folder.path(), &experiment, 2);
    assert_eq!((summary.computed, summary.failed.len()), (1, 1), "{summary:?}");
    assert_eq!(summary.failed[0].1.failure.kind, FailureKind::OutOfMemory);
    assert_eq!(said[&Place { cell: 0, seed: 0 }], ["failed: OutOfMemory", "ended without a result"]);
    assert_eq!(digests(&store).keys().filter(|name| name.ends_with(".checkpoint")).count(), 1);
}

#[test]
fn a_training_that_cells_share_runs_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let experiment = tiny("evaluate", "[[Knn(k: 1)], [Knn(k: 2)], [Knn(k: 3)], [Knn(k: 4)]]");
    let (store, summary, said) = with_jobs(folder.path(), &experiment, 3);
    assert_eq!(summary, Summary { computed: 4, ..Summary::default() });
    let count = |what: &str| said.values().flatten().filter(|said| *said == what).count();
    assert_eq!((count("trains"), count("evaluates")), (1, 4), "{said:?}");
    assert_eq!(store.keys().expect("keys").len(), 1 + 4);
}

#[test]
fn preempted_members_leave_checkpoints_and_go_on_to_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let experiment = tiny("train.temperature", "[0.1, 0.5]");
    let expected = digests(&with_jobs(folder.path(), &experiment, 1).0);

    let store = Store::open(&folder.path().join("interrupted")).expect("a store");
    let interrupt = Interrupt::default();
    let mut recorder = Recorder {
        stop_at: Some((Place { cell: 1, seed: 0 }, &interrupt, Departure::Preempted)),
        ..Recorder::default()
    };
    let summary = sweep(&store, &experiment, (2, false), &interrupt, &mut recorder);
    assert!(summary.departure == Some(Departure::Preempted) && summary.computed < 2, "{summary:?}");
    assert!(!recorder.said[&Place { cell: 1, seed: 0 }].contains(&"finished".to_owned()));

    let mut recorder = Recorder::default();
    let summary = sweep(&store, &experiment, (2, false), &Interrupt::default(), &mut recorder);
    assert_eq!(summary.computed + summary.cached, 2);
    let resumed = recorder.said.values().flatten().filter(|said| said.starts_with("resumes at "));
    assert!(resumed.count() >= 1, "{:?}", recorder.said);
    assert_eq!(digests(&store), expected);
}

#[test]
fn the_first_failure_stops_the_runs_beside_it_where_asked_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("store")).expect("a store");
    let experiment = tiny("train.learning_rate", "[1e30, 0.001, 0.002, 0.003, 0.004]");
    let mut recorder = Recorder::default();
    let summary = sweep(&store, &experiment, (2, true), &Interrupt::default(), &mut recorder);
    assert_eq!(summary.failed.len(), 1);
    assert_eq!(summary.departure, None, "nobody asked it to stop");
    assert!(summary.computed < 4, "{summary:?}");
    assert!(!recorder.said.contains_key(&Place { cell: 4, seed: 0 }), "{:?}", recorder.said);
}

/// Ctrl-C keeps nothing that is not kept already: the last periodic checkpoint is where the next sweep goes on.
#[test]
fn interrupted_at_a_step_it_goes_on_from_the_last_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut experiment = tiny("train.temperature", "[0.5]");
    experiment.cells[0].runs[0].train.length_steps = 6;
    experiment.cells[0].runs[0].bookkeeping.checkpoint_every_steps = 2;
    let expected = digests(&with_jobs(folder.path(), &experiment, 1).0);
    let place = Place { cell: 0, seed: 0 };
    let store = Store::open(&folder.path().join("interrupted")).expect("a store");
    // The first sweep is asked after its first step, the second, which has the checkpoint of no step, after its first as well.
    for expected in ["stopped at 2, kept 0", "stopped at 2, kept 0"] {
        let interrupt = Interrupt::default();
        let mut recorder =
            Recorder { stop_at: Some((place, &interrupt, Departure::Interrupted)), ..Recorder::default() };
        let summary = sweep(&store, &experiment, (1, false), &interrupt, &mut recorder);
        assert_eq!(summary.departure, Some(Departure::Interrupted));
        assert_eq!(recorder.count(expected), 1, "{:?}", recorder.said);
        assert!(store.failure(&experiment.cells[0].runs[0].pretrain_key()).expect("a readable store").is_none());
    }
    // Preempted after step 3 it keeps that very step.
    let interrupt = Interrupt::default();
    let mut recorder = Recorder { stop_at: Some((place, &interrupt, Departure::Preempted)), ..Recorder::default() };
    sweep(&store, &experiment, (1, false), &interrupt, &mut recorder);
    assert_eq!(recorder.count("stopped at 2, kept 2"), 1, "{:?}", recorder.said);
    let mut recorder = Recorder::default();
    sweep(&store, &experiment, (1, false), &Interrupt::default(), &mut recorder);
    assert_eq!(recorder.count("resumes at 2"), 1, "{:?}", recorder.said);
    assert_eq!(digests(&store), expected);
}

#[test]
fn a_failure_is_on_record_with_what_was_told_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let experiment = tiny("train.learning_rate", "[1e30]");
    let (store, summary, _) = with_jobs(folder.path(), &experiment, 1);
    let (_, stage) = &summary.failed[0];
    let kept = store.failure(&stage.key).expect("a readable store").expect("a failure");
    let record = crate::results::parse(&kept).expect("a record");
    assert_eq!(record.stage, crate::record::Stage::Failure(stage.failure.clone()));
    let log = stage.failure.log.join("\n");
    assert!(log.contains("training starts"), "{log}");
}

#[test]
fn no_sweep_begins_what_it_cannot_keep() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("store")).expect("a store");
    let experiment = tiny("train.temperature", "[0.1, 0.5]");
    let policy = Policy { disk_floor_bytes: u64::MAX / 2, ..POLICY };
    let mut recorder = Recorder::default();
    let refused = try_sweep(&store, &experiment, policy, &Interrupt::default(), &mut recorder);
    let Err(RunnerError::NoRoom(Shortage { needed_bytes, free_bytes, .. })) = refused else { panic!("{refused:?}") };
    let one = bytes_needed(&experiment.cells[0].runs[0]);
    assert!(needed_bytes > 2 * one && free_bytes > 0, "{needed_bytes} for two runs of {one}");
    assert!(recorder.said.is_empty());
    // The estimate is not below the truth, and not far above.
    let summary = try_sweep(&store, &experiment, POLICY, &Interrupt::default(), &mut recorder).expect("a sweep");
    assert_eq!(summary.computed, 2);
    let mut kept_bytes = 0;
    for key in store.keys().expect("keys") {
        let Peek::Hit(entry) = store.peek(&key).expect("a record") else { panic!("{key} is not whole") };
        kept_bytes += entry.blobs.values().map(|blob| blob.bytes).sum::<u64>() + entry.body.len() as u64;
    }
    assert!(
        (kept_bytes..kept_bytes + kept_bytes / 10).contains(&(2 * one)),
        "{kept_bytes} bytes, estimated {}",
        2 * one
    );
    // What is there needs no room.
    let summary = try_sweep(&store, &experiment, policy, &Interrupt::default(), &mut Recorder::default());
    assert_eq!(summary.expect("nothing is missing").cached, 2);
}

/// What another has in work is waited for, and computed here once that other lets go of it.
#[test]
fn what_another_lets_go_of_is_taken_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("store")).expect("a store");
    let experiment = tiny("train.temperature", "[0.1, 0.5]");
    let held = experiment.cells[0].runs[0].pretrain_key();
    let Lookup::Miss(miss) = store.lookup(&held).expect("a store") else { panic!("nothing is there yet") };
    let mut recorder = Recorder::default();
    let summary = try_sweep(&store, &experiment, POLICY, &Interrupt::default(), &mut recorder).expect("a sweep");
    assert_eq!((summary.computed, summary.taken), (1, 1), "{:?}", recorder.said);
    assert_eq!(recorder.count("taken"), 1);
    let (interrupt, mut recorder) = (Interrupt::default(), Recorder::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            drop(miss);
        });
        let policy = Policy { wait: true, ..POLICY };
        let summary = try_sweep(&store, &experiment, policy, &interrupt, &mut recorder).expect("a sweep");
        assert_eq!(summary, Summary { computed: 1, cached: 1, ..Summary::default() });
    });
    let waited: Vec<&str> = recorder.said[&Place { cell: 0, seed: 0 }].iter().map(String::as_str).take(2).collect();
    assert_eq!(waited, ["waits", "trains"]);
}
