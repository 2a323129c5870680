//! Carries out a sweep: for each run, key → lookup → reuse or compute → commit, kept after every stage.

mod evaluation;
mod members;
pub mod provenance;
mod records;
mod reporter;
mod shelf;
mod stage;
#[cfg(test)]
mod tests;
mod training;
pub mod tuning;

use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::content::Key;
use crate::data::DataError;
use crate::device::Pool;
use crate::device::cuda::plan_lock::PlanLock;
use crate::device::gpu::Properties;
use crate::executor::ExecutorError;
use crate::experiment::run::Run;
use crate::record::Failure;
use crate::results::{self, State};
use crate::runner::provenance::Origin;
use crate::runner::shelf::Shelf;
use crate::store::{Store, StoreError};
use crate::train::Progress;

pub use crate::runner::members::Sweep;

/// What computes runs, one at a time: a member of a sweep.
pub struct Runner<'a> {
    store: &'a Store,
    pool: Pool,
    origin: Origin,
    policy: Policy,
    interrupt: &'a AtomicBool,
    /// Set by another member: leave at the next step.
    leaving: &'a AtomicBool,
    shelf: &'a Shelf,
    /// How a GPU's convolutions are computed; its digest is in the keys of the runs.
    plans: Option<&'a PlanLock>,
    /// The GPU in use, once there is one.
    gpu: OnceCell<Properties>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Compute again what failed in a way that repeats itself.
    pub retry_failed: bool,
    /// Leave at the first failure.
    pub fail_fast: bool,
    /// Runs computed at the same time, at most.
    pub jobs: usize,
}

/// What happens, as it happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    Cached,
    TrainingStarted {
        resumed: bool,
    },
    Training(Progress),
    EvaluationStarted {
        name: &'a str,
    },
    Finished,
    Failed(&'a Failure),
    /// Another process computes it.
    Taken {
        owner: &'a str,
    },
    /// Something worth a line that stops nothing.
    Note(&'a str),
}

/// Where in the grid an event happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub cell: usize,
    pub seed: u64,
}

/// Who is told.
pub trait Audience {
    fn tell(&mut self, place: Place, event: &Event);
}

/// How a sweep ended. Counts are of runs: a cell has one a seed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    pub computed: usize,
    pub cached: usize,
    pub failed: Vec<(Place, Failure)>,
    pub taken: usize,
    pub interrupted: bool,
}

/// What stops a whole sweep.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("the data set changed while it was in use: its digest was {expected}, now it is {found}; run again")]
    DataChanged { expected: Key, found: Key },
    #[error("failed to write down a result: {0}")]
    Artefact(String),
    #[error("the convolutions could not be timed: {0}")]
    Tuning(#[from] ExecutorError),
}

impl RunnerError {
    /// A picture, table or tensor file that could not be made.
    fn artefact(error: impl std::fmt::Display) -> RunnerError {
        RunnerError::Artefact(error.to_string())
    }
}

/// How one run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Cached,
    Computed,
    /// There is no encoder, so nothing else of the run was tried.
    TrainingFailed(Failure),
    /// The encoder is there; the first of the evaluations that failed.
    EvaluationFailed(Failure),
    Taken(String),
    Interrupted,
}

impl Runner<'_> {
    /// One run: reused, computed where stages are missing, or failed.
    ///
    /// # Panics
    /// When the run's key was made of another lock than the one in use: its result would lie under a wrong key.
    fn run(&self, run: &Run, tell: &mut dyn FnMut(&Event)) -> Result<Outcome, RunnerError> {
        assert_eq!(run.plans, self.plans.map(tuning::digest), "the lock in the run's key and the one in use");
        let known = results::inspect(self.store, run)?;
        if known.is_complete() {
            tell(&Event::Cached);
            return Ok(Outcome::Cached);
        }
        if let Some(failure) = self.repeats(&known.pretrain) {
            return Ok(Outcome::TrainingFailed(failure.clone()));
        }
        if matches!(known.pretrain, State::Hit(_)) && known.evaluations.iter().all(|state| self.is_settled(state)) {
            let failure = known.evaluations.iter().find_map(|state| self.repeats(state));
            return Ok(failure.map_or(Outcome::Cached, |failure| Outcome::EvaluationFailed(failure.clone())));
        }
        if self.should_stop() {
            return Ok(Outcome::Interrupted);
        }
        let dataset = self.shelf.dataset(run)?;
        let outcome = stage::compute(self, run, &dataset, tell)?;
        if outcome == Outcome::Computed {
            tell(&Event::Finished);
        }
        Ok(outcome)
    }

    /// A failure on record that would only repeat itself, where that is not asked for.
    fn repeats<'b, T>(&self, state: &'b State<T>) -> Option<&'b Failure> {
        state.failure().filter(|failure| failure.kind.is_deterministic() && !self.policy.retry_failed)
    }

    /// Nothing to compute: a result, or a failure that would repeat itself.
    fn is_settled<T>(&self, state: &State<T>) -> bool {
        matches!(state, State::Hit(_)) || self.repeats(state).is_some()
    }

    /// Whether to leave at the next step.
    fn should_stop(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed) || self.leaving.load(Ordering::Relaxed)
    }
}
