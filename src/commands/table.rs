//! `ablate table FILE`: the ablation table from what is stored, whichever backend computed it.

use clap::{Args, ValueEnum};

use crate::commands::arguments::{DeviceChoice, ExperimentArguments, PlanArguments};
use crate::commands::code::CodeArguments;
use crate::commands::error::CommandError;
use crate::commands::open::Reading;
use crate::commands::{Ending, gather, in_work, open, plan_lock, print, print_json};
use crate::experiment::Experiment;
use crate::experiment::recipe::Backend;
use crate::report::render::Format;
use crate::report::table::AblationTable;

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub experiment: ExperimentArguments,
    #[command(flatten)]
    pub filter: DeviceFilter,
    #[command(flatten)]
    pub plans: PlanArguments,
    #[command(flatten)]
    pub code: CodeArguments,
    #[arg(long, value_enum, default_value_t = FormatChoice::Text)]
    pub format: FormatChoice,
    /// Another metric than the file's: `linear.top1`
    #[arg(long)]
    pub metric: Option<String>,
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Which backends' records count.
#[derive(Debug, Clone, Copy, Args)]
pub struct DeviceFilter {
    /// Only what this device computed [default: every device's records]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatChoice {
    Text,
    Markdown,
    Latex,
    Csv,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let mut experiments = on_every_backend(&arguments.experiment, &arguments.filter, &arguments.plans)?;
    experiments.iter_mut().for_each(|(_, experiment)| arguments.code.put_into(experiment));
    let store = open::existing_store(&arguments.experiment.places, arguments.experiment.smoke)?;
    let candidates: Vec<&Experiment> = experiments.iter().map(|(_, experiment)| experiment).collect();
    let rows = gather::rows_of_best(store.as_ref(), &candidates, arguments.code)?;
    // Backends differ in runs and keys alone, and a table is laid out by axes, labels and seeds.
    let experiment = candidates.first().expect("at least one backend takes the file");
    let table = AblationTable::new(experiment, &rows, arguments.metric.as_ref().unwrap_or(&experiment.table.metric))?;
    if arguments.json {
        print_json(&table.to_json())?;
    } else {
        print(&table.render(match arguments.format {
            FormatChoice::Text => Format::Text,
            FormatChoice::Markdown => Format::Markdown,
            FormatChoice::Latex => Format::Latex,
            FormatChoice::Csv => Format::Csv,
        }))?;
    }
    eprint!("{}", in_work::text(&in_work::of(store.as_ref(), &experiments)?));
    Ok(Ending::Complete)
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
