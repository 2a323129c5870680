//! Timing the convolutions of an experiment's runs before any of them is trained, for a lock that their keys then hold.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::content::Key;
use crate::device::cuda::CudaGpu;
use crate::device::cuda::convolutions::description;
use crate::device::cuda::plan_file::{Machine, PlanFile};
use crate::device::cuda::plan_lock::{EngineChoice, PlanLock};
use crate::device::gpu::{Convolution, GpuError, Pass};
use crate::executor::ExecutorError;
use crate::executor::cuda::convolutions_of_model;
use crate::experiment::Experiment;
use crate::experiment::run::Run;
use crate::runner::RunnerError;
use crate::runner::training::setting_on;

/// A lock as keys hold it: the BLAKE3 of its canonical JSON.
pub fn digest(lock: &PlanLock) -> Key {
    Key::of_bytes(lock.canonical_json().as_bytes())
}

/// The convolutions of an experiment's runs that a lock says nothing of: all models, batches and numerics.
///
/// # Errors
/// A model that was not compiled.
pub fn missing(experiment: &Experiment, lock: &PlanLock) -> Result<BTreeSet<(Convolution, Pass)>, RunnerError> {
    let mut seen: Vec<&Run> = Vec::new();
    let mut missing = BTreeSet::new();
    for run in experiment.cells.iter().flat_map(|cell| &cell.runs) {
        let sizes = |run: &Run| (run.train.batch, run.train.numerics);
        if seen.iter().any(|other| other.model == run.model && sizes(other) == sizes(run)) {
            continue;
        }
        seen.push(run);
        // Threads and the GPU's number change no convolution.
        let found = convolutions_of_model(&run.model, &setting_on(run, 1, 0))?;
        missing
            .extend(found.into_iter().filter(|(shape, pass)| !lock.choices.contains_key(&description(shape, *pass))));
    }
    Ok(missing)
}

/// Times these convolutions on the GPU of that number and adds the fastest ways to `known`.
///
/// # Errors
/// The device's. A convolution for which it has no room or no way is told of and left out: its run, if it can compute at
/// all, computes it as without a lock.
pub fn tune(
    device: usize,
    machine: Machine,
    known: PlanLock,
    missing: &BTreeSet<(Convolution, Pass)>,
    tell: &mut dyn FnMut(&str),
) -> Result<PlanFile, RunnerError> {
    let mut gpu = CudaGpu::new(device).map_err(ExecutorError::from)?;
    let lock = completed(known, missing, &mut |shape, pass| gpu.tune(shape, pass), tell)?;
    let tuned_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok(PlanFile::new(machine, tuned_unix_s, lock))
}

/// How the fastest way of a convolution is found.
type Search<'a> = dyn FnMut(&Convolution, Pass) -> Result<EngineChoice, GpuError> + 'a;

fn completed(
    mut lock: PlanLock,
    missing: &BTreeSet<(Convolution, Pass)>,
    search: &mut Search<'_>,
    tell: &mut dyn FnMut(&str),
) -> Result<PlanLock, RunnerError> {
    for (shape, pass) in missing {
        match search(shape, *pass) {
            Ok(choice) => drop(lock.choices.insert(description(shape, *pass), choice)),
            Err(error @ (GpuError::OutOfMemory { .. } | GpuError::NoPlan(_))) => {
                tell(&format!("{} is left out of the lock: {error}", description(shape, *pass)));
            }
            Err(error @ (GpuError::Library(_) | GpuError::Compile { .. } | GpuError::Call { .. })) => {
                return Err(ExecutorError::from(error).into());
            }
        }
    }
    Ok(lock)
}

#[cfg(test)]
mod tests;
