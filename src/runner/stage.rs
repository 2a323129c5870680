//! The two stages of a run: claim, compute, commit.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::content::Key;
use crate::data::Dataset;
use crate::device::Pool;
use crate::evaluate::features::{extract, to_safetensors};
use crate::evaluate::{self, Features, Outcome as Evaluated};
use crate::executor::{self, Executor, Setting};
use crate::experiment::evaluation_names;
use crate::experiment::recipe::Evaluation;
use crate::experiment::run::Run;
use crate::record::{Failure, FailureKind, Stage};
use crate::results::{self, CHECKPOINT, State};
use crate::runner::provenance::Begun;
use crate::runner::reporter::Reporter;
use crate::runner::{Event, Outcome, Runner, RunnerError, executor_failure, records};
use crate::store::{BlobRef, Claim, Lookup, Progress as Kept};
use crate::train::checkpoint::Checkpoint;
use crate::train::{self, TrainError, Trained};
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
pub fn compute(
    runner: &mut Runner,
    run: &Run,
    dataset: &Dataset,
    tell: &mut dyn FnMut(&Event),
) -> Result<Outcome, RunnerError> {
    let mut encoder = match trained(runner, run, dataset, tell)? {
        Step::Done(encoder) => encoder,
        Step::Ended(outcome) => return Ok(outcome),
    };
    let names = evaluation_names(&run.evaluate);
    let mut features = None;
    for (evaluation, name) in run.evaluate.iter().zip(&names) {
        let known = results::evaluation(runner.store, run.evaluation_key(evaluation), Some(encoder.checkpoint))?;
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
fn trained(
    runner: &mut Runner,
    run: &Run,
    dataset: &Dataset,
    tell: &mut dyn FnMut(&Event),
) -> Result<Step<Encoder>, RunnerError> {
    let mut executor = match executor::build(&run.model, &setting(runner, run), run.backend) {
        Ok(executor) => executor,
        Err(error) => return Ok(Step::Ended(Outcome::Failed(executor_failure(&error)))),
    };
    loop {
        if let State::Hit(found) = results::pretrain(runner.store, run.pretrain_key())? {
            let blob = found.entry.blobs[CHECKPOINT];
            match read_checkpoint(runner, &blob, executor.as_ref()) {
                Ok(checkpoint) => {
                    executor.load(&checkpoint.state);
                    return Ok(Step::Done(Encoder { executor, checkpoint: blob.digest }));
                }
                Err(problem) => {
                    tell(&Event::Note(&format!("trains again: {problem}")));
                    runner.store.set_aside(&blob)?;
                    runner.store.retire(&found.entry.key)?;
                }
            }
        }
        match claimed(runner, &run.pretrain_key(), tell)? {
            Claimed::Mine(claim) => return train_and_commit(runner, run, dataset, claim, executor, tell),
            Claimed::Taken(owner) => return Ok(Step::Ended(Outcome::Taken(owner))),
            Claimed::Published => {
                retire_unusable(
                    runner,
                    &run.pretrain_key(),
                    results::pretrain(runner.store, run.pretrain_key())?,
                    tell,
                )?;
            }
        }
    }
}

/// What a claim came to.
enum Claimed {
    Mine(Claim),
    Taken(String),
    /// There is a record: another process published it since the last look, or it is one this program cannot use.
    Published,
}

fn claimed(runner: &Runner, key: &Key, tell: &mut dyn FnMut(&Event)) -> Result<Claimed, RunnerError> {
    Ok(match runner.store.lookup(key)? {
        Lookup::Hit(_) => Claimed::Published,
        Lookup::Taken(owner) => Claimed::Taken(owner.to_string()),
        Lookup::Miss(miss) => {
            miss.damage.iter().chain(&miss.taken_over).for_each(|note| tell(&Event::Note(note)));
            Claimed::Mine(miss.claim)
        }
    })
}

/// A sound record that says something this program cannot use is put out of the way; a usable one stays.
fn retire_unusable<T>(
    runner: &Runner,
    key: &Key,
    state: State<T>,
    tell: &mut dyn FnMut(&Event),
) -> Result<(), RunnerError> {
    if let State::Miss { reason: Some(reason) } = state {
        tell(&Event::Note(&format!("computes again: {reason}")));
        runner.store.retire(key)?;
    }
    Ok(())
}

fn read_checkpoint(runner: &Runner, blob: &BlobRef, executor: &dyn Executor) -> Result<Checkpoint, String> {
    let bytes = runner.store.read_blob(blob).map_err(|error| error.to_string())?;
    Checkpoint::from_bytes(&bytes, executor.plan()).map_err(|error| error.to_string())
}

fn train_and_commit(
    runner: &mut Runner,
    run: &Run,
    dataset: &Dataset,
    claim: Claim,
    mut executor: Box<dyn Executor>,
    tell: &mut dyn FnMut(&Event),
) -> Result<Step<Encoder>, RunnerError> {
    let begun = Begun::now();
    let kept = match claim.progress()? {
        Kept::Saved(bytes) => Some(bytes),
        Kept::Absent => None,
        Kept::Damaged(problem) => {
            tell(&Event::Note(&format!("starts anew: {problem}")));
            None
        }
    };
    tell(&Event::TrainingStarted { resumed: kept.is_some() });
    let images = &dataset.train.images;
    let mut attempt = |resume: Option<&[u8]>| {
        let mut reporter = Reporter::new(&claim, runner.interrupt, tell);
        catch_unwind(AssertUnwindSafe(|| {
            train::pretrain(run, images, executor.as_mut(), runner.pool, resume, &mut reporter)
        }))
    };
    let mut result = attempt(kept.as_deref());
    // A checkpoint of an older program, for one: what it would have saved is computed again.
    if let (Some(_), Ok(Err(TrainError::Checkpoint(_)))) = (&kept, &result) {
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
    let pipeline = Pipeline::new(&run.views, run.model.side as usize, run.seed);
    let sheet = views::contact_sheet(&pipeline, &dataset.train.images, SHEET_IMAGES).map_err(RunnerError::artefact)?;
    let checkpoint = trained.checkpoint.to_bytes(executor.plan()).map_err(RunnerError::artefact)?;
    let digest = claim.put_blob(CHECKPOINT, &checkpoint)?.digest;
    claim.put_blob("history", &trained.history.to_parquet().map_err(RunnerError::artefact)?)?;
    claim.put_blob("views", &sheet)?;
    let stage = Stage::Pretrain(records::pretrain(run, trained, executor.plan()));
    let committed = claim.commit(&records::body(runner, run.pretrain_key(), stage, begun), &run.pretrain_preimage())?;
    // Where another process was first, its checkpoint is the one the evaluations must see.
    Ok(committed.entry.blobs.get(CHECKPOINT).map_or(digest, |blob| blob.digest))
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
    let mut claim = loop {
        match claimed(runner, &key, tell)? {
            Claimed::Mine(claim) => break claim,
            Claimed::Taken(owner) => return Ok(Step::Ended(Outcome::Taken(owner))),
            Claimed::Published => match results::evaluation(runner.store, key, Some(encoder.checkpoint))? {
                State::Hit(_) => return Ok(Step::Done(())),
                unusable => retire_unusable(runner, &key, unusable, tell)?,
            },
        }
    };
    let pool = runner.pool;
    let outcome = match catch_unwind(AssertUnwindSafe(|| outcome(run, dataset, evaluation, encoder, features, pool))) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(failure)) => {
            return fail(runner, claim, key, &run.evaluation_preimage(evaluation), failure, begun).map(Step::Ended);
        }
        Err(panic) => {
            let failure = panic_failure(panic.as_ref());
            return fail(runner, claim, key, &run.evaluation_preimage(evaluation), failure, begun).map(Step::Ended);
        }
    };
    let predictions: Vec<u8> = outcome.predictions.iter().flat_map(|class| class.to_le_bytes()).collect();
    claim.put_blob("predictions", &predictions)?;
    if let Some([_, queries]) = features {
        claim.put_blob("features", &to_safetensors(queries, KEPT_FEATURES).map_err(RunnerError::artefact)?)?;
    }
    let stage = Stage::Evaluation(records::evaluation(run, dataset, evaluation, &outcome, encoder.checkpoint, begun));
    claim.commit(&records::body(runner, key, stage, begun), &run.evaluation_preimage(evaluation))?;
    Ok(Step::Done(()))
}

/// The protocol's answer on features extracted at most once a run.
fn outcome(
    run: &Run,
    dataset: &Dataset,
    evaluation: &Evaluation,
    encoder: &mut Encoder,
    features: &mut Option<[Features; 2]>,
    pool: &Pool,
) -> Result<Evaluated, Failure> {
    let [bank, queries] = match features {
        Some(features) => features,
        None => {
            let extracted =
                extract(run, dataset, encoder.executor.as_mut(), pool).map_err(|error| executor_failure(&error))?;
            features.insert(extracted)
        }
    };
    evaluate::evaluate(evaluation, bank, queries, run.facts.n_classes, pool).map_err(|error| Failure {
        kind: FailureKind::NotFinite,
        message: error.to_string(),
        step: None,
    })
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

/// Keeps a failure where the next sweep sees it.
fn fail(
    runner: &Runner,
    claim: Claim,
    key: Key,
    preimage: &str,
    failure: Failure,
    begun: Begun,
) -> Result<Outcome, RunnerError> {
    claim.fail(&records::body(runner, key, Stage::Failure(failure.clone()), begun), preimage)?;
    Ok(Outcome::Failed(failure))
}

fn train_failure(error: &TrainError) -> Failure {
    let (kind, step) = match error {
        TrainError::NotFinite { step, .. } => (FailureKind::NotFinite, Some(*step)),
        TrainError::Executor(error) => return executor_failure(error),
        TrainError::Keep(_) => (FailureKind::Storage, None),
        TrainError::Interrupted { .. } | TrainError::Checkpoint(_) | TrainError::History(_) => {
            (FailureKind::Other, None)
        }
    };
    Failure { kind, message: error.to_string(), step }
}

fn panic_failure(panic: &(dyn Any + Send)) -> Failure {
    let text =
        panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    Failure {
        kind: FailureKind::Panic,
        message: text.unwrap_or_else(|| "a panic without words".to_owned()),
        step: None,
    }
}
