//! What the commands share that look at results, whichever backend computed them.

use clap::Args;

use crate::commands::arguments::{DeviceChoice, ExperimentArguments, PlanArguments};
use crate::commands::code::CodeArguments;
use crate::commands::error::CommandError;
use crate::commands::open::Reading;
use crate::commands::{open, plan_lock};
use crate::experiment::Experiment;
use crate::experiment::recipe::Backend;
use crate::store::Store;

/// Which results to look at.
#[derive(Debug, Clone, Args)]
pub struct LookArguments {
    #[command(flatten)]
    pub experiment: ExperimentArguments,
    #[command(flatten)]
    pub filter: DeviceFilter,
    #[command(flatten)]
    pub plans: PlanArguments,
    #[command(flatten)]
    pub code: CodeArguments,
}

impl LookArguments {
    /// As [`on_every_backend`], with this program's code in the keys where that is asked for.
    ///
    /// # Errors
    /// As there.
    pub fn experiments(&self) -> Result<Vec<(Backend, Experiment)>, CommandError> {
        let mut experiments = on_every_backend(&self.experiment, &self.filter, &self.plans)?;
        experiments.iter_mut().for_each(|(_, experiment)| self.code.put_into(experiment));
        Ok(experiments)
    }

    /// The store, where there is one.
    ///
    /// # Errors
    /// The store's.
    pub fn store(&self) -> Result<Option<Store>, CommandError> {
        open::existing_store(&self.experiment.places, self.experiment.smoke)
    }
}

/// Which backends' records count.
#[derive(Debug, Clone, Copy, Args)]
pub struct DeviceFilter {
    /// Only what this device computed [default: every device's records]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
}

/// The experiment resolved for each backend that can run it, the fastest first.
/// A lock is of the GPU's alone. A file may name numerics that some backend lacks; it is wrong only when no backend takes it.
pub fn on_every_backend(
    arguments: &ExperimentArguments,
    filter: &DeviceFilter,
    plans: &PlanArguments,
) -> Result<Vec<(Backend, Experiment)>, CommandError> {
    let backends = match filter.device {
        None | Some(DeviceChoice::Auto) => vec![Backend::Cuda, Backend::Cpu, Backend::Reference],
        Some(DeviceChoice::Cuda(_)) => vec![Backend::Cuda],
        Some(DeviceChoice::Cpu) => vec![Backend::Cpu],
        Some(DeviceChoice::Reference) => vec![Backend::Reference],
    };
    let lock = plan_lock::for_looking(plans, &backends)?;
    let mut experiments = Vec::new();
    let mut problems = None;
    for backend in backends {
        match open::experiment(arguments, backend, Reading::Look) {
            Ok(mut experiment) => {
                plan_lock::put_into(lock.as_ref().filter(|_| backend == Backend::Cuda), &mut experiment);
                experiments.push((backend, experiment));
            }
            Err(error @ CommandError::Experiment(_)) => problems = Some(error),
            Err(error) => return Err(error),
        }
    }
    match problems {
        Some(problems) if experiments.is_empty() => Err(problems),
        Some(_) | None => Ok(experiments),
    }
}

/// A line that says so where results of several backends lie side by side.
pub fn mixes(backends: &[Backend]) -> String {
    if backends.len() < 2 {
        return String::new();
    }
    let names: Vec<&str> = backends.iter().map(|backend| backend.name()).collect();
    format!("note: results of {} are stored; `--device` shows one of them alone\n", names.join(" and "))
}
