//! Plan locks on the command line: read, checked against this machine, completed by timing, put into the runs' keys.

use std::path::{Path, PathBuf};

use crate::commands::arguments::{ComputeArguments, PlanArguments};
use crate::commands::error::CommandError;
use crate::commands::paragraph::note;
use crate::commands::{count, open};
use crate::device::cuda::plan_file::{Machine, PlanFile};
use crate::device::cuda::plan_lock::PlanLock;
use crate::experiment::Experiment;
use crate::experiment::recipe::Backend;
use crate::report::atomic_file::write_atomically;
use crate::runner::tuning;

/// What `--tune` keeps in the folder of the results.
const FILE_NAME: &str = "plans.lock.json";

/// What was asked for, its file read and fit for this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Nothing,
    Lock(PlanLock),
    Tune {
        path: PathBuf,
        machine: Machine,
        /// What the file holds already.
        known: PlanLock,
    },
}

/// The lock that a command on this device computes with.
///
/// # Errors
/// A device without plans, a file that cannot be read or that holds plans for another machine.
pub fn for_computing(
    arguments: &ComputeArguments,
    (backend, ordinal): (Backend, usize),
) -> Result<Asked, CommandError> {
    let here = || {
        let machine = Machine::here(ordinal);
        machine.map_err(|error| CommandError::Usage(format!("the plans of the convolutions: {error}")))
    };
    if arguments.plans.tune {
        only_cuda("--tune", &[backend])?;
        let folder = open::results_folder(&arguments.experiment.places, arguments.experiment.smoke);
        let (path, machine) = (folder.join(FILE_NAME), here()?);
        let known = if path.exists() { fitting(&path, &machine)? } else { PlanLock::default() };
        return Ok(Asked::Tune { path, machine, known });
    }
    let Some(path) = &arguments.plans.lock.plans else { return Ok(Asked::Nothing) };
    only_cuda("--plans", &[backend])?;
    Ok(Asked::Lock(fitting(path, &here()?)?))
}

/// The lock whose results a command looks for, which needs no device.
///
/// # Errors
/// No device with plans among those that are looked at, a file that cannot be read.
pub fn for_looking(arguments: &PlanArguments, backends: &[Backend]) -> Result<Option<PlanLock>, CommandError> {
    let Some(path) = &arguments.plans else { return Ok(None) };
    only_cuda("--plans", backends)?;
    read(path).map(|file| Some(file.choices))
}

/// Makes a lock part of every key.
pub fn put_into(lock: Option<&PlanLock>, experiment: &mut Experiment) {
    if let Some(lock) = lock {
        experiment.lock_plans(tuning::digest(lock));
    }
}

fn only_cuda(option: &str, backends: &[Backend]) -> Result<(), CommandError> {
    if backends.contains(&Backend::Cuda) {
        return Ok(());
    }
    let found: Vec<String> = backends.iter().map(|backend| format!("`{}`", backend.name())).collect();
    Err(CommandError::Usage(format!(
        "`{option}` is about the convolutions of a GPU, and the device here is {}: add `--device cuda`, or leave `{option}` \
         away",
        found.join(" or ")
    )))
}

fn read(path: &Path) -> Result<PlanFile, CommandError> {
    let usage = |reason: String| CommandError::Usage(format!("the plan lock `{}` {reason}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| usage(format!("cannot be read: {error}")))?;
    PlanFile::from_json(&text).map_err(|error| usage(error.to_string()))
}

fn fitting(path: &Path, here: &Machine) -> Result<PlanLock, CommandError> {
    let file = read(path)?;
    let usage = |error| CommandError::Usage(format!("the plan lock `{}` {error}", path.display()));
    file.check(here).map_err(usage)?;
    Ok(file.choices)
}

impl Asked {
    /// Times what a lock lacks and writes it down, where that was asked for; the lock to compute with, which is in the key
    /// of every run from here on.
    ///
    /// # Errors
    /// The device's, and a file that cannot be written.
    pub fn apply(
        self,
        experiment: &mut Experiment,
        ordinal: usize,
        quiet: bool,
    ) -> Result<Option<PlanLock>, CommandError> {
        let lock = match self {
            Asked::Nothing => return Ok(None),
            Asked::Lock(lock) => lock,
            Asked::Tune { path, machine, known } => completed(&path, machine, known, experiment, (ordinal, quiet))?,
        };
        put_into(Some(&lock), experiment);
        Ok(Some(lock))
    }
}

fn completed(
    path: &Path,
    machine: Machine,
    known: PlanLock,
    experiment: &Experiment,
    (ordinal, quiet): (usize, bool),
) -> Result<PlanLock, CommandError> {
    let missing = tuning::missing(experiment, &known)?;
    if missing.is_empty() {
        return Ok(known);
    }
    if !quiet {
        tell_line!("timing {} for {}", count(missing.len(), "convolution"), path.display());
    }
    let file = tuning::tune(ordinal, machine, known, &missing, &mut note)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|source| CommandError::Write { path: folder.to_owned(), source })?;
    write_atomically(path, file.to_json().as_bytes())?;
    Ok(file.choices)
}

#[cfg(test)]
mod tests;
