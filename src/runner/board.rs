//! Who computes what, and what came of it: runs handed out in the file's order, those in work elsewhere at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::content::Key;
use crate::runner::{Interrupt, Outcome, Place, Policy, RunnerError, StageFailure, Summary};

/// Between two looks at what other processes have in work: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// How long a wish to leave goes unnoticed while there is nothing to do.
const GLANCE: Duration = Duration::from_millis(100);

/// A run handed out.
#[derive(Debug, PartialEq)]
pub struct Turn {
    pub index: usize,
    /// How its training failed in another cell of this sweep.
    pub failed_before: Option<StageFailure>,
}

pub struct Board<'a> {
    /// Of the training of every run.
    keys: Vec<Key>,
    fail_fast: bool,
    /// Look again at what others have in work until it is there; else once.
    wait: bool,
    interrupt: &'a Interrupt,
    /// Set to have every member leave at its next step.
    pub leaving: AtomicBool,
    standing: Mutex<Standing>,
    /// Told of every outcome.
    changed: Condvar,
}

struct Standing {
    /// In the file's order.
    waiting: VecDeque<usize>,
    under_way: BTreeSet<Key>,
    /// What other processes had in work when it was its turn, and who.
    elsewhere: BTreeMap<usize, String>,
    /// Looks at what is elsewhere, after the first.
    n_looks: u32,
    pause: Duration,
    next_look: Instant,
    /// Cells that share a training share its failure too.
    failed: BTreeMap<Key, StageFailure>,
    outcomes: BTreeMap<usize, Outcome>,
    error: Option<RunnerError>,
}

impl<'a> Board<'a> {
    pub fn new(keys: Vec<Key>, policy: Policy, interrupt: &'a Interrupt) -> Board<'a> {
        let standing = Standing {
            waiting: (0..keys.len()).collect(),
            under_way: BTreeSet::new(),
            elsewhere: BTreeMap::new(),
            n_looks: 0,
            pause: FIRST_PAUSE,
            next_look: Instant::now(),
            failed: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            error: None,
        };
        let (standing, leaving) = (Mutex::new(standing), AtomicBool::new(false));
        let Policy { fail_fast, wait, .. } = policy;
        Board { keys, fail_fast, wait, interrupt, leaving, standing, changed: Condvar::new() }
    }

    /// Different trainings among the runs that wait for their turn.
    pub fn n_trainings(&self) -> usize {
        self.standing().waiting.iter().map(|&index| self.keys[index]).collect::<BTreeSet<_>>().len()
    }

    /// Runs that need no turn, because all of them is stored.
    pub fn settle_cached(&self, is_cached: impl Fn(usize) -> bool) {
        let mut standing = self.standing();
        let Standing { waiting, outcomes, .. } = &mut *standing;
        let (cached, left) = waiting.drain(..).partition::<Vec<_>, _>(|&index| is_cached(index));
        outcomes.extend(cached.into_iter().map(|index| (index, Outcome::Cached)));
        *waiting = left.into();
    }

    /// The next run whose training nobody has under way, once there is one; none when there is nothing left to do.
    /// `tell` hears, once a run, whose work is waited for: nothing is claimed meanwhile, so no two sweeps wait for each
    /// other.
    pub fn take(&self, tell: &mut dyn FnMut(usize, &str)) -> Option<Turn> {
        let mut standing = self.standing();
        loop {
            if self.leaving.load(Ordering::Relaxed) || self.interrupt.departure().is_some() {
                return None;
            }
            let free = standing.waiting.iter().position(|&index| !standing.under_way.contains(&self.keys[index]));
            if let Some(index) = free.and_then(|position| standing.waiting.remove(position)) {
                let key = self.keys[index];
                standing.under_way.insert(key);
                return Some(Turn { index, failed_before: standing.failed.get(&key).cloned() });
            }
            let is_idle = standing.under_way.is_empty();
            if standing.waiting.is_empty() && !standing.elsewhere.is_empty() {
                if !self.wait && standing.n_looks > 0 && is_idle {
                    return None;
                }
                if (is_idle || self.wait) && self.look_again(&mut standing, tell) {
                    continue;
                }
            } else if is_idle {
                return None;
            }
            let waited = self.changed.wait_timeout(standing, GLANCE);
            standing = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Hands out again, when it is time, what others had in work; says whether it was.
    fn look_again(&self, standing: &mut Standing, tell: &mut dyn FnMut(usize, &str)) -> bool {
        if !self.wait {
            // What others had in work when it was this sweep's turn may be there by now.
            standing.n_looks += 1;
            standing.waiting = standing.elsewhere.keys().copied().collect();
            return true;
        }
        if standing.n_looks == 0 {
            standing.elsewhere.iter().for_each(|(index, owner)| tell(*index, owner));
            standing.n_looks = 1;
            standing.next_look = Instant::now() + standing.pause;
        }
        if Instant::now() < standing.next_look {
            return false;
        }
        standing.n_looks += 1;
        standing.pause = standing.pause.mul_f64(1.5).min(LAST_PAUSE);
        standing.next_look = Instant::now() + standing.pause;
        standing.waiting = standing.elsewhere.keys().copied().collect();
        true
    }

    /// How a run ended that was taken. Says whether that is final.
    pub fn put(&self, index: usize, outcome: &Outcome) -> bool {
        let mut standing = self.standing();
        let key = self.keys[index];
        standing.under_way.remove(&key);
        let mut failed = false;
        match outcome {
            Outcome::TrainingFailed(failure) => {
                failed = true;
                // Where results cannot be kept now, the next cell may find that they can.
                if !failure.failure.kind.is_of_the_store() {
                    standing.failed.insert(key, failure.clone());
                }
            }
            Outcome::EvaluationsFailed(_) => failed = true,
            Outcome::Taken(_) | Outcome::Cached | Outcome::Computed => {}
            Outcome::NoRoom(_) | Outcome::Interrupted => {}
        }
        if *outcome == Outcome::Interrupted || (failed && self.fail_fast) {
            self.leaving.store(true, Ordering::Relaxed);
        }
        let is_final = if let Outcome::Taken(owner) = outcome
            && (self.wait || standing.n_looks == 0)
        {
            standing.elsewhere.insert(index, owner.clone());
            false
        } else {
            if standing.elsewhere.remove(&index).is_some() {
                standing.pause = FIRST_PAUSE;
            }
            standing.outcomes.insert(index, outcome.clone());
            true
        };
        self.changed.notify_all();
        is_final
    }

    /// Ends the sweep with the first error.
    pub fn stop(&self, error: RunnerError) {
        self.standing().error.get_or_insert(error);
        self.leaving.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// What came of all, in the file's order. A member that left because of another's failure was not interrupted.
    pub fn summary(self, places: &[Place]) -> Result<Summary, RunnerError> {
        let standing = self.standing.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = standing.error {
            return Err(error);
        }
        let mut summary = Summary { taken: standing.elsewhere.len(), ..Summary::default() };
        let mut is_whole = standing.outcomes.len() == places.len();
        for (index, outcome) in standing.outcomes {
            let failed = |failure| (places[index], failure);
            match outcome {
                Outcome::Cached => summary.cached += 1,
                Outcome::Computed => summary.computed += 1,
                Outcome::Taken(_) => summary.taken += 1,
                Outcome::TrainingFailed(failure) => summary.failed.push(failed(failure)),
                Outcome::EvaluationsFailed(failures) => summary.failed.extend(failures.into_iter().map(failed)),
                Outcome::NoRoom(shortage) => {
                    summary.without_room += 1;
                    summary.shortage.get_or_insert(shortage);
                }
                Outcome::Interrupted => is_whole = false,
            }
        }
        // Asked after the last run had ended, it has nothing to go on with.
        summary.departure = self.interrupt.departure().filter(|_| !is_whole);
        Ok(summary)
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
