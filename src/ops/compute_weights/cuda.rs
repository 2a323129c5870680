//! The two launches, and the table that says which block does what.

use crate::device::gpu::{Address, Element, Node, Source};
use crate::ops::compute_weights::{Layout, Tensor};
use crate::ops::conv2d::cuda::CHANNEL_MULTIPLE;
use crate::ops::kernels::{launch, pointer};

pub const SOURCE: Source = Source { name: "compute_weights", text: include_str!("kernel.cu") };

/// Groups of eight numbers a block; `COMPUTE_WEIGHTS_CHUNK` of the kernels.
const CHUNK_GROUPS: usize = 512;

/// Bytes of `ComputeWeightsTensor` and of `ComputeWeightsChunk`.
const TENSOR_BYTES: usize = 72;
const CHUNK_BYTES: usize = 8;

impl Layout {
    /// What the kernels read: the tensors, then the chunks of `spread`, then those of `gather`. To be uploaded once.
    ///
    /// # Panics
    /// When a tensor has 2³¹ groups of eight numbers or more.
    pub fn table(&self) -> Vec<u8> {
        let mut table: Vec<u8> = self.tensors.iter().flat_map(tensor_bytes).collect();
        for chunks in [self.spread_chunks(), self.gather_chunks()] {
            table.extend(chunks.iter().flat_map(|(tensor, first)| [number(*tensor), number(*first)]).flatten());
        }
        table
    }

    fn spread_chunks(&self) -> Vec<(usize, usize)> {
        chunks(self.tensors.iter().map(Tensor::matrix_len))
    }

    fn gather_chunks(&self) -> Vec<(usize, usize)> {
        chunks(self.tensors.iter().map(|tensor| tensor.gathered.map_or(0, |_| tensor.window_len())))
    }
}

/// (tensor, first group) of every chunk.
fn chunks(lens: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let of_tensor = |(tensor, len): (usize, usize)| {
        (0..len / CHANNEL_MULTIPLE).step_by(CHUNK_GROUPS).map(move |first| (tensor, first))
    };
    lens.enumerate().flat_map(of_tensor).collect()
}

/// A size as the kernels' 32 bits.
fn number(size: usize) -> [u8; 4] {
    i32::try_from(size).expect("a size below 2³¹").to_le_bytes()
}

fn tensor_bytes(tensor: &Tensor) -> Vec<u8> {
    let gradient = tensor.gathered.map_or(0, |gathered| gathered.place);
    let is_f32 = tensor.gathered.is_some_and(|gathered| gathered.element == Element::F32);
    let pairs = &tensor.pairs;
    let places = [tensor.flat, tensor.place, gradient];
    let sizes = [
        tensor.outputs,
        tensor.channels,
        tensor.padded(),
        pairs.kernel,
        pairs.rows,
        pairs.columns,
        pairs.out_rows,
        pairs.out_columns,
        pairs.stride,
        pairs.row_padding,
        pairs.column_padding,
        usize::from(is_f32),
    ];
    let places = places.into_iter().flat_map(|place| (place as u64).to_le_bytes());
    places.chain(sizes.into_iter().flat_map(number)).collect()
}

/// Writes the weights of all layers from the flat parameters. `weights` is `Layout::bytes` long.
pub fn spread(layout: &Layout, table: Address, parameters: Address, weights: Address) -> Vec<Node> {
    let chunks = table.offset(layout.tensors.len() * TENSOR_BYTES);
    node("compute_weights_spread", layout.spread_chunks().len(), [chunks, table, parameters, weights])
}

/// Writes the flat gradients of the layers that left theirs in `weight_gradients`, which is `Layout::gradient_bytes` long;
/// those of other parameters are left as they are.
pub fn gather(layout: &Layout, table: Address, weight_gradients: Address, gradients: Address) -> Vec<Node> {
    let before = layout.tensors.len() * TENSOR_BYTES + layout.spread_chunks().len() * CHUNK_BYTES;
    let chunks = layout.gather_chunks().len();
    node("compute_weights_gather", chunks, [table.offset(before), table, weight_gradients, gradients])
}

fn node(kernel: &'static str, chunks: usize, arguments: [Address; 4]) -> Vec<Node> {
    if chunks == 0 {
        return Vec::new();
    }
    vec![launch(kernel, [chunks, 1, 1], [256, 1, 1], arguments.map(pointer).to_vec())]
}
