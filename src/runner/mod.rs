//! Carries out a sweep: for each run, key → lookup → reuse or compute → commit, kept after every stage.

mod board;
mod evaluation;
mod interrupt;
mod journal;
mod members;
pub mod memory;
pub mod panics;
pub mod provenance;
mod records;
mod reporter;
mod room;
mod shelf;
#[cfg(test)]
mod snapshot_tests;
mod stage;
#[cfg(test)]
mod storage_tests;
#[cfg(test)]
mod tests;
mod training;
pub mod tuning;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::content::Key;
use crate::data::DataError;
use crate::device::Pool;
use crate::device::cuda::plan_lock::PlanLock;
use crate::device::gpu::Properties;
use crate::executor::ExecutorError;
use crate::experiment::run::Run;
use crate::record::{Failure, FailureKind};
use crate::results::{self, State};
use crate::runner::journal::Journal;
use crate::runner::provenance::Origin;
use crate::runner::room::Needed;
use crate::runner::shelf::Shelf;
use crate::store::{Store, StoreError};
use crate::train::{Progress, Request};

pub use crate::runner::interrupt::{Departure, Interrupt};
pub use crate::runner::members::Sweep;
pub use crate::runner::room::{Room, Shortage, bytes_needed};

/// Test features kept with an evaluation, for maps drawn from the store alone.
const KEPT_FEATURES: usize = 2_000;

/// What computes runs, one at a time: a member of a sweep.
pub struct Runner<'a> {
    store: &'a Store,
    pool: Pool,
    origin: Origin,
    policy: Policy,
    interrupt: &'a Interrupt,
    /// Set by another member: leave at the next step.
    leaving: &'a AtomicBool,
    shelf: &'a Shelf,
    room: &'a Room,
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
    /// Wait for the runs that other processes have in work, and take over those that die.
    pub wait: bool,
    /// Bytes that stay free where the store is: no run begins that would go below.
    pub disk_floor_bytes: u64,
}

/// What happens, as it happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// With so many steps done before.
    TrainingStarted {
        done: u64,
    },
    Training(Progress),
    /// Left before its end; the next sweep goes on from step `kept`, 0 for from the start.
    TrainingStopped {
        done: u64,
        kept: u64,
    },
    EvaluationStarted {
        name: &'a str,
    },
    /// A stage gave no result, now or at an earlier time that would repeat itself.
    Failed(&'a StageFailure),
    /// There is nothing left to do but to wait for what another process computes.
    Waits {
        owner: &'a str,
    },
    /// Something worth a line that stops nothing.
    Note(&'a str),
    /// Told last, once a run.
    Ended(&'a Outcome),
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

/// A stage that gave no result.
#[derive(Debug, Clone, PartialEq)]
pub struct StageFailure {
    pub key: Key,
    pub failure: Failure,
}

/// How a sweep ended. Counts are of runs: a cell has one a seed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    pub computed: usize,
    pub cached: usize,
    /// A line a stage, in the file's order.
    pub failed: Vec<(Place, StageFailure)>,
    pub taken: usize,
    /// Runs that were not begun for want of space.
    pub without_room: usize,
    pub shortage: Option<Shortage>,
    /// Why it left before everything was done.
    pub departure: Option<Departure>,
}

impl Summary {
    /// Runs of which a stage failed.
    pub fn n_failed(&self) -> usize {
        self.failed.iter().map(|(place, _)| place).collect::<BTreeSet<_>>().len()
    }
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
    #[error("{0}")]
    NoRoom(Shortage),
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
    TrainingFailed(StageFailure),
    /// The encoder is there; the evaluations that failed.
    EvaluationsFailed(Vec<StageFailure>),
    /// By whom.
    Taken(String),
    /// Not begun.
    NoRoom(Shortage),
    Interrupted,
}

impl Runner<'_> {
    /// One run: reused, computed where stages are missing, or failed.
    ///
    /// # Panics
    /// When the run's key was made of another lock than the one in use: its result would lie under a wrong key.
    fn run(&self, run: &Run, journal: &mut Journal) -> Result<Outcome, RunnerError> {
        assert_eq!(run.plans, self.plans.map(tuning::digest), "the lock in the run's key and the one in use");
        let known = results::inspect(self.store, run)?;
        if known.is_complete() {
            return Ok(Outcome::Cached);
        }
        let keys = run.keys();
        if let Some(failure) = self.repeats(&known.pretrain, keys.pretrain) {
            journal.tell(&Event::Failed(&failure));
            return Ok(Outcome::TrainingFailed(failure));
        }
        if matches!(known.pretrain, State::Hit(_)) && known.evaluations.iter().all(|state| self.is_settled(state)) {
            let states = known.evaluations.iter().zip(keys.evaluations);
            let failures: Vec<StageFailure> = states.filter_map(|(state, key)| self.repeats(state, key)).collect();
            failures.iter().for_each(|failure| journal.tell(&Event::Failed(failure)));
            return Ok(if failures.is_empty() { Outcome::Cached } else { Outcome::EvaluationsFailed(failures) });
        }
        if self.request() != Request::Go {
            return Ok(Outcome::Interrupted);
        }
        let Needed { training_bytes, evaluations_bytes, passing_bytes } = room::missing_bytes(run, &known);
        let needed_bytes = training_bytes + evaluations_bytes + passing_bytes;
        if let Some(shortage) = self.room.lacks(self.store, needed_bytes) {
            return Ok(Outcome::NoRoom(shortage));
        }
        let dataset = self.shelf.dataset(run)?;
        stage::compute(self, run, &dataset, journal)
    }

    /// A failure on record that would only repeat itself, where that is not asked for.
    fn repeats<T>(&self, state: &State<T>, key: Key) -> Option<StageFailure> {
        let failure = state.failure().filter(|failure| failure.kind.is_deterministic() && !self.policy.retry_failed)?;
        Some(StageFailure { key, failure: failure.clone() })
    }

    /// Nothing to compute: a result, or a failure that would repeat itself.
    fn is_settled<T>(&self, state: &State<T>) -> bool {
        let repeats = |failure: &Failure| failure.kind.is_deterministic() && !self.policy.retry_failed;
        matches!(state, State::Hit(_)) || state.failure().is_some_and(repeats)
    }

    /// After a write that found no space no run begins.
    fn note_full(&self, failure: &Failure) {
        if failure.kind == FailureKind::DiskFull {
            self.room.is_full();
        }
    }

    /// Whether to leave at the next step, and what to keep first.
    fn request(&self) -> Request {
        match self.interrupt.departure() {
            Some(Departure::Interrupted) => Request::Stop,
            Some(Departure::Preempted) => Request::StopAfterCheckpoint,
            None if self.leaving.load(Ordering::Relaxed) => Request::StopAfterCheckpoint,
            None => Request::Go,
        }
    }
}
