//! The evaluation stage: features once for all of a run, then each protocol, then its record.

#[cfg(test)]
mod tests;

use crate::content::Key;
use crate::data::Dataset;
use crate::device::gpu::GpuError;
use crate::evaluate::EvaluateError;
use crate::evaluate::answer::{Answer, AnswerError, Subject};
use crate::evaluate::features::to_safetensors;
use crate::experiment::recipe::{Evaluation, Transfer};
use crate::experiment::run::Run;
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
    source: Source,
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
    pub fn new(runner: &'a Runner<'a>, run: &'a Run, dataset: &'a Dataset, source: Source) -> Evaluator<'a> {
        let others = |transfer: &Transfer| runner.shelf.other(transfer).map_err(|error| error.to_string());
        Evaluator { runner, run, source, subject: Subject::new(run, dataset, &runner.pool, Box::new(others)) }
    }

    /// Digest of the checkpoint it evaluates.
    pub fn checkpoint(&self) -> Key {
        self.source.checkpoint()
    }

    /// Whether the encoder was trained by this run, just now.
    pub fn is_trained_here(&self) -> bool {
        matches!(self.source, Source::Ready(_))
    }

    pub fn evaluate(
        &mut self,
        (evaluation, name): (&Evaluation, &str),
        key: Key,
        journal: &mut Journal,
    ) -> Result<Ended, RunnerError> {
        let runner = self.runner;
        let mut claim = loop {
            match claimed(runner.store.lookup(&key)?, journal) {
                Claimed::Mine(claim) => break claim,
                Claimed::Taken(owner) => return Ok(Ended::Taken(owner)),
                Claimed::Published => match results::evaluation(runner.store, key, Some(self.checkpoint()))? {
                    results::State::Hit(_) => return Ok(Ended::Cached),
                    unusable => retire_unusable(runner, &key, unusable, journal)?,
                },
            }
        };
        journal.tell(&Event::EvaluationStarted { name });
        let begun = Begun::now();
        let body = match panics::caught(|| self.body(evaluation, &mut claim, begun)) {
            Ok(body) => body,
            Err(panic) => Err(Obstacle::Failure(journal.panicked(panic))),
        };
        let preimage = self.run.evaluation_preimage(evaluation);
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
    fn body(&mut self, evaluation: &Evaluation, claim: &mut Claim, begun: Begun) -> Result<String, Obstacle> {
        let answer = self.outcome(evaluation, claim)?;
        let prepared = self.prepare(evaluation, &answer, claim, begun);
        prepared.map_err(|error| Obstacle::Failure(commit_failure(&error)))
    }

    /// Brings the run's encoder into an executor.
    fn load(&mut self) -> Result<(), Obstacle> {
        if let Source::Stored(checkpoint) = self.source {
            match loaded(self.runner, self.run, &checkpoint)? {
                Ok(encoder) => self.source = Source::Ready(encoder),
                Err(problem) => return Err(Obstacle::Unreadable { checkpoint, problem }),
            }
        }
        Ok(())
    }

    /// The evaluation's answer.
    fn outcome(&mut self, evaluation: &Evaluation, claim: &Claim) -> Result<Answer, Obstacle> {
        self.load()?;
        let runner = self.runner;
        let Source::Ready(Encoder { executor, .. }) = &mut self.source else { unreachable!("it was loaded above") };
        let mut pulse = Pulse::new(claim);
        let go_on = &mut || {
            // A lost claim costs duplicate work, never a result.
            let _ = pulse.beat();
            runner.request() == Request::Go
        };
        let answer = self.subject.answer(evaluation, executor.as_mut(), go_on);
        answer.map_err(|error| answer_failure(&error))?.ok_or(Obstacle::Interrupted)
    }

    /// Keeps an answer's blobs and writes the record that names them.
    fn prepare(
        &self,
        evaluation: &Evaluation,
        answer: &Answer,
        claim: &mut Claim,
        begun: Begun,
    ) -> Result<String, RunnerError> {
        if let Some(told) = &answer.told_apart {
            let predictions: Vec<u8> = told.predictions.iter().flat_map(|class| class.to_le_bytes()).collect();
            claim.put_blob(blob::PREDICTIONS, &predictions)?;
        }
        // Of the run's own images, whatever was evaluated before.
        let is_of_run = !matches!(evaluation, Evaluation::Transfer(_));
        if let Some(queries) = self.subject.queries().filter(|_| is_of_run) {
            let kept = to_safetensors(queries, KEPT_FEATURES).map_err(RunnerError::artefact)?;
            claim.put_blob(blob::FEATURES, &kept)?;
        }
        let record = records::evaluation(self.run, evaluation, answer, self.checkpoint(), begun);
        Ok(records::body(self.runner, *claim.key(), Stage::Evaluation(record), begun))
    }
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
