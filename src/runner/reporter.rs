//! Passes a training's progress on, keeps its checkpoints under the claim and keeps the claim alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::runner::Event;
use crate::store::Claim;
use crate::train::{Progress, Watcher};

/// Well within the ten minutes after which another host may think this one gone.
const HEARTBEAT: Duration = Duration::from_secs(60);

pub struct Reporter<'a, 'b> {
    claim: &'a Claim,
    interrupt: &'a AtomicBool,
    tell: &'a mut (dyn FnMut(&Event) + 'b),
    last_beat: Instant,
}

impl<'a, 'b> Reporter<'a, 'b> {
    pub fn new(
        claim: &'a Claim,
        interrupt: &'a AtomicBool,
        tell: &'a mut (dyn FnMut(&Event) + 'b),
    ) -> Reporter<'a, 'b> {
        Reporter { claim, interrupt, tell, last_beat: Instant::now() }
    }
}

impl Watcher for Reporter<'_, '_> {
    fn step(&mut self, progress: &Progress) {
        (self.tell)(&Event::Training(*progress));
        if self.last_beat.elapsed() >= HEARTBEAT {
            self.last_beat = Instant::now();
            // A lost claim costs duplicate work, never a result: training goes on, and the first to publish wins.
            if let Err(error) = self.claim.heartbeat() {
                (self.tell)(&Event::Note(&error.to_string()));
            }
        }
    }

    fn keep(&mut self, checkpoint: &[u8]) -> Result<(), String> {
        self.claim.save_progress(checkpoint).map_err(|error| error.to_string())
    }

    fn should_stop(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }
}
