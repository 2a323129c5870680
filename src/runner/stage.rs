//! The stages of one run, and what both have in common: claiming a key, keeping a failure.

use std::any::Any;

use crate::content::Key;
use crate::data::Dataset;
use crate::device::gpu::GpuError;
use crate::executor::{Executor, ExecutorError};
use crate::experiment::evaluation_names;
use crate::experiment::run::Run;
use crate::record::{Failure, FailureKind, Stage};
use crate::results::{self, State};
use crate::runner::evaluation::Evaluator;
use crate::runner::provenance::Begun;
use crate::runner::{Event, Outcome, Runner, RunnerError, records, training};
use crate::store::{Claim, Lookup};

/// A trained encoder, ready to be evaluated.
pub struct Encoder {
    pub executor: Box<dyn Executor>,
    /// Digest of its checkpoint.
    pub checkpoint: Key,
}

/// How far a stage got.
pub enum Step<T> {
    Done(T),
    Ended(Outcome),
}

/// Computes the stages of `run` that are missing. A failed evaluation does not stop the others.
pub fn compute(
    runner: &Runner,
    run: &Run,
    dataset: &Dataset,
    tell: &mut dyn FnMut(&Event),
) -> Result<Outcome, RunnerError> {
    let encoder = match training::trained(runner, run, dataset, tell)? {
        Step::Done(encoder) => encoder,
        Step::Ended(outcome) => return Ok(outcome),
    };
    let checkpoint = encoder.checkpoint;
    let mut evaluator = Evaluator::new(runner, run, dataset, encoder);
    let (names, keys) = (evaluation_names(&run.evaluate), run.keys());
    let mut failed = None;
    for ((evaluation, name), key) in run.evaluate.iter().zip(&names).zip(keys.evaluations) {
        let known = results::evaluation(runner.store, key, Some(checkpoint))?;
        if runner.is_settled(&known) {
            failed = failed.or(runner.repeats(&known).cloned());
            continue;
        }
        tell(&Event::EvaluationStarted { name });
        match evaluator.evaluate(evaluation, key, tell)? {
            Outcome::EvaluationFailed(failure) => failed = failed.or(Some(failure)),
            Outcome::Cached | Outcome::Computed => {}
            ended @ (Outcome::Taken(_) | Outcome::Interrupted | Outcome::TrainingFailed(_)) => return Ok(ended),
        }
    }
    Ok(failed.map_or(Outcome::Computed, Outcome::EvaluationFailed))
}

/// What a claim came to.
pub enum Claimed {
    Mine(Claim),
    Taken(String),
    /// There is a record: another process published it since the last look, or it is one this program cannot use.
    Published,
}

pub fn claimed(runner: &Runner, key: &Key, tell: &mut dyn FnMut(&Event)) -> Result<Claimed, RunnerError> {
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
pub fn retire_unusable<T>(
    runner: &Runner,
    key: &Key,
    state: State<T>,
    tell: &mut dyn FnMut(&Event),
) -> Result<(), RunnerError> {
    let reason = match state {
        State::Hit(_) => return Ok(()),
        State::Miss { reason } => reason.unwrap_or_else(|| "the record went away".to_owned()),
        State::Failed(..) => "the record cannot be used, and the last attempt failed".to_owned(),
    };
    tell(&Event::Note(&format!("computes again: {reason}")));
    Ok(runner.store.retire(key)?)
}

/// Keeps a failure where the next sweep sees it. One that repeats itself leaves nothing to go on from.
pub fn fail(runner: &Runner, claim: Claim, preimage: &str, failure: &Failure, begun: Begun) -> Result<(), RunnerError> {
    if failure.kind.is_deterministic() {
        claim.drop_progress()?;
    }
    let body = records::body(runner, *claim.key(), Stage::Failure(failure.clone()), begun);
    Ok(claim.fail(&body, preimage)?)
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
    Failure { kind, message: error.to_string(), step: None }
}

pub fn panic_failure(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let message = text.unwrap_or_else(|| "a panic without words".to_owned());
    Failure { kind: FailureKind::Panic, message, step: None }
}
