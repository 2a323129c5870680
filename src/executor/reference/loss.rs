//! The loss of a recipe on dfdx's tape. NT-Xent and the cross entropy are recorded there as they are written; of the others the tape takes over
//! the gradient of their formula in f64, as the loss Σ gradient·projection that has it.

use dfdx::shapes::{HasShape, Rank0};
use dfdx::tensor::{AsArray, Cpu, CpuError, Tensor, TensorFromVec};
use dfdx::tensor_ops::{SumTo, TryMul};

use crate::executor::Setting;
use crate::executor::reference::cross_entropy::cross_entropy;
use crate::executor::reference::nt_xent::nt_xent;
use crate::experiment::recipe::Loss;
use crate::model::tape::{Recorded, Recording};
use crate::ops::contrastive::exact::Exact;

/// A number that the tape goes back from.
type Scalar = Tensor<Rank0, f32, Cpu, Recording>;

/// The loss's value, and what to go back from. `bank`: the memory bank of a loss that has one; `labels`: the classes of the
/// images, for a loss of labels.
pub fn record(
    projections: Recorded,
    setting: &Setting,
    (bank, labels): (&[f32], &[u32]),
) -> Result<(f32, Scalar), CpuError> {
    match setting.loss {
        Loss::NtXent { normalize, scale } => {
            let loss = nt_xent(projections, setting.temperature, normalize)?;
            let loss = if scale == 1.0 { loss } else { loss.try_mul(scale as f32)? };
            Ok((loss.array(), loss))
        }
        Loss::CrossEntropy { label_smoothing } => {
            let loss = cross_entropy(projections, labels, label_smoothing as f32)?;
            Ok((loss.array(), loss))
        }
        Loss::NtXentMemoryBank { .. }
        | Loss::Dcl
        | Loss::Dclw { .. }
        | Loss::NtLogistic { .. }
        | Loss::MarginTriplet { .. } => {
            let shape = *projections.shape();
            let exact = Exact::new(setting.loss, f64::from(setting.temperature), shape.1, bank);
            let values: Vec<f64> = projections.as_vec().into_iter().map(f64::from).collect();
            let (loss, gradient) = exact.forward_backward(&values);
            let gradient: Vec<f32> = gradient.into_iter().map(|value| value as f32).collect();
            let gradient: Tensor<(usize, usize), f32, Cpu> = Cpu::default().try_tensor_from_vec(gradient, shape)?;
            Ok((loss as f32, projections.try_mul(gradient)?.try_sum()?))
        }
    }
}
