//! Between torchvision's order of the numbers of a convolution weight and the device's.

use crate::model::plan::{Parameter, ParameterKind, Plan};

/// Reorders a buffer as long as the parameters (they, their gradients, an optimizer's slot) from torchvision's
/// outputs × inputs × K × K to outputs × K × K × inputs; all else stays.
///
/// # Panics
/// When `torch` is shorter than the parameters.
pub fn to_device_order(plan: &Plan, torch: &[f32]) -> Vec<f32> {
    let mut device = torch.to_vec();
    reorder(plan, |own, foreign| device[own] = torch[foreign]);
    device
}

/// The reverse of [`to_device_order`].
///
/// # Panics
/// When `device` is shorter than the parameters.
pub fn to_torch_order(plan: &Plan, device: &[f32]) -> Vec<f32> {
    let mut torch = device.to_vec();
    reorder(plan, |own, foreign| torch[foreign] = device[own]);
    torch
}

/// Calls `visit` with both places of every number of every convolution weight.
fn reorder(plan: &Plan, mut visit: impl FnMut(usize, usize)) {
    for parameter in &plan.parameters {
        let Some((inputs, taps)) = sizes(parameter) else { continue };
        let filter_len = inputs * taps;
        for filter in parameter.range().step_by(filter_len.max(1)) {
            for tap in 0..taps {
                for input in 0..inputs {
                    visit(filter + tap * inputs + input, filter + input * taps + tap);
                }
            }
        }
    }
}

/// I and K × K of a convolution's weight.
fn sizes(parameter: &Parameter) -> Option<(usize, usize)> {
    match (parameter.kind, &parameter.shape[..]) {
        (ParameterKind::ConvWeight, &[_, inputs, rows, columns]) => Some((inputs, rows * columns)),
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
