//! The two stages of a run: claim, compute, commit.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::results::{self, CHECKPOINT, State};
use crate::content::Key;
use crate::data::Dataset;
use crate::evaluate::{self, Features, Outcome as Evaluated};
use crate::executor::{self, Executor, Setting};
use crate::experiment::evaluation_names;
use crate::experiment::recipe::Evaluation;
use crate::experiment::run::Run;
use crate::record::{self, Failure, FailureKind, Metric, Record, Stage};
use crate::runner::provenance::Begun;
use crate::runner::{Event, Outcome, Runner, RunnerError, executor_failure};
use crate::store::{Claim, Lookup, StoreError};
use crate::train::checkpoint::Checkpoint;
use crate::train::{self, Progress, TrainError, Trained, Watcher};
use crate::views::{self, Pipeline};

/// Images on the contact sheet kept with a training.
const SHEET_IMAGES: usize = 64;
/// Test features kept with an evaluation, for maps drawn from the store alone.
const KEPT_FEATURES: usize = 2_000;

/// A trained encoder, ready to be evaluated.
struct Encoder {
    executor: Box<dyn Executor>,
    checkpoint: Key,
}

/// How far a stage got.
enum Step<T> {
    Done(T),
    Ended(Outcome),
}

/// Computes the stages of `run` that are missing.
pub fn compute(runner: &mut Runner, run: &Run, dataset: &Dataset, tell: &mut dyn FnMut(&Event)) -> Result<Outcome, RunnerError> {
    let mut encoder = match trained(runner, run, dataset, tell)? {
        Step::Done(encoder) => encoder,
        Step::Ended(outcome) => return Ok(outcome),
    };
    let names = evaluation_names(&run.evaluate);
    let mut features = None;
    for (evaluation, name) in run.evaluate.iter().zip(&names) {
        let known = results::evaluation(runner.store, run, evaluation, Some(encoder.checkpoint))?;
        if matches!(known, State::Hit(_)) {
            continue;
        }
        tell(&Event::EvaluationStarted { name });
        match evaluated(runner, run, dataset, evaluation, &mut encoder, &mut features, tell)? {
            Step::Done(()) => {}
            Step::Ended(outcome) => return Ok(outcome),
        }
    }
    Ok(Outcome::Computed)
}

/// The encoder of `run`: from its record, or trained now.
fn trained(runner: &mut Runner, run: &Run, dataset: &Dataset, tell: &mut dyn FnMut(&Event)) -> Result<Step<Encoder>, RunnerError> {
    let setting = setting(runner, run);
    let mut executor = match executor::build(&run.model, &setting, run.backend) {
        Ok(executor) => executor,
        Err(error) => return Ok(Step::Ended(Outcome::Failed(executor_failure(&error)))),
    };
    if let State::Hit(found) = results::pretrain(runner.store, run)? {
        let blob = &found.entry.blobs[CHECKPOINT];
        match read_checkpoint(runner, &found.entry, executor.as_ref()) {
            Ok(checkpoint) => {
                executor.load(&checkpoint.state);
                return Ok(Step::Done(Encoder { executor, checkpoint: blob.digest }));
            }
            Err(problem) => {
                tell(&Event::Note(&format!("training again: {problem}")));
                runner.store.discard(&found.entry)?;
            }
        }
    }
    let claim = match runner.store.lookup(&run.pretrain_key())? {
        Lookup::Miss(miss) => miss,
        Lookup::Taken(owner) => return Ok(Step::Ended(Outcome::Taken(owner.to_string()))),
        // Another process published it between the two looks.
        Lookup::Hit(_) => return trained(runner, run, dataset, tell),
    };
    claim.notes().iter().for_each(|note| tell(&Event::Note(note)));
    train_and_commit(runner, run, dataset, claim.claim, executor, tell)
}

fn read_checkpoint(runner: &Runner, entry: &crate::store::Entry, executor: &dyn Executor) -> Result<Checkpoint, String> {
    let bytes = runner.store.read_blob(&entry.blobs[CHECKPOINT]).map_err(|error| error.to_string())?;
    Checkpoint::from_bytes(&bytes, executor.plan()).map_err(|error| error.to_string())
}

fn train_and_commit(
    runner: &mut Runner,
    run: &Run,
    dataset: &Dataset,
    mut claim: Claim,
    mut executor: Box<dyn Executor>,
    tell: &mut dyn FnMut(&Event),
) -> Result<Step<Encoder>, RunnerError> {
    let begun = Begun::now();
    let progress = claim.progress()?;
    tell(&Event::TrainingStarted { resumed: progress.is_some() });
    let images = &dataset.train.images;
    let mut attempt = |resume: Option<&[u8]>| {
        let mut watcher = Reporter { claim: &claim, interrupt: runner.interrupt, tell };
        let job = AssertUnwindSafe(|| train::pretrain(run, images, executor.as_mut(), runner.pool, resume, &mut watcher));
        catch_unwind(job)
    };
    let mut result = attempt(progress.as_deref());
    // A checkpoint of an older program, for one: what it would have saved is computed again.
    if let (Some(_), Ok(Err(TrainError::Checkpoint(_)))) = (&progress, &result) {
        result = attempt(None);
    }
    let failure = match result {
        Ok(Ok(trained)) => {
            let checkpoint = commit_training(runner, run, dataset, claim, &trained, executor.as_ref(), begun)?;
            return Ok(Step::Done(Encoder { executor, checkpoint }));
        }
        Ok(Err(TrainError::Interrupted { .. })) => return Ok(Step::Ended(Outcome::Interrupted)),
        Ok(Err(error)) => train_failure(&error),
        Err(panic) => panic_failure(panic.as_ref()),
    };
    fail(runner, claim, run.pretrain_key(), &run.pretrain_preimage(), failure, begun).map(Step::Ended)
}

/// Publishes a training: blobs, then the record that names them. Returns the checkpoint's digest.
fn commit_training(
    runner: &Runner,
    run: &Run,
    dataset: &Dataset,
    mut claim: Claim,
    trained: &Trained,
    executor: &dyn Executor,
    begun: Begun,
) -> Result<Key, RunnerError> {
    let storage = |error: String| StoreError::caller(error);
    let checkpoint = trained.checkpoint.to_bytes(executor.plan()).map_err(|error| storage(error.to_string()))?;
    let history = trained.history.to_parquet().map_err(|error| storage(error.to_string()))?;
    let pipeline = Pipeline::new(&run.views, run.model.side as usize, run.seed);
    let sheet = views::contact_sheet(&pipeline, &dataset.train.images, SHEET_IMAGES).map_err(|error| storage(error.to_string()))?;
    let digest = claim.put_blob(CHECKPOINT, &checkpoint)?.digest;
    claim.put_blob("history", &history)?;
    claim.put_blob("views", &sheet)?;
    let losses = |epoch: Option<u32>| {
        let of_epoch: Vec<f64> =
            trained.history.steps.iter().filter(|step| Some(step.epoch) == epoch).map(|step| step.loss).collect();
        (!of_epoch.is_empty()).then(|| of_epoch.iter().sum::<f64>() / of_epoch.len() as f64)
    };
    let last = losses(trained.history.steps.last().map(|step| step.epoch));
    let pretrain = record::Pretrain {
        n_parameters: executor.plan().n_parameters() as u64,
        steps: run.train.length_steps,
        loss_first_epoch: losses(trained.history.steps.first().map(|step| step.epoch)),
        loss_last_epoch: last,
        loss_ratio: last.map(|loss| crate::ops::nt_xent::loss_ratio(loss, 2 * run.train.batch as usize)),
        epochs: trained.epochs.clone(),
        peak_memory_bytes: peak_memory_bytes(),
    };
    let body = body(runner, run.pretrain_key(), Stage::Pretrain(pretrain), begun);
    claim.commit(&body, &run.pretrain_preimage())?;
    Ok(digest)
}

/// One evaluation: features once for all of a run, then the protocol, then the record.
fn evaluated(
    runner: &mut Runner,
    run: &Run,
    dataset: &Dataset,
    evaluation: &Evaluation,
    encoder: &mut Encoder,
    features: &mut Option<[Features; 2]>,
    tell: &mut dyn FnMut(&Event),
) -> Result<Step<()>, RunnerError> {
    let begun = Begun::now();
    let key = run.evaluation_key(evaluation);
    let mut claim = match runner.store.lookup(&key)? {
        Lookup::Miss(miss) => {
            miss.notes().iter().for_each(|note| tell(&Event::Note(note)));
            miss.claim
        }
        Lookup::Taken(owner) => return Ok(Step::Ended(Outcome::Taken(owner.to_string()))),
        Lookup::Hit(entry) => match stale(&entry, encoder.checkpoint) {
            false => return Ok(Step::Done(())),
            true => {
                runner.store.discard(&entry)?;
                return evaluated(runner, run, dataset, evaluation, encoder, features, tell);
            }
        },
    };
    let pool = runner.pool;
    let job = AssertUnwindSafe(|| -> Result<Evaluated, Failure> {
        if features.is_none() {
            *features = Some(evaluate::features::extract(run, dataset, encoder.executor.as_mut(), pool).map_err(|error| executor_failure(&error))?);
        }
        let [bank, queries] = features.as_ref().expect("extracted above");
        evaluate::evaluate(evaluation, bank, queries, run.facts.n_classes, pool).map_err(|error| Failure {
            kind: FailureKind::NotFinite,
            message: error.to_string(),
            step: None,
        })
    });
    let failure = match catch_unwind(job) {
        Ok(Ok(outcome)) => {
            let queries = &features.as_ref().expect("an evaluation came from features")[1];
            let predictions: Vec<u8> = outcome.predictions.iter().flat_map(|class| class.to_le_bytes()).collect();
            claim.put_blob("predictions", &predictions)?;
            claim.put_blob("features", &queries.to_safetensors(KEPT_FEATURES))?;
            let stage = Stage::Evaluation(evaluation_record(run, dataset, evaluation, &outcome, encoder.checkpoint, begun));
            claim.commit(&body(runner, key, stage, begun), &run.evaluation_preimage(evaluation))?;
            return Ok(Step::Done(()));
        }
        Ok(Err(failure)) => failure,
        Err(panic) => panic_failure(panic.as_ref()),
    };
    fail(runner, claim, key, &run.evaluation_preimage(evaluation), failure, begun).map(Step::Ended)
}

/// A record of another checkpoint of the same training: two machines gave different bits under one key.
fn stale(entry: &crate::store::Entry, checkpoint: Key) -> bool {
    results::parse(entry).is_ok_and(|record| match record.stage {
        Stage::Evaluation(found) => found.checkpoint != checkpoint,
        Stage::Pretrain(_) | Stage::Failure(_) => true,
    })
}

fn evaluation_record(
    run: &Run,
    dataset: &Dataset,
    evaluation: &Evaluation,
    outcome: &Evaluated,
    checkpoint: Key,
    begun: Begun,
) -> record::Evaluation {
    let fraction = |name: &str, value| Metric { name: name.to_owned(), value, unit: "fraction".to_owned() };
    record::Evaluation {
        pretrain: run.pretrain_key(),
        checkpoint,
        kind: evaluation_names(std::slice::from_ref(evaluation)).concat(),
        metrics: vec![fraction("top1", outcome.top1), fraction("top5", outcome.top5)],
        per_class_top1: outcome.per_class_top1.clone(),
        class_names: dataset.class_names.clone(),
        n_test: dataset.test.labels.len() as u64,
        seconds: begun.seconds(),
    }
}

fn setting(runner: &Runner, run: &Run) -> Setting {
    Setting {
        batch: run.train.batch as usize,
        temperature: run.train.temperature as f32,
        batch_norm_scope: run.train.batch_norm_scope,
        optimizer: run.train.optimizer,
        threads: runner.pool.threads(),
    }
}

fn body(runner: &Runner, key: Key, stage: Stage, begun: Begun) -> String {
    let record = Record { format: record::FORMAT, key, stage, provenance: runner.origin.provenance(begun) };
    serde_json::to_string_pretty(&record).expect("a record is plain data with finite numbers")
}

/// Keeps a failure where the next sweep sees it.
fn fail(runner: &Runner, claim: Claim, key: Key, preimage: &str, failure: Failure, begun: Begun) -> Result<Outcome, RunnerError> {
    claim.fail(&body(runner, key, Stage::Failure(failure.clone()), begun), preimage)?;
    Ok(Outcome::Failed(failure))
}

fn train_failure(error: &TrainError) -> Failure {
    let (kind, step) = match error {
        TrainError::NotFinite { step, .. } => (FailureKind::NotFinite, Some(*step)),
        TrainError::Executor(error) => return executor_failure(error),
        TrainError::Keep(_) => (FailureKind::Storage, None),
        TrainError::Interrupted { .. } | TrainError::Checkpoint(_) | TrainError::History(_) => (FailureKind::Other, None),
    };
    Failure { kind, message: error.to_string(), step }
}

fn panic_failure(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    Failure { kind: FailureKind::Panic, message: text.unwrap_or_else(|| "a panic without words".to_owned()), step: None }
}

/// The process's peak resident memory, where the system tells.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: u64 = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// Passes a training's progress on and keeps its checkpoints under the claim.
struct Reporter<'a, 'b> {
    claim: &'a Claim,
    interrupt: &'a std::sync::atomic::AtomicBool,
    tell: &'a mut (dyn FnMut(&Event) + 'b),
}

impl Watcher for Reporter<'_, '_> {
    fn step(&mut self, progress: &Progress) {
        (self.tell)(&Event::Training(*progress));
    }

    fn keep(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        self.claim.save_progress(checkpoint).map_err(|error| error.to_string())
    }

    fn should_stop(&self) -> bool {
        self.interrupt.load(std::sync::atomic::Ordering::Relaxed)
    }
}
