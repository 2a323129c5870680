//! NT-Xent on dfdx's tape, written as the paper writes it.

use dfdx::shapes::{Axes2, Axis, HasShape, Rank0};
use dfdx::tensor::{Cpu, CpuError, Tensor, TensorFromVec, WithEmptyTape};
use dfdx::tensor_ops::{BroadcastTo, LogSumExpTo, MeanTo, PermuteTo, SumTo, TryAdd, TryDiv, TryMatMul, TryMul, TrySub};

use crate::model::tape::{Recorded, Recording};

/// Lengths below this are taken to be this (PyTorch, `torch.nn.functional.normalize`).
const SHORTEST: f32 = 1e-12;

/// Mean over all 2N views i of −log( exp(sᵢⱼ/T) / Σ_{k≠i} exp(sᵢₖ/T) ), where j is the other view of i's image and s the
/// cosine similarity, or without `normalize` the dot product. `projections`: the N first views, then the N second ones.
/// Source: SimCLR paper, equation 1.
pub fn nt_xent(
    projections: Recorded,
    temperature: f32,
    normalize: bool,
) -> Result<Tensor<Rank0, f32, Cpu, Recording>, CpuError> {
    let shape = *projections.shape();
    let unit = if normalize { normalized(projections)? } else { projections };
    // A product's two sides must be two tensors to the tape, and a permuted tensor is still the same one.
    let columns = unit.with_empty_tape().try_mul(1.0)?.try_permute::<(usize, usize), Axes2<1, 0>>()?;
    let cosines = unit.try_matmul(columns)?;
    let logits = cosines.try_div(temperature)?;
    let (itself, partner) = masks(shape.0)?;
    let positives = logits.with_empty_tape().try_mul(partner)?.try_sum::<(usize,), Axis<1>>()?;
    let denominators = logits.try_add(itself)?.try_logsumexp::<(usize,), Axis<1>>()?;
    denominators.try_sub(positives)?.try_mean()
}

fn normalized(projections: Recorded) -> Result<Recorded, CpuError> {
    let shape = *projections.shape();
    let squares = projections.with_empty_tape().try_square()?.try_sum::<(usize,), Axis<1>>()?;
    let lengths = squares.try_clamp(SHORTEST * SHORTEST, f32::MAX)?.try_sqrt()?;
    projections.try_div(lengths.try_broadcast_like::<_, Axis<1>>(&shape)?)
}

type Mask = Tensor<(usize, usize), f32, Cpu>;

/// −∞ where a view meets itself and 0 elsewhere; 1 where it meets the other view of its image and 0 elsewhere.
fn masks(n_views: usize) -> Result<(Mask, Mask), CpuError> {
    let mask = |column_of: &dyn Fn(usize) -> usize, marked: f32| {
        let mut values = vec![0.0; n_views * n_views];
        for row in 0..n_views {
            values[row * n_views + column_of(row)] = marked;
        }
        Cpu::default().try_tensor_from_vec(values, (n_views, n_views))
    };
    Ok((mask(&|row| row, f32::NEG_INFINITY)?, mask(&|row| (row + n_views / 2) % n_views, 1.0)?))
}
