//! The evaluation stage: features once for all of a run, then each protocol, then its record.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::content::Key;
use crate::data::Dataset;
use crate::evaluate::features::{extract, to_safetensors};
use crate::evaluate::{self, EvaluateError, Features, Outcome as Evaluated};
use crate::experiment::recipe::Evaluation;
use crate::experiment::run::Run;
use crate::record::{Failure, FailureKind, Stage, blob};
use crate::results;
use crate::runner::provenance::Begun;
use crate::runner::reporter::Pulse;
use crate::runner::stage::{Claimed, Encoder, claimed, executor_failure, fail, panic_failure, retire_unusable};
use crate::runner::{Event, Outcome, Runner, RunnerError, records};
use crate::store::Claim;

/// Test features kept with an evaluation, for maps drawn from the store alone.
const KEPT_FEATURES: usize = 2_000;

/// Evaluates the encoder of one run.
pub struct Evaluator<'a> {
    runner: &'a Runner<'a>,
    run: &'a Run,
    dataset: &'a Dataset,
    encoder: Encoder,
    /// Of the bank and the queries, once an evaluation asked for them.
    features: Option<[Features; 2]>,
}

impl<'a> Evaluator<'a> {
    pub fn new(runner: &'a Runner<'a>, run: &'a Run, dataset: &'a Dataset, encoder: Encoder) -> Evaluator<'a> {
        Evaluator { runner, run, dataset, encoder, features: None }
    }

    pub fn evaluate(
        &mut self,
        evaluation: &Evaluation,
        key: Key,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<Outcome, RunnerError> {
        let (runner, begun) = (self.runner, Begun::now());
        let claim = loop {
            match claimed(runner, &key, tell)? {
                Claimed::Mine(claim) => break claim,
                Claimed::Taken(owner) => return Ok(Outcome::Taken(owner)),
                Claimed::Published => match results::evaluation(runner.store, key, Some(self.encoder.checkpoint))? {
                    results::State::Hit(_) => return Ok(Outcome::Cached),
                    unusable => retire_unusable(runner, &key, unusable, tell)?,
                },
            }
        };
        let failure = match catch_unwind(AssertUnwindSafe(|| self.outcome(evaluation, &claim))) {
            Ok(Ok(Some(outcome))) => {
                self.commit(evaluation, &outcome, claim, begun, tell)?;
                return Ok(Outcome::Computed);
            }
            Ok(Ok(None)) => return Ok(Outcome::Interrupted),
            Ok(Err(failure)) => failure,
            Err(panic) => panic_failure(panic.as_ref()),
        };
        fail(runner, claim, &self.run.evaluation_preimage(evaluation), &failure, begun)?;
        Ok(Outcome::EvaluationFailed(failure))
    }

    /// The protocol's answer; none when interrupted before there was one.
    fn outcome(&mut self, evaluation: &Evaluation, claim: &Claim) -> Result<Option<Evaluated>, Failure> {
        let runner = self.runner;
        let interrupted = || runner.should_stop();
        if self.features.is_none() && !interrupted() {
            let mut pulse = Pulse::new(claim);
            let go_on = &mut || {
                // A lost claim costs duplicate work, never a result.
                let _ = pulse.beat();
                !interrupted()
            };
            let executor = self.encoder.executor.as_mut();
            let extracted = extract(self.run, self.dataset, executor, &runner.pool, go_on);
            self.features = extracted.map_err(|error| executor_failure(&error))?;
        }
        let Some([bank, queries]) = self.features.as_ref().filter(|_| !interrupted()) else {
            return Ok(None);
        };
        let outcome = evaluate::evaluate(evaluation, bank, queries, self.run.facts.n_classes, &runner.pool);
        outcome.map(Some).map_err(|error| evaluation_failure(&error))
    }

    fn commit(
        &self,
        evaluation: &Evaluation,
        outcome: &Evaluated,
        mut claim: Claim,
        begun: Begun,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<(), RunnerError> {
        let predictions: Vec<u8> = outcome.predictions.iter().flat_map(|class| class.to_le_bytes()).collect();
        claim.put_blob(blob::PREDICTIONS, &predictions)?;
        if let Some([_, queries]) = &self.features {
            let kept = to_safetensors(queries, KEPT_FEATURES).map_err(RunnerError::artefact)?;
            claim.put_blob(blob::FEATURES, &kept)?;
        }
        let record = records::evaluation(self.run, self.dataset, evaluation, outcome, self.encoder.checkpoint, begun);
        let body = records::body(self.runner, *claim.key(), Stage::Evaluation(record), begun);
        let committed = claim.commit(&body, &self.run.evaluation_preimage(evaluation))?;
        if committed.divergence.is_some_and(|divergence| !divergence.blobs_agree) {
            tell(&Event::Note("another process evaluated this too, with other results; the first ones stay"));
        }
        Ok(())
    }
}

fn evaluation_failure(error: &EvaluateError) -> Failure {
    let kind = match error {
        EvaluateError::NotFinite { .. } | EvaluateError::Diverged { .. } => FailureKind::NotFinite,
        EvaluateError::Empty { .. }
        | EvaluateError::Length { .. }
        | EvaluateError::Width { .. }
        | EvaluateError::Label { .. }
        | EvaluateError::Classes { .. } => FailureKind::Other,
    };
    Failure { kind, message: error.to_string(), step: None }
}
