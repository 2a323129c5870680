//! What computes a Plan: one trait, several executors.
//!
//! An executor owns the parameters, the running statistics, the optimizer's slots and all working memory, allocated
//! once when it is built. Views come in NHWC, the N first views before the N second ones.

mod check;
pub mod cpu;
pub mod cuda;
mod layout;
#[cfg(test)]
mod parity;
pub mod reference;
mod schedule;
pub mod work;

use std::time::Duration;

use crate::data::Images;
use crate::device::cuda::plan_lock::PlanLock;
use crate::device::gpu::{Gpu, GpuError};
use crate::executor::cpu::CpuExecutor;
use crate::executor::reference::ReferenceExecutor;
use crate::experiment::recipe::{Backend, BatchNormScope, Loss, Model, Numerics, Optimizer};
use crate::model::plan::Plan;
use crate::model::registry;
use crate::ops::nt_xent::Metrics;
use crate::views::Pipeline;

/// Views an image that a contrast needs.
pub const N_VIEWS: usize = 2;

/// What an executor is built for.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Images a training step (`n_views` × `batch` views).
    pub batch: usize,
    /// Views an image: 2, which every contrast needs; 1 for a loss of labels on `cpu` and `cuda`.
    pub n_views: usize,
    /// Images a piece, where the network sees the batch in pieces and the loss sees it whole; it divides `batch`.
    pub micro_batch: Option<usize>,
    pub loss: Loss,
    /// Plays no part in a loss that has none.
    pub temperature: f32,
    pub batch_norm_scope: BatchNormScope,
    pub optimizer: Optimizer,
    pub numerics: Numerics,
    /// Worker threads; never changes a bit of any result.
    pub threads: usize,
    /// Which GPU, from 0.
    pub device: usize,
}

impl Setting {
    /// Images that go through the network at once.
    pub fn piece(&self) -> usize {
        self.micro_batch.unwrap_or(self.batch)
    }
}

/// Everything that changes while training, in torchvision's layout and the Plan's order.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub parameters: Vec<f32>,
    /// Running means and variances.
    pub buffers: Vec<f32>,
    /// The optimizer's slots by name, each as long as `parameters`: `momentum`, or `first_moment` and `second_moment`. Empty without momentum.
    pub optimizer: Vec<(&'static str, Vec<f32>)>,
    /// The memory bank of a loss that has one, a unit vector a row; else empty.
    pub bank: Vec<f32>,
    /// Updates done so far.
    pub step: u64,
}

/// Refuses labels that a loss cannot learn from: one for each of `n_images` and below the logits' number where it has labels.
fn check_labels(loss: Loss, labels: &[u32], n_images: usize, width: usize) -> Result<(), ExecutorError> {
    if !loss.has_labels() {
        return Ok(());
    }
    if labels.len() != n_images {
        return Err(ExecutorError::Device(format!("expected the labels of {n_images} images, found {}", labels.len())));
    }
    match labels.iter().find(|&&label| label as usize >= width) {
        Some(label) => Err(ExecutorError::Device(format!("a label of {label}: the classifier has {width} classes"))),
        None => Ok(()),
    }
}

/// Euclidean norms over all parameters, summed in f64 in the executor's own order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateNorms {
    pub gradient: f64,
    /// Of the parameters after the update.
    pub parameter: f64,
    pub update: f64,
}

impl UpdateNorms {
    fn of(gradients: &[f32], before: &[f32], after: &[f32]) -> UpdateNorms {
        let square = |value: f32| f64::from(value) * f64::from(value);
        let moved = after.iter().zip(before).map(|(new, old)| square(new - old));
        UpdateNorms {
            gradient: gradients.iter().map(|&value| square(value)).sum::<f64>().sqrt(),
            parameter: after.iter().map(|&value| square(value)).sum::<f64>().sqrt(),
            update: moved.sum::<f64>().sqrt(),
        }
    }
}

/// Why a computation gave no number.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ExecutorError {
    #[error("needs {needed_bytes} bytes of memory, {available_bytes} are available: {}", what_fits(*largest_batch))]
    OutOfMemory { needed_bytes: u64, available_bytes: u64, largest_batch: usize },
    #[error("needs {needed_bytes} bytes of the GPU's memory, {available_bytes} are free: {}", what_fits(*largest_batch))]
    OutOfGpuMemory { needed_bytes: u64, available_bytes: u64, largest_batch: usize },
    #[error(transparent)]
    Gpu(#[from] GpuError),
    #[error("this CPU lacks {missing}, which the `cpu` executor needs to give the same bits on every machine")]
    MissingInstructions { missing: &'static str },
    #[error("{0}")]
    Device(String),
}

/// Time spent in the parts of `forward_backward` since the executor was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// Of all views; a batch in pieces goes through it twice.
    pub forward: Duration,
    pub loss: Duration,
    pub backward: Duration,
}

impl Phases {
    /// What was spent after `before`.
    pub fn since(&self, before: &Phases) -> Phases {
        Phases {
            forward: self.forward - before.forward,
            loss: self.loss - before.loss,
            backward: self.backward - before.backward,
        }
    }
}

fn what_fits(largest_batch: usize) -> String {
    match largest_batch {
        0 => "no batch of this model fits".to_owned(),
        batch => format!("the largest batch that fits is {batch}; `micro_batch` takes a larger one in pieces"),
    }
}

/// The largest batch in one piece, below `above`, that fits; 0 when not even two images do.
fn largest_batch(above: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (1, above.max(2));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    if low < 2 { 0 } else { low }
}

/// A training as an executor sees it that keeps the images and makes the views by itself.
pub struct Feed<'a> {
    pub images: &'a Images,
    /// The class of every image, which a loss of labels alone looks at.
    pub labels: &'a [u32],
    pub pipeline: &'a Pipeline,
    pub steps_per_epoch: u64,
    /// The rate of every step, from step 0 on.
    pub learning_rates: &'a [f64],
}

/// What came of some steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps {
    /// The loss of each.
    pub losses: Vec<f32>,
    /// Of the last, where it was to be measured.
    pub detail: Option<(UpdateNorms, Metrics)>,
}

/// An executor that runs whole steps: views, forward, loss, backward, update.
pub trait Resident {
    /// Takes the images and the rates in. `load` may come before or after.
    fn attach(&mut self, feed: &Feed) -> Result<(), ExecutorError>;

    /// The next `n` steps, all of one epoch, whose examples in order are `order`.
    fn steps(&mut self, epoch: u32, order: &[u32], n: usize, measured: bool) -> Result<Steps, ExecutorError>;

    /// Backbone features in evaluation mode of all `images`, n × feature width; none when `go_on` says no on the way.
    fn features_of(
        &mut self,
        images: &Images,
        pipeline: &Pipeline,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Vec<f32>>, ExecutorError>;

    /// The device, for evaluations that run on it.
    fn gpu(&mut self) -> &mut dyn Gpu;
}

pub trait Executor {
    fn plan(&self) -> &Plan;

    /// Replaces everything that changes while training.
    ///
    /// # Panics
    /// When a length differs from the Plan's: a checkpoint is checked before it gets here.
    fn load(&mut self, state: &State);

    fn save(&self) -> State;

    /// Forward in training mode, the loss and backward: fills the gradients, moves the running statistics and a memory bank,
    /// returns the loss.
    /// `views`: n_views·batch × side × side × 3. `labels`: for a loss of labels the class of every image, which all its views have; no
    /// other loss looks at them.
    fn forward_backward_labelled(&mut self, views: &[f32], labels: &[u32]) -> Result<f32, ExecutorError>;

    /// The same for a loss without labels.
    fn forward_backward(&mut self, views: &[f32]) -> Result<f32, ExecutorError> {
        self.forward_backward_labelled(views, &[])
    }

    /// One optimizer step with the gradients of the last `forward_backward`.
    fn update(&mut self, learning_rate: f64);

    /// As `update`, and measures it.
    fn update_measured(&mut self, learning_rate: f64) -> UpdateNorms;

    /// The projections of the last `forward_backward`: n_views·batch × projection width, before normalisation.
    fn projections(&self) -> Vec<f32>;

    /// The gradients of the last `forward_backward`, laid out as `State::parameters`.
    fn gradients(&self) -> Vec<f32>;

    /// Backbone features in evaluation mode (running statistics), n × feature width. `images`: n × side × side × 3, any n.
    fn features(&mut self, images: &[f32]) -> Result<Vec<f32>, ExecutorError>;

    /// Where the time of `forward_backward` went, where its parts are timed.
    fn phases(&self) -> Option<Phases> {
        None
    }

    /// This executor as one that runs whole steps, where it can.
    fn resident(&mut self) -> Option<&mut dyn Resident> {
        None
    }
}

/// The executor of a backend for one of the compiled models.
///
/// # Errors
/// A model that was not compiled, a machine that cannot, too little memory, a micro-batch for `reference`.
pub fn build(model: &Model, setting: &Setting, backend: Backend) -> Result<Box<dyn Executor>, ExecutorError> {
    build_locked(model, setting, backend, &PlanLock::default())
}

/// As [`build`]; a GPU computes its convolutions as the lock says.
///
/// # Errors
/// As `build`, and a lock that does not work here.
pub fn build_locked(
    model: &Model,
    setting: &Setting,
    backend: Backend,
    lock: &PlanLock,
) -> Result<Box<dyn Executor>, ExecutorError> {
    let not_compiled = |error: registry::NotCompiled| ExecutorError::Device(error.to_string());
    match backend {
        Backend::Cpu => Ok(Box::new(CpuExecutor::new(registry::plan(model).map_err(not_compiled)?, setting)?)),
        Backend::Reference if setting.n_views != N_VIEWS => Err(ExecutorError::Device(format!(
            "{} views an image: the `reference` executor has no other than 2",
            setting.n_views
        ))),
        Backend::Reference if setting.micro_batch.is_some() => {
            Err(ExecutorError::Device("the `reference` executor sees a batch in one piece".to_owned()))
        }
        Backend::Reference => Ok(Box::new(ReferenceExecutor::new(model, setting).map_err(not_compiled)?)),
        Backend::Cuda => {
            let plan = registry::plan(model).map_err(not_compiled)?;
            Ok(Box::new(cuda::on_device_locked(plan, setting, lock)?))
        }
    }
}
