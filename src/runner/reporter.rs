//! Passes a training's progress on, keeps its checkpoints under the claim and keeps the claim alive.

use std::time::{Duration, Instant};

use crate::runner::{Event, Runner};
use crate::store::{Claim, StoreError};
use crate::train::{Progress, Watcher};

/// Well within the ten minutes after which another host may think this one gone.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// The sign of life of a claim.
pub struct Pulse<'a> {
    claim: &'a Claim,
    last: Instant,
}

impl<'a> Pulse<'a> {
    pub fn new(claim: &'a Claim) -> Pulse<'a> {
        Pulse { claim, last: Instant::now() }
    }

    /// Beats when it is time to. A lost claim costs duplicate work, never a result: the first to publish wins.
    pub fn beat(&mut self) -> Result<(), StoreError> {
        if self.last.elapsed() < HEARTBEAT {
            return Ok(());
        }
        self.last = Instant::now();
        self.claim.heartbeat()
    }
}

pub struct Reporter<'a, 'b> {
    claim: &'a Claim,
    pulse: Pulse<'a>,
    runner: &'a Runner<'a>,
    tell: &'a mut (dyn FnMut(&Event) + 'b),
}

impl<'a, 'b> Reporter<'a, 'b> {
    pub fn new(claim: &'a Claim, runner: &'a Runner<'a>, tell: &'a mut (dyn FnMut(&Event) + 'b)) -> Reporter<'a, 'b> {
        Reporter { claim, pulse: Pulse::new(claim), runner, tell }
    }
}

impl Watcher for Reporter<'_, '_> {
    fn step(&mut self, progress: &Progress) {
        (self.tell)(&Event::Training(*progress));
        if let Err(error) = self.pulse.beat() {
            (self.tell)(&Event::Note(&error.to_string()));
        }
    }

    fn keep(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        self.claim.save_progress(checkpoint).map_err(|error| error.to_string())
    }

    fn should_stop(&self) -> bool {
        self.runner.should_stop()
    }
}
