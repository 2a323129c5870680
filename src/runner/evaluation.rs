//! The evaluation stage: features once for all of an encoder, then each protocol, then its record.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::content::Key;
use crate::data::Dataset;
use crate::device::gpu::GpuError;
use crate::evaluate::EvaluateError;
use crate::evaluate::answer::{Answer, AnswerError, Subject};
use crate::evaluate::features::to_safetensors;
use crate::experiment::recipe::{Evaluation, Transfer};
use crate::experiment::run::{Asked, Run};
use crate::record::{Failure, FailureKind, Stage, blob};
use crate::results;
use crate::runner::journal::Journal;
use crate::runner::provenance::Begun;
use crate::runner::reporter::Pulse;
use crate::runner::stage::{
    Claimed, Encoder, Source, claimed, commit_failure, executor_failure, fail, retire_unusable, storage_failure,
};
use crate::runner::training::loaded;
use crate::runner::{Event, KEPT_FEATURES, Runner, RunnerError, panics, records};
use crate::store::{BlobRef, Claim};
use crate::train::Request;

/// Evaluates the encoder of one run.
pub struct Evaluator<'a> {
    runner: &'a Runner<'a>,
    run: &'a Run,
    dataset: &'a Dataset,
    /// The final encoder, until snapshots take its place in the executor: they come after everything asked of it.
    source: Source,
    /// Digest of the final encoder's checkpoint.
    last: Key,
    /// By the steps behind them.
    snapshots: BTreeMap<u64, BlobRef>,
    subject: Subject<'a>,
}

/// How one evaluation ended.
pub enum Ended {
    Computed,
    Cached,
    Taken(String),
    Failed(Failure),
    Interrupted,
    /// The checkpoint on record is bad.
    Unreadable {
        checkpoint: BlobRef,
        problem: String,
    },
}

/// What keeps an evaluation from its answer.
enum Obstacle {
    Failure(Failure),
    Unreadable { checkpoint: BlobRef, problem: String },
    Interrupted,
}

impl From<Failure> for Obstacle {
    fn from(failure: Failure) -> Obstacle {
        Obstacle::Failure(failure)
    }
}

impl<'a> Evaluator<'a> {
    /// Of the final encoder and the snapshots of one run.
    pub fn new(
        runner: &'a Runner<'a>,
        run: &'a Run,
        dataset: &'a Dataset,
        source: Source,
        snapshots: BTreeMap<u64, BlobRef>,
    ) -> Evaluator<'a> {
        let (last, subject) = (source.checkpoint(), subject(runner, run, dataset));
        Evaluator { runner, run, dataset, source, last, snapshots, subject }
    }

    /// Digest of the checkpoint, or of the snapshot after so many steps; none where the record does not name it.
    pub fn checkpoint(&self, snapshot: Option<u64>) -> Option<Key> {
        match snapshot {
            None => Some(self.last),
            Some(steps) => self.snapshots.get(&steps).map(|blob| blob.digest),
        }
    }

    /// Whether the encoder was trained by this run, just now.
    pub fn is_trained_here(&self) -> bool {
        matches!(self.source, Source::Ready(_))
    }

    pub fn evaluate(
        &mut self,
        (asked, name): (Asked, &str),
        key: Key,
        journal: &mut Journal,
    ) -> Result<Ended, RunnerError> {
        let runner = self.runner;
        let mut claim = loop {
            match claimed(runner.store.lookup(&key)?, journal) {
                Claimed::Mine(claim) => break claim,
                Claimed::Taken(owner) => return Ok(Ended::Taken(owner)),
                Claimed::Published => match results::evaluation(runner.store, key, self.checkpoint(asked.snapshot))? {
                    results::State::Hit(_) => return Ok(Ended::Cached),
                    unusable => retire_unusable(runner, &key, unusable, journal)?,
                },
            }
        };
        journal.tell(&Event::EvaluationStarted { name });
        let begun = Begun::now();
        let body = match panics::caught(|| self.body(asked, &mut claim, begun)) {
            Ok(body) => body,
            Err(panic) => Err(Obstacle::Failure(journal.panicked(panic))),
        };
        let preimage = self.run.asked_preimage(asked);
        Ok(match body {
            Ok(body) => match claim.commit(&body, &preimage) {
                Ok(committed) => {
                    if committed.divergence.is_some_and(|divergence| !divergence.blobs_agree) {
                        let text = "another process evaluated this too, with other results; the first ones stay";
                        journal.tell(&Event::Note(text));
                    }
                    journal.note(&format!("{name} took {:.1} s", begun.seconds()));
                    Ended::Computed
                }
                // The claim went with the commit; what failed is told, and tried again by the next sweep.
                Err(error) => Ended::Failed(journal.failed(storage_failure(&error))),
            },
            Err(Obstacle::Interrupted) => Ended::Interrupted,
            Err(Obstacle::Unreadable { checkpoint, problem }) => Ended::Unreadable { checkpoint, problem },
            Err(Obstacle::Failure(failure)) => Ended::Failed(fail(runner, claim, &preimage, failure, begun, journal)),
        })
    }

    /// The record's text, its blobs kept.
    fn body(&mut self, asked: Asked, claim: &mut Claim, begun: Begun) -> Result<String, Obstacle> {
        let answer = self.outcome(asked, claim)?;
        let prepared = self.prepare(asked, &answer, claim, begun);
        prepared.map_err(|error| Obstacle::Failure(commit_failure(&error)))
    }

    /// Brings the final encoder, or the snapshot after so many steps, into an executor.
    fn load(&mut self, snapshot: Option<u64>) -> Result<(), Obstacle> {
        let mut spare = None;
        if let Some(steps) = snapshot {
            let Some(blob) = self.snapshots.get(&steps) else {
                let message = format!("the training's record does not name a snapshot after {steps} steps");
                return Err(Obstacle::Failure(Failure::new(FailureKind::Other, message)));
            };
            if self.source.checkpoint() != blob.digest {
                self.subject = subject(self.runner, self.run, self.dataset);
                if let Source::Ready(encoder) = std::mem::replace(&mut self.source, Source::Stored(*blob)) {
                    spare = Some(encoder.executor);
                }
            }
        }
        if let Source::Stored(checkpoint) = self.source {
            match loaded(self.runner, self.run, &checkpoint, spare)? {
                Ok(encoder) => self.source = Source::Ready(encoder),
                Err(problem) => return Err(Obstacle::Unreadable { checkpoint, problem }),
            }
        }
        Ok(())
    }

    /// The evaluation's answer.
    fn outcome(&mut self, asked: Asked, claim: &Claim) -> Result<Answer, Obstacle> {
        self.load(asked.snapshot)?;
        let runner = self.runner;
        let Source::Ready(Encoder { executor, .. }) = &mut self.source else { unreachable!("it was loaded above") };
        let mut pulse = Pulse::new();
        let go_on = &mut || {
            // A lost claim costs duplicate work, never a result.
            let _ = pulse.beat(claim);
            runner.request() == Request::Go
        };
        let answer = self.subject.answer(asked.evaluation, executor.as_mut(), go_on);
        answer.map_err(|error| answer_failure(&error))?.ok_or(Obstacle::Interrupted)
    }

    /// Keeps an answer's blobs and writes the record that names them.
    fn prepare(&self, asked: Asked, answer: &Answer, claim: &mut Claim, begun: Begun) -> Result<String, RunnerError> {
        if let Some(told) = &answer.told_apart {
            for (name, classes) in [(blob::PREDICTIONS, &told.predictions), (blob::LABELS, &told.labels)] {
                let bytes: Vec<u8> = classes.iter().flat_map(|class| class.to_le_bytes()).collect();
                claim.put_blob(name, &bytes)?;
            }
        }
        // Of the run's own images, whatever was evaluated before.
        let is_of_run = !matches!(asked.evaluation, Evaluation::Transfer(_));
        if let Some(queries) = self.subject.queries().filter(|_| is_of_run) {
            let kept = to_safetensors(queries, KEPT_FEATURES).map_err(RunnerError::artefact)?;
            claim.put_blob(blob::FEATURES, &kept)?;
        }
        let record = records::evaluation(self.run, asked, answer, self.source.checkpoint(), begun);
        Ok(records::body(self.runner, *claim.key(), Stage::Evaluation(record), begun))
    }
}

fn subject<'a>(runner: &'a Runner<'a>, run: &'a Run, dataset: &'a Dataset) -> Subject<'a> {
    let others = |transfer: &Transfer| runner.shelf.other(transfer).map_err(|error| error.to_string());
    Subject::new(run, dataset, &runner.pool, Box::new(others))
}

fn answer_failure(error: &AnswerError) -> Failure {
    match error {
        AnswerError::Executor(error) => executor_failure(error),
        AnswerError::Evaluate(error) => evaluation_failure(error),
        AnswerError::Data(_) | AnswerError::Layer(_) => Failure::new(FailureKind::Other, error.to_string()),
    }
}

fn evaluation_failure(error: &EvaluateError) -> Failure {
    let kind = match error {
        EvaluateError::NotFinite { .. } | EvaluateError::Diverged { .. } | EvaluateError::TuningDiverged { .. } => {
            FailureKind::NotFinite
        }
        EvaluateError::Gpu(GpuError::OutOfMemory { .. }) => FailureKind::OutOfMemory,
        EvaluateError::Empty { .. }
        | EvaluateError::Length { .. }
        | EvaluateError::Width { .. }
        | EvaluateError::Label { .. }
        | EvaluateError::Classes { .. }
        | EvaluateError::Gpu(_) => FailureKind::Other,
    };
    Failure::new(kind, error.to_string())
}
