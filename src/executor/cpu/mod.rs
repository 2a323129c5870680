//! The `cpu` executor: a Plan on the processor's threads, f32, the same bits for any number of them.
//!
//! All views of a piece (the whole batch, or a micro-batch) go through every operation together; only batch-norm
//! statistics are each view's own. All memory is one arena whose places are given before the first step.

mod backward;
mod forward;
mod memory;
mod step;
#[cfg(test)]
pub mod tests;
mod weights;

use std::sync::Arc;
use std::time::Duration;

pub use memory::{Memory, needed_bytes};

use crate::device::{self, Pool};
use crate::executor::cpu::memory::{EVALUATION_IMAGES, n_winners};
use crate::executor::cpu::step::Pieces;
use crate::executor::schedule::Schedule;
use crate::executor::{Executor, ExecutorError, N_VIEWS, Phases, Setting, State, UpdateNorms, check, check_labels};
use crate::model::plan::{Op, Plan};
use crate::ops::batch_norm::{Normalization, Statistics};
use crate::ops::contrastive::Objective;
use crate::ops::optimizer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Training,
    /// As `Training`, for a piece of a batch that was seen before: running statistics stay as they are.
    Again,
    Evaluation,
}

/// Time spent in one operation since the executor was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpTime {
    pub forward: Duration,
    /// All of the backward pass.
    pub backward: Duration,
    /// The part of it that is the gradient of a weight, of a convolution or a linear layer. A batch norm's parameters have theirs from the
    /// sums that the gradient of its input needs.
    pub backward_weight: Duration,
}

/// A Plan, its parameters in the executor's own layout, and all memory of a step.
pub struct CpuExecutor {
    plan: Plan,
    setting: Setting,
    pool: Arc<Pool>,
    training: Schedule,
    evaluation: Schedule,
    arena: Vec<f32>,
    /// Of the convolution at work: its weight as a pass reads it, or parts of its gradient.
    scratch: Vec<f32>,
    parameters: Vec<f32>,
    gradients: Vec<f32>,
    buffers: Vec<f32>,
    slots: Vec<(&'static str, Vec<f32>)>,
    updater: optimizer::Updater,
    step: u64,
    /// By operation; present for batch norms.
    normalizations: Vec<Option<Normalization>>,
    /// By operation: the batch norm that a convolution sums its output for.
    summed_for: Vec<Option<usize>>,
    /// By operation: the winning taps of a max-pool.
    winners: Vec<Vec<u8>>,
    statistics: Statistics,
    /// Of the whole batch.
    projections: Vec<f32>,
    pieces: Pieces,
    objective: Objective,
    timings: Vec<OpTime>,
    phases: Phases,
}

impl CpuExecutor {
    /// Parameters are 0 until `load`.
    ///
    /// # Errors
    /// `MissingInstructions` without AVX2 and FMA, `OutOfMemory` before anything is allocated, `Device` for a Plan that
    /// contradicts itself.
    pub fn new(plan: Plan, setting: &Setting) -> Result<CpuExecutor, ExecutorError> {
        if let Some(missing) = device::missing_instructions() {
            return Err(ExecutorError::MissingInstructions { missing });
        }
        if setting.batch == 0 {
            return Err(ExecutorError::Device("a step of 0 images: expected a batch of at least 1".to_owned()));
        }
        if setting.piece() == 0 || !setting.batch.is_multiple_of(setting.piece()) {
            let (batch, images) = (setting.batch, setting.piece());
            return Err(ExecutorError::Device(format!("a batch of {batch} does not come in pieces of {images}")));
        }
        if setting.n_views == 0 || setting.n_views != N_VIEWS && !setting.loss.has_labels() {
            return Err(ExecutorError::Device(format!("a contrast of {} views an image", setting.n_views)));
        }
        if let Some(refusal) = check::refusal(&plan) {
            return Err(ExecutorError::Device(refusal));
        }
        Memory::of(&plan, setting).ensure_available(&plan, setting)?;
        let training = Schedule::training(&plan, setting.n_views * setting.piece(), setting.n_views);
        let evaluation = Schedule::evaluation(&plan, EVALUATION_IMAGES);
        let normalizations = plan.ops.iter().map(|op| normalization(op, &training, setting)).collect();
        let n_parameters = plan.n_parameters();
        let mut buffers = Vec::with_capacity(plan.n_buffers());
        plan.buffers.iter().for_each(|buffer| buffers.extend(std::iter::repeat_n(buffer.initial, buffer.len)));
        let (n_rows, width) = (setting.n_views * setting.batch, plan.projection_width());
        Ok(CpuExecutor {
            pool: Arc::new(Pool::new(setting.threads)),
            arena: vec![0.0; training.arena_len.max(evaluation.arena_len)],
            scratch: vec![0.0; training.longest_scratch(&plan)],
            parameters: vec![0.0; n_parameters],
            gradients: vec![0.0; n_parameters],
            buffers,
            slots: optimizer::slots(&setting.optimizer, n_parameters),
            updater: optimizer::Updater::new(&setting.optimizer, &plan.parameters),
            step: 0,
            normalizations,
            summed_for: summed_for(&plan),
            winners: plan.ops.iter().map(|op| vec![0; n_winners(op, &training, &evaluation)]).collect(),
            statistics: Statistics::default(),
            projections: vec![0.0; n_rows * width],
            pieces: Pieces::new(&plan, setting),
            objective: Objective::new(setting.loss, setting.temperature, n_rows, width),
            timings: vec![OpTime::default(); plan.ops.len()],
            phases: Phases::default(),
            setting: setting.clone(),
            training,
            evaluation,
            plan,
        })
    }

    /// Where the time went, an entry for each operation of the Plan.
    pub fn timings(&self) -> &[OpTime] {
        &self.timings
    }

    /// Runs inside the pool: every parallel loop of the operations uses its threads.
    fn in_pool<R: Send>(&mut self, work: impl FnOnce(&mut CpuExecutor) -> R + Send) -> R {
        let pool = Arc::clone(&self.pool);
        pool.install(|| work(self))
    }
}

fn normalization(op: &Op, training: &Schedule, setting: &Setting) -> Option<Normalization> {
    match *op {
        Op::BatchNorm { input, .. } => Some(Normalization::new(training.batch(input), setting.batch_norm_scope)),
        Op::Conv2d { .. }
        | Op::Activate { .. }
        | Op::Add { .. }
        | Op::Pool2d { .. }
        | Op::GlobalAveragePool { .. }
        | Op::Linear { .. } => None,
    }
}

/// For every convolution the first batch norm that reads it.
fn summed_for(plan: &Plan) -> Vec<Option<usize>> {
    let reads = |index: usize, value| matches!(plan.ops[index], Op::BatchNorm { input, .. } if input == value);
    let of_op = |op: &Op| match *op {
        Op::Conv2d { output, .. } => (0..plan.ops.len()).find(|index| reads(*index, output)),
        Op::BatchNorm { .. }
        | Op::Activate { .. }
        | Op::Add { .. }
        | Op::Pool2d { .. }
        | Op::GlobalAveragePool { .. }
        | Op::Linear { .. } => None,
    };
    plan.ops.iter().map(of_op).collect()
}

impl Executor for CpuExecutor {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn load(&mut self, state: &State) {
        assert_eq!(state.parameters.len(), self.parameters.len(), "parameters of the state and the Plan");
        assert_eq!(state.buffers.len(), self.buffers.len(), "running statistics of the state and the Plan");
        let names = |slots: &[(&'static str, Vec<f32>)]| slots.iter().map(|slot| slot.0).collect::<Vec<_>>();
        assert_eq!(names(&state.optimizer), names(&self.slots), "optimizer slots of the state and the setting");
        weights::from_torch(&self.plan, &state.parameters, &mut self.parameters);
        for ((_, torch), (_, own)) in state.optimizer.iter().zip(&mut self.slots) {
            weights::from_torch(&self.plan, torch, own);
        }
        self.buffers.copy_from_slice(&state.buffers);
        self.objective.load_bank(&state.bank);
        self.step = state.step;
    }

    fn save(&self) -> State {
        State {
            parameters: weights::to_torch(&self.plan, &self.parameters),
            buffers: self.buffers.clone(),
            optimizer: self.slots.iter().map(|(name, slot)| (*name, weights::to_torch(&self.plan, slot))).collect(),
            bank: self.objective.bank().to_vec(),
            step: self.step,
        }
    }

    fn forward_backward_labelled(&mut self, views: &[f32], labels: &[u32]) -> Result<f32, ExecutorError> {
        let expected = self.setting.n_views * self.setting.batch * self.plan.shape(self.plan.input).len();
        if views.len() != expected {
            return Err(ExecutorError::Device(format!("expected {expected} numbers of views, found {}", views.len())));
        }
        check_labels(self.setting.loss, labels, self.setting.batch, self.plan.projection_width())?;
        Ok(self.in_pool(|executor| executor.train(views, labels)))
    }

    fn update(&mut self, learning_rate: f64) {
        let step = optimizer::Step { number: self.step, learning_rate };
        self.updater.update(&mut self.parameters, &self.gradients, &mut self.slots, step, &self.pool);
        self.step += 1;
    }

    fn update_measured(&mut self, learning_rate: f64) -> UpdateNorms {
        let before = self.parameters.clone();
        self.update(learning_rate);
        UpdateNorms::of(&self.gradients, &before, &self.parameters)
    }

    fn projections(&self) -> Vec<f32> {
        self.projections.clone()
    }

    fn gradients(&self) -> Vec<f32> {
        weights::to_torch(&self.plan, &self.gradients)
    }

    fn phases(&self) -> Option<Phases> {
        Some(self.phases)
    }

    fn features(&mut self, images: &[f32]) -> Result<Vec<f32>, ExecutorError> {
        let image_len = self.plan.shape(self.plan.input).len();
        if image_len == 0 || !images.len().is_multiple_of(image_len) {
            return Err(ExecutorError::Device(format!("{} numbers are no images of {image_len}", images.len())));
        }
        let mut features = Vec::with_capacity(images.len() / image_len * self.plan.feature_width());
        let full = self.evaluation.clone();
        for chunk in images.chunks(EVALUATION_IMAGES * image_len) {
            self.evaluation = full.clone();
            self.evaluation.set_images(chunk.len() / image_len);
            let place = self.evaluation.value(self.plan.input);
            let input = self.evaluation.batch(self.plan.input);
            self.in_pool(|executor| {
                input.from_images(chunk, &mut executor.arena[place]);
                executor.forward(Pass::Evaluation);
            });
            features.extend_from_slice(&self.arena[self.evaluation.value(self.plan.features)]);
        }
        self.evaluation = full;
        Ok(features)
    }
}
