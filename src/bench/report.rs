//! The measurements put together, as `ablate bench` and the checks on a GPU machine ask for them.

use crate::bench::floors::Peaks;
use crate::bench::kernels::{self, Step};
use crate::bench::parity::{Comparison, Make};
use crate::bench::speed::Subject;
use crate::device::gpu::Element;
use crate::executor::{self, Executor, ExecutorError};
use crate::experiment::recipe::{Backend, Numerics, Stem};

/// A part of what `bench parity` looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Every operation in a Plan of its own, in f32.
    Operations,
    /// ResNet-18 with both stems, in f32 and in what the device takes by itself.
    Whole,
    /// Losses of some steps.
    Losses,
    /// Bits of the same steps, one after another and side by side.
    Repeats,
}

impl Part {
    pub const ALL: [Part; 4] = [Part::Operations, Part::Whole, Part::Losses, Part::Repeats];
}

/// What `bench parity` found; empty where it was not asked.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Found {
    pub operations: Vec<Comparison>,
    pub each_loss: Vec<Comparison>,
    /// Numerics and comparison.
    pub whole: Vec<(String, Comparison)>,
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
pub fn parity(
    backend: Backend,
    device: usize,
    threads: usize,
    (parts, quick): (&[Part], bool),
) -> Result<Found, ExecutorError> {
    let make: &mut Make = &mut |plan, setting| match backend {
        Backend::Cuda => Ok(Box::new(executor::cuda::on_device(plan, setting)?) as Box<dyn Executor>),
        Backend::Cpu | Backend::Reference => Ok(Box::new(executor::cpu::CpuExecutor::new(plan, setting)?)),
    };
    let kinds: &[Numerics] = if backend == Backend::Cuda { &[Numerics::F32, Numerics::Bf16] } else { &[Numerics::F32] };
    let (width, batch, n_steps) = if quick { (16, 8, 10) } else { (64, 64, 100) };
    let setting = |numerics| crate::bench::setting(batch, numerics, threads, device);
    let mut found = Found {
        operations: vec![],
        each_loss: vec![],
        whole: vec![],
        losses: vec![],
        repeats: vec![],
        bits_repeat: true,
    };
    if parts.contains(&Part::Operations) {
        found.operations = crate::bench::parity::operations(width, &setting(Numerics::F32), make)?;
        found.each_loss = crate::bench::parity::each_loss(width, &setting(Numerics::F32), make)?;
    }
    let stems: &[Stem] = if quick { &[Stem::ImageNet] } else { &[Stem::ImageNet, Stem::Cifar] };
    for stem in stems.iter().filter(|_| parts.contains(&Part::Whole)) {
        for numerics in kinds {
            let compared = crate::bench::parity::whole(*stem, &setting(*numerics), make)?;
            found.whole.push((format!("{numerics:?}"), compared));
        }
    }
    let plan = crate::bench::plan(Stem::ImageNet)?;
    if parts.contains(&Part::Losses) {
        let mut cpu = executor::cpu::CpuExecutor::new(plan.clone(), &setting(Numerics::F32))?;
        let expected = crate::bench::parity::losses(&plan, &setting(Numerics::F32), &mut cpu, n_steps, 0.05)?;
        for numerics in kinds {
            let mut executor = make(plan.clone(), &setting(*numerics))?;
            let losses = crate::bench::parity::losses(&plan, &setting(*numerics), executor.as_mut(), n_steps, 0.05)?;
            found.losses.push((format!("{numerics:?}"), expected.clone(), losses));
        }
    }
    if parts.contains(&Part::Repeats) {
        let native = setting(if backend == Backend::Cuda { Numerics::Bf16 } else { Numerics::F32 });
        found.repeats = crate::bench::repeated_digests(&plan, &native, backend, n_steps.min(10))?;
        found.bits_repeat = found.repeats.windows(2).all(|pair| pair[0] == pair[1]);
    }
    Ok(found)
}

/// Bytes that are copied to know a GPU's memory, more than any cache holds, and sides of the products for its arithmetic.
const COPIED_BYTES: usize = 512 << 20;
const PRODUCT_SIDE: usize = 4096;

/// Every kernel of a GPU's step.
///
/// # Errors
/// The executor's.
pub fn kernels(subject: &Subject) -> Result<Step, ExecutorError> {
    let setting = crate::bench::setting(subject.batch, subject.numerics, subject.threads, subject.device);
    let mut executor = executor::cuda::of_model(&crate::bench::model(subject.stem), &setting)?;
    let (nodes, parameters) = (executor.timed_nodes(), executor.plan().n_parameters());
    let element = match subject.numerics {
        Numerics::F32 => Element::F32,
        Numerics::Bf16 => Element::Bf16,
    };
    let peaks = Peaks::measure(executor.device(), COPIED_BYTES, PRODUCT_SIDE)?;
    Ok(kernels::time(executor.device(), &nodes, peaks, (element, parameters))?)
}
