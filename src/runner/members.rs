//! The scheduling loop of a sweep: runs in the file's order, handed out to the members that compute them side by side.
//!
//! Members are threads of this process on one device. Each builds, uses and drops its executors on its own thread, with
//! its share of the worker threads; the store and the data sets in memory are common. Runs of one training are never
//! under way at once: the second finds what became of the first.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use crate::content::Key;
use crate::device::Pool;
use crate::device::cuda::plan_lock::PlanLock;
use crate::experiment::Experiment;
use crate::experiment::run::Run;
use crate::results::{self, Inspected};
use crate::runner::board::{Board, Turn};
use crate::runner::journal::Journal;
use crate::runner::provenance::Origin;
use crate::runner::room::{Needed, missing_bytes};
use crate::runner::shelf::Shelf;
use crate::runner::stage::storage_failure;
use crate::runner::{
    Audience, Event, Interrupt, Outcome, Place, Policy, Room, Runner, RunnerError, StageFailure, Summary, panics,
};
use crate::store::Store;

/// A sweep to carry out; nothing here can change a result.
pub struct Sweep<'a> {
    pub store: &'a Store,
    /// Its `threads` are those of all members together.
    pub origin: Origin,
    pub policy: Policy,
    /// Told from outside to leave at the next step.
    pub interrupt: &'a Interrupt,
    /// How a GPU's convolutions are computed; its digest is in the keys of the runs.
    pub plans: Option<&'a PlanLock>,
}

/// What a run lacks before anything is computed.
struct Glance {
    pretrain: Key,
    is_complete: bool,
    needed: Needed,
}

impl Sweep<'_> {
    /// Every run of the experiment that the store does not hold. The summary is in the file's order, whoever was first.
    ///
    /// # Errors
    /// What stops a whole sweep: a data set that cannot be read, or too little space to begin. Runs under way stop with a
    /// checkpoint.
    pub fn compute(
        &self,
        experiment: &Experiment,
        audience: &mut (dyn Audience + Send),
    ) -> Result<Summary, RunnerError> {
        let cells = experiment.cells.iter().enumerate();
        let runs: Vec<(Place, &Run)> =
            cells.flat_map(|(cell, of)| of.runs.iter().map(move |run| (Place { cell, seed: run.seed }, run))).collect();
        let glances = self.glances(&runs)?;
        let board = Board::new(glances.iter().map(|glance| glance.pretrain).collect(), self.policy, self.interrupt);
        let (shelf, room, audience) = (Shelf::default(), Room::new(self.policy.disk_floor_bytes), Mutex::new(audience));
        board.settle_cached(|index| glances[index].is_complete);
        for ((place, _), _) in runs.iter().zip(&glances).filter(|(_, glance)| glance.is_complete) {
            locked(&audience).tell(*place, &Event::Ended(&Outcome::Cached));
        }
        let n_members = self.policy.jobs.min(board.n_trainings()).max(1);
        self.check_room(&glances, &room, n_members)?;
        let work = |member: usize| {
            let runner = self.member((member, n_members), &board.leaving, &shelf, &room);
            let waits = &mut |index: usize, owner: &str| {
                locked(&audience).tell(runs[index].0, &Event::Waits { owner });
            };
            while let Some(turn) = board.take(waits) {
                let (place, run) = runs[turn.index];
                let tell = &mut |event: &Event| locked(&audience).tell(place, event);
                match outcome(&runner, run, &turn, tell) {
                    Ok(outcome) => {
                        if board.put(turn.index, &outcome) {
                            tell(&Event::Ended(&outcome));
                        }
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
        board.summary(&runs.iter().map(|(place, _)| *place).collect::<Vec<_>>())
    }

    /// A first look at every run; all cores share it.
    fn glances(&self, runs: &[(Place, &Run)]) -> Result<Vec<Glance>, RunnerError> {
        let glance = |(_, run): &(Place, &Run)| {
            let Inspected { keys, state } = results::inspect_run(self.store, run)?;
            let is_complete = state.is_complete();
            let needed = if is_complete { Needed::default() } else { missing_bytes(run, &state) };
            Ok(Glance { pretrain: keys.pretrain, is_complete, needed })
        };
        runs.par_iter().map(glance).collect::<Vec<_>>().into_iter().collect()
    }

    /// Refuses to begin what cannot be kept. Runs that share a training need it once.
    fn check_room(&self, glances: &[Glance], room: &Room, n_members: usize) -> Result<(), RunnerError> {
        let (mut kept_bytes, mut passing_bytes) = (0, 0);
        let mut seen = BTreeSet::new();
        for Glance { pretrain, needed, .. } in glances.iter().filter(|glance| !glance.is_complete) {
            kept_bytes += needed.evaluations_bytes;
            if seen.insert(pretrain) {
                kept_bytes += needed.training_bytes;
                passing_bytes = needed.passing_bytes.max(passing_bytes);
            }
        }
        let needed_bytes = kept_bytes + n_members as u64 * passing_bytes;
        match room.lacks(self.store, needed_bytes) {
            Some(shortage) if needed_bytes > 0 => Err(RunnerError::NoRoom(shortage)),
            Some(_) | None => Ok(()),
        }
    }

    fn member<'b>(
        &'b self,
        (member, n_members): (usize, usize),
        leaving: &'b AtomicBool,
        shelf: &'b Shelf,
        room: &'b Room,
    ) -> Runner<'b> {
        let threads = share(self.origin.threads as usize, member, n_members);
        Runner {
            store: self.store,
            pool: Pool::new(threads),
            origin: Origin { threads: threads as u32, jobs: n_members as u32, ..self.origin.clone() },
            policy: self.policy,
            interrupt: self.interrupt,
            leaving,
            shelf,
            room,
            plans: self.plans,
            gpu: OnceCell::new(),
        }
    }
}

/// A member's part of the worker threads; nobody has none.
fn share(threads: usize, member: usize, n_members: usize) -> usize {
    (threads / n_members + usize::from(member < threads % n_members)).max(1)
}

/// A panic is the failure of the run it happened in, and so is a disk that refuses.
fn outcome(runner: &Runner, run: &Run, turn: &Turn, tell: &mut dyn FnMut(&Event)) -> Result<Outcome, RunnerError> {
    let journal = &mut Journal::new(run, tell);
    if let Some(failure) = &turn.failed_before {
        journal.tell(&Event::Failed(failure));
        return Ok(Outcome::TrainingFailed(failure.clone()));
    }
    let failure = match panics::caught(|| runner.run(run, journal)) {
        Ok(Ok(outcome)) => return Ok(outcome),
        Ok(Err(RunnerError::Store(error))) => storage_failure(&error),
        Ok(Err(error)) => return Err(error),
        Err(panic) => journal.panicked(panic),
    };
    let failure = StageFailure { key: run.pretrain_key(), failure: journal.failed(failure) };
    runner.note_full(&failure.failure);
    journal.tell(&Event::Failed(&failure));
    Ok(Outcome::TrainingFailed(failure))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
