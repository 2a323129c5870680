//! What a training keeps while it runs: where it stands, what it measured, what it cost.

use std::time::Instant;

use crate::executor::{Executor, State};
use crate::experiment::run::Run;
use crate::history::{Detail, History, StepMetrics};
use crate::ops::schedule;
use crate::random::{Address, Purpose, Stream};
use crate::train::checkpoint::{Checkpoint, CheckpointError};
use crate::train::cost::CostMeter;
use crate::train::{Progress, Request, TrainError, Trained, Watcher};

/// The examples of one step: the epoch's permutation, cut into batches; an incomplete last one is dropped.
pub struct Order {
    seed: u64,
    n_examples: u32,
    batch: usize,
    steps_per_epoch: u64,
    epoch: Option<u32>,
    permutation: Vec<u32>,
}

impl Order {
    fn new(run: &Run) -> Order {
        Order {
            seed: run.seed,
            n_examples: run.facts.n_train,
            batch: run.train.batch as usize,
            steps_per_epoch: run.steps_per_epoch(),
            epoch: None,
            permutation: Vec::new(),
        }
    }

    pub fn batch(&self) -> usize {
        self.batch
    }

    pub fn epoch_of(&self, step: u64) -> u32 {
        (step / self.steps_per_epoch) as u32
    }

    /// Steps from `step` to the end of its epoch.
    pub fn left_in_epoch(&self, step: u64) -> u64 {
        self.steps_per_epoch - step % self.steps_per_epoch
    }

    /// All examples of an epoch, in order.
    pub fn of_epoch(&mut self, epoch: u32) -> &[u32] {
        if self.epoch != Some(epoch) {
            let place = Address { epoch, ..Address::of(Purpose::Shuffle) };
            self.permutation = Stream::new(self.seed, place).permutation(self.n_examples);
            self.epoch = Some(epoch);
        }
        &self.permutation
    }

    pub fn examples(&mut self, step: u64) -> &[u32] {
        let start = (step % self.steps_per_epoch) as usize * self.batch;
        let batch = self.batch;
        &self.of_epoch(self.epoch_of(step))[start..start + batch]
    }
}

/// The learning rate of a step.
pub fn learning_rate(run: &Run, step: u64) -> f64 {
    let train = &run.train;
    schedule::learning_rate(&train.learning_rate, &train.schedule, train.batch, step, train.length_steps)
}

/// A training under way.
pub struct Course<'a> {
    pub run: &'a Run,
    pub order: Order,
    pub cost: CostMeter,
    history: History,
}

impl<'a> Course<'a> {
    /// Goes on where the checkpoint was kept.
    pub fn resume(run: &'a Run, start: &Checkpoint) -> Result<Course<'a>, TrainError> {
        let history = start.history().map_err(CheckpointError::History)?;
        Ok(Course { run, order: Order::new(run), cost: CostMeter::resume(start.epochs.clone()), history })
    }

    /// Whether norms and embeddings are measured at this step.
    pub fn is_measured(&self, step: u64) -> bool {
        step.is_multiple_of(self.run.bookkeeping.metrics_every_steps)
    }

    /// Notes what a step came to.
    pub fn note(&mut self, step: u64, loss: f64, detail: Option<Detail>) -> Result<(), TrainError> {
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { what: "the loss", step });
        }
        if let Some(what) = detail.as_ref().and_then(crate::train::metrics::not_finite) {
            return Err(TrainError::NotFinite { what, step });
        }
        let (epoch, learning_rate) = (self.order.epoch_of(step), learning_rate(self.run, step));
        self.history.steps.push(StepMetrics { step, epoch, loss, learning_rate, detail });
        Ok(())
    }

    /// After `done` steps: keeps the encoder where a snapshot is due, and a checkpoint where one is due or the watcher wants to leave with one, tells it how far
    /// things are.
    pub fn pause(
        &mut self,
        executor: &dyn Executor,
        done: u64,
        loss: f64,
        watcher: &mut dyn Watcher,
    ) -> Result<(), TrainError> {
        let length_steps = self.run.train.length_steps;
        let every = self.run.train.snapshots_every_steps.filter(|_| done < length_steps);
        if every.is_some_and(|every| done.is_multiple_of(every)) {
            self.keep_encoder(executor, done, watcher)?;
        }
        let request = if done < length_steps { watcher.request() } else { Request::Go };
        let due = done.is_multiple_of(self.run.bookkeeping.checkpoint_every_steps) && done < length_steps;
        if request == Request::StopAfterCheckpoint || (due && request == Request::Go) {
            self.keep(executor, done, watcher)?;
        }
        watcher.step(&Progress { step: done, length_steps, loss, images_per_s: self.cost.images_per_s() });
        match request {
            Request::Go => Ok(()),
            Request::StopAfterCheckpoint | Request::Stop => Err(TrainError::Interrupted { step: done - 1 }),
        }
    }

    /// Has the watcher keep what the run can go on from; the time it takes is the epoch's.
    fn keep(&mut self, executor: &dyn Executor, done: u64, watcher: &mut dyn Watcher) -> Result<(), TrainError> {
        let began = Instant::now();
        let checkpoint = Checkpoint::of(finite_state(executor)?).with_epochs(self.cost.so_far());
        let bytes = checkpoint.to_bytes_with(&self.history, executor.plan())?;
        watcher.keep(done, &bytes).map_err(TrainError::Keep)?;
        self.cost.add(began.elapsed());
        Ok(())
    }

    /// Has the watcher keep the encoder; the time it takes is the epoch's.
    fn keep_encoder(
        &mut self,
        executor: &dyn Executor,
        done: u64,
        watcher: &mut dyn Watcher,
    ) -> Result<(), TrainError> {
        let began = Instant::now();
        let encoder = Checkpoint::of(State { optimizer: Vec::new(), bank: Vec::new(), ..finite_state(executor)? });
        watcher.snapshot(done, &encoder.to_bytes(executor.plan())?).map_err(TrainError::Keep)?;
        self.cost.add(began.elapsed());
        Ok(())
    }

    pub fn finish(self, executor: &dyn Executor) -> Result<Trained, TrainError> {
        let checkpoint = Checkpoint::of(finite_state(executor)?);
        Ok(Trained { checkpoint, history: self.history, epochs: self.cost.finish() })
    }
}

/// The state, if no number of it is spoiled: a run never goes on from one that is.
fn finite_state(executor: &dyn Executor) -> Result<State, TrainError> {
    let state = executor.save();
    let slots = state.optimizer.iter().flat_map(|(_, slot)| slot);
    if state.parameters.iter().chain(&state.buffers).chain(&state.bank).chain(slots).any(|value| !value.is_finite()) {
        return Err(TrainError::NotFinite { what: "a parameter or its momentum", step: state.step.saturating_sub(1) });
    }
    Ok(state)
}
