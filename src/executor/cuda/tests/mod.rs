//! The whole GPU plan on an emulated device, held to the `cpu` executor.

mod locks;
mod losses;
mod pieces;
mod sizes;
mod training;
mod whole;

use crate::device::emulator::{Emulator, Order};
use crate::executor::cpu::CpuExecutor;
use crate::executor::cpu::tests::build::resnet18;
use crate::executor::cuda::CudaExecutor;
use crate::executor::{Executor, Setting, State};
use crate::experiment::recipe::Stem;
use crate::experiment::recipe::{BatchNormScope, DecayScope, Initialization, Loss, Numerics, Optimizer};
use crate::model::initialize::initialize;
use crate::model::plan::{Activation, Op, Plan};
use crate::ops::contrastive::bank_len;
use crate::ops::nt_xent::normalize;
use crate::ops::optimizer;
use crate::random::{Address, Purpose, Stream};

const SGD: Optimizer =
    Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 1e-3, decay: DecayScope::Weights };

fn setting(batch: usize, numerics: Numerics) -> Setting {
    Setting {
        batch,
        n_views: 2,
        micro_batch: None,
        loss: Loss::NT_XENT,
        temperature: 0.5,
        batch_norm_scope: BatchNormScope::View,
        optimizer: SGD,
        numerics,
        threads: 2,
        device: 0,
    }
}

/// The numerics a GPU takes by itself; f32 too where the slow tests are asked for.
fn kinds() -> &'static [Numerics] {
    let slow = std::env::var_os("ABLATE_SLOW_TESTS").is_some();
    if slow { &[Numerics::Bf16, Numerics::F32] } else { &[Numerics::Bf16] }
}

fn start(plan: &Plan, setting: &Setting) -> State {
    let (parameters, buffers) = initialize(plan, Initialization::Torchvision, 3);
    let optimizer = optimizer::slots(&setting.optimizer, parameters.len());
    State { parameters, buffers, optimizer, bank: bank(plan, setting), step: 0 }
}

/// Unit vectors for a loss that has a memory bank.
fn bank(plan: &Plan, setting: &Setting) -> Vec<f32> {
    let mut stream = Stream::new(7, Address::of(Purpose::View));
    let width = plan.projection_width();
    let mut rows: Vec<f32> = (0..bank_len(setting.loss, width)).map(|_| stream.uniform(-1.0, 1.0)).collect();
    for row in rows.chunks_mut(width) {
        let drawn = row.to_vec();
        normalize(&drawn, row);
    }
    rows
}

/// A narrow ResNet-18 with SiLU in place of ReLU: without kinks two executors can be held closely together, and the batch
/// norms of a toy batch do not blow up what little they differ.
fn smooth(stem: Stem, side: usize) -> Plan {
    let mut plan = resnet18(stem, side, 8, 16, 8);
    for op in &mut plan.ops {
        if let Op::BatchNorm { activation: activation @ Activation::Relu, .. } = op {
            *activation = Activation::Silu;
        }
    }
    plan
}

fn emulated(plan: &Plan, setting: &Setting, order: Order) -> CudaExecutor {
    let gpu = Box::new(Emulator::strict(order));
    let mut executor = CudaExecutor::new(gpu, plan.clone(), setting).expect("a plan for the emulation");
    executor.load(&start(plan, setting));
    executor
}

fn on_cpu(plan: &Plan, setting: &Setting) -> CpuExecutor {
    let setting = Setting { numerics: Numerics::F32, ..setting.clone() };
    let mut executor = CpuExecutor::new(plan.clone(), &setting).expect("a plan for the processor");
    executor.load(&start(plan, &setting));
    executor
}

/// The views of one step, about as wide as after normalisation.
fn views(plan: &Plan, batch: usize, salt: u32) -> Vec<f32> {
    let mut stream = Stream::new(9, Address { example: salt, ..Address::of(Purpose::View) });
    (0..2 * batch * plan.shape(plan.input).len()).map(|_| stream.uniform(-1.7, 1.7)).collect()
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// Euclidean distance as a share of the second norm.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let squares = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>().sqrt() / norm(expected)
}

fn bits(state: &State) -> Vec<u32> {
    let slots = state.optimizer.iter().flat_map(|(_, slot)| slot);
    state.parameters.iter().chain(&state.buffers).chain(slots).chain(&state.bank).map(|value| value.to_bits()).collect()
}
