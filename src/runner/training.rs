//! The training stage: an encoder from its record, or trained now.

use std::collections::BTreeMap;

use crate::data::Dataset;
use crate::executor::{self, Executor, Setting};
use crate::experiment::run::Run;
use crate::record::{Failure, FailureKind, Stage, blob};
use crate::results::{self, State};
use crate::runner::interrupt::TrainingUnderWay;
use crate::runner::journal::Journal;
use crate::runner::provenance::Begun;
use crate::runner::reporter::Reporter;
use crate::runner::stage::{
    Claimed, Encoder, Source, Step, claimed, commit_failure, executor_failure, fail, retire_unusable, storage_failure,
};
use crate::runner::{Event, Outcome, Runner, RunnerError, StageFailure, panics, records};
use crate::store::{BlobRef, Claim, Committed, Progress as Kept, StoreError};
use crate::train::checkpoint::Checkpoint;
use crate::train::{self, Request, TrainError, Trained};
use crate::views::{self, Pipeline};

/// Images on the contact sheet kept with a training.
const SHEET_IMAGES: usize = 64;

/// The training of a run: on record, or done now. The executor is built under the claim.
pub fn trained(
    runner: &Runner,
    run: &Run,
    dataset: &Dataset,
    journal: &mut Journal,
) -> Result<Step<Source>, RunnerError> {
    let key = run.pretrain_key();
    loop {
        if let State::Hit(found) = results::pretrain(runner.store, key)?
            && !found.checkpoint_dropped()
        {
            return Ok(Step::Done(Source::Stored(found.entry.blobs[blob::CHECKPOINT])));
        }
        match claimed(runner.store.lookup_whole(&key)?, journal) {
            Claimed::Mine(claim) => return train_under(claim, runner, run, dataset, journal),
            Claimed::Taken(owner) => return Ok(Step::Ended(Outcome::Taken(owner))),
            Claimed::Published => retire_unusable(runner, &key, results::pretrain(runner.store, key)?, journal)?,
        }
    }
}

/// An executor for the run, without state.
fn executor(runner: &Runner, run: &Run) -> Result<Box<dyn Executor>, Failure> {
    let lock = runner.plans.cloned().unwrap_or_default();
    let built = executor::build_locked(&run.model, &setting(runner, run), run.backend, &lock);
    let mut executor = built.map_err(|error| executor_failure(&error))?;
    if let Some(resident) = executor.resident() {
        // Set once: a sweep computes on one GPU.
        let _ = runner.gpu.set(resident.gpu().properties());
    }
    Ok(executor)
}

/// The encoder of a checkpoint on record, in `spare` where there is one. The inner error says that the checkpoint is bad.
pub fn loaded(
    runner: &Runner,
    run: &Run,
    stored: &BlobRef,
    spare: Option<Box<dyn Executor>>,
) -> Result<Result<Encoder, String>, Failure> {
    let mut executor = spare.map_or_else(|| executor(runner, run), Ok)?;
    let read = read_checkpoint(runner, stored, executor.as_ref());
    Ok(read.map_err(|error| storage_failure(&error))?.map(|checkpoint| {
        let blank = executor.save();
        executor.load(&checkpoint.filled(&blank));
        Encoder { executor, checkpoint: stored.digest }
    }))
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

/// Trains and publishes under a claim.
fn train_under(
    mut claim: Claim,
    runner: &Runner,
    run: &Run,
    dataset: &Dataset,
    journal: &mut Journal,
) -> Result<Step<Source>, RunnerError> {
    let begun = Begun::now();
    let outcome = match panics::caught(|| train_and_prepare(&mut claim, runner, run, dataset, begun, journal)) {
        Ok(outcome) => outcome,
        Err(panic) => Err(journal.panicked(panic)),
    };
    let failure = match outcome {
        Ok(None) => return Ok(Step::Ended(Outcome::Interrupted)),
        Ok(Some(Prepared { encoder, body, under_way: _under_way })) => {
            let committed = claim.commit(&body, &run.pretrain_preimage());
            let settled = committed.map_err(|error| storage_failure(&error));
            match settled.and_then(|committed| settled_on(runner, run, encoder, &committed, journal)) {
                Ok(encoder) => return Ok(Step::Done(Source::Ready(encoder))),
                // The claim went with the commit; what failed is told, and tried again by the next sweep.
                Err(failure) => journal.failed(failure),
            }
        }
        Err(failure) => fail(runner, claim, &run.pretrain_preimage(), failure, begun, journal),
    };
    runner.note_full(&failure);
    let failure = StageFailure { key: run.pretrain_key(), failure };
    journal.tell(&Event::Failed(&failure));
    Ok(Step::Ended(Outcome::TrainingFailed(failure)))
}

/// A training whose blobs are kept and whose record is written, but not yet published.
struct Prepared<'a> {
    encoder: Encoder,
    body: String,
    /// Until it is published a wish to leave waits for it.
    under_way: TrainingUnderWay<'a>,
}

/// None where it was asked to leave.
fn train_and_prepare<'a>(
    claim: &mut Claim,
    runner: &'a Runner,
    run: &Run,
    dataset: &Dataset,
    begun: Begun,
    journal: &mut Journal,
) -> Result<Option<Prepared<'a>>, Failure> {
    let mut executor = executor(runner, run)?;
    let kept = match claim.progress().map_err(|error| storage_failure(&error))? {
        Kept::Saved(bytes) => Some(bytes),
        Kept::Absent => None,
        Kept::Damaged(problem) => {
            journal.tell(&Event::Note(&format!("starts anew: {problem}")));
            None
        }
    };
    let under_way = runner.interrupt.training();
    let mut attempt = |resume: Option<&[u8]>| {
        let mut reporter = Reporter::new(claim, runner, journal);
        let result = train::pretrain(run, &dataset.train, executor.as_mut(), &runner.pool, resume, &mut reporter);
        if let Err(TrainError::Interrupted { step }) = &result {
            reporter.stopped(step + 1);
        }
        result
    };
    let mut result = attempt(kept.as_deref());
    // A checkpoint of an older format, for one: what it would have saved is computed again.
    if let (Some(_), Err(TrainError::Checkpoint(_))) = (&kept, &result) {
        result = attempt(None);
    }
    match result {
        Ok(trained) => {
            let prepared = prepare(claim, runner, run, dataset, (&trained, executor), begun);
            let (encoder, body) = prepared.map_err(|error| commit_failure(&error))?;
            Ok(Some(Prepared { encoder, body, under_way }))
        }
        Err(TrainError::Interrupted { .. }) => Ok(None),
        Err(error) => Err(train_failure(&error, runner.request())),
    }
}

/// Keeps a training's blobs and writes the record that names them.
fn prepare(
    claim: &mut Claim,
    runner: &Runner,
    run: &Run,
    dataset: &Dataset,
    (trained, mut executor): (&Trained, Box<dyn Executor>),
    begun: Begun,
) -> Result<(Encoder, String), RunnerError> {
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
    Ok((Encoder { executor, checkpoint }, body))
}

/// The encoder to evaluate after a commit: one's own, or that of the record that was there first.
fn settled_on(
    runner: &Runner,
    run: &Run,
    mut encoder: Encoder,
    committed: &Committed,
    journal: &mut Journal,
) -> Result<Encoder, Failure> {
    let first = committed.entry.blobs.get(blob::CHECKPOINT);
    let Some(first) = first.filter(|first| first.digest != encoder.checkpoint) else {
        return Ok(encoder);
    };
    let key = run.pretrain_key().short();
    let second =
        committed.divergence.as_ref().map_or_else(String::new, |kept| format!(" in `{}`", kept.path.display()));
    // Another process was first and its bits differ: its encoder is the one on record, so it is the one to evaluate.
    journal.tell(&Event::Note(&format!(
        "two computations of {key} gave different bits; the first stays, the second is kept beside it"
    )));
    let theirs = read_checkpoint(runner, first, encoder.executor.as_ref()).map_err(|error| storage_failure(&error))?;
    let theirs = theirs.map_err(|problem| {
        let message = format!(
            "trained again, {key} has other bits than on record, and the checkpoint on record cannot be evaluated: \
             {problem}; both records are kept, the second{second}; `ablate show {key}` says what computed the first"
        );
        Failure::new(FailureKind::Other, message)
    })?;
    encoder.executor.load(&theirs.state);
    Ok(Encoder { checkpoint: first.digest, ..encoder })
}

fn setting(runner: &Runner, run: &Run) -> Setting {
    setting_on(run, runner.pool.threads(), runner.origin.device)
}

/// What a run's executor is built for, on a device with so many worker threads.
pub fn setting_on(run: &Run, threads: usize, device: usize) -> Setting {
    Setting {
        batch: run.train.batch as usize,
        n_views: 2,
        micro_batch: run.train.micro_batch.map(|images| images as usize),
        loss: run.train.loss,
        temperature: run.train.temperature as f32,
        batch_norm_scope: run.train.batch_norm_scope,
        optimizer: run.train.optimizer,
        numerics: run.train.numerics,
        threads,
        device,
    }
}

/// `request` is what the training was asked for when it failed.
fn train_failure(error: &TrainError, request: Request) -> Failure {
    let kept = |error: &train::KeepError| error.downcast_ref::<StoreError>().map(storage_failure);
    let (kind, step) = match error {
        TrainError::NotFinite { step, .. } => (FailureKind::NotFinite, Some(*step)),
        TrainError::Executor(error) => return executor_failure(error),
        TrainError::Keep(_) if request == Request::StopAfterCheckpoint => (FailureKind::Preempted, None),
        TrainError::Keep(error) => (kept(error).map_or(FailureKind::Storage, |failure| failure.kind), None),
        TrainError::Interrupted { .. } | TrainError::Checkpoint(_) => (FailureKind::Other, None),
    };
    Failure { step, ..Failure::new(kind, error.to_string()) }
}
