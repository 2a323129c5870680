//! The SimCLR loop: batch → two views → gradients → update → metrics, and nothing hidden behind it.

mod bank;
pub mod checkpoint;
pub mod cost;
mod course;
pub mod metrics;
mod resident;
mod supply;

use std::time::{Duration, Instant};

use crate::data::LabelledImages;
use crate::device::Pool;
use crate::executor::{Executor, ExecutorError, State};
use crate::experiment::run::Run;
use crate::history::History;
use crate::model::initialize::initialize;
use crate::record::EpochCost;
use crate::train::checkpoint::{Checkpoint, CheckpointError};
use crate::train::course::Course;
use crate::train::metrics::Measured;
use crate::train::supply::Supply;
use crate::views::Pipeline;

/// What the loop tells while it runs, and asks.
pub trait Watcher {
    /// Before the first step: how many are done already.
    fn start(&mut self, done: u64);

    /// After every step.
    fn step(&mut self, progress: &Progress);

    /// Keeps bytes from which the run can go on after a crash, with `done` steps behind it.
    fn keep(&mut self, done: u64, checkpoint: &[u8]) -> Result<(), KeepError>;

    /// Keeps the encoder as it is with `done` steps behind it, before the checkpoint of that step: a run that goes on from
    /// one keeps no earlier encoder again.
    fn snapshot(&mut self, done: u64, encoder: &[u8]) -> Result<(), KeepError>;

    /// Asked after every step.
    fn request(&self) -> Request;
}

/// Why a watcher could not keep a checkpoint or a snapshot; its own error, for it to know again.
pub type KeepError = Box<dyn std::error::Error + Send + Sync>;

/// What a training is asked to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Go,
    /// Leave, and be able to go on from this very step.
    StopAfterCheckpoint,
    /// Leave at once: the last checkpoint stands.
    Stop,
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
    #[error("failed to keep a checkpoint or a snapshot: {0}")]
    Keep(KeepError),
}

/// The state before the first step.
fn initial(executor: &dyn Executor, run: &Run, pool: &Pool) -> Checkpoint {
    let plan = executor.plan();
    let (parameters, buffers) = pool.install(|| initialize(plan, run.model.initialization, run.seed));
    let blank = executor.save();
    let optimizer = blank.optimizer.into_iter().map(|(name, slot)| (name, vec![0.0; slot.len()])).collect();
    let bank = bank::initial(blank.bank.len(), plan.projection_width(), run.seed);
    Checkpoint::of(State { parameters, buffers, optimizer, bank, step: 0 })
}

/// Trains `run`'s encoder on `data`, whose labels a loss of labels alone looks at, from its start or from the bytes a watcher kept.
pub fn pretrain(
    run: &Run,
    data: &LabelledImages,
    executor: &mut dyn Executor,
    pool: &Pool,
    resume: Option<&[u8]>,
    watcher: &mut dyn Watcher,
) -> Result<Trained, TrainError> {
    let start = match resume {
        Some(bytes) => Checkpoint::from_bytes(bytes, executor.plan())?,
        None => initial(executor, run, pool),
    };
    let mut course = Course::resume(run, &start)?;
    executor.load(&start.state);
    watcher.start(start.state.step);
    if executor.resident().is_some() {
        resident::train(&mut course, data, executor, start.state.step, watcher)?;
    } else {
        train(&mut course, data, executor, pool, start.state.step, watcher)?;
    }
    course.finish(executor)
}

/// The loop: views made here, a step ahead.
fn train(
    course: &mut Course,
    data: &LabelledImages,
    executor: &mut dyn Executor,
    pool: &Pool,
    start: u64,
    watcher: &mut dyn Watcher,
) -> Result<(), TrainError> {
    let run = course.run;
    let length = run.train.length_steps;
    if start >= length {
        return Ok(());
    }
    let pipeline = Pipeline::new(&run.views, run.model.side as usize, run.seed);
    let mut began = Instant::now();
    let first_epoch = course.order.epoch_of(start);
    let first = (course.order.examples(start), first_epoch);
    let mut supply = Supply::new(data, &pipeline, pool, run.train.loss.has_labels(), first);
    let mut views_s = began.elapsed();
    for step in start..length {
        let epoch = course.order.epoch_of(step);
        let ahead = step + 1;
        let next_epoch = course.order.epoch_of(ahead);
        let next = (ahead < length).then(|| (course.order.examples(ahead), next_epoch));
        let computing = Instant::now();
        let (loss, waited) = supply.step(next, |views, labels| executor.forward_backward_labelled(views, labels));
        let loss = f64::from(loss?);
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { what: "the loss", step });
        }
        let gradient_s = computing.elapsed().saturating_sub(waited);
        let batch = Measured { n_images: course.order.batch(), labels: supply.labels_behind() };
        let measured = course.is_measured(step).then_some(batch);
        let (detail, update_s) = metrics::update(executor, course::learning_rate(run, step), measured, pool);
        course.note(step, loss, detail)?;
        course.cost.step(epoch, run.train.batch, [views_s + waited, gradient_s], update_s, began.elapsed());
        views_s = Duration::ZERO;
        course.pause(executor, ahead, loss, watcher)?;
        began = Instant::now();
    }
    Ok(())
}
