//! Memory of the executor: one arena for values and gradients, and what the system has to give.

use std::ops::Range;

use crate::executor::cpu::step::Pieces;
use crate::executor::schedule::Schedule;
use crate::executor::{self, ExecutorError, Setting};
use crate::model::plan::{Op, Plan, PoolKind};
use crate::ops::batch_norm::Normalization;
use crate::ops::conv2d::{self, Convolution};
use crate::ops::{contrastive, optimizer};

/// Images evaluated at once.
pub const EVALUATION_IMAGES: usize = 256;

/// The parts of the arena at `ranges`, all at once. Empty ranges at 0 stand for what an operation does not have.
///
/// # Panics
/// When two overlap: the schedule keeps what is alive together apart.
pub fn parts<const N: usize>(arena: &mut [f32], ranges: [Range<usize>; N]) -> [&mut [f32]; N] {
    arena.get_disjoint_mut(ranges).expect("values alive at the same time lie apart")
}

/// Bytes that an executor of `plan` takes, known without allocating them; the loss works in a little more.
pub fn needed_bytes(plan: &Plan, setting: &Setting) -> u64 {
    let training = Schedule::training(plan, setting.n_views * setting.piece(), setting.n_views);
    let evaluation = Schedule::evaluation(plan, EVALUATION_IMAGES);
    let n_slots = optimizer::slots(&setting.optimizer, 0).len();
    let projections = setting.n_views * setting.batch * plan.projection_width();
    let floats = training.arena_len.max(evaluation.arena_len)
        + training.longest_scratch(plan)
        + plan.n_parameters() * (2 + n_slots)
        + plan.n_buffers()
        + projections
        + contrastive::bank_len(setting.loss, plan.projection_width())
        + Pieces::n_numbers(plan, setting);
    let of_ops: u64 =
        plan.ops.iter().map(|op| op_bytes(op, &training) + n_winners(op, &training, &evaluation) as u64).sum();
    let working = setting.threads * plan.ops.iter().map(|op| working_len(op, &training)).max().unwrap_or(0);
    ((floats + working) * size_of::<f32>()) as u64 + of_ops
}

/// Numbers that one thread works in.
fn working_len(op: &Op, schedule: &Schedule) -> usize {
    match *op {
        Op::Conv2d { input, output, window, .. } => {
            let (input, output) = (schedule.batch(input), schedule.batch(output));
            conv2d::cpu::working_len(&Convolution { input, output, window })
        }
        Op::BatchNorm { .. }
        | Op::Activate { .. }
        | Op::Add { .. }
        | Op::Pool2d { .. }
        | Op::GlobalAveragePool { .. }
        | Op::Linear { .. } => 0,
    }
}

/// What a training takes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub needed_bytes: u64,
    /// Where the system says.
    pub available_bytes: Option<u64>,
}

impl Memory {
    pub fn of(plan: &Plan, setting: &Setting) -> Memory {
        Memory { needed_bytes: needed_bytes(plan, setting), available_bytes: available_bytes() }
    }

    /// Refuses what the system cannot give, where the system says what it has.
    ///
    /// # Errors
    /// `OutOfMemory`, with the largest batch that would do.
    pub fn ensure_available(&self, plan: &Plan, setting: &Setting) -> Result<(), ExecutorError> {
        let Some(available_bytes) = self.available_bytes.filter(|available| self.needed_bytes > *available) else {
            return Ok(());
        };
        let fits = |batch: usize| {
            needed_bytes(plan, &Setting { batch, micro_batch: None, ..setting.clone() }) <= available_bytes
        };
        let largest_batch = executor::largest_batch(setting.batch, fits);
        Err(ExecutorError::OutOfMemory { needed_bytes: self.needed_bytes, available_bytes, largest_batch })
    }
}

fn op_bytes(op: &Op, schedule: &Schedule) -> u64 {
    match *op {
        Op::BatchNorm { input, .. } => Normalization::bytes(&schedule.batch(input)),
        Op::Conv2d { .. }
        | Op::Activate { .. }
        | Op::Add { .. }
        | Op::Pool2d { .. }
        | Op::GlobalAveragePool { .. }
        | Op::Linear { .. } => 0,
    }
}

/// Winning taps that a max-pool notes, a byte each.
pub fn n_winners(op: &Op, training: &Schedule, evaluation: &Schedule) -> usize {
    match *op {
        Op::Pool2d { output, kind: PoolKind::Max, .. } => {
            training.batch(output).len().max(evaluation.batch(output).len())
        }
        Op::Pool2d { kind: PoolKind::Average, .. }
        | Op::Conv2d { .. }
        | Op::BatchNorm { .. }
        | Op::Activate { .. }
        | Op::Add { .. }
        | Op::GlobalAveragePool { .. }
        | Op::Linear { .. } => 0,
    }
}

/// Linux' own estimate of what can be allocated without swapping.
fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
