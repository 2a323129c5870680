//! Passes a training's progress on, keeps its checkpoints and snapshots under the claim and keeps the claim alive.

use std::time::{Duration, Instant};

use crate::record::blob;
use crate::runner::journal::Journal;
use crate::runner::{Event, Runner};
use crate::store::{Claim, StoreError};
use crate::train::{KeepError, Progress, Request, Watcher};

/// Well within the ten minutes after which another host may think this one gone.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// The sign of life of a claim.
pub struct Pulse {
    last: Instant,
}

impl Pulse {
    pub fn new() -> Pulse {
        Pulse { last: Instant::now() }
    }

    /// Beats when it is time to. A lost claim costs duplicate work, never a result: the first to publish wins.
    pub fn beat(&mut self, claim: &Claim) -> Result<(), StoreError> {
        if self.last.elapsed() < HEARTBEAT {
            return Ok(());
        }
        self.last = Instant::now();
        claim.heartbeat()
    }
}

pub struct Reporter<'a, 'b> {
    claim: &'a mut Claim,
    pulse: Pulse,
    runner: &'a Runner<'a>,
    journal: &'a mut Journal<'b>,
    /// Steps behind the checkpoint that is kept now.
    kept: u64,
}

impl<'a, 'b> Reporter<'a, 'b> {
    pub fn new(claim: &'a mut Claim, runner: &'a Runner<'a>, journal: &'a mut Journal<'b>) -> Reporter<'a, 'b> {
        Reporter { claim, pulse: Pulse::new(), runner, journal, kept: 0 }
    }

    /// After `done` steps it leaves before the end.
    pub fn stopped(&mut self, done: u64) {
        self.journal.tell(&Event::TrainingStopped { done, kept: self.kept });
    }
}

impl Watcher for Reporter<'_, '_> {
    fn start(&mut self, done: u64) {
        self.kept = done;
        self.journal.tell(&Event::TrainingStarted { done });
    }

    fn step(&mut self, progress: &Progress) {
        self.journal.tell(&Event::Training(*progress));
        if let Err(error) = self.pulse.beat(self.claim) {
            self.journal.tell(&Event::Note(&error.to_string()));
        }
    }

    fn keep(&mut self, done: u64, checkpoint: &[u8]) -> Result<(), KeepError> {
        self.claim.save_progress(checkpoint)?;
        self.kept = done;
        Ok(())
    }

    fn snapshot(&mut self, done: u64, encoder: &[u8]) -> Result<(), KeepError> {
        self.claim.put_blob(&blob::snapshot(done), encoder)?;
        Ok(())
    }

    fn request(&self) -> Request {
        self.runner.request()
    }
}
