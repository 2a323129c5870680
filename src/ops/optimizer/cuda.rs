//! One update of all parameters on a GPU: one launch for SGD and Adam, three for LARS, whatever the number of tensors.
//!
//! Tensors are cut into the same pieces as on the processor, a block each. SGD and Adam give the processor's bits; LARS
//! sums its norms in another order, to about twice the precision of f32, which a ratio rounded to f32 seldom shows.
//! The learning rate comes from a table on the device, by a counter on the device: a recorded step needs no new argument.

use crate::device::gpu::{Address, Argument, Node, Source};
use crate::experiment::recipe::{DecayScope, LarsFlavour, Optimizer};
use crate::model::plan::Parameter;
use crate::ops::kernels::{flag, float, int, launch, pointer};
use crate::ops::optimizer::adam::Adam;
use crate::ops::optimizer::lars::Lars;
use crate::ops::optimizer::{PIECE_LEN, Step, slots};

pub const SOURCE: Source = Source { name: "optimizer", text: include_str!("kernel.cu") };

/// Threads a block; each takes 16 numbers of the block's chunk.
const THREADS: u32 = 256;
/// Of a word of the table.
const WORD_BYTES: usize = 16;
/// Three partial sums of f64 a chunk.
const PARTIAL_BYTES: usize = 24;
/// Rate and decay a tensor.
const RULE_BYTES: usize = 8;

/// An optimizer and the tensors it moves.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    optimizer: Optimizer,
    chunks: Vec<Chunk>,
    tensors: Vec<Tensor>,
}

/// At most [`PIECE_LEN`] numbers of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chunk {
    start: usize,
    len: usize,
    tensor: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tensor {
    first_chunk: usize,
    n_chunks: usize,
    /// Lies in the decay scope.
    decays: bool,
}

/// Where an update finds things, each at a multiple of 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// f32, laid out by the tensors' offsets.
    pub parameters: Address,
    /// f32, as `parameters`.
    pub gradients: Address,
    /// f32, as `parameters`: the slots of [`slots`] in their order; `NONE` for those the optimizer does not keep.
    pub slots: [Address; 2],
    /// Storage type, as `parameters`: the weights that products and convolutions read, written with the parameters. `NONE`
    /// where they read the parameters themselves.
    pub copies: Address,
    /// 8 bytes a step: [`Update::rate`].
    pub rates: Address,
    /// u64: which entry of `rates` is in force.
    pub step: Address,
    /// [`Update::table`].
    pub table: Address,
    /// [`Update::scratch_bytes`]; nothing is kept there between updates.
    pub scratch: Address,
}

impl Update {
    pub fn new(optimizer: &Optimizer, layout: &[Parameter]) -> Update {
        let (Optimizer::Sgd { decay, .. } | Optimizer::Lars { decay, .. } | Optimizer::Adam { decay, .. }) = *optimizer;
        let (mut chunks, mut tensors) = (Vec::new(), Vec::with_capacity(layout.len()));
        for (tensor, parameter) in layout.iter().enumerate() {
            let first_chunk = chunks.len();
            let range = parameter.range();
            for start in range.clone().step_by(PIECE_LEN) {
                chunks.push(Chunk { start, len: PIECE_LEN.min(range.end - start), tensor });
            }
            let decays = match decay {
                DecayScope::All => true,
                DecayScope::Weights => !parameter.kind.is_norm_or_bias(),
            };
            tensors.push(Tensor { first_chunk, n_chunks: chunks.len() - first_chunk, decays });
        }
        Update { optimizer: *optimizer, chunks, tensors }
    }

    /// What `Places::table` holds: four u32 a chunk (start in two halves, length, 2·tensor + decays), then four a tensor (first
    /// chunk, chunks, decays, 0).
    ///
    /// # Panics
    /// From 2³¹ tensors on.
    pub fn table(&self) -> Vec<u8> {
        let of_chunk = |chunk: &Chunk| {
            let tensor = u32::try_from(chunk.tensor).ok().and_then(|tensor| tensor.checked_mul(2));
            let tensor = tensor.expect("fewer than 2³¹ tensors");
            let decays = u32::from(self.tensors[chunk.tensor].decays);
            [chunk.start as u32, (chunk.start as u64 >> 32) as u32, chunk.len as u32, tensor | decays]
        };
        let of_tensor =
            |tensor: &Tensor| [tensor.first_chunk as u32, tensor.n_chunks as u32, u32::from(tensor.decays), 0];
        let words = self.chunks.iter().map(of_chunk).chain(self.tensors.iter().map(of_tensor));
        words.flatten().flat_map(u32::to_le_bytes).collect()
    }

    pub fn scratch_bytes(&self) -> usize {
        self.chunks.len() * PARTIAL_BYTES + self.tensors.len() * RULE_BYTES
    }

    /// How many of `Places::slots` there are.
    pub fn n_slots(&self) -> usize {
        slots(&self.optimizer, 0).len()
    }

    /// A step's entry in `Places::rates`: the learning rate as f64; Adam's two rates with their bias corrections as f32.
    pub fn rate(&self, step: Step) -> [u8; 8] {
        match self.optimizer {
            Optimizer::Sgd { .. } | Optimizer::Lars { .. } => step.learning_rate.to_le_bytes(),
            Optimizer::Adam { beta1, beta2, epsilon, .. } => {
                let Adam { rate, root_scale, .. } = Adam::new(beta1, beta2, epsilon, step);
                let ([a, b, c, d], [e, f, g, h]) = (rate.to_le_bytes(), root_scale.to_le_bytes());
                [a, b, c, d, e, f, g, h]
            }
        }
    }

    /// A launch with a block for each chunk.
    fn over_chunks(&self, kernel: &'static str, arguments: Vec<Argument>) -> Node {
        launch(kernel, [self.chunks.len(), 1, 1], [THREADS, 1, 1], arguments)
    }
}

/// One update with the rate of the counter, which stays as it is.
pub fn nodes(update: &Update, places: &Places) -> Vec<Node> {
    moves(update, places, Address::NONE)
}

/// As [`nodes`]; also writes to `norms` three f64: the Euclidean norms over all parameters of the gradient, of the parameters
/// after the update and of the update.
pub fn measured_nodes(update: &Update, places: &Places, norms: Address) -> Vec<Node> {
    let mut nodes = moves(update, places, places.scratch);
    let arguments = vec![pointer(places.scratch), int(update.chunks.len()), pointer(norms)];
    nodes.push(launch("optimizer_norms", [1, 1, 1], [THREADS, 1, 1], arguments));
    nodes
}

/// Fills `copies` from the parameters: after they were loaded, updates keep it so.
pub fn copy_nodes(update: &Update, places: &Places) -> Vec<Node> {
    if places.copies == Address::NONE || update.chunks.is_empty() {
        return Vec::new();
    }
    let arguments = [places.parameters, places.copies, places.table].map(pointer).to_vec();
    vec![update.over_chunks("optimizer_copy", arguments)]
}

/// Adds 1 to the counter: the end of a step.
pub fn advance(step: Address) -> Node {
    launch("optimizer_advance", [1, 1, 1], [1, 1, 1], vec![pointer(step)])
}

/// The update; the partial sums of its norms go to `partials` unless that is `NONE`.
fn moves(update: &Update, places: &Places, partials: Address) -> Vec<Node> {
    if update.chunks.is_empty() {
        return Vec::new();
    }
    match update.optimizer {
        Optimizer::Sgd { momentum, nesterov, weight_decay, .. } => {
            let descent = Descent { rules: Address::NONE, weight_decay, momentum, nesterov, rate_inside: false };
            vec![descent.node(update, places, partials)]
        }
        Optimizer::Lars { flavour, momentum, weight_decay, trust_coefficient, .. } => {
            let lars = Lars { flavour, momentum, weight_decay, trust_coefficient };
            lars.nodes(update, places, partials)
        }
        Optimizer::Adam { beta1, beta2, epsilon, weight_decay, .. } => {
            // Of a step, only the rates differ, and those come from the table.
            let adam = Adam::new(beta1, beta2, epsilon, Step { number: 0, learning_rate: 0.0 });
            let adam = adam.with_decay(weight_decay);
            let [first, second] = places.slots;
            let addresses = [places.parameters, places.gradients, first, second, places.copies];
            let mut arguments = addresses.map(pointer).to_vec();
            arguments.extend([places.table, places.rates, places.step].map(pointer));
            let constants = [adam.weight_decay, adam.first_share, adam.beta2, adam.second_share, adam.epsilon];
            arguments.extend(constants.map(float));
            arguments.push(pointer(partials));
            vec![update.over_chunks("optimizer_adapt", arguments)]
        }
    }
}

/// Momentum and the move along it.
struct Descent {
    /// LARS's rates and decays by tensor.
    rules: Address,
    /// Where there are no `rules`.
    weight_decay: f64,
    momentum: f64,
    nesterov: bool,
    /// The learning rate is part of the rules.
    rate_inside: bool,
}

impl Descent {
    fn node(&self, update: &Update, places: &Places, partials: Address) -> Node {
        let buffer = if self.momentum == 0.0 { Address::NONE } else { places.slots[0] };
        let addresses = [places.parameters, places.gradients, buffer, places.copies, places.table, self.rules];
        let mut arguments = addresses.map(pointer).to_vec();
        arguments.extend([pointer(places.rates), pointer(places.step)]);
        arguments.extend([float(self.weight_decay as f32), float(self.momentum as f32)]);
        arguments.extend([flag(self.nesterov), flag(self.rate_inside), pointer(partials)]);
        update.over_chunks("optimizer_descend", arguments)
    }
}

impl Lars {
    fn nodes(&self, update: &Update, places: &Places, partials: Address) -> Vec<Node> {
        let rules = places.scratch.offset(update.chunks.len() * PARTIAL_BYTES);
        let rate_inside = self.flavour == LarsFlavour::Google;
        let descent = Descent { rules, weight_decay: 0.0, momentum: self.momentum, nesterov: false, rate_inside };
        if self.flavour == LarsFlavour::Lightly && self.weight_decay == 0.0 {
            return vec![Descent { rules: Address::NONE, ..descent }.node(update, places, partials)];
        }
        // Google's and Popular's ratio is of the decayed gradient.
        let (of_decayed_gradient, clipped) = match self.flavour {
            LarsFlavour::Google | LarsFlavour::Popular => (true, false),
            LarsFlavour::Lightly | LarsFlavour::SoloLearn => (false, false),
            LarsFlavour::SoloLearnClipped => (false, true),
        };
        let norm_decay = if of_decayed_gradient { self.weight_decay } else { 0.0 };
        let mut squares = [places.parameters, places.gradients, places.table].map(pointer).to_vec();
        squares.extend([Argument::F64(norm_decay), pointer(places.scratch)]);
        let tensors = places.table.offset(update.chunks.len() * WORD_BYTES);
        let mut ratios = [tensors, places.scratch, places.rates, places.step].map(pointer).to_vec();
        ratios.extend([Argument::F64(self.weight_decay), Argument::F64(self.trust_coefficient)]);
        ratios.extend([of_decayed_gradient, clipped, rate_inside].map(flag));
        ratios.push(pointer(rules));
        vec![
            update.over_chunks("optimizer_lars_squares", squares),
            launch("optimizer_lars_ratios", [update.tensors.len(), 1, 1], [32, 1, 1], ratios),
            descent.node(update, places, partials),
        ]
    }
}
