//! Schedules runs: for each, key → lookup → reuse or compute → commit, one at a time, kept after every stage.

mod evaluation;
pub mod provenance;
mod records;
mod reporter;
mod stage;
mod training;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::content::Key;
use crate::data::{self, DataError, Dataset};
use crate::device::Pool;
use crate::device::gpu::Properties;
use crate::experiment::Experiment;
use crate::experiment::run::Run;
use crate::record::Failure;
use crate::results::{self, State};
use crate::runner::provenance::Origin;
use crate::store::{Store, StoreError};
use crate::train::Progress;

/// How a sweep is carried out; nothing here can change a result.
pub struct Runner<'a> {
    pub store: &'a Store,
    pub pool: &'a Pool,
    pub origin: Origin,
    pub policy: Policy,
    /// Set from outside to leave at the next step.
    pub interrupt: &'a AtomicBool,
    /// The GPU in use, once there is one.
    gpu: OnceCell<Properties>,
    /// The data set in memory, kept while the next run asks for the same.
    loaded: Option<(String, Rc<Dataset>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Compute again what failed in a way that repeats itself.
    pub retry_failed: bool,
    /// Leave at the first failure.
    pub fail_fast: bool,
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

impl Summary {
    fn add(&mut self, place: Place, outcome: Outcome, audience: &mut dyn Audience) {
        match outcome {
            Outcome::Cached => self.cached += 1,
            Outcome::Computed => self.computed += 1,
            Outcome::Taken(owner) => {
                audience.tell(place, &Event::Taken { owner: &owner });
                self.taken += 1;
            }
            Outcome::TrainingFailed(failure) | Outcome::EvaluationFailed(failure) => {
                audience.tell(place, &Event::Failed(&failure));
                self.failed.push((place, failure));
            }
            Outcome::Interrupted => self.interrupted = true,
        }
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
    #[error("failed to write down a result: {0}")]
    Artefact(String),
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

impl<'a> Runner<'a> {
    pub fn new(
        store: &'a Store,
        pool: &'a Pool,
        origin: Origin,
        policy: Policy,
        interrupt: &'a AtomicBool,
    ) -> Runner<'a> {
        Runner { store, pool, origin, policy, interrupt, gpu: OnceCell::new(), loaded: None }
    }

    /// Every run of the experiment that the store does not hold.
    pub fn sweep(&mut self, experiment: &Experiment, audience: &mut dyn Audience) -> Result<Summary, RunnerError> {
        let mut summary = Summary::default();
        // Cells that share a training share its failure too.
        let mut failed_before: BTreeMap<Key, Failure> = BTreeMap::new();
        let mut elsewhere = Vec::new();
        for (index, cell) in experiment.cells.iter().enumerate() {
            for run in &cell.runs {
                let (place, key) = (Place { cell: index, seed: run.seed }, run.pretrain_key());
                let outcome = match failed_before.get(&key) {
                    Some(failure) => Outcome::TrainingFailed(failure.clone()),
                    None => self.run(run, &mut |event| audience.tell(place, event))?,
                };
                match &outcome {
                    Outcome::TrainingFailed(failure) => drop(failed_before.insert(key, failure.clone())),
                    Outcome::Taken(_) => {
                        elsewhere.push((place, run));
                        continue;
                    }
                    Outcome::Cached | Outcome::Computed | Outcome::EvaluationFailed(_) | Outcome::Interrupted => {}
                }
                summary.add(place, outcome, audience);
                if summary.interrupted || (self.policy.fail_fast && !summary.failed.is_empty()) {
                    return Ok(summary);
                }
            }
        }
        // What others had in work when it was this sweep's turn may be there by now.
        for (place, run) in elsewhere {
            let outcome = self.run(run, &mut |event| audience.tell(place, event))?;
            summary.add(place, outcome, audience);
            if summary.interrupted {
                break;
            }
        }
        Ok(summary)
    }

    /// One run: reused, computed where stages are missing, or failed.
    pub fn run(&mut self, run: &Run, tell: &mut dyn FnMut(&Event)) -> Result<Outcome, RunnerError> {
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
        if self.interrupt.load(Ordering::Relaxed) {
            return Ok(Outcome::Interrupted);
        }
        let dataset = self.dataset(run)?;
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

    /// The run's data set, loaded at most once in a row; what is loaded must be what was keyed.
    fn dataset(&mut self, run: &Run) -> Result<Rc<Dataset>, RunnerError> {
        let name = format!("{:?} {:?}", run.dataset, run.split);
        if let Some((loaded, dataset)) = &self.loaded
            && *loaded == name
        {
            return Ok(Rc::clone(dataset));
        }
        self.loaded = None;
        let dataset = Rc::new(data::load(&run.dataset, run.split)?);
        if dataset.digest != run.facts.digest {
            return Err(RunnerError::DataChanged { expected: run.facts.digest, found: dataset.digest });
        }
        self.loaded = Some((name, Rc::clone(&dataset)));
        Ok(dataset)
    }
}
