//! `SiLU`: x · sigmoid(x), a smooth activation for gradient checks that no kink disturbs.

use dfdx::nn::{Module, NonMutableModule, ZeroSizedModule};
use dfdx::shapes::Shape;
use dfdx::tensor::{Cpu, CpuError, Tape, Tensor, WithEmptyTape};
use dfdx::tensor_ops::TryMul;

/// Elementwise, any shape. Source: PyTorch, `torch.nn.SiLU`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SiLU;

impl ZeroSizedModule for SiLU {}
impl NonMutableModule for SiLU {}

impl<S: Shape, T: Tape<f32, Cpu>> Module<Tensor<S, f32, Cpu, T>> for SiLU {
    type Output = Tensor<S, f32, Cpu, T>;
    type Error = CpuError;

    fn try_forward(&self, input: Tensor<S, f32, Cpu, T>) -> Result<Self::Output, CpuError> {
        input.with_empty_tape().try_sigmoid()?.try_mul(input)
    }
}
