//! Convolution as matrix products over unfolded windows: output = weight · columns, and its two gradients.
//!
//! Maps are stored n × channels × height × width, weights O × (I·K·K). Images go through in groups, so that the unfolded
//! columns stay small; groups are cut by shape alone.

use dfdx::shapes::Axes2;
use dfdx::tensor::{Cpu, CpuError, Tensor, TensorFromVec};
use dfdx::tensor_ops::{PermuteTo, TryMatMul};

use crate::model::tape::add_onto;
use crate::model::unfold::{Sliding, fold_onto, unfold};

/// Unfolded columns of a group of images, in f32.
const GROUP_BYTES: usize = 32 << 20;

type Matrix = Tensor<(usize, usize), f32, Cpu>;

fn matrix(values: Vec<f32>, rows: usize) -> Result<Matrix, CpuError> {
    let columns = values.len() / rows;
    Cpu::default().try_tensor_from_vec(values, (rows, columns))
}

fn transposed(matrix: Matrix) -> Result<Matrix, CpuError> {
    matrix.try_permute::<(usize, usize), Axes2<1, 0>>()
}

fn group_len(sliding: &Sliding) -> usize {
    (GROUP_BYTES / (4 * sliding.window_len() * sliding.positions())).max(1)
}

/// Gives n × O × H' × W'.
pub(crate) fn forward(input: &[f32], weight: &[f32], sliding: &Sliding) -> Result<Vec<f32>, CpuError> {
    let n_filters = weight.len() / sliding.window_len();
    let filters = matrix(weight.to_vec(), n_filters)?;
    let mut output = Vec::with_capacity(input.len() / sliding.image_len() * n_filters * sliding.positions());
    for images in input.chunks(group_len(sliding) * sliding.image_len()) {
        let columns = matrix(unfold(images, sliding), sliding.window_len())?;
        let by_filter = filters.clone().try_matmul(columns)?.as_vec();
        output.extend(swap_outer(&by_filter, n_filters, images.len() / sliding.image_len(), sliding.positions()));
    }
    Ok(output)
}

/// The gradients of input and weight.
pub(crate) fn backward(
    input: &[f32],
    weight: &[f32],
    of_output: &[f32],
    sliding: &Sliding,
) -> Result<(Vec<f32>, Vec<f32>), CpuError> {
    let n_filters = weight.len() / sliding.window_len();
    let filters = transposed(matrix(weight.to_vec(), n_filters)?)?;
    let (mut of_input, mut of_weight) = (vec![0.0; input.len()], vec![0.0; weight.len()]);
    let group = group_len(sliding);
    let groups = input
        .chunks(group * sliding.image_len())
        .zip(of_input.chunks_mut(group * sliding.image_len()))
        .zip(of_output.chunks(group * n_filters * sliding.positions()));
    for ((images, of_images), of_outputs) in groups {
        let n_images = images.len() / sliding.image_len();
        let of_outputs = matrix(swap_outer(of_outputs, n_images, n_filters, sliding.positions()), n_filters)?;
        let columns = matrix(unfold(images, sliding), sliding.window_len())?;
        add_onto(&mut of_weight, &of_outputs.clone().try_matmul(transposed(columns)?)?.as_vec());
        let of_columns = filters.clone().try_matmul(of_outputs)?.as_vec();
        fold_onto(of_images, &of_columns, sliding);
    }
    Ok((of_input, of_weight))
}

/// outer × inner × length becomes inner × outer × length.
fn swap_outer(values: &[f32], outer: usize, inner: usize, length: usize) -> Vec<f32> {
    let mut swapped = Vec::with_capacity(values.len());
    for i in 0..inner {
        for o in 0..outer {
            swapped.extend_from_slice(&values[(o * inner + i) * length..][..length]);
        }
    }
    swapped
}
