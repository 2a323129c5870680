//! What a run under way tells: passed on to who listens, and the last lines kept for a failure's record.

use std::collections::VecDeque;
use std::time::Instant;

use crate::experiment::run::Run;
use crate::record::Failure;
use crate::runner::Event;
use crate::runner::panics::Panicked;
use crate::train::Progress;

/// Lines kept with a failure.
const TAIL_LINES: usize = 40;

/// The log of one run, in memory.
pub struct Journal<'a> {
    audience: &'a mut dyn FnMut(&Event),
    began: Instant,
    steps_per_epoch: u64,
    lines: VecDeque<String>,
    /// Losses told since the last epoch ended: their sum and number.
    losses: (f64, u64),
}

impl<'a> Journal<'a> {
    pub fn new(run: &Run, audience: &'a mut dyn FnMut(&Event)) -> Journal<'a> {
        Journal {
            audience,
            began: Instant::now(),
            steps_per_epoch: run.steps_per_epoch().max(1),
            lines: VecDeque::new(),
            losses: (0.0, 0),
        }
    }

    /// Writes it down and passes it on.
    pub fn tell(&mut self, event: &Event) {
        match event {
            Event::TrainingStarted { done: 0 } => self.note("training starts"),
            Event::TrainingStarted { done } => self.note(&format!("training goes on from step {done}")),
            Event::Training(progress) => self.step(progress),
            Event::TrainingStopped { done, kept } => {
                self.note(&format!("training stops after step {done}, kept is step {kept}"));
            }
            Event::EvaluationStarted { name } => self.note(&format!("evaluates {name}")),
            Event::Note(text) => self.note(text),
            Event::Waits { .. } | Event::Failed { .. } | Event::Ended(_) => {}
        }
        (self.audience)(event);
    }

    /// Writes a line for a failure's record alone.
    pub fn note(&mut self, text: &str) {
        for line in text.lines() {
            if self.lines.len() == TAIL_LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(format!("{:9.1} s  {line}", self.began.elapsed().as_secs_f64()));
        }
    }

    fn step(&mut self, progress: &Progress) {
        let Progress { step, length_steps, loss, images_per_s } = *progress;
        self.losses = (self.losses.0 + loss, self.losses.1 + 1);
        if step.is_multiple_of(self.steps_per_epoch) || step == length_steps {
            let (sum, n) = std::mem::take(&mut self.losses);
            let mean = sum / n as f64;
            let epoch = step.div_ceil(self.steps_per_epoch);
            self.note(&format!(
                "epoch {epoch} done, step {step} of {length_steps}: mean loss {mean:.4}, {images_per_s:.0} images/s"
            ));
        }
    }

    /// A failure with what was told before it.
    pub fn failed(&self, failure: Failure) -> Failure {
        Failure { log: self.lines.iter().cloned().collect(), ..failure }
    }

    /// A panic as the failure it is, its place and where it came from in the log.
    pub fn panicked(&mut self, panic: Panicked) -> Failure {
        let Panicked { failure, place, backtrace } = panic;
        if let Some(place) = place {
            self.note(&format!("panicked at {place}"));
        }
        backtrace.iter().for_each(|line| self.note(line));
        failure
    }
}

#[cfg(test)]
mod tests;
