//! The scheduling loop of a sweep: runs in the file's order, handed out to the members that compute them side by side.
//!
//! Members are threads of this process on one device. Each builds, uses and drops its executors on its own thread, with
//! its share of the worker threads; the store and the data sets in memory are common. Runs of one training are never
//! under way at once: the second finds what became of the first.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::content::Key;
use crate::device::Pool;
use crate::device::cuda::plan_lock::PlanLock;
use crate::experiment::Experiment;
use crate::experiment::run::Run;
use crate::record::Failure;
use crate::runner::provenance::Origin;
use crate::runner::shelf::Shelf;
use crate::runner::stage::panic_failure;
use crate::runner::{Audience, Event, Outcome, Place, Policy, Runner, RunnerError, Summary};
use crate::store::Store;

/// A sweep to carry out; nothing here can change a result.
pub struct Sweep<'a> {
    pub store: &'a Store,
    /// Its `threads` are those of all members together.
    pub origin: Origin,
    pub policy: Policy,
    /// Set from outside to leave at the next step.
    pub interrupt: &'a AtomicBool,
    /// How a GPU's convolutions are computed; its digest is in the keys of the runs.
    pub plans: Option<&'a PlanLock>,
}

impl Sweep<'_> {
    /// Every run of the experiment that the store does not hold. The summary is in the file's order, whoever was first.
    ///
    /// # Errors
    /// What stops a whole sweep: the store's, or a data set that cannot be read. Runs under way stop with a checkpoint.
    pub fn compute(
        &self,
        experiment: &Experiment,
        audience: &mut (dyn Audience + Send),
    ) -> Result<Summary, RunnerError> {
        let cells = experiment.cells.iter().enumerate();
        let runs: Vec<(Place, &Run)> =
            cells.flat_map(|(cell, of)| of.runs.iter().map(move |run| (Place { cell, seed: run.seed }, run))).collect();
        let board = Board::new(runs.iter().map(|(_, run)| run.pretrain_key()).collect(), self.policy.fail_fast);
        let (shelf, audience) = (Shelf::default(), Mutex::new(audience));
        let n_members = self.policy.jobs.min(board.n_trainings()).max(1);
        let work = |member: usize| {
            let runner = self.member(member, n_members, &board.leaving, &shelf);
            while let Some(turn) = board.take() {
                let (place, run) = runs[turn.index];
                let tell = &mut |event: &Event| locked(&audience).tell(place, event);
                match outcome(&runner, run, turn.failed_before, tell) {
                    Ok(outcome) => {
                        board.put(turn.index, outcome.clone());
                        announce(&outcome, turn.is_last, tell);
                    }
                    Err(error) => board.stop(error),
                }
            }
        };
        std::thread::scope(|scope| {
            for member in 1..n_members {
                let named = std::thread::Builder::new().name(format!("member-{member}"));
                named.spawn_scoped(scope, move || work(member)).expect("the system starts a thread a member");
            }
            // The calling thread is a member too.
            work(0);
        });
        board.summary(&runs, self.interrupt.load(Ordering::Relaxed))
    }

    fn member<'b>(&'b self, member: usize, n_members: usize, leaving: &'b AtomicBool, shelf: &'b Shelf) -> Runner<'b> {
        let threads = share(self.origin.threads as usize, member, n_members);
        Runner {
            store: self.store,
            pool: Pool::new(threads),
            origin: Origin { threads: threads as u32, jobs: n_members as u32, ..self.origin.clone() },
            policy: self.policy,
            interrupt: self.interrupt,
            leaving,
            shelf,
            plans: self.plans,
            gpu: OnceCell::new(),
        }
    }
}

/// A member's part of the worker threads; nobody has none.
fn share(threads: usize, member: usize, n_members: usize) -> usize {
    (threads / n_members + usize::from(member < threads % n_members)).max(1)
}

/// A panic is the failure of the run it happened in.
fn outcome(
    runner: &Runner,
    run: &Run,
    failed_before: Option<Failure>,
    tell: &mut dyn FnMut(&Event),
) -> Result<Outcome, RunnerError> {
    if let Some(failure) = failed_before {
        return Ok(Outcome::TrainingFailed(failure));
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| runner.run(run, tell)));
    outcome.unwrap_or_else(|panic| Ok(Outcome::TrainingFailed(panic_failure(panic.as_ref()))))
}

/// What the run has not told by itself.
fn announce(outcome: &Outcome, is_last: bool, tell: &mut dyn FnMut(&Event)) {
    match outcome {
        Outcome::Taken(owner) if is_last => tell(&Event::Taken { owner }),
        Outcome::TrainingFailed(failure) | Outcome::EvaluationFailed(failure) => tell(&Event::Failed(failure)),
        Outcome::Taken(_) | Outcome::Cached | Outcome::Computed | Outcome::Interrupted => {}
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run handed out.
#[derive(Debug, PartialEq)]
pub struct Turn {
    pub index: usize,
    /// How its training failed in another cell of this sweep.
    pub failed_before: Option<Failure>,
    /// Another process had it in work the first time; there is no third.
    pub is_last: bool,
}

/// Who computes what, and what came of it.
pub struct Board {
    /// Of the training of every run.
    keys: Vec<Key>,
    fail_fast: bool,
    /// Set to have every member leave at its next step.
    pub leaving: AtomicBool,
    standing: Mutex<Standing>,
    /// Told of every outcome.
    changed: Condvar,
}

#[derive(Default)]
struct Standing {
    /// In the file's order.
    waiting: VecDeque<usize>,
    under_way: BTreeSet<Key>,
    /// What other processes had in work when it was its turn.
    elsewhere: BTreeSet<usize>,
    second_round: bool,
    /// Cells that share a training share its failure too.
    failed: BTreeMap<Key, Failure>,
    outcomes: BTreeMap<usize, Outcome>,
    error: Option<RunnerError>,
}

impl Board {
    pub fn new(keys: Vec<Key>, fail_fast: bool) -> Board {
        let standing = Mutex::new(Standing { waiting: (0..keys.len()).collect(), ..Standing::default() });
        Board { keys, fail_fast, leaving: AtomicBool::new(false), standing, changed: Condvar::new() }
    }

    pub fn n_trainings(&self) -> usize {
        self.keys.iter().collect::<BTreeSet<_>>().len()
    }

    /// The next run whose training nobody has under way, once there is one; none when there is nothing left to do.
    pub fn take(&self) -> Option<Turn> {
        let mut standing = locked(&self.standing);
        loop {
            if self.leaving.load(Ordering::Relaxed) {
                return None;
            }
            let free = standing.waiting.iter().position(|&index| !standing.under_way.contains(&self.keys[index]));
            if let Some(index) = free.and_then(|position| standing.waiting.remove(position)) {
                let key = self.keys[index];
                standing.under_way.insert(key);
                let failed_before = standing.failed.get(&key).cloned();
                return Some(Turn { index, failed_before, is_last: standing.second_round });
            }
            if standing.under_way.is_empty() {
                if standing.second_round || standing.elsewhere.is_empty() {
                    return None;
                }
                // What others had in work when it was this sweep's turn may be there by now.
                standing.second_round = true;
                standing.waiting = std::mem::take(&mut standing.elsewhere).into_iter().collect();
            } else {
                standing = self.changed.wait(standing).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// How a run ended that was taken.
    pub fn put(&self, index: usize, outcome: Outcome) {
        let mut standing = locked(&self.standing);
        let key = self.keys[index];
        standing.under_way.remove(&key);
        match &outcome {
            Outcome::TrainingFailed(failure) => drop(standing.failed.insert(key, failure.clone())),
            Outcome::Taken(_) | Outcome::Cached | Outcome::Computed => {}
            Outcome::EvaluationFailed(_) | Outcome::Interrupted => {}
        }
        let failed = matches!(outcome, Outcome::TrainingFailed(_) | Outcome::EvaluationFailed(_));
        if outcome == Outcome::Interrupted || (failed && self.fail_fast) {
            self.leaving.store(true, Ordering::Relaxed);
        }
        if matches!(outcome, Outcome::Taken(_)) && !standing.second_round {
            standing.elsewhere.insert(index);
        } else {
            standing.outcomes.insert(index, outcome);
        }
        self.changed.notify_all();
    }

    /// Ends the sweep with the first error.
    pub fn stop(&self, error: RunnerError) {
        let mut standing = locked(&self.standing);
        standing.error.get_or_insert(error);
        self.leaving.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// What came of all, in the file's order. A member that left because of another's failure was not interrupted.
    fn summary(self, runs: &[(Place, &Run)], interrupted: bool) -> Result<Summary, RunnerError> {
        let standing = self.standing.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = standing.error {
            return Err(error);
        }
        let mut summary = Summary::default();
        for (index, outcome) in standing.outcomes {
            match outcome {
                Outcome::Cached => summary.cached += 1,
                Outcome::Computed => summary.computed += 1,
                Outcome::Taken(_) => summary.taken += 1,
                Outcome::TrainingFailed(failure) | Outcome::EvaluationFailed(failure) => {
                    summary.failed.push((runs[index].0, failure));
                }
                Outcome::Interrupted => summary.interrupted |= interrupted,
            }
        }
        Ok(summary)
    }
}
