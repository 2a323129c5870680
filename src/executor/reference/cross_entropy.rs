//! Cross entropy on dfdx's tape, written as the formula says.

use dfdx::shapes::{Axis, HasShape, Rank0};
use dfdx::tensor::{Cpu, CpuError, Tensor, TensorFromVec, WithEmptyTape};
use dfdx::tensor_ops::{LogSumExpTo, MeanTo, SumTo, TryMul, TrySub};

use crate::model::tape::{Recorded, Recording};

/// Mean over all views of log Σ exp(x_c) − Σ q_c·x_c, where q is 1 − smoothing at the label and smoothing shared among all
/// classes. `logits`: the views of all images, one view's behind the other's; `labels`: a class an image.
pub fn cross_entropy(
    logits: Recorded,
    labels: &[u32],
    label_smoothing: f32,
) -> Result<Tensor<Rank0, f32, Cpu, Recording>, CpuError> {
    let shape = *logits.shape();
    let mut wanted = vec![label_smoothing / shape.1 as f32; shape.0 * shape.1];
    for (view, row) in wanted.chunks_exact_mut(shape.1).enumerate() {
        row[labels[view % labels.len()] as usize] += 1.0 - label_smoothing;
    }
    let wanted: Tensor<(usize, usize), f32, Cpu> = Cpu::default().try_tensor_from_vec(wanted, shape)?;
    let totals = logits.with_empty_tape().try_logsumexp::<(usize,), Axis<1>>()?;
    let reached = logits.try_mul(wanted)?.try_sum::<(usize,), Axis<1>>()?;
    totals.try_sub(reached)?.try_mean()
}
