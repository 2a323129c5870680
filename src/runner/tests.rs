//! Sweeps with several members: what is handed out to whom, and whole sweeps of a second against those of one member.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::content::Key;
use crate::data;
use crate::experiment::recipe::{Backend, Dataset, Split};
use crate::experiment::{self, Experiment, LoadOptions};
use crate::record::{Failure, FailureKind};
use crate::runner::members::Board;
use crate::runner::provenance::Origin;
use crate::runner::{Audience, Event, Outcome, Place, Policy, RunnerError, Summary, Sweep};
use crate::store::{Peek, Store, StoreError};

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

fn tiny(path: &str, values: &str) -> Experiment {
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

/// Every event in words, by run; Ctrl-C at the first step of `stop_at`, where there is one.
#[derive(Default)]
struct Recorder<'a> {
    said: BTreeMap<Place, Vec<String>>,
    stop_at: Option<(Place, &'a AtomicBool)>,
}

impl Recorder<'_> {
    /// How many runs said exactly this.
    fn count(&self, what: &str) -> usize {
        self.said.values().flatten().filter(|said| *said == what).count()
    }
}

impl Audience for Recorder<'_> {
    fn tell(&mut self, place: Place, event: &Event) {
        let said = match event {
            Event::Cached => "cached".to_owned(),
            Event::TrainingStarted { resumed: false } => "trains".to_owned(),
            Event::TrainingStarted { resumed: true } => "resumes".to_owned(),
            Event::Training(progress) => {
                if let Some((stop_at, interrupt)) = self.stop_at
                    && stop_at == place
                {
                    interrupt.store(true, Ordering::Relaxed);
                }
                format!("step {}", progress.step)
            }
            Event::EvaluationStarted { .. } => "evaluates".to_owned(),
            Event::Finished => "finished".to_owned(),
            Event::Failed(failure) => format!("failed: {:?}", failure.kind),
            Event::Taken { .. } => "taken".to_owned(),
            Event::Note(text) => format!("note: {text}"),
        };
        self.said.entry(place).or_default().push(said);
    }
}

fn sweep(
    store: &Store,
    experiment: &Experiment,
    (jobs, fail_fast): (usize, bool),
    interrupt: &AtomicBool,
    recorder: &mut Recorder,
) -> Summary {
    let origin =
        Origin { backend: Backend::Cpu, device: 0, threads: 2, jobs: 1, host: String::new(), command: String::new() };
    let policy = Policy { retry_failed: false, fail_fast, jobs };
    Sweep { store, origin, policy, interrupt, plans: None }.compute(experiment, recorder).expect("a sweep")
}

fn with_jobs(folder: &Path, experiment: &Experiment, jobs: usize) -> (Store, Summary, BTreeMap<Place, Vec<String>>) {
    let store = Store::open(&folder.join(jobs.to_string())).expect("a store");
    let mut recorder = Recorder::default();
    let summary = sweep(&store, experiment, (jobs, false), &AtomicBool::new(false), &mut recorder);
    (store, summary, recorder.said)
}

/// The digest of every result, by key and name.
fn digests(store: &Store) -> BTreeMap<String, Key> {
    let mut digests = BTreeMap::new();
    for key in store.keys().expect("keys") {
        let Peek::Hit(entry) = store.verify(&key).expect("a readable record") else { panic!("{key} is not whole") };
        digests.extend(entry.blobs.iter().map(|(name, blob)| (format!("{key}.{name}"), blob.digest)));
    }
    digests
}

#[test]
fn members_give_the_bits_and_the_summary_of_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let experiment = tiny("train.learning_rate", "[1e30, 0.001, 2e30, 0.002]");
    let (one, first, said) = with_jobs(folder.path(), &experiment, 1);
    let (three, second, also_said) = with_jobs(folder.path(), &experiment, 3);
    assert_eq!(first, second);
    assert_eq!(said, also_said, "each run tells the same, whoever is beside it");
    let failed: Vec<(usize, FailureKind)> = first.failed.iter().map(|(place, f)| (place.cell, f.kind)).collect();
    assert_eq!(failed, [(0, FailureKind::NotFinite), (2, FailureKind::NotFinite)]);
    assert_eq!((first.computed, first.cached, first.taken, first.interrupted), (2, 0, 0, false));
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
    assert_eq!(summary.failed[0].1.kind, FailureKind::OutOfMemory);
    assert_eq!(said[&Place { cell: 0, seed: 0 }], ["failed: OutOfMemory"]);
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
fn interrupted_members_leave_checkpoints_and_go_on_to_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let experiment = tiny("train.temperature", "[0.1, 0.5]");
    let expected = digests(&with_jobs(folder.path(), &experiment, 1).0);

    let store = Store::open(&folder.path().join("interrupted")).expect("a store");
    let interrupt = AtomicBool::new(false);
    let mut recorder = Recorder { stop_at: Some((Place { cell: 1, seed: 0 }, &interrupt)), ..Recorder::default() };
    let summary = sweep(&store, &experiment, (2, false), &interrupt, &mut recorder);
    assert!(summary.interrupted && summary.computed < 2, "{summary:?}");
    assert!(!recorder.said[&Place { cell: 1, seed: 0 }].contains(&"finished".to_owned()));

    let mut recorder = Recorder::default();
    let summary = sweep(&store, &experiment, (2, false), &AtomicBool::new(false), &mut recorder);
    assert_eq!(summary.computed + summary.cached, 2);
    assert!(recorder.count("resumes") >= 1, "{:?}", recorder.said);
    assert_eq!(digests(&store), expected);
}

#[test]
fn the_first_failure_stops_the_runs_beside_it_where_asked_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("store")).expect("a store");
    let experiment = tiny("train.learning_rate", "[1e30, 0.001, 0.002, 0.003, 0.004]");
    let mut recorder = Recorder::default();
    let summary = sweep(&store, &experiment, (2, true), &AtomicBool::new(false), &mut recorder);
    assert_eq!(summary.failed.len(), 1);
    assert!(!summary.interrupted, "nobody asked it to stop");
    assert!(summary.computed < 4, "{summary:?}");
    assert!(!recorder.said.contains_key(&Place { cell: 4, seed: 0 }), "{:?}", recorder.said);
}

fn keys(of: &[u8]) -> Vec<Key> {
    of.iter().map(|byte| Key::of_bytes(&[*byte])).collect()
}

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, message: "words".to_owned(), step: None }
}

#[test]
fn runs_are_handed_out_in_order_and_a_training_to_one_member() {
    let board = Board::new(keys(b"abaca"), false);
    assert_eq!(board.n_trainings(), 3);
    let index = |board: &Board| board.take().map(|turn| turn.index);
    assert_eq!(
        [index(&board), index(&board), index(&board)],
        [Some(0), Some(1), Some(3)],
        "2 shares the training of 0"
    );
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| board.take().expect("a turn"));
        board.put(1, Outcome::Computed);
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!waits.is_finished(), "the training of 2 is still under way");
        board.put(0, Outcome::TrainingFailed(failure(FailureKind::Panic)));
        let turn = waits.join().expect("a turn");
        assert_eq!((turn.index, turn.failed_before), (2, Some(failure(FailureKind::Panic))));
    });
    board.put(2, Outcome::TrainingFailed(failure(FailureKind::Panic)));
    assert_eq!(index(&board), Some(4));
    board.put(4, Outcome::TrainingFailed(failure(FailureKind::Panic)));
    board.put(3, Outcome::Cached);
    assert_eq!(index(&board), None);
}

#[test]
fn what_others_have_in_work_comes_again_once_at_the_end() {
    let board = Board::new(keys(b"abc"), false);
    let taken = || Outcome::Taken("another".to_owned());
    for index in [0, 1] {
        let turn = board.take().expect("a turn");
        assert_eq!((turn.index, turn.is_last), (index, false));
    }
    board.put(1, taken());
    board.put(0, taken());
    assert_eq!(board.take().map(|turn| turn.index), Some(2));
    board.put(2, Outcome::Computed);
    for index in [0, 1] {
        let turn = board.take().expect("a turn");
        assert_eq!((turn.index, turn.is_last), (index, true));
        board.put(index, taken());
    }
    assert_eq!(board.take(), None);
}

/// What a member does to the board.
type End<'a> = &'a dyn Fn(&Board);

#[test]
fn an_interruption_a_failure_and_an_error_end_the_handing_out() {
    let ends: [(bool, End); 4] = [
        (false, &|board| board.put(0, Outcome::Interrupted)),
        (true, &|board| board.put(0, Outcome::EvaluationFailed(failure(FailureKind::Storage)))),
        (true, &|board| board.put(0, Outcome::TrainingFailed(failure(FailureKind::OutOfMemory)))),
        (false, &|board| board.stop(RunnerError::Store(StoreError::ClaimBusy { path: "claim".into() }))),
    ];
    for (fail_fast, end) in ends {
        let board = Board::new(keys(b"ab"), fail_fast);
        board.take().expect("a turn");
        end(&board);
        assert!(board.leaving.load(Ordering::Relaxed));
        assert_eq!(board.take(), None);
    }
    let board = Board::new(keys(b"ab"), false);
    board.take().expect("a turn");
    board.put(0, Outcome::TrainingFailed(failure(FailureKind::OutOfMemory)));
    assert_eq!(board.take().map(|turn| turn.index), Some(1), "a failure alone stops nobody");
}
