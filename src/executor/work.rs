//! What every operation of a Plan needs at least in a training step, however it is computed: arithmetic, and bytes from and
//! to memory.
//!
//! Multiplications and additions are those of the definition, padding skipped. Every operand is read once and every result
//! written once, in f32; a gradient that is added to what another reader left is read too.

use crate::executor::schedule::{Flow, Schedule, read_by_backward};
use crate::model::plan::{Activation, Op, Plan, PoolKind, ValueId};
use crate::ops::conv2d::Convolution;

const VIEWS: usize = 2;
const BYTES: usize = size_of::<f32>();

/// Of one pass of one operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Multiplications and additions; none where they are not what takes the time.
    pub flop: Option<f64>,
    pub bytes: f64,
}

/// Of one operation; none for what it does not compute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpWork {
    pub forward: Work,
    /// Of a batch norm the whole backward pass: its parameters' gradients come from the same sums.
    pub input_gradient: Option<Work>,
    pub weight_gradient: Option<Work>,
}

/// The work of a step of `batch` images, an entry for each operation of the Plan.
pub fn of_step(plan: &Plan, batch: usize) -> Vec<OpWork> {
    let schedule = Schedule::training(plan, VIEWS * batch, VIEWS);
    let work = |(op, flows): (&Op, &Option<[Flow; 2]>)| match flows {
        Some(flows) => of_op(plan, &schedule, op, *flows),
        None => {
            let work = of_op(plan, &schedule, op, [Flow::Skip; 2]);
            OpWork { input_gradient: None, weight_gradient: None, ..work }
        }
    };
    plan.ops.iter().zip(&schedule.flows).map(work).collect()
}

fn of_op(plan: &Plan, schedule: &Schedule, op: &Op, flows: [Flow; 2]) -> OpWork {
    let len = |value: ValueId| schedule.batch(value).len();
    let (x, y) = (len(op.inputs()[0]), len(op.output()));
    match *op {
        Op::Conv2d { input, output, weight, window } => {
            let shapes = Convolution { input: schedule.batch(input), output: schedule.batch(output), window };
            products([x, plan.parameters[weight.0].len(), y], shapes.products() as f64, flows[0])
        }
        Op::Linear { input, output, weight, bias } => {
            let (rows, columns) = (schedule.batch(input), schedule.batch(output).channels);
            let flop_pairs = (rows.images * rows.channels * columns) as f64;
            let parameters = plan.parameters[weight.0].len() + bias.map_or(0, |bias| plan.parameters[bias.0].len());
            products([x, parameters, y], flop_pairs, flows[0])
        }
        Op::BatchNorm { input, residual, .. } => {
            let kept: usize = read_by_backward(op).map(len).sum();
            let added = residual.map_or(0, |residual| delivered(flows[1], len(residual)));
            let back = kept + y + added + delivered(flows[0], len(input));
            moved(x + residual.map_or(0, len) + y, back)
        }
        // What is handed on as it stands moves nothing.
        Op::Activate { activation: Activation::Identity, .. } if flows[0] == Flow::InPlace => moved(x + y, 0),
        Op::Activate { .. } => {
            let kept: usize = read_by_backward(op).map(len).sum();
            moved(x + y, kept + y + delivered(flows[0], x))
        }
        Op::Add { left, right, .. } => {
            let handed = |flow, value| if flow == Flow::InPlace { 0 } else { delivered(flow, len(value)) };
            let [left_len, right_len] = [handed(flows[0], left), handed(flows[1], right)];
            let read = if left_len + right_len == 0 { 0 } else { y };
            moved(len(left) + len(right) + y, read + left_len + right_len)
        }
        Op::Pool2d { kind, .. } => {
            // The winning tap, a byte each.
            let winners = if kind == PoolKind::Max { y.div_ceil(BYTES) } else { 0 };
            let back = if flows[0] == Flow::Skip { 0 } else { y + winners + delivered(flows[0], x) };
            moved(x + y + winners, back)
        }
        Op::GlobalAveragePool { .. } => {
            moved(x + y, if flows[0] == Flow::Skip { 0 } else { y + delivered(flows[0], x) })
        }
    }
}

/// An operation that is a matrix product three times over: lengths of input, weight and output, and pairs of factors.
fn products([x, weight, y]: [usize; 3], pairs: f64, flow: Flow) -> OpWork {
    let work = |numbers: usize| Work { flop: Some(2.0 * pairs), bytes: (numbers * BYTES) as f64 };
    OpWork {
        forward: work(x + weight + y),
        input_gradient: (flow != Flow::Skip).then(|| work(y + weight + delivered(flow, x))),
        weight_gradient: Some(work(x + y + weight)),
    }
}

fn moved(forward: usize, backward: usize) -> OpWork {
    let work = |numbers: usize| Work { flop: None, bytes: (numbers * BYTES) as f64 };
    OpWork { forward: work(forward), input_gradient: (backward > 0).then(|| work(backward)), weight_gradient: None }
}

/// Numbers that the delivery of a gradient moves.
fn delivered(flow: Flow, len: usize) -> usize {
    match flow {
        Flow::Skip => 0,
        Flow::InPlace | Flow::Write => len,
        Flow::Accumulate => 2 * len,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::recipe::{Backbone, Head, Initialization, Model, Stem};
    use crate::model::registry;

    fn plan(stem: Stem) -> Plan {
        let head = Head::Mlp { layers: 2, hidden: 512, output: 128, batch_norm: true, bias: false, output_shift: true };
        let backbone = Backbone::ResNet18 { stem };
        let model = Model { backbone, side: 32, head, initialization: Initialization::Torchvision };
        registry::plan(&model).expect("a compiled model")
    }

    /// Pairs of an output and a tap that lies in the input, along one axis.
    fn live(outputs: usize, size: usize, kernel: usize, stride: usize, padding: usize) -> usize {
        let taps = (0..outputs).flat_map(|o| (0..kernel).map(move |k| o * stride + k));
        taps.filter(|at| (padding..size + padding).contains(at)).count()
    }

    #[test]
    fn convolutions_need_the_products_of_their_definition() {
        let (plan, batch) = (plan(Stem::ImageNet), 3);
        let work = of_step(&plan, batch);
        assert_eq!(work.len(), plan.ops.len());
        // The stem: 7×7 with stride 2 from 3×32×32 to 64×16×16, whose input nobody wants the gradient of.
        let (pairs, images) = (live(16, 32, 7, 2, 3), 2 * batch);
        let flop = (2 * pairs * pairs * images * 3 * 64) as f64;
        let numbers = images * 3 * 32 * 32 + 64 * 3 * 49 + images * 64 * 16 * 16;
        assert_eq!(work[0].forward, Work { flop: Some(flop), bytes: (4 * numbers) as f64 });
        assert_eq!(work[0].weight_gradient, Some(work[0].forward));
        assert_eq!(work[0].input_gradient, None);
        for (op, work) in plan.ops.iter().zip(&work).skip(1) {
            let is_product = matches!(op, Op::Conv2d { .. } | Op::Linear { .. });
            assert_eq!(work.weight_gradient.is_some(), is_product, "{op:?}");
            let back = work.input_gradient.expect("every other input has a gradient");
            assert_eq!((back.flop, back.flop.is_some()), (work.forward.flop, is_product), "{op:?}");
        }
    }

    #[test]
    fn a_gradient_added_to_another_is_read_too() {
        let (plan, batch) = (plan(Stem::Cifar), 2);
        let schedule = Schedule::training(&plan, VIEWS * batch, VIEWS);
        let of_step = of_step(&plan, batch);
        let mut n_added = 0;
        for (index, op) in plan.ops.iter().enumerate() {
            let Op::Conv2d { input, output, weight, .. } = *op else { continue };
            let numbers = [schedule.batch(output).len(), plan.parameters[weight.0].len(), schedule.batch(input).len()];
            let added = schedule.flows[index].is_some_and(|flows| flows[0] == Flow::Accumulate);
            n_added += usize::from(added);
            let expected = 4 * (numbers.iter().sum::<usize>() + if added { numbers[2] } else { 0 });
            if let Some(work) = of_step[index].input_gradient {
                assert_eq!(work.bytes, expected as f64, "{op:?}");
            }
        }
        assert!(n_added > 0, "a residual network has values with two readers");
    }
}
