//! Being asked to leave from outside: how, and what must be kept first.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Why a sweep leaves before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// By a person who waits for the prompt: nothing is kept that is not kept already.
    Interrupted,
    /// By the system, which gives the process some time: every training keeps where it stands.
    Preempted,
}

/// Where the wish to leave is put, by a signal's thread for one, and looked at after every step.
#[derive(Debug, Default)]
pub struct Interrupt {
    /// 0 nothing, 1 interrupted, 2 preempted.
    asked: AtomicU8,
    n_trainings: AtomicUsize,
}

impl Interrupt {
    /// The first to ask says why.
    pub fn ask(&self, departure: Departure) {
        let code = match departure {
            Departure::Interrupted => 1,
            Departure::Preempted => 2,
        };
        let _ = self.asked.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub fn departure(&self) -> Option<Departure> {
        match self.asked.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Departure::Interrupted),
            _ => Some(Departure::Preempted),
        }
    }

    /// Whether a training is under way, from its first step until its record or its last checkpoint is kept.
    pub fn is_training(&self) -> bool {
        self.n_trainings.load(Ordering::Relaxed) > 0
    }

    /// Counts a training as under way until what comes back is dropped.
    pub(super) fn training(&self) -> TrainingUnderWay<'_> {
        self.n_trainings.fetch_add(1, Ordering::Relaxed);
        TrainingUnderWay(self)
    }
}

pub(super) struct TrainingUnderWay<'a>(&'a Interrupt);

impl Drop for TrainingUnderWay<'_> {
    fn drop(&mut self) {
        self.0.n_trainings.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_ask_says_why() {
        for (first, second) in
            [(Departure::Interrupted, Departure::Preempted), (Departure::Preempted, Departure::Interrupted)]
        {
            let interrupt = Interrupt::default();
            assert_eq!(interrupt.departure(), None);
            interrupt.ask(first);
            interrupt.ask(second);
            assert_eq!(interrupt.departure(), Some(first));
        }
    }

    #[test]
    fn a_training_is_under_way_until_the_last_one_ends() {
        let interrupt = Interrupt::default();
        let (one, two) = (interrupt.training(), interrupt.training());
        drop(one);
        assert!(interrupt.is_training());
        drop(two);
        assert!(!interrupt.is_training());
    }
}
