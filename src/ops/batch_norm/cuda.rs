//! Batch norm on a GPU: partial moments, then statistics and output in one pass; backward alike.
//!
//! Moments are f32, each part's about its own mean, merged in an order that shapes alone decide. Where the parts are few,
//! every block of the second pass merges them again; where they are many, a launch between the two does it once.

use crate::device::gpu::{Address, Element, Node, Source};
use crate::model::plan::Activation;
use crate::ops::batch_norm::partition::Partition;
use crate::ops::kernels::{Delivery, flag, int, launch, pointer};

pub const SOURCE: Source =
    Source { name: "batch_norm", text: concat!(include_str!("kernel.cu"), include_str!("gradient.cu")) };

/// As in the kernels: channels and threads of a block.
const TILE_CHANNELS: usize = 64;
const THREADS: u32 = 256;
/// As in the kernels that fold many parts to one.
const FOLD_CHANNELS: usize = 16;
const FOLD_THREADS: u32 = 512;

/// A mean and a sum of squares, or two sums, of f32.
const PARTIAL_LEN: usize = 2;

/// Sizes of one batch norm. Maps are images × positions × channels of `element`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Norm {
    /// Of all views.
    pub images: usize,
    /// Height × width, 1 of a vector.
    pub positions: usize,
    pub channels: usize,
    /// Equal runs of images with statistics of their own: 2, or 1 for all together.
    pub groups: usize,
    pub element: Element,
    pub activation: Activation,
}

/// Where the numbers of one batch norm lie, all f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Channels.
    pub scale: Address,
    /// Channels.
    pub shift: Address,
    /// Groups × channels, left by `forward` for `backward`.
    pub mean: Address,
    /// Groups × channels: 1/√(var + ε), left by `forward` for `backward`.
    pub inverse_deviation: Address,
    /// `Norm::scratch_len` numbers that nobody needs between two calls.
    pub scratch: Address,
}

/// What a backward pass reads and leaves.
///
/// `dx` or `d_residual` may be written over `dy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backward {
    pub x: Address,
    /// The output; none unless the activation is ReLU and there is a residual.
    pub y: Address,
    /// None unless the activation is SiLU and there is a residual.
    pub residual: Address,
    pub has_residual: bool,
    pub dy: Address,
    pub dx: Delivery,
    pub d_residual: Delivery,
    /// Channels of f32, written.
    pub d_scale: Address,
    /// Channels of f32, written.
    pub d_shift: Address,
}

impl Norm {
    /// f32 numbers of scratch for either pass.
    pub fn scratch_len(&self) -> usize {
        self.scratch_len_of(self.partition().parts)
    }

    /// f32 numbers that `forward` leaves at `Parts::mean`, and as many at `Parts::inverse_deviation`.
    pub fn saved_len(&self) -> usize {
        self.groups * self.channels
    }

    pub(super) fn scratch_len_of(&self, parts: usize) -> usize {
        PARTIAL_LEN * (parts + 1) * self.groups * self.channels
    }

    /// Rows a group.
    fn rows(&self) -> usize {
        self.images / self.groups.max(1) * self.positions
    }

    fn is_empty(&self) -> bool {
        self.rows() == 0 || self.channels == 0
    }

    fn tiles(&self) -> usize {
        self.channels.div_ceil(TILE_CHANNELS)
    }

    fn partition(&self) -> Partition {
        Partition::of(self.rows(), self.tiles() * self.groups)
    }
}

/// What every launch of one call needs.
struct Call<'a> {
    norm: &'a Norm,
    parts: &'a Parts,
    partition: Partition,
    /// Channels go by eights and every place is a multiple of 16.
    vector: bool,
}

impl<'a> Call<'a> {
    fn new(norm: &'a Norm, parts: &'a Parts, partition: Partition, places: &[Address]) -> Call<'a> {
        let vector = norm.channels.is_multiple_of(8) && places.iter().all(|place| place.0.is_multiple_of(16));
        Call { norm, parts, partition, vector }
    }

    /// Blocks of the first pass.
    fn parts_grid(&self) -> [usize; 3] {
        [self.norm.tiles(), self.partition.parts, self.norm.groups]
    }

    /// Blocks of the second pass.
    fn rows_grid(&self) -> [usize; 3] {
        let row_blocks = self.norm.rows().div_ceil(self.partition.rows_per_block);
        [self.norm.tiles(), row_blocks, self.norm.groups]
    }

    /// Where folded partials lie: behind the parts.
    fn folded(&self) -> Address {
        let len = PARTIAL_LEN * self.partition.parts * self.norm.groups * self.norm.channels;
        self.parts.scratch.offset(len * size_of::<f32>())
    }

    /// What the second pass reads: place, parts, rows of each.
    fn partials(&self) -> (Address, usize, usize) {
        let (parts, rows_per_part) = self.partition.remaining(self.norm.rows());
        (if self.partition.folded { self.folded() } else { self.parts.scratch }, parts, rows_per_part)
    }

    fn moments(&self, x: Address) -> Vec<Node> {
        let Call { norm, parts, partition, .. } = self;
        let arguments = vec![
            pointer(parts.scratch),
            pointer(x),
            int(norm.rows()),
            int(norm.channels),
            int(partition.rows_per_part),
            flag(self.vector),
        ];
        let mut nodes = vec![launch("batch_norm_moments", self.parts_grid(), [THREADS, 1, 1], arguments)];
        if partition.folded {
            let arguments = vec![
                pointer(self.folded()),
                pointer(parts.scratch),
                int(norm.rows()),
                int(norm.channels),
                int(partition.parts),
                int(partition.rows_per_part),
            ];
            let grid = [norm.channels.div_ceil(FOLD_CHANNELS), norm.groups, 1];
            nodes.push(launch("batch_norm_fold_moments", grid, [FOLD_THREADS, 1, 1], arguments));
        }
        nodes
    }

    /// The second pass of `forward`, or with no partials the only one of `evaluate`.
    fn apply(
        &self,
        (partials, n_parts, rows_per_part): (Address, usize, usize),
        x: Address,
        residual: Option<Address>,
        running: Option<[Address; 2]>,
        y: Address,
    ) -> Node {
        let Call { norm, parts, partition, .. } = self;
        let [running_mean, running_var] = running.unwrap_or([Address::NONE; 2]);
        let arguments = vec![
            pointer(y),
            pointer(x),
            pointer(residual.unwrap_or(Address::NONE)),
            pointer(parts.scale),
            pointer(parts.shift),
            pointer(partials),
            pointer(parts.mean),
            pointer(parts.inverse_deviation),
            pointer(running_mean),
            pointer(running_var),
            int(norm.rows()),
            int(norm.channels),
            int(n_parts),
            int(rows_per_part),
            int(partition.rows_per_block),
            int(activation_number(norm.activation)),
            flag(self.vector),
        ];
        launch("batch_norm_apply", self.rows_grid(), [THREADS, 1, 1], arguments)
    }

    fn gradient_sums(&self, backward: &Backward) -> Node {
        let Call { norm, parts, partition, .. } = self;
        let (derivative, side) = derivative(norm, backward);
        let delivery = match backward.d_residual {
            Delivery::Skip => 0,
            // It is there already.
            Delivery::Write(dz) if dz == backward.dy && derivative == Derivative::Identity => 0,
            Delivery::Write(_) => 1,
            Delivery::Accumulate(_) => 2,
        };
        let arguments = vec![
            pointer(parts.scratch),
            pointer(backward.d_residual.address()),
            pointer(backward.x),
            pointer(side),
            pointer(backward.dy),
            pointer(parts.scale),
            pointer(parts.shift),
            pointer(parts.mean),
            pointer(parts.inverse_deviation),
            int(norm.rows()),
            int(norm.channels),
            int(partition.rows_per_part),
            int(derivative as usize),
            int(delivery),
            flag(self.vector),
        ];
        launch("batch_norm_gradient_sums", self.parts_grid(), [THREADS, 1, 1], arguments)
    }

    fn fold_gradients(&self, backward: &Backward) -> Node {
        let Call { norm, parts, partition, .. } = self;
        let arguments = vec![
            pointer(self.folded()),
            pointer(backward.d_scale),
            pointer(backward.d_shift),
            pointer(parts.scratch),
            int(norm.channels),
            int(partition.parts),
            int(norm.groups),
        ];
        let grid = [norm.channels.div_ceil(FOLD_CHANNELS), 1, 1];
        launch("batch_norm_fold_gradients", grid, [FOLD_THREADS, 1, 1], arguments)
    }

    fn gradient_apply(&self, backward: &Backward) -> Node {
        let Call { norm, parts, partition, .. } = self;
        let (partials, n_parts, _) = self.partials();
        let mut settled = [backward.d_scale, backward.d_shift];
        if partition.folded {
            settled = [Address::NONE; 2];
        }
        // The first pass has left dz where it was to be written.
        let ((derivative, side), dz) = match backward.d_residual {
            Delivery::Write(dz) => ((Derivative::Identity, Address::NONE), dz),
            Delivery::Skip | Delivery::Accumulate(_) => (derivative(norm, backward), backward.dy),
        };
        let arguments = vec![
            pointer(backward.dx.address()),
            pointer(backward.x),
            pointer(side),
            pointer(dz),
            pointer(parts.scale),
            pointer(parts.shift),
            pointer(parts.mean),
            pointer(parts.inverse_deviation),
            pointer(partials),
            pointer(settled[0]),
            pointer(settled[1]),
            int(norm.rows()),
            int(norm.channels),
            int(n_parts),
            int(partition.rows_per_block),
            int(derivative as usize),
            flag(backward.dx.accumulates()),
            flag(self.vector),
        ];
        launch("batch_norm_gradient_apply", self.rows_grid(), [THREADS, 1, 1], arguments)
    }
}

/// As in the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Derivative {
    Identity = 0,
    ReluOfInput = 1,
    ReluOfOutput = 2,
    Silu = 3,
}

/// How dz follows from dy, and what is read for it besides.
fn derivative(norm: &Norm, backward: &Backward) -> (Derivative, Address) {
    match (norm.activation, backward.has_residual) {
        (Activation::Identity, _) => (Derivative::Identity, Address::NONE),
        (Activation::Relu, false) => (Derivative::ReluOfInput, Address::NONE),
        (Activation::Relu, true) => (Derivative::ReluOfOutput, backward.y),
        (Activation::Silu, false) => (Derivative::Silu, Address::NONE),
        (Activation::Silu, true) => (Derivative::Silu, backward.residual),
    }
}

fn activation_number(activation: Activation) -> usize {
    match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::Silu => 2,
    }
}

/// y = activation(scale · x̂ + shift [+ residual]) with the statistics of each group, which are saved; the running mean and
/// unbiased variance move by a tenth, group after group. `y` is another place than `x`.
pub fn forward(
    norm: &Norm,
    parts: &Parts,
    x: Address,
    residual: Option<Address>,
    running: Option<[Address; 2]>,
    y: Address,
) -> Vec<Node> {
    forward_in(norm.partition(), norm, parts, [Some(x), residual, Some(y)], running)
}

/// `places`: x, the residual, y.
pub(super) fn forward_in(
    partition: Partition,
    norm: &Norm,
    parts: &Parts,
    places: [Option<Address>; 3],
    running: Option<[Address; 2]>,
) -> Vec<Node> {
    if norm.is_empty() {
        return Vec::new();
    }
    let [x, residual, y] = places;
    let (x, y) = (x.unwrap_or(Address::NONE), y.unwrap_or(Address::NONE));
    let call = Call::new(norm, parts, partition, &[x, residual.unwrap_or(Address::NONE), y]);
    let mut nodes = call.moments(x);
    nodes.push(call.apply(call.partials(), x, residual, running, y));
    nodes
}

/// The same with the running statistics, for all images alike; nothing is saved or moved.
pub fn evaluate(
    norm: &Norm,
    parts: &Parts,
    x: Address,
    residual: Option<Address>,
    running: [Address; 2],
    y: Address,
) -> Vec<Node> {
    let norm = Norm { groups: 1, ..*norm };
    if norm.is_empty() {
        return Vec::new();
    }
    let call = Call::new(&norm, parts, norm.partition(), &[x, residual.unwrap_or(Address::NONE), y]);
    vec![call.apply((Address::NONE, 0, 0), x, residual, Some(running), y)]
}

/// The gradients of scale, shift, x and the residual from that of y, after `forward`.
pub fn backward(norm: &Norm, parts: &Parts, backward: &Backward) -> Vec<Node> {
    backward_in(norm.partition(), norm, parts, backward)
}

pub(super) fn backward_in(partition: Partition, norm: &Norm, parts: &Parts, backward: &Backward) -> Vec<Node> {
    if norm.channels == 0 {
        return Vec::new();
    }
    if norm.is_empty() {
        let bytes = norm.channels * size_of::<f32>();
        return [backward.d_scale, backward.d_shift].map(|address| Node::Zero { address, bytes }).into();
    }
    let Backward { x, y, residual, dy, dx, d_residual, .. } = *backward;
    let places = [x, y, residual, dy, dx.address(), d_residual.address()];
    let call = Call::new(norm, parts, partition, &places);
    let mut nodes = vec![call.gradient_sums(backward)];
    if partition.folded || dx == Delivery::Skip {
        nodes.push(call.fold_gradients(backward));
    }
    if dx != Delivery::Skip {
        nodes.push(call.gradient_apply(backward));
    }
    nodes
}
