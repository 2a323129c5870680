//! Measurements of this program on this machine: how fast a training runs, and how far two executors are apart.
//!
//! Nothing here decides what a run computes; it is what `ablate bench` and the checks on a GPU machine call.

pub mod floors;
pub mod kernels;
pub mod operations;
pub mod parity;
mod plans;
pub mod report;
pub mod roofline;
pub mod speed;
#[cfg(test)]
mod tests;

use crate::executor::{self, ExecutorError, Setting};
use crate::experiment::recipe::{
    Augmentation, Backbone, Backend, BatchNormScope, DecayScope, Filter, Head, HueKind, Initialization, Loss, Model,
    Numerics, Optimizer, Stem,
};
use crate::model::plan::Plan;
use crate::model::registry;

/// The network of the measurements: ResNet-18 at side 32 with the head of Lightly's example.
pub fn model(stem: Stem) -> Model {
    let head = Head::Mlp { layers: 2, hidden: 512, output: 128, batch_norm: true, bias: false, output_shift: true };
    Model { backbone: Backbone::ResNet18 { stem }, side: 32, head, initialization: Initialization::Torchvision }
}

/// SGD with momentum at temperature 0.5, statistics a view: Lightly's example.
pub fn setting(batch: usize, numerics: Numerics, threads: usize, device: usize) -> Setting {
    Setting {
        batch,
        n_views: 2,
        micro_batch: None,
        loss: Loss::NT_XENT,
        temperature: 0.5,
        batch_norm_scope: BatchNormScope::View,
        optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 5e-4, decay: DecayScope::All },
        numerics,
        threads,
        device,
    }
}

/// The views of Lightly's example at side 32: no blur, colours at half strength.
pub fn views() -> Vec<Augmentation> {
    let (brightness, contrast, saturation, hue) = (0.4, 0.4, 0.4, 0.1);
    vec![
        Augmentation::RandomResizedCrop { scale: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), filter: Filter::Bilinear },
        Augmentation::HorizontalFlip { p: 0.5 },
        Augmentation::ColorJitter { p: 0.8, brightness, contrast, saturation, hue, hue_kind: HueKind::Float },
        Augmentation::Grayscale { p: 0.2 },
        Augmentation::Normalize { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
    ]
}

/// The Plan of [`model`].
///
/// # Errors
/// When it was not compiled.
pub fn plan(stem: Stem) -> Result<Plan, ExecutorError> {
    registry::plan(&model(stem)).map_err(|error| ExecutorError::Device(error.to_string()))
}

/// Digests of the same steps done three times one after another, then by 2 and by 4 executors at the same time.
///
/// # Errors
/// The executor's.
pub fn repeated_digests(
    plan: &Plan,
    setting: &Setting,
    backend: Backend,
    n_steps: usize,
) -> Result<Vec<String>, ExecutorError> {
    let one = || {
        let mut executor: Box<dyn executor::Executor> = match backend {
            Backend::Cuda => Box::new(executor::cuda::on_device(plan.clone(), setting)?),
            Backend::Cpu | Backend::Reference => Box::new(executor::cpu::CpuExecutor::new(plan.clone(), setting)?),
        };
        parity::digest(plan, setting, executor.as_mut(), n_steps)
    };
    let mut digests = Vec::new();
    for neighbours in [1, 1, 1, 2, 4] {
        let together: Vec<Result<String, ExecutorError>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..neighbours).map(|_| scope.spawn(one)).collect();
            let failed = || ExecutorError::Device("an executor panicked".to_owned());
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(failed()))).collect()
        });
        digests.extend(together.into_iter().collect::<Result<Vec<String>, _>>()?);
    }
    Ok(digests)
}
