//! Where everything of a training lies on the device: one block, laid out before it is asked for.

use crate::device::gpu::{Address, Element, GpuError};
use crate::executor::cuda::network::{Network, Pass, evaluation_images};
use crate::executor::{self, ExecutorError, Setting};
use crate::model::plan::{Op, Plan, PoolKind};
use crate::ops::contrastive::cuda::{self as contrastive, Loss};
use crate::ops::conv2d;
use crate::ops::optimizer;
use crate::ops::optimizer::cuda::Update;

/// Places start at multiples of it.
const ALIGNMENT: usize = 256;

/// Channels of a view as stored: three and padding, 16 bytes of bf16.
pub const VIEW_CHANNELS: usize = conv2d::cuda::CHANNEL_MULTIPLE;

/// Losses kept between two looks.
pub const LOSSES: usize = 1024;

/// Places of one training, by what lies there.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// f32, the Plan's order.
    pub parameters: Address,
    pub gradients: Address,
    /// Sum over the pieces of a batch; none where it comes in one.
    pub gradient_total: Address,
    pub slots: [Address; 2],
    /// Running means and variances.
    pub running: Address,
    /// What convolutions and products read.
    pub weights: Address,
    pub weight_gradients: Address,
    pub weight_table: Address,
    /// What the network reads: a piece's views, or the images of an evaluation.
    pub input: Address,
    /// Images from outside, f32 without padding.
    pub arrivals: Address,
    /// All views of a step; the very `input` where a batch comes in one piece.
    pub views: Address,
    /// Values and their gradients.
    pub arena: Address,
    /// By operation: the winning taps of a max-pool.
    pub winners: Vec<Address>,
    /// By operation: mean and inverse deviation of a batch norm, for the way back.
    pub saved: Vec<[Address; 2]>,
    /// Of one operation at a time.
    pub scratch: Address,
    /// f32, all views.
    pub projections: Address,
    pub projection_gradients: Address,
    pub anchors: Address,
    pub loss_scratch: Address,
    /// A loss's memory bank; none where there is none.
    pub bank: Address,
    /// For a loss of labels the class of every image of a step, u32.
    pub labels: Address,
    pub losses: Address,
    /// Steps done, u64.
    pub step: Address,
    pub update_table: Address,
    pub update_scratch: Address,
    /// Three f64.
    pub norms: Address,
    /// Three numbers of the embeddings.
    pub metrics: Address,
    /// A rate and a step for updates that are asked for one by one.
    pub single_rate: Address,
}

/// Hands out places one after another.
struct Layout {
    next: Address,
}

impl Layout {
    fn take(&mut self, bytes: usize) -> Address {
        let place = self.next;
        self.next = place.offset(bytes.next_multiple_of(ALIGNMENT));
        place
    }
}

impl Memory {
    /// All places from `base` on, and the bytes they take.
    pub fn lay(network: &Network, base: Address) -> (Memory, usize) {
        let mut layout = Layout { next: base };
        let mut take = |bytes: usize| layout.take(bytes);
        let (plan, setting) = (&network.plan, &network.setting);
        let floats = 4 * plan.n_parameters();
        let pieces = setting.batch / setting.piece();
        let view_bytes = view_bytes(plan, network.element);
        let input = take(view_bytes * setting.n_views * setting.piece());
        let n_slots = optimizer::slots(&setting.optimizer, 0).len();
        let loss = loss(network);
        let projections = 4 * loss.n_views * loss.width;
        let bank_bytes = contrastive::bank_bytes(&loss);
        let update = Update::new(&setting.optimizer, &plan.parameters);
        let memory = Memory {
            parameters: take(floats),
            gradients: take(floats),
            gradient_total: if pieces > 1 { take(floats) } else { Address::NONE },
            slots: [0, 1].map(|slot| if slot < n_slots { take(floats) } else { Address::NONE }),
            running: take(4 * plan.n_buffers()),
            weights: take(network.weights.bytes()),
            weight_gradients: take(network.weights.gradient_bytes()),
            weight_table: take(network.weights.table().len()),
            input,
            arrivals: take(4 * evaluation_images(setting) * plan.shape(plan.input).len()),
            views: if pieces > 1 { take(view_bytes * setting.n_views * setting.batch) } else { input },
            arena: take(network.training.arena_len.max(network.evaluation.arena_len) * network.element.bytes()),
            winners: (0..plan.ops.len()).map(|index| take(winner_bytes(network, index))).collect(),
            saved: (0..plan.ops.len()).map(|index| [saved_bytes(network, index); 2].map(&mut take)).collect(),
            scratch: take((0..plan.ops.len()).map(|index| scratch_bytes(network, index)).max().unwrap_or(0)),
            projections: take(projections),
            projection_gradients: take(projections),
            anchors: take(8 * loss.n_views),
            loss_scratch: take(contrastive::scratch_bytes(&loss)),
            bank: if bank_bytes > 0 { take(bank_bytes) } else { Address::NONE },
            labels: if setting.loss.has_labels() { take(4 * setting.batch) } else { Address::NONE },
            losses: take(8 * LOSSES),
            step: take(8),
            update_table: take(update.table().len()),
            update_scratch: take(update.scratch_bytes()),
            norms: take(3 * 8),
            metrics: take(3 * 8),
            single_rate: take(2 * 8),
        };
        let bytes = (layout.next.0 - base.0) as usize;
        (memory, bytes)
    }
}

/// The loss over all views of a step.
pub fn loss(network: &Network) -> Loss {
    Loss {
        recipe: network.setting.loss,
        n_views: network.setting.n_views * network.setting.batch,
        width: network.plan.projection_width(),
        temperature: network.setting.temperature,
    }
}

/// Bytes of one view as stored.
pub fn view_bytes(plan: &Plan, element: Element) -> usize {
    plan.shape(plan.input).positions() * VIEW_CHANNELS * element.bytes()
}

/// Bytes that a training of this setting takes, data set and the libraries' workspace not counted.
pub fn needed_bytes(plan: &Plan, setting: &Setting) -> usize {
    Memory::lay(&Network::new(plan.clone(), setting), Address(0)).1
}

/// The largest batch in one piece that takes no more than `bytes`; 0 when not even two images fit.
pub fn largest_batch(plan: &Plan, setting: &Setting, bytes: u64) -> usize {
    let fits = |batch: usize| {
        let setting = Setting { batch, micro_batch: None, ..setting.clone() };
        needed_bytes(plan, &setting) as u64 <= bytes
    };
    executor::largest_batch(setting.batch, fits)
}

/// A device's refusal in words of the whole training: what it takes with what it was refused, and the largest batch that
/// leaves room for that. `held_bytes`: of the training's own block, where it has it already; the rest is the data set, the
/// libraries' workspace, or what a neighbour took meanwhile.
pub fn refusal(plan: &Plan, setting: &Setting, held_bytes: u64, error: GpuError) -> ExecutorError {
    let GpuError::OutOfMemory { needed_bytes: refused_bytes, free_bytes } = error else { return error.into() };
    let (needed_bytes, available_bytes) = (held_bytes + refused_bytes, held_bytes + free_bytes);
    let beside_bytes = needed_bytes.saturating_sub(self::needed_bytes(plan, setting) as u64);
    let largest_batch = largest_batch(plan, setting, available_bytes.saturating_sub(beside_bytes));
    ExecutorError::OutOfGpuMemory { needed_bytes, available_bytes, largest_batch }
}

fn winner_bytes(network: &Network, index: usize) -> usize {
    match network.plan.ops[index] {
        Op::Pool2d { output, kind: PoolKind::Max, .. } => {
            network.training.batch(output).len().max(network.evaluation.batch(output).len())
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

fn saved_bytes(network: &Network, index: usize) -> usize {
    network.norm(index, Pass::Training).map_or(0, |norm| 4 * norm.saved_len())
}

fn scratch_bytes(network: &Network, index: usize) -> usize {
    let norm = network.norm(index, Pass::Training).map(|norm| 4 * norm.scratch_len());
    let layer = network.layer(index, Pass::Training).map(|layer| conv2d::cuda::scratch_bytes(&layer));
    norm.or(layer).unwrap_or(0)
}
