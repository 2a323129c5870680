//! Between torchvision's layout of the parameters and the executor's own: convolution weights are kept kh × kw × I × O.

use crate::model::plan::{Parameter, ParameterKind, Plan};
use crate::ops::conv2d;

/// Reorders a buffer as long as the parameters: they, their gradients or an optimizer's slot.
pub fn from_torch(plan: &Plan, torch: &[f32], own: &mut [f32]) {
    for parameter in &plan.parameters {
        let (torch, own) = (&torch[parameter.range()], &mut own[parameter.range()]);
        match kernel_shape(parameter) {
            Some((outputs, inputs, kernel)) => conv2d::from_torch(kernel, inputs, outputs, torch, own),
            None => own.copy_from_slice(torch),
        }
    }
}

pub fn to_torch(plan: &Plan, own: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; own.len()];
    for parameter in &plan.parameters {
        let (own, torch) = (&own[parameter.range()], &mut out[parameter.range()]);
        match kernel_shape(parameter) {
            Some((outputs, inputs, kernel)) => conv2d::to_torch(kernel, inputs, outputs, own, torch),
            None => torch.copy_from_slice(own),
        }
    }
    out
}

/// O, I and K of a convolution's weight.
fn kernel_shape(parameter: &Parameter) -> Option<(usize, usize, usize)> {
    match (parameter.kind, &parameter.shape[..]) {
        (ParameterKind::ConvWeight, &[outputs, inputs, kernel, _]) => Some((outputs, inputs, kernel)),
        (
            ParameterKind::ConvWeight
            | ParameterKind::LinearWeight
            | ParameterKind::LinearBias { .. }
            | ParameterKind::NormScale
            | ParameterKind::NormShift
            | ParameterKind::HeldNormShift,
            _,
        ) => None,
    }
}
