//! A training stopped after every one of its steps and gone on with: weights, momentum, running statistics, schedule, order
//! of the data and history come out as if nobody had stopped it.

use ablate::data::{self, Dataset};
use ablate::device::Pool;
use ablate::executor::{self, Executor, Setting};
use ablate::experiment::run::Run;
use ablate::train::checkpoint::Checkpoint;
use ablate::train::{KeepError, Progress, Request, TrainError, Trained, Watcher, pretrain};

use crate::harness::{MINIATURE, base_run, slow_tests, tally};

const OPTIMIZERS: [&str; 3] = ["Lars(flavour: Google, momentum: 0.9)", "Adam", "Sgd(momentum: 0.9)"];
/// A loss whose state is more than the weights'.
const WITH_BANK: &str = "Sgd(momentum: 0.9), loss: NtXentMemoryBank(size: 10)";
const SCOPES: [&str; 2] = ["Joint", "View"];

/// Keeps checkpoints in memory, and asks the training to leave after so many steps.
struct Keeper {
    leave_after: u64,
    request: Request,
    done: u64,
    started: u64,
    kept: Option<(u64, Vec<u8>)>,
    snapshots: Vec<(u64, Vec<u8>)>,
}

impl Watcher for Keeper {
    fn start(&mut self, done: u64) {
        (self.started, self.done) = (done, done);
    }

    fn step(&mut self, progress: &Progress) {
        self.done = progress.step;
    }

    fn keep(&mut self, done: u64, checkpoint: &[u8]) -> Result<(), KeepError> {
        self.kept = Some((done, checkpoint.to_vec()));
        Ok(())
    }

    fn snapshot(&mut self, done: u64, encoder: &[u8]) -> Result<(), KeepError> {
        self.snapshots.push((done, encoder.to_vec()));
        Ok(())
    }

    /// Asked with one step more behind it than was told.
    fn request(&self) -> Request {
        if self.done + 1 == self.leave_after { self.request } else { Request::Go }
    }
}

/// A training of an epoch and a half, a schedule with a warm-up, checkpoints every other step.
fn run(optimizer: &str, scope: &str, steps: u64) -> Run {
    let text = MINIATURE
        .replace("n_classes: 4, train_per_class: 12", "n_classes: 2, train_per_class: 6")
        .replace("batch: 8", "batch: 4")
        .replace(", LinearProbe(epochs: 2, batch: 16)", "")
        .replace("length: Steps(3)", &format!("length: Steps({steps})"))
        .replace("optimizer: Adam", &format!("optimizer: {optimizer}, batch_norm_scope: {scope}"));
    base_run(&text)
}

/// What a process has of its own: nothing of it outlives a stop but the bytes kept.
fn sitting(
    run: &Run,
    dataset: &Dataset,
    resume: Option<&[u8]>,
    leave: (u64, Request),
) -> (Result<Trained, TrainError>, Keeper, Box<dyn Executor>) {
    let setting = Setting {
        batch: run.train.batch as usize,
        n_views: 2,
        micro_batch: None,
        loss: run.train.loss,
        temperature: run.train.temperature as f32,
        batch_norm_scope: run.train.batch_norm_scope,
        optimizer: run.train.optimizer,
        numerics: run.train.numerics,
        threads: 2,
        device: 0,
    };
    let mut executor = executor::build(&run.model, &setting, run.backend).expect("an executor");
    let mut keeper =
        Keeper { leave_after: leave.0, request: leave.1, done: 0, started: 0, kept: None, snapshots: Vec::new() };
    let pool = Pool::new(2);
    let result = pretrain(run, &dataset.train, executor.as_mut(), &pool, resume, &mut keeper);
    (result, keeper, executor)
}

/// Bits of a finished training: the checkpoint's bytes, and the history's.
fn bits((result, _, executor): (Result<Trained, TrainError>, Keeper, Box<dyn Executor>)) -> (Vec<u8>, Vec<u8>) {
    let trained = result.expect("a whole training");
    let checkpoint = trained.checkpoint.to_bytes(executor.plan()).expect("bytes");
    (checkpoint, trained.history.to_parquet().expect("bytes"))
}

#[track_caller]
fn stopped((result, keeper, _): (Result<Trained, TrainError>, Keeper, Box<dyn Executor>), after: u64) -> Keeper {
    assert!(matches!(result, Err(TrainError::Interrupted { step }) if step + 1 == after), "{result:?}");
    keeper
}

/// Stops at every step in both ways; says how often.
fn check(optimizer: &str, scope: &str, steps: u64) -> u64 {
    let run = run(optimizer, scope, steps);
    let dataset = data::load(&run.dataset, run.split).expect("a data set");
    let never = (u64::MAX, Request::Go);
    let expected = bits(sitting(&run, &dataset, None, never));
    let mut stops = 0;
    // A step a sitting, from the first to the last.
    let mut kept: Option<Vec<u8>> = None;
    for step in 1..steps {
        let leave = (step, Request::StopAfterCheckpoint);
        let keeper = stopped(sitting(&run, &dataset, kept.as_deref(), leave), step);
        let (done, bytes) = keeper.kept.expect("a checkpoint of this very step");
        assert_eq!((keeper.started, done), (step - 1, step));
        let resumed = bits(sitting(&run, &dataset, Some(&bytes), never));
        assert!(resumed == expected, "{optimizer} {scope}: left after step {step} with a checkpoint");
        kept = Some(bytes);
        stops += 1;
    }
    // Left without a checkpoint, it goes on from the last one of itself, or starts anew.
    for step in 1..steps {
        let keeper = stopped(sitting(&run, &dataset, None, (step, Request::Stop)), step);
        let kept = keeper.kept.map(|(done, bytes)| {
            assert_eq!(done, (step - 1) / 2 * 2);
            bytes
        });
        assert_eq!(kept.is_some(), step > 2);
        let resumed = bits(sitting(&run, &dataset, kept.as_deref(), never));
        assert!(resumed == expected, "{optimizer} {scope}: left after step {step} without a checkpoint");
        stops += 1;
    }
    stops
}

#[test]
fn stopped_after_any_step_the_bits_are_the_same() {
    let mut stops = 0;
    if slow_tests() {
        for optimizer in OPTIMIZERS {
            for scope in SCOPES {
                stops += check(optimizer, scope, 4);
            }
        }
    } else {
        stops += check(OPTIMIZERS[0], SCOPES[0], 3);
    }
    stops += check(WITH_BANK, SCOPES[1], 4);
    tally("stopped at any step and gone on with", "resume: steps", stops);
}

/// What is kept after n steps is what a training of n steps ends with; one that goes on from a checkpoint keeps the later ones
/// alone, the same bits.
#[test]
fn snapshots_are_the_encoders_of_shorter_trainings() {
    let mut long = run("Sgd(momentum: 0.9)", "View", 4);
    let dataset = data::load(&long.dataset, long.split).expect("a data set");
    let never = (u64::MAX, Request::Go);
    let plain = bits(sitting(&long, &dataset, None, never));
    long.train.snapshots_every_steps = Some(1);
    let whole = sitting(&long, &dataset, None, never);
    let (snapshots, plan) = (whole.1.snapshots.clone(), whole.2.plan().clone());
    assert!(bits(whole) == plain, "snapshots changed a bit of the training");
    assert_eq!(snapshots.iter().map(|(done, _)| *done).collect::<Vec<_>>(), [1, 2, 3]);
    for (done, bytes) in &snapshots {
        let kept = Checkpoint::from_bytes(bytes, &plan).expect("an encoder").state;
        assert!(kept.optimizer.is_empty() && kept.bank.is_empty() && kept.step == *done);
        let shorter = run("Sgd(momentum: 0.9)", "View", *done);
        let last = sitting(&shorter, &dataset, None, never).0.expect("a whole training").checkpoint.state;
        assert!(kept.parameters == last.parameters && kept.buffers == last.buffers, "after {done} steps");
    }
    let keeper = stopped(sitting(&long, &dataset, None, (3, Request::StopAfterCheckpoint)), 3);
    assert!(keeper.snapshots == snapshots, "it was left behind the last of them");
    let (_, bytes) = keeper.kept.expect("a checkpoint");
    let resumed = sitting(&long, &dataset, Some(&bytes), never);
    assert!(resumed.1.snapshots.is_empty() && bits(resumed) == plain);
    let keeper = stopped(sitting(&long, &dataset, None, (1, Request::StopAfterCheckpoint)), 1);
    let (_, bytes) = keeper.kept.expect("a checkpoint");
    assert!(sitting(&long, &dataset, Some(&bytes), never).1.snapshots == snapshots[1..]);
}
