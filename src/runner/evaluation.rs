//! The evaluation stage: features once for all of a run, then each protocol, then its record.

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::content::Key;
use crate::data::Dataset;
use crate::device::Pool;
use crate::device::gpu::GpuError;
use crate::evaluate::cuda::{DeviceEvaluations, LoadedKernels};
use crate::evaluate::features::{extract, to_safetensors};
use crate::evaluate::{self, EvaluateError, Features, Outcome as Evaluated};
use crate::executor::Executor;
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
    /// On the executor's device, where it has one.
    kernels: LoadedKernels,
}

impl<'a> Evaluator<'a> {
    pub fn new(runner: &'a Runner<'a>, run: &'a Run, dataset: &'a Dataset, encoder: Encoder) -> Evaluator<'a> {
        Evaluator { runner, run, dataset, encoder, features: None, kernels: LoadedKernels::default() }
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
        let Some(features) = self.features.as_ref().filter(|_| !interrupted()) else {
            return Ok(None);
        };
        let (executor, n_classes) = (self.encoder.executor.as_mut(), self.run.facts.n_classes);
        let outcome = evaluated(evaluation, features, n_classes, &runner.pool, (executor, &mut self.kernels));
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

/// The protocol's answer about the features of the bank and the queries, from the executor's device where it has one.
fn evaluated(
    evaluation: &Evaluation,
    [bank, queries]: &[Features; 2],
    n_classes: u32,
    pool: &Pool,
    (executor, loaded): (&mut dyn Executor, &mut LoadedKernels),
) -> Result<Evaluated, EvaluateError> {
    let device = executor.resident().map(|resident| DeviceEvaluations { gpu: resident.gpu(), loaded });
    evaluate::evaluate(evaluation, bank, queries, n_classes, pool, device)
}

fn evaluation_failure(error: &EvaluateError) -> Failure {
    let kind = match error {
        EvaluateError::NotFinite { .. } | EvaluateError::Diverged { .. } => FailureKind::NotFinite,
        EvaluateError::Gpu(GpuError::OutOfMemory { .. }) => FailureKind::OutOfMemory,
        EvaluateError::Empty { .. }
        | EvaluateError::Length { .. }
        | EvaluateError::Width { .. }
        | EvaluateError::Label { .. }
        | EvaluateError::Classes { .. }
        | EvaluateError::Gpu(_) => FailureKind::Other,
    };
    Failure { kind, message: error.to_string(), step: None }
}
