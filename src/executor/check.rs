//! What this executor asks of a Plan beyond its types. The lowering keeps to all of it.

use crate::model::plan::{Op, Plan, Shape, Window};
use crate::ops::pool2d::POOLING_KERNEL_MAX;

/// Says what is wrong, or nothing.
pub fn refusal(plan: &Plan) -> Option<String> {
    let mut used = vec![false; plan.parameters.len()];
    for (index, op) in plan.ops.iter().enumerate() {
        let inputs = op.inputs();
        if inputs.len() == 2 && inputs[0] == inputs[1] {
            return Some(format!("operation {index} reads value {} twice", inputs[0].0));
        }
        for parameter in parameters(op) {
            if std::mem::replace(&mut used[parameter], true) {
                return Some(format!("parameter `{}` is used by two operations", plan.parameters[parameter].name));
            }
        }
        if !shapes_fit(plan, op) {
            let shapes: Vec<_> = inputs.iter().map(|input| plan.shape(*input)).collect();
            return Some(format!("operation {index} cannot go from {shapes:?} to {:?}", plan.shape(op.output())));
        }
    }
    None
}

fn parameters(op: &Op) -> Vec<usize> {
    match *op {
        Op::Conv2d { weight, .. } => vec![weight.0],
        Op::BatchNorm { scale, shift, .. } => vec![scale.0, shift.0],
        Op::Linear { weight, bias, .. } => std::iter::once(weight.0).chain(bias.map(|bias| bias.0)).collect(),
        Op::Activate { .. } | Op::Add { .. } | Op::Pool2d { .. } | Op::GlobalAveragePool { .. } => vec![],
    }
}

fn shapes_fit(plan: &Plan, op: &Op) -> bool {
    let shape = |value| plan.shape(value);
    match *op {
        Op::Conv2d { input, output, weight, window } => {
            let weight_shape = [shape(output).channels(), shape(input).channels(), window.kernel, window.kernel];
            windowed(shape(input), shape(output), window) && plan.parameters[weight.0].shape == weight_shape
        }
        Op::Pool2d { input, output, window, .. } => {
            window.kernel <= POOLING_KERNEL_MAX
                && windowed(shape(input), shape(output), window)
                && shape(input).channels() == shape(output).channels()
        }
        Op::BatchNorm { input, residual, output, scale, .. } => {
            let channels = plan.parameters[scale.0].len();
            shape(input) == shape(output)
                && residual.is_none_or(|residual| shape(residual) == shape(output))
                && shape(input).channels() == channels
        }
        Op::Activate { input, output, .. } => shape(input) == shape(output),
        Op::Add { left, right, output } => shape(left) == shape(output) && shape(right) == shape(output),
        Op::GlobalAveragePool { input, output } => {
            matches!(shape(output), Shape::Vector { width } if width == shape(input).channels())
        }
        Op::Linear { input, output, weight, .. } => match (shape(input), shape(output)) {
            (Shape::Vector { width: inputs }, Shape::Vector { width: outputs }) => {
                plan.parameters[weight.0].shape == [outputs, inputs]
            }
            (Shape::Map { .. }, _) | (_, Shape::Map { .. }) => false,
        },
    }
}

fn windowed(input: Shape, output: Shape, window: Window) -> bool {
    let size = |size: usize| {
        let room = (size + 2 * window.padding).checked_sub(window.kernel)?;
        room.checked_div(window.stride).map(|steps| steps + 1)
    };
    match (input, output) {
        (Shape::Map { height, width, .. }, Shape::Map { height: out_height, width: out_width, .. }) => {
            size(height) == Some(out_height) && size(width) == Some(out_width)
        }
        (Shape::Vector { .. }, _) | (_, Shape::Vector { .. }) => false,
    }
}
