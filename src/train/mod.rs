//! The SimCLR loop: batch → two views → gradients → update → metrics, and nothing hidden behind it.

pub mod checkpoint;
pub mod cost;
pub mod metrics;

use std::time::Instant;

use crate::data::Images;
use crate::device::Pool;
use crate::executor::{Executor, ExecutorError, State};
use crate::experiment::run::Run;
use crate::history::History;
use crate::model::initialize::initialize;
use crate::ops::schedule;
use crate::random::{Address, Purpose, Stream};
use crate::record::EpochCost;
use crate::train::checkpoint::{Checkpoint, CheckpointError};
use crate::train::cost::CostMeter;
use crate::views::Pipeline;

/// What the loop tells while it runs, and asks.
pub trait Watcher {
    /// After every step.
    fn step(&mut self, progress: &Progress);

    /// Keeps bytes from which the run can go on after a crash.
    fn keep(&mut self, checkpoint: &[u8]) -> Result<(), String>;

    /// Whether to leave at the next step, after a last checkpoint.
    fn should_stop(&self) -> bool;
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    pub length_steps: u64,
    pub loss: f64,
    pub images_per_s: f64,
}

/// A finished training.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    pub checkpoint: Checkpoint,
    pub history: History,
    pub epochs: Vec<EpochCost>,
}

/// Why a training ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("{what} is not finite at step {step}: try a lower learning rate, a higher temperature or a longer warm-up")]
    NotFinite { what: &'static str, step: u64 },
    #[error("interrupted after step {step}")]
    Interrupted { step: u64 },
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error("failed to keep a checkpoint: {0}")]
    Keep(String),
}

/// The examples of one step: the epoch's permutation, cut into batches; an incomplete last one is dropped.
struct Order {
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

    fn epoch_of(&self, step: u64) -> u32 {
        (step / self.steps_per_epoch) as u32
    }

    fn examples(&mut self, step: u64) -> &[u32] {
        let epoch = self.epoch_of(step);
        if self.epoch != Some(epoch) {
            let place = Address { epoch, ..Address::of(Purpose::Shuffle) };
            self.permutation = Stream::new(self.seed, place).permutation(self.n_examples);
            self.epoch = Some(epoch);
        }
        let start = (step % self.steps_per_epoch) as usize * self.batch;
        &self.permutation[start..start + self.batch]
    }
}

/// The state before the first step.
fn initial(executor: &dyn Executor, run: &Run, pool: &Pool) -> Checkpoint {
    let plan = executor.plan();
    let (parameters, buffers) = pool.install(|| initialize(plan, run.model.initialization, run.seed));
    let blank = executor.save();
    let optimizer = blank.optimizer.into_iter().map(|(name, slot)| (name, vec![0.0; slot.len()])).collect();
    Checkpoint::of(State { parameters, buffers, optimizer, step: 0 })
}

fn learning_rate(run: &Run, step: u64) -> f64 {
    let train = &run.train;
    schedule::learning_rate(&train.learning_rate, &train.schedule, train.batch, step, train.length_steps)
}

/// Trains `run`'s encoder on `images`, from its start or from the bytes a watcher kept.
pub fn pretrain(
    run: &Run,
    images: &Images,
    executor: &mut dyn Executor,
    pool: &Pool,
    resume: Option<&[u8]>,
    watcher: &mut dyn Watcher,
) -> Result<Trained, TrainError> {
    let start = match resume {
        Some(bytes) => Checkpoint::from_bytes(bytes, executor.plan())?,
        None => initial(executor, run, pool),
    };
    let mut history = start.history().map_err(CheckpointError::History)?;
    let mut cost = CostMeter::resume(start.epochs.clone());
    executor.load(&start.state);
    let pipeline = Pipeline::new(&run.views, run.model.side as usize, run.seed);
    let mut order = Order::new(run);
    let mut views = vec![0.0; 2 * order.batch * run.model.side.pow(2) as usize * 3];
    for step in start.state.step..run.train.length_steps {
        let began = Instant::now();
        let epoch = order.epoch_of(step);
        pipeline.batch(images, order.examples(step), epoch, pool, &mut views);
        let viewed = Instant::now();
        let loss = f64::from(executor.forward_backward(&views)?);
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { what: "the loss", step });
        }
        let differentiated = Instant::now();
        let learning_rate = learning_rate(run, step);
        let detailed = step % run.bookkeeping.metrics_every_steps == 0;
        let (detail, update_s) = metrics::update(executor, learning_rate, detailed.then_some(order.batch), pool);
        if let Some(what) = detail.as_ref().and_then(metrics::not_finite) {
            return Err(TrainError::NotFinite { what, step });
        }
        history.steps.push(crate::history::StepMetrics { step, epoch, loss, learning_rate, detail });
        let done = step + 1;
        cost.step(epoch, run.train.batch, [viewed - began, differentiated - viewed], update_s, began.elapsed());
        let stop = watcher.should_stop() && done < run.train.length_steps;
        let wanted = done % run.bookkeeping.checkpoint_every_steps == 0 && done < run.train.length_steps;
        if wanted || stop {
            keep(executor, &history, &mut cost, watcher)?;
        }
        let images_per_s = cost.images_per_s();
        watcher.step(&Progress { step: done, length_steps: run.train.length_steps, loss, images_per_s });
        if stop {
            return Err(TrainError::Interrupted { step });
        }
    }
    let checkpoint = Checkpoint::of(finite_state(executor)?);
    Ok(Trained { checkpoint, history, epochs: cost.finish() })
}

/// Has the watcher keep what the run can go on from; the time it takes is the epoch's.
fn keep(
    executor: &dyn Executor,
    history: &History,
    cost: &mut CostMeter,
    watcher: &mut dyn Watcher,
) -> Result<(), TrainError> {
    let began = Instant::now();
    let checkpoint = Checkpoint::of(finite_state(executor)?).with_epochs(cost.so_far());
    watcher.keep(&checkpoint.to_bytes_with(history, executor.plan())?).map_err(TrainError::Keep)?;
    cost.add(began.elapsed());
    Ok(())
}

/// The state, if no number of it is spoiled: a run never goes on from one that is.
fn finite_state(executor: &dyn Executor) -> Result<State, TrainError> {
    let state = executor.save();
    let slots = state.optimizer.iter().flat_map(|(_, slot)| slot);
    if state.parameters.iter().chain(&state.buffers).chain(slots).any(|value| !value.is_finite()) {
        return Err(TrainError::NotFinite { what: "a parameter or its momentum", step: state.step.saturating_sub(1) });
    }
    Ok(state)
}
