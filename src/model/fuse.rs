//! Fusion: batch norm, the addition behind it and the activation behind that become one operation.
//!
//! Only what nobody else reads is merged, and a merged operation stands where the last of its parts stood, so that its
//! residual is ready. Parameters, buffers and every number that is still computed keep their meaning.

use crate::model::plan::{Activation, Op, Plan, Shape, ValueId};

/// `plan` with every legal merge done, and its values renumbered without gaps.
pub fn fuse(mut plan: Plan) -> Plan {
    while let Some((first, second, merged)) = next_merge(&plan) {
        plan.ops[second] = merged;
        plan.ops.remove(first);
    }
    renumbered(plan)
}

/// A batch norm, the one reader of its output, and what both become.
fn next_merge(plan: &Plan) -> Option<(usize, usize, Op)> {
    for (first, norm) in plan.ops.iter().enumerate() {
        let Some(second) = only_reader(plan, norm.output()) else { continue };
        if let Some(merged) = merge(norm, &plan.ops[second]) {
            return Some((first, second, merged));
        }
    }
    None
}

fn only_reader(plan: &Plan, value: ValueId) -> Option<usize> {
    if value == plan.features || value == plan.projection {
        return None;
    }
    let mut readers = (0..plan.ops.len()).filter(|&op| plan.ops[op].inputs().contains(&value));
    readers.next().filter(|_| readers.next().is_none())
}

fn merge(norm: &Op, reader: &Op) -> Option<Op> {
    let Op::BatchNorm { input, residual, output: normalised, scale, shift, running_mean, running_var, activation } =
        *norm
    else {
        return None;
    };
    if activation != Activation::Identity {
        return None;
    }
    let (residual, activation) = match *reader {
        Op::Activate { activation, .. } => (residual, activation),
        Op::Add { left, right, .. } if residual.is_none() && left != right => {
            (Some(if left == normalised { right } else { left }), Activation::Identity)
        }
        Op::Add { .. }
        | Op::Conv2d { .. }
        | Op::BatchNorm { .. }
        | Op::Pool2d { .. }
        | Op::GlobalAveragePool { .. }
        | Op::Linear { .. } => return None,
    };
    let output = reader.output();
    Some(Op::BatchNorm { input, residual, output, scale, shift, running_mean, running_var, activation })
}

/// Values in the order of their definition: the input, then every operation's output.
fn renumbered(mut plan: Plan) -> Plan {
    let mut numbers = vec![None; plan.values.len()];
    let mut shapes: Vec<Shape> = Vec::new();
    let order = std::iter::once(plan.input).chain(plan.ops.iter().map(Op::output));
    for value in order {
        numbers[value.0] = Some(ValueId(shapes.len()));
        shapes.push(plan.shape(value));
    }
    let renumber = |value: &mut ValueId| *value = numbers[value.0].expect("every value read was defined");
    plan.ops.iter_mut().flat_map(values_of).for_each(renumber);
    [&mut plan.input, &mut plan.features, &mut plan.projection].into_iter().for_each(renumber);
    plan.values = shapes;
    plan
}

/// Every value an operation mentions.
fn values_of(op: &mut Op) -> Vec<&mut ValueId> {
    match op {
        Op::Conv2d { input, output, .. }
        | Op::Activate { input, output, .. }
        | Op::Pool2d { input, output, .. }
        | Op::GlobalAveragePool { input, output }
        | Op::Linear { input, output, .. } => vec![input, output],
        Op::BatchNorm { input, residual, output, .. } => [input, output].into_iter().chain(residual).collect(),
        Op::Add { left, right, output } => vec![left, right, output],
    }
}
