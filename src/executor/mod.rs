//! What computes a Plan: one trait, several executors.
//!
//! An executor owns the parameters, the running statistics, the optimizer's slots and all working memory, allocated
//! once when it is built. Views come in NHWC, the N first views before the N second ones.

pub mod cpu;
#[cfg(test)]
mod parity;
pub mod reference;

use crate::executor::cpu::CpuExecutor;
use crate::executor::reference::ReferenceExecutor;
use crate::experiment::recipe::{Backend, BatchNormScope, Model, Optimizer};
use crate::model::plan::Plan;
use crate::model::registry;

/// What an executor is built for.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Images a training step (2 × `batch` views).
    pub batch: usize,
    pub temperature: f32,
    pub batch_norm_scope: BatchNormScope,
    pub optimizer: Optimizer,
    /// Worker threads; never changes a bit of any result.
    pub threads: usize,
}

/// Everything that changes while training, in torchvision's layout and the Plan's order.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub parameters: Vec<f32>,
    /// Running means and variances.
    pub buffers: Vec<f32>,
    /// The optimizer's slots by name, each as long as `parameters`: `momentum`, or `first_moment` and `second_moment`. Empty without momentum.
    pub optimizer: Vec<(&'static str, Vec<f32>)>,
    /// Updates done so far.
    pub step: u64,
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
    #[error("needs {needed_bytes} bytes of memory, {available_bytes} are available")]
    OutOfMemory { needed_bytes: u64, available_bytes: u64 },
    #[error("this CPU lacks {missing}, which the `cpu` executor needs to give the same bits on every machine")]
    MissingInstructions { missing: &'static str },
    #[error("{0}")]
    Device(String),
}

pub trait Executor {
    fn plan(&self) -> &Plan;

    /// Replaces everything that changes while training.
    ///
    /// # Panics
    /// When a length differs from the Plan's: a checkpoint is checked before it gets here.
    fn load(&mut self, state: &State);

    fn save(&self) -> State;

    /// Forward in training mode, NT-Xent and backward: fills the gradients, moves the running statistics, returns the loss.
    /// `views`: 2·batch × side × side × 3.
    fn forward_backward(&mut self, views: &[f32]) -> Result<f32, ExecutorError>;

    /// One optimizer step with the gradients of the last `forward_backward`.
    fn update(&mut self, learning_rate: f64);

    /// As `update`, and measures it.
    fn update_measured(&mut self, learning_rate: f64) -> UpdateNorms;

    /// The projections of the last `forward_backward`: 2·batch × projection width, before normalisation.
    fn projections(&self) -> Vec<f32>;

    /// The gradients of the last `forward_backward`, laid out as `State::parameters`.
    fn gradients(&self) -> Vec<f32>;

    /// Backbone features in evaluation mode (running statistics), n × feature width. `images`: n × side × side × 3, any n.
    fn features(&mut self, images: &[f32]) -> Result<Vec<f32>, ExecutorError>;
}

/// The executor of a backend for one of the compiled models.
///
/// # Errors
/// A model that was not compiled, a machine that cannot, too little memory.
pub fn build(model: &Model, setting: &Setting, backend: Backend) -> Result<Box<dyn Executor>, ExecutorError> {
    let not_compiled = |error: registry::NotCompiled| ExecutorError::Device(error.to_string());
    match backend {
        Backend::Cpu => Ok(Box::new(CpuExecutor::new(registry::plan(model).map_err(not_compiled)?, setting)?)),
        Backend::Reference => Ok(Box::new(ReferenceExecutor::new(model, setting).map_err(not_compiled)?)),
        Backend::Cuda => Err(ExecutorError::Device("this version has no CUDA executor".to_owned())),
    }
}
