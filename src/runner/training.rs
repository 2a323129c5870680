//! The training stage: an encoder from its record, or trained now.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::content::Key;
use crate::data::Dataset;
use crate::executor::{self, Executor, Setting};
use crate::experiment::run::Run;
use crate::record::{Failure, FailureKind, Stage, blob};
use crate::results::{self, State};
use crate::runner::provenance::Begun;
use crate::runner::reporter::Reporter;
use crate::runner::stage::{Claimed, Encoder, Step, claimed, executor_failure, fail, panic_failure, retire_unusable};
use crate::runner::{Event, Outcome, Runner, RunnerError, records};
use crate::store::{BlobRef, Claim, Progress as Kept, StoreError};
use crate::train::checkpoint::Checkpoint;
use crate::train::{self, TrainError, Trained};
use crate::views::{self, Pipeline};

/// Images on the contact sheet kept with a training.
const SHEET_IMAGES: usize = 64;

pub fn trained(
    runner: &Runner,
    run: &Run,
    dataset: &Dataset,
    tell: &mut dyn FnMut(&Event),
) -> Result<Step<Encoder>, RunnerError> {
    let key = run.pretrain_key();
    let lock = runner.plans.cloned().unwrap_or_default();
    let mut executor = match executor::build_locked(&run.model, &setting(runner, run), run.backend, &lock) {
        Ok(mut executor) => {
            if let Some(resident) = executor.resident() {
                // Set once: a sweep computes on one GPU.
                let _ = runner.gpu.set(resident.gpu().properties());
            }
            executor
        }
        Err(error) => return Ok(Step::Ended(Outcome::TrainingFailed(executor_failure(&error)))),
    };
    loop {
        if let State::Hit(found) = results::pretrain(runner.store, key)? {
            let stored = found.entry.blobs[blob::CHECKPOINT];
            match read_checkpoint(runner, &stored, executor.as_ref())? {
                Ok(checkpoint) => {
                    executor.load(&checkpoint.state);
                    return Ok(Step::Done(Encoder { executor, checkpoint: stored.digest }));
                }
                Err(problem) => {
                    tell(&Event::Note(&format!("trains again: {problem}")));
                    runner.store.set_aside(&stored)?;
                    runner.store.retire(&key)?;
                }
            }
        }
        match claimed(runner, &key, tell)? {
            Claimed::Mine(claim) => return train_and_commit(runner, run, dataset, claim, executor, tell),
            Claimed::Taken(owner) => return Ok(Step::Ended(Outcome::Taken(owner))),
            Claimed::Published => retire_unusable(runner, &key, results::pretrain(runner.store, key)?, tell)?,
        }
    }
}

/// The inner error says that the checkpoint is bad, the outer one only that it could not be judged.
fn read_checkpoint(
    runner: &Runner,
    stored: &BlobRef,
    executor: &dyn Executor,
) -> Result<Result<Checkpoint, String>, StoreError> {
    match runner.store.read_blob(stored) {
        Ok(bytes) => Ok(Checkpoint::from_bytes(&bytes, executor.plan()).map_err(|error| error.to_string())),
        Err(damage @ StoreError::DamagedBlob { .. }) => Ok(Err(damage.to_string())),
        Err(error) => Err(error),
    }
}

fn train_and_commit(
    runner: &Runner,
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
    let mut attempt = |resume: Option<&[u8]>| {
        let mut reporter = Reporter::new(&claim, runner, tell);
        let (images, executor) = (&dataset.train.images, executor.as_mut());
        catch_unwind(AssertUnwindSafe(|| train::pretrain(run, images, executor, &runner.pool, resume, &mut reporter)))
    };
    let mut result = attempt(kept.as_deref());
    // A checkpoint of an older format, for one: what it would have saved is computed again.
    if let (Some(_), Ok(Err(TrainError::Checkpoint(_)))) = (&kept, &result) {
        result = attempt(None);
    }
    let failure = match result {
        Ok(Ok(trained)) => {
            return commit(runner, run, dataset, claim, (&trained, executor), begun, tell).map(Step::Done);
        }
        Ok(Err(TrainError::Interrupted { .. })) => return Ok(Step::Ended(Outcome::Interrupted)),
        Ok(Err(error)) => train_failure(&error),
        Err(panic) => panic_failure(panic.as_ref()),
    };
    fail(runner, claim, &run.pretrain_preimage(), &failure, begun)?;
    Ok(Step::Ended(Outcome::TrainingFailed(failure)))
}

/// Publishes a training: blobs, then the record that names them.
fn commit(
    runner: &Runner,
    run: &Run,
    dataset: &Dataset,
    mut claim: Claim,
    (trained, mut executor): (&Trained, Box<dyn Executor>),
    begun: Begun,
    tell: &mut dyn FnMut(&Event),
) -> Result<Encoder, RunnerError> {
    let pipeline = Pipeline::new(&run.views, run.model.side as usize, run.seed);
    let sheet = views::contact_sheet(&pipeline, &dataset.train.images, SHEET_IMAGES).map_err(RunnerError::artefact)?;
    let bytes = trained.checkpoint.to_bytes(executor.plan()).map_err(RunnerError::artefact)?;
    let checkpoint = claim.put_blob(blob::CHECKPOINT, &bytes)?.digest;
    claim.put_blob(blob::HISTORY, &trained.history.to_parquet().map_err(RunnerError::artefact)?)?;
    claim.put_blob(blob::VIEWS, &sheet)?;
    if let Some(resident) = executor.resident() {
        let engines: BTreeMap<String, String> = resident.gpu().choices().into_iter().collect();
        claim.put_blob(blob::ENGINES, serde_json::to_string_pretty(&engines).expect("names and texts").as_bytes())?;
    }
    let stage = Stage::Pretrain(records::pretrain(run, trained, executor.plan()));
    let body = records::body(runner, run.pretrain_key(), stage, begun);
    let committed = claim.commit(&body, &run.pretrain_preimage())?;
    let Some(first) = committed.entry.blobs.get(blob::CHECKPOINT).filter(|first| first.digest != checkpoint) else {
        return Ok(Encoder { executor, checkpoint });
    };
    // Another process was first and its bits differ: its encoder is the one on record, so it is the one to evaluate.
    tell(&Event::Note(&divergence_note(&run.pretrain_key())));
    let theirs = read_checkpoint(runner, first, executor.as_ref())?.map_err(RunnerError::artefact)?;
    executor.load(&theirs.state);
    Ok(Encoder { executor, checkpoint: first.digest })
}

fn divergence_note(key: &Key) -> String {
    let short = key.short();
    format!("two computations of {short} gave different bits; the first stays, the second is kept beside it")
}

fn setting(runner: &Runner, run: &Run) -> Setting {
    setting_on(run, runner.pool.threads(), runner.origin.device)
}

/// What a run's executor is built for, on a device with so many worker threads.
pub fn setting_on(run: &Run, threads: usize, device: usize) -> Setting {
    Setting {
        batch: run.train.batch as usize,
        micro_batch: run.train.micro_batch.map(|images| images as usize),
        temperature: run.train.temperature as f32,
        batch_norm_scope: run.train.batch_norm_scope,
        optimizer: run.train.optimizer,
        numerics: run.train.numerics,
        threads,
        device,
    }
}

fn train_failure(error: &TrainError) -> Failure {
    let (kind, step) = match error {
        TrainError::NotFinite { step, .. } => (FailureKind::NotFinite, Some(*step)),
        TrainError::Executor(error) => return executor_failure(error),
        TrainError::Keep(_) => (FailureKind::Storage, None),
        TrainError::Interrupted { .. } | TrainError::Checkpoint(_) => (FailureKind::Other, None),
    };
    Failure { kind, message: error.to_string(), step }
}
