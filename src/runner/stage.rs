//! The stages of one run, and what both have in common: claiming a key, keeping a failure.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use crate::content::Key;
use crate::data::Dataset;
use crate::device::gpu::GpuError;
use crate::executor::{Executor, ExecutorError};
use crate::experiment::asked_names;
use crate::experiment::run::Run;
use crate::record::{Failure, FailureKind, Stage, blob};
use crate::results::{self, State};
use crate::runner::evaluation::{Ended, Evaluator};
use crate::runner::journal::Journal;
use crate::runner::provenance::Begun;
use crate::runner::{Event, Outcome, Runner, RunnerError, StageFailure, records, training};
use crate::store::{BlobRef, Claim, Lookup, StoreError};

/// A trained encoder, ready to be evaluated.
pub struct Encoder {
    pub executor: Box<dyn Executor>,
    /// Digest of its checkpoint.
    pub checkpoint: Key,
}

/// A training that is there. One on record is loaded once an evaluation of it is claimed, not before.
pub enum Source {
    Stored(BlobRef),
    Ready(Encoder),
}

impl Source {
    pub fn checkpoint(&self) -> Key {
        match self {
            Source::Stored(blob) => blob.digest,
            Source::Ready(encoder) => encoder.checkpoint,
        }
    }
}

/// How far a stage got.
pub enum Step<T> {
    Done(T),
    Ended(Outcome),
}

/// Computes the stages of `run` that are missing. A failed evaluation does not stop the others.
pub fn compute(runner: &Runner, run: &Run, dataset: &Dataset, journal: &mut Journal) -> Result<Outcome, RunnerError> {
    loop {
        let source = match training::trained(runner, run, dataset, journal)? {
            Step::Done(source) => source,
            Step::Ended(outcome) => return Ok(outcome),
        };
        let snapshots = snapshots(runner, run)?;
        let mut evaluator = Evaluator::new(runner, run, dataset, source, snapshots);
        if let Some(outcome) = evaluated(runner, run, &mut evaluator, journal)? {
            return Ok(outcome);
        }
    }
}

/// The blob of every snapshot of a training that is on record.
fn snapshots(runner: &Runner, run: &Run) -> Result<BTreeMap<u64, BlobRef>, StoreError> {
    let steps = run.snapshots();
    if steps.is_empty() {
        return Ok(BTreeMap::new());
    }
    let training = results::pretrain(runner.store, run.pretrain_key())?.hit();
    let blob = |steps: u64| Some((steps, training.as_ref()?.encoder(Some(steps))?));
    Ok(steps.into_iter().filter_map(blob).collect())
}

/// Every evaluation that is missing; none where the checkpoint cannot be read and is to be trained again.
fn evaluated(
    runner: &Runner,
    run: &Run,
    evaluator: &mut Evaluator,
    journal: &mut Journal,
) -> Result<Option<Outcome>, RunnerError> {
    let (names, keys) = (asked_names(run), run.keys());
    let (mut failures, mut taken): (Vec<StageFailure>, Option<String>) = (Vec::new(), None);
    // Between a look that found something missing and the claim another process may have published it.
    let mut is_own = evaluator.is_trained_here();
    for ((asked, name), key) in run.asked().into_iter().zip(&names).zip(keys.evaluations) {
        let known = results::evaluation(runner.store, key, evaluator.checkpoint(asked.snapshot))?;
        if runner.is_settled(&known) {
            let repeated = runner.repeats(&known, key);
            repeated.iter().for_each(|failure| journal.tell(&Event::Failed(failure)));
            failures.extend(repeated);
            continue;
        }
        match evaluator.evaluate((asked, name), key, journal)? {
            Ended::Failed(failure) => {
                runner.note_full(&failure);
                let failure = StageFailure { key, failure };
                journal.tell(&Event::Failed(&failure));
                failures.push(failure);
            }
            Ended::Computed => is_own = true,
            Ended::Cached => {}
            // Others of this run may be free.
            Ended::Taken(owner) => taken = Some(owner),
            Ended::Interrupted => return Ok(Some(Outcome::Interrupted)),
            Ended::Unreadable { checkpoint, problem } => {
                journal.tell(&Event::Note(&format!("trains again: {problem}")));
                // One that `gc` has dropped since the look leaves a sound record.
                let training = results::pretrain(runner.store, keys.pretrain)?.hit();
                if !training.is_some_and(|found| found.checkpoint_dropped()) {
                    runner.store.set_aside(&checkpoint)?;
                    runner.store.retire(&keys.pretrain)?;
                }
                return Ok(None);
            }
        }
    }
    // A failure ends the run: waiting for the rest of it would try what failed again and again.
    Ok(Some(match taken {
        _ if !failures.is_empty() => Outcome::EvaluationsFailed(failures),
        Some(owner) => Outcome::Taken(owner),
        None if is_own => Outcome::Computed,
        None => Outcome::Cached,
    }))
}

/// What a claim came to.
pub enum Claimed {
    Mine(Claim),
    Taken(String),
    /// There is a record: another process published it since the last look, or it is one this program cannot use.
    Published,
}

/// Takes what a lookup found; tells why a record or a claim that was there did not count.
pub fn claimed(found: Lookup, journal: &mut Journal) -> Claimed {
    match found {
        Lookup::Hit(_) => Claimed::Published,
        Lookup::Taken(owner) => Claimed::Taken(owner.to_string()),
        Lookup::Miss(miss) => {
            miss.damage.iter().chain(&miss.taken_over).for_each(|note| journal.tell(&Event::Note(note)));
            Claimed::Mine(miss.claim)
        }
    }
}

/// A sound record that says something this program cannot use is put out of the way; a usable one stays.
pub fn retire_unusable<T>(
    runner: &Runner,
    key: &Key,
    state: State<T>,
    journal: &mut Journal,
) -> Result<(), RunnerError> {
    let reason = match state {
        State::Hit(_) => return Ok(()),
        State::Miss { reason } => reason.unwrap_or_else(|| "the record went away".to_owned()),
        State::Failed(..) => "the record cannot be used, and the last attempt failed".to_owned(),
    };
    journal.tell(&Event::Note(&format!("computes again: {reason}")));
    Ok(runner.store.retire(key)?)
}

/// Keeps a failure, with what was told before it, where the next sweep sees it. One that repeats itself leaves nothing to
/// go on from. Where it cannot be kept it is told all the same.
pub fn fail(
    runner: &Runner,
    mut claim: Claim,
    preimage: &str,
    failure: Failure,
    begun: Begun,
    journal: &mut Journal,
) -> Failure {
    let failure = journal.failed(failure);
    let body = records::body(runner, *claim.key(), Stage::Failure(failure.clone()), begun);
    let dropped = if failure.kind.is_deterministic() { claim.drop_progress() } else { Ok(()) };
    // Snapshots of a training without a result are nobody's, but for the checkpoint to go on from, which names its own.
    claim.forget_blobs(blob::is_encoder);
    if let Err(error) = dropped.and_then(|()| claim.fail(&body, preimage)) {
        journal.tell(&Event::Note(&format!("the failure is not on record: {error}")));
    }
    failure
}

/// The words for a disk that refuses.
pub fn storage_failure(error: &StoreError) -> Failure {
    let is_full = match error {
        StoreError::Io { source, .. } | StoreError::SyncDirectory { source, .. } => {
            matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
        }
        // What a quota or a full disk looks like where the system says nothing.
        other => matches!(other, StoreError::ShortWrite { .. }),
    };
    let kind = if is_full { FailureKind::DiskFull } else { FailureKind::Storage };
    Failure::new(kind, error.to_string())
}

/// The words for what goes wrong when a result is written down.
pub fn commit_failure(error: &RunnerError) -> Failure {
    match error {
        RunnerError::Store(error) => storage_failure(error),
        other => Failure::new(FailureKind::Other, other.to_string()),
    }
}

/// The failure record's words for an executor that cannot.
pub fn executor_failure(error: &ExecutorError) -> Failure {
    let kind = match error {
        ExecutorError::OutOfMemory { .. }
        | ExecutorError::OutOfGpuMemory { .. }
        | ExecutorError::Gpu(GpuError::OutOfMemory { .. }) => FailureKind::OutOfMemory,
        ExecutorError::MissingInstructions { .. } | ExecutorError::Device(_) | ExecutorError::Gpu(_) => {
            FailureKind::Other
        }
    };
    Failure::new(kind, error.to_string())
}
