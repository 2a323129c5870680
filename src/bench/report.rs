//! The measurements put together, as `ablate bench` and the checks on a GPU machine ask for them.

use crate::bench::kernels::{self, Kernel};
use crate::bench::parity::{Comparison, Make};
use crate::bench::speed::Subject;
use crate::executor::{self, Executor, ExecutorError};
use crate::experiment::recipe::{Backend, Numerics, Stem};

/// What `bench parity` found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Found {
    pub operations: Vec<Comparison>,
    pub each_loss: Vec<Comparison>,
    pub whole: Vec<Comparison>,
    /// Numerics, losses of `cpu` in f32, losses found.
    pub losses: Vec<(String, Vec<f32>, Vec<f32>)>,
    /// Digests of the same steps, one after another and side by side.
    pub repeats: Vec<String>,
    pub bits_repeat: bool,
}

/// Compares a backend with `cpu`: operations, losses, the whole model, some steps, repetitions alone and beside others.
///
/// # Errors
/// The executors'.
pub fn parity(backend: Backend, device: usize, threads: usize, quick: bool) -> Result<Found, ExecutorError> {
    let make: &mut Make = &mut |plan, setting| match backend {
        Backend::Cuda => Ok(Box::new(executor::cuda::on_device(plan, setting)?) as Box<dyn Executor>),
        Backend::Cpu | Backend::Reference => Ok(Box::new(executor::cpu::CpuExecutor::new(plan, setting)?)),
    };
    let kinds: &[Numerics] = if backend == Backend::Cuda { &[Numerics::F32, Numerics::Bf16] } else { &[Numerics::F32] };
    let (width, batch, n_steps) = if quick { (16, 8, 10) } else { (64, 64, 100) };
    let setting = |numerics| crate::bench::setting(batch, numerics, threads, device);
    let mut found = Found {
        operations: crate::bench::parity::operations(width, &setting(Numerics::F32), make)?,
        each_loss: crate::bench::parity::each_loss(width, &setting(Numerics::F32), make)?,
        whole: vec![],
        losses: vec![],
        repeats: vec![],
        bits_repeat: false,
    };
    for stem in [Stem::ImageNet, Stem::Cifar] {
        if quick && stem == Stem::Cifar {
            continue;
        }
        for numerics in kinds {
            found.whole.push(crate::bench::parity::whole(stem, &setting(*numerics), make)?);
        }
    }
    let plan = crate::bench::plan(Stem::ImageNet)?;
    let mut cpu = executor::cpu::CpuExecutor::new(plan.clone(), &setting(Numerics::F32))?;
    let expected = crate::bench::parity::losses(&plan, &setting(Numerics::F32), &mut cpu, n_steps, 0.05)?;
    for numerics in kinds {
        let mut executor = make(plan.clone(), &setting(*numerics))?;
        let losses = crate::bench::parity::losses(&plan, &setting(*numerics), executor.as_mut(), n_steps, 0.05)?;
        found.losses.push((format!("{numerics:?}"), expected.clone(), losses));
    }
    let native = setting(if backend == Backend::Cuda { Numerics::Bf16 } else { Numerics::F32 });
    found.repeats = crate::bench::repeated_digests(&plan, &native, backend, n_steps.min(10))?;
    found.bits_repeat = found.repeats.windows(2).all(|pair| pair[0] == pair[1]);
    Ok(found)
}

/// Every kernel of a GPU's step.
///
/// # Errors
/// The executor's.
pub fn kernels(subject: &Subject) -> Result<Vec<Kernel>, ExecutorError> {
    let setting = crate::bench::setting(subject.batch, subject.numerics, subject.threads, subject.device);
    let mut executor = executor::cuda::of_model(&crate::bench::model(subject.stem), &setting)?;
    let nodes = executor.timed_nodes();
    Ok(kernels::time(executor.device(), &nodes)?)
}
