//! How far an executor's numbers are from the `cpu` executor's: operation by operation, the whole model, a training.

use crate::executor::cpu::CpuExecutor;
use crate::executor::{Executor, ExecutorError, Setting, State};
use crate::experiment::recipe::{Initialization, Loss, Stem};
use crate::model::initialize::initialize;
use crate::model::plan::Plan;
use crate::model::registry;
use crate::ops::contrastive::bank_len;
use crate::ops::nt_xent::normalize;
use crate::ops::optimizer;
use crate::random::{Address, Purpose, Stream};

use crate::bench::{model, plans};

/// One of every loss, both forms of those that have two.
pub(super) const LOSSES: [Loss; 10] = [
    Loss::NT_XENT,
    Loss::NtXent { normalize: false, scale: 2.0 },
    Loss::NtXentMemoryBank { size: 100 },
    Loss::Dcl,
    Loss::Dclw { sigma: 0.5 },
    Loss::NtLogistic { semi_hard: false },
    Loss::NtLogistic { semi_hard: true },
    Loss::MarginTriplet { margin: 0.4, semi_hard: false },
    Loss::MarginTriplet { margin: 0.4, semi_hard: true },
    Loss::CrossEntropy { label_smoothing: 0.1 },
];

/// Builds the executor in question.
pub type Make<'a> = dyn FnMut(Plan, &Setting) -> Result<Box<dyn Executor>, ExecutorError> + 'a;

/// One comparison. Distances are Euclidean, as a share of the `cpu` executor's norm.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Comparison {
    pub what: String,
    /// |loss − loss of cpu| / loss of cpu.
    pub loss: f64,
    /// Of all gradients together.
    pub gradient: f64,
    /// 1 − cosine of all gradients together.
    pub gradient_angle: f64,
    /// Cosine of the worst parameter's gradient whose norm is not next to nothing.
    pub worst_cosine: f64,
    /// The middle of all parameters' cosines.
    pub median_cosine: f64,
    /// Of the features in evaluation mode.
    pub features: f64,
    /// Of the running statistics after the step.
    pub running: f64,
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    difference.sqrt() / norm(expected).max(f64::MIN_POSITIVE)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / (norm(a) * norm(b)).max(f64::MIN_POSITIVE)
}

/// Views as they come after normalisation: about zero, about one.
pub fn views(n: usize) -> Vec<f32> {
    let mut stream = Stream::new(41, Address::of(Purpose::View));
    (0..n).map(|_| stream.uniform(-1.7, 1.7)).collect()
}

/// The start of a training.
pub fn start(plan: &Plan, setting: &Setting) -> State {
    let (parameters, buffers) = initialize(plan, Initialization::Torchvision, 5);
    let optimizer = optimizer::slots(&setting.optimizer, parameters.len());
    State { parameters, buffers, optimizer, bank: bank(plan, setting), step: 0 }
}

/// Unit vectors for a loss that has a memory bank.
fn bank(plan: &Plan, setting: &Setting) -> Vec<f32> {
    let width = plan.projection_width();
    let mut stream = Stream::new(42, Address::of(Purpose::View));
    let mut rows: Vec<f32> = (0..bank_len(setting.loss, width)).map(|_| stream.uniform(-1.0, 1.0)).collect();
    for row in rows.chunks_mut(width) {
        let drawn = row.to_vec();
        normalize(&drawn, row);
    }
    rows
}

/// A class of every image.
fn labels(plan: &Plan, setting: &Setting) -> Vec<u32> {
    (0..setting.batch).map(|image| (image * image % plan.projection_width()) as u32).collect()
}

/// One step of both from the same state with the same views.
pub fn compare(what: &str, plan: &Plan, setting: &Setting, make: &mut Make) -> Result<Comparison, ExecutorError> {
    let mut expected = CpuExecutor::new(plan.clone(), setting)?;
    let mut found = make(plan.clone(), setting)?;
    let (state, input) = (start(plan, setting), views(2 * setting.batch * plan.shape(plan.input).len()));
    expected.load(&state);
    found.load(&state);
    let labels = labels(plan, setting);
    let losses = [
        f64::from(expected.forward_backward_labelled(&input, &labels)?),
        f64::from(found.forward_backward_labelled(&input, &labels)?),
    ];
    let (a, b) = (found.gradients(), expected.gradients());
    let negligible = 1e-6 * norm(&b);
    let seen = plan.parameters.iter().filter(|parameter| norm(&b[parameter.range()]) > negligible);
    let mut cosines: Vec<f64> = seen.map(|parameter| cosine(&a[parameter.range()], &b[parameter.range()])).collect();
    cosines.sort_by(f64::total_cmp);
    Ok(Comparison {
        what: what.to_owned(),
        loss: (losses[1] - losses[0]).abs() / losses[0].abs().max(f64::MIN_POSITIVE),
        gradient: distance(&a, &b),
        gradient_angle: 1.0 - cosine(&a, &b),
        worst_cosine: cosines.first().copied().unwrap_or(1.0),
        median_cosine: cosines.get(cosines.len() / 2).copied().unwrap_or(1.0),
        features: distance(&found.features(&input)?, &expected.features(&input)?),
        running: if state.buffers.is_empty() { 0.0 } else { distance(&found.save().buffers, &expected.save().buffers) },
    })
}

/// Every operation in a Plan of its own.
pub fn operations(width: usize, setting: &Setting, make: &mut Make) -> Result<Vec<Comparison>, ExecutorError> {
    plans::operations(width).iter().map(|(name, plan)| compare(name, plan, setting, make)).collect()
}

/// Every loss behind one small network.
pub fn each_loss(width: usize, setting: &Setting, make: &mut Make) -> Result<Vec<Comparison>, ExecutorError> {
    let plan = plans::for_a_loss(width);
    let of = |loss: Loss| compare(&format!("{loss:?}"), &plan, &Setting { loss, ..setting.clone() }, make);
    LOSSES.into_iter().map(of).collect()
}

/// ResNet-18 with its head.
pub fn whole(stem: Stem, setting: &Setting, make: &mut Make) -> Result<Comparison, ExecutorError> {
    let plan = registry::plan(&model(stem)).map_err(|error| ExecutorError::Device(error.to_string()))?;
    compare(&format!("ResNet-18, {stem:?} stem"), &plan, setting, make)
}

/// Losses of some steps on the same few batches, in turn.
pub fn losses(
    plan: &Plan,
    setting: &Setting,
    executor: &mut dyn Executor,
    n_steps: usize,
    learning_rate: f64,
) -> Result<Vec<f32>, ExecutorError> {
    const BATCHES: usize = 4;
    let len = 2 * setting.batch * plan.shape(plan.input).len();
    let all = views(BATCHES * len);
    executor.load(&start(plan, setting));
    let mut losses = Vec::with_capacity(n_steps);
    for step in 0..n_steps {
        losses.push(executor.forward_backward(&all[step % BATCHES * len..][..len])?);
        executor.update(learning_rate);
    }
    Ok(losses)
}

/// Digest of everything that a few steps leave behind.
pub fn digest(
    plan: &Plan,
    setting: &Setting,
    executor: &mut dyn Executor,
    n_steps: usize,
) -> Result<String, ExecutorError> {
    let losses = losses(plan, setting, executor, n_steps, 0.05)?;
    let state = executor.save();
    let mut hasher = blake3::Hasher::new();
    let slots = state.optimizer.iter().flat_map(|(_, slot)| slot);
    for value in losses.iter().chain(&state.parameters).chain(&state.buffers).chain(slots) {
        hasher.update(&value.to_le_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}
