//! Where a step of the `cpu` executor goes: every operation of the Plan, pass by pass, beside the least that it can take.

use std::time::{Duration, Instant};

use crate::bench::parity;
use crate::bench::roofline::Roofline;
use crate::bench::speed::{Subject, middle};
use crate::device::Pool;
use crate::executor::cpu::{CpuExecutor, OpTime};
use crate::executor::work::{self, OpWork, Work};
use crate::executor::{Executor, ExecutorError};
use crate::model::plan::{Activation, Op, Plan, PoolKind, Shape};

/// Steps before the clock starts.
const WARM_UP: usize = 2;
/// Least and most that is spent on each limit of the machine.
const ROOFLINE_S: [f64; 2] = [0.1, 0.5];
const LEARNING_RATE: f64 = 0.06;

/// Operations that are summed up together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Convolution,
    BatchNorm,
    Linear,
    /// Activations, additions and poolings.
    Other,
}

/// One pass of one operation, the middle of all steps.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Pass {
    pub ms: f64,
    /// Multiplications and additions of the definition, padding skipped; none where they are not what takes the time.
    pub flop: Option<f64>,
    /// Bytes that must be read and written at least.
    pub bytes: f64,
    /// The least time that this can take here.
    pub floor_ms: f64,
}

impl Pass {
    fn new(ms: f64, work: &Work, roofline: &Roofline) -> Pass {
        Pass { ms, flop: work.flop, bytes: work.bytes, floor_ms: roofline.floor_ms(work) }
    }

    /// The floor as a share of the time.
    pub fn share(&self) -> f64 {
        self.floor_ms / self.ms
    }

    pub fn gflop_per_s(&self) -> Option<f64> {
        self.flop.map(|flop| flop / self.ms / 1e6)
    }

    /// Both together; none of none.
    pub fn sum(passes: impl Iterator<Item = Pass>) -> Option<Pass> {
        let add = |a: Option<f64>, b: Option<f64>| a.map_or(b, |a| Some(a + b.unwrap_or(0.0)));
        passes.reduce(|a, b| Pass {
            ms: a.ms + b.ms,
            flop: add(a.flop, b.flop),
            bytes: a.bytes + b.bytes,
            floor_ms: a.floor_ms + b.floor_ms,
        })
    }
}

/// One operation of the Plan.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Operation {
    /// As its parameters are called: `layer1.0.conv1`; else what it does.
    pub name: String,
    pub kind: Kind,
    /// Window and sizes of one image: `3x3 64x8x8 -> 64x8x8`.
    pub what: String,
    pub forward: Pass,
    /// Of a batch norm the whole backward pass.
    pub input_gradient: Option<Pass>,
    pub weight_gradient: Option<Pass>,
}

impl Operation {
    /// Forward, input gradient, weight gradient.
    pub fn passes(&self) -> [Option<Pass>; 3] {
        [Some(self.forward), self.input_gradient, self.weight_gradient]
    }
}

/// A whole step.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Step {
    pub roofline: Roofline,
    pub steps: usize,
    /// Forward, loss, backward and update; the views are random numbers and take no time.
    pub step_ms: f64,
    pub loss_ms: f64,
    pub update_ms: f64,
    pub operations: Vec<Operation>,
}

/// What the clocks said of one step.
struct Clocks {
    ops: Vec<OpTime>,
    loss: Duration,
    update: Duration,
    step: Duration,
}

/// Measures the machine's limits, then steps for `subject.seconds`, one at least.
///
/// # Errors
/// The executor's.
pub fn time(subject: &Subject) -> Result<Step, ExecutorError> {
    let plan = crate::bench::plan(subject.stem)?;
    let setting = crate::bench::setting(subject.batch, subject.numerics, subject.threads, subject.device);
    let mut executor = CpuExecutor::new(plan.clone(), &setting)?;
    let roofline = Roofline::measure(&Pool::new(subject.threads), subject.seconds.clamp(ROOFLINE_S[0], ROOFLINE_S[1]));
    executor.load(&parity::start(&plan, &setting));
    let views = parity::views(2 * subject.batch * plan.shape(plan.input).len());
    for _ in 0..WARM_UP {
        one(&mut executor, &views)?;
    }
    let (began, mut clocks) = (Instant::now(), Vec::new());
    while clocks.is_empty() || began.elapsed().as_secs_f64() < subject.seconds {
        clocks.push(one(&mut executor, &views)?);
    }
    let needed = work::of_step(&plan, subject.batch);
    let operation = |(index, needed)| operation(&plan, index, needed, &clocks, &roofline);
    Ok(Step {
        roofline,
        steps: clocks.len(),
        step_ms: middle_ms(&clocks, |clocks| clocks.step),
        loss_ms: middle_ms(&clocks, |clocks| clocks.loss),
        update_ms: middle_ms(&clocks, |clocks| clocks.update),
        operations: needed.iter().enumerate().map(operation).collect(),
    })
}

fn one(executor: &mut CpuExecutor, views: &[f32]) -> Result<Clocks, ExecutorError> {
    let (before, phases) = (executor.timings().to_vec(), executor.phases().unwrap_or_default());
    let began = Instant::now();
    executor.forward_backward(views)?;
    let differentiated = Instant::now();
    executor.update(LEARNING_RATE);
    let (update, step) = (differentiated.elapsed(), began.elapsed());
    let since = |(now, before): (&OpTime, &OpTime)| OpTime {
        forward: now.forward - before.forward,
        backward: now.backward - before.backward,
        backward_weight: now.backward_weight - before.backward_weight,
    };
    let ops = executor.timings().iter().zip(&before).map(since).collect();
    let loss = executor.phases().unwrap_or_default().since(&phases).loss;
    Ok(Clocks { ops, loss, update, step })
}

fn middle_ms(clocks: &[Clocks], part: impl Fn(&Clocks) -> Duration) -> f64 {
    1e3 * middle(clocks.iter().map(|clocks| part(clocks).as_secs_f64()).collect())
}

fn operation(plan: &Plan, index: usize, needed: &OpWork, clocks: &[Clocks], roofline: &Roofline) -> Operation {
    let op = &plan.ops[index];
    let ms = |part: &dyn Fn(&OpTime) -> Duration| middle_ms(clocks, |clocks| part(&clocks.ops[index]));
    let pass = |work: &Work, part: &dyn Fn(&OpTime) -> Duration| Pass::new(ms(part), work, roofline);
    Operation {
        name: name(plan, op),
        kind: kind(op),
        what: what(plan, op),
        forward: pass(&needed.forward, &|time| time.forward),
        input_gradient: needed.input_gradient.map(|work| pass(&work, &|time| time.backward - time.backward_weight)),
        weight_gradient: needed.weight_gradient.map(|work| pass(&work, &|time| time.backward_weight)),
    }
}

fn kind(op: &Op) -> Kind {
    match op {
        Op::Conv2d { .. } => Kind::Convolution,
        Op::BatchNorm { .. } => Kind::BatchNorm,
        Op::Linear { .. } => Kind::Linear,
        Op::Activate { .. } | Op::Add { .. } | Op::Pool2d { .. } | Op::GlobalAveragePool { .. } => Kind::Other,
    }
}

fn name(plan: &Plan, op: &Op) -> String {
    let parameter = match op {
        Op::Conv2d { weight, .. } | Op::Linear { weight, .. } => *weight,
        Op::BatchNorm { scale, .. } => *scale,
        Op::Activate { .. } => return "activation".to_owned(),
        Op::Add { .. } => return "addition".to_owned(),
        Op::Pool2d { kind: PoolKind::Max, .. } => return "max-pool".to_owned(),
        Op::Pool2d { kind: PoolKind::Average, .. } => return "average pool".to_owned(),
        Op::GlobalAveragePool { .. } => return "global average pool".to_owned(),
    };
    let name = plan.parameters[parameter.0].name.as_str();
    let name = name.strip_suffix(".weight").unwrap_or(name);
    name.strip_prefix("backbone.").unwrap_or(name).to_owned()
}

fn what(plan: &Plan, op: &Op) -> String {
    let size = |value| match plan.shape(value) {
        Shape::Map { channels, height, width } => format!("{channels}x{height}x{width}"),
        Shape::Vector { width } => width.to_string(),
    };
    let sizes = format!("{} -> {}", size(op.inputs()[0]), size(op.output()));
    match op {
        Op::Conv2d { window, .. } | Op::Pool2d { window, .. } => {
            let stride = if window.stride == 1 { String::new() } else { format!(" s{}", window.stride) };
            format!("{0}x{0}{stride} {sizes}", window.kernel)
        }
        Op::BatchNorm { residual, activation, .. } => {
            let residual = if residual.is_some() { " + residual" } else { "" };
            let activation = match activation {
                Activation::Identity => "",
                Activation::Relu => ", ReLU",
                Activation::Silu => ", SiLU",
            };
            format!("{sizes}{residual}{activation}")
        }
        Op::Activate { .. } | Op::Add { .. } | Op::GlobalAveragePool { .. } | Op::Linear { .. } => sizes,
    }
}
