mod bits;
pub mod build;
mod golden;
mod pieces;
mod whole;

use crate::executor::cpu::CpuExecutor;
use crate::executor::{Executor, Setting, State};
use crate::experiment::recipe::{BatchNormScope, DecayScope, Loss, Numerics, Optimizer};
use crate::model::plan::{ParameterKind, Plan};
use crate::ops::optimizer;

fn setting(batch: usize, threads: usize) -> Setting {
    let optimizer = Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 1e-4, decay: DecayScope::All };
    Setting {
        batch,
        n_views: 2,
        micro_batch: None,
        loss: Loss::NT_XENT,
        temperature: 0.5,
        batch_norm_scope: BatchNormScope::View,
        optimizer,
        numerics: Numerics::F32,
        threads,
        device: 0,
    }
}

/// splitmix64 of seed · 2³² + index, its upper 24 bits in [−1, 1).
fn values(seed: u64, n: usize, scale: f64) -> Vec<f32> {
    let one = |index: u64| {
        let mut z = ((seed << 32) + index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((z >> 40) as f64 / f64::from(1 << 23) - 1.0) * scale
    };
    (0..n as u64).map(|index| one(index) as f32).collect()
}

/// Weights ±√(6/fan_in), scales 1 ± ¼, shifts ±¼, biases ±⅛.
fn state(plan: &Plan, optimizer: &Optimizer) -> State {
    let mut parameters = Vec::new();
    for (index, parameter) in plan.parameters.iter().enumerate() {
        let n = parameter.len();
        let seed = 1000 + index as u64;
        let fan_in = (n / parameter.shape[0]) as f64;
        match parameter.kind {
            ParameterKind::ConvWeight | ParameterKind::LinearWeight => {
                parameters.extend(values(seed, n, (6.0 / fan_in).sqrt()));
            }
            ParameterKind::NormScale => parameters.extend(values(seed, n, 0.25).iter().map(|v| 1.0 + v)),
            ParameterKind::NormShift => parameters.extend(values(seed, n, 0.25)),
            ParameterKind::LinearBias { .. } => parameters.extend(values(seed, n, 0.125)),
            ParameterKind::HeldNormShift => parameters.extend(vec![0.0; n]),
        }
    }
    let buffers = plan.buffers.iter().flat_map(|buffer| std::iter::repeat_n(buffer.initial, buffer.len)).collect();
    State {
        parameters,
        buffers,
        optimizer: optimizer::slots(optimizer, plan.n_parameters()),
        bank: Vec::new(),
        step: 0,
    }
}

fn executor(plan: Plan, setting: &Setting) -> CpuExecutor {
    let state = state(&plan, &setting.optimizer);
    let mut executor = CpuExecutor::new(plan, setting).expect("a machine with AVX2 and enough memory");
    executor.load(&state);
    executor
}
