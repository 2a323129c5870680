//! `ablate table FILE`: the ablation table from what is stored, whichever backend computed it.

use clap::{Args, ValueEnum};

use crate::commands::arguments::{DeviceChoice, ExperimentArguments, PlanArguments};
use crate::commands::code::CodeArguments;
use crate::commands::error::CommandError;
use crate::commands::open::Reading;
use crate::commands::{Ending, gather, in_work, open, plan_lock, print, print_json};
use crate::experiment::recipe::Backend;
use crate::experiment::{AxisLabel, Experiment};
use crate::report::render::Format;
use crate::report::statistics::IntervalMethod;
use crate::report::table::AblationTable;
use crate::report::view::{Spread, View};

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
    #[command(flatten)]
    pub view: ViewArguments,
    /// Add a second table: every cell less the baseline, seed by seed, with its interval and p
    #[arg(long)]
    pub differences: bool,
    /// Answer in JSON on stdout, as `--format json` does
    #[arg(long)]
    pub json: bool,
}

/// Another look at the results than the file's `table`.
#[derive(Debug, Clone, Default, Args)]
pub struct ViewArguments {
    /// Another metric than the file's: `linear.top1`
    #[arg(long)]
    pub metric: Option<String>,
    /// Axes of the rows: `train.batch,views`
    #[arg(long, value_name = "PATHS", value_delimiter = ',')]
    pub rows: Option<Vec<String>>,
    /// Axes of the columns
    #[arg(long, value_name = "PATHS", value_delimiter = ',')]
    pub columns: Option<Vec<String>>,
    /// Only the cells with this label: `train.batch=256`; may be given several times
    #[arg(long = "where", value_name = "PATH=LABEL")]
    pub only: Vec<AxisLabel>,
    /// Only the K rows with the best means, and the baseline's [K: 1 where none is given]
    #[arg(long, value_name = "K", num_args = 0..=1, default_missing_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub best: Option<u32>,
    /// What the other cells are compared with: `train.batch=256`; may be given once an axis [default: the file's, else the
    /// first cell]
    #[arg(long, value_name = "PATH=LABEL")]
    pub baseline: Vec<AxisLabel>,
    /// Show 95 % intervals in place of standard deviations: Student's t, or the bias-corrected accelerated bootstrap
    #[arg(long, value_enum)]
    pub interval: Option<IntervalChoice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IntervalChoice {
    T,
    Bca,
}

impl ViewArguments {
    /// The file's own view, changed as asked.
    pub fn view(&self, experiment: &Experiment) -> View {
        let mut view = View::of(experiment);
        view.lay_out(experiment, self.rows.clone(), self.columns.clone());
        self.metric.iter().for_each(|metric| view.metric.clone_from(metric));
        view.only.clone_from(&self.only);
        view.best = self.best.map(|n| n as usize);
        view.baseline = Some(self.baseline.clone()).filter(|labels| !labels.is_empty());
        if let Some(choice) = self.interval {
            view.spread = Spread::Interval;
            view.interval = match choice {
                IntervalChoice::T => IntervalMethod::StudentT,
                IntervalChoice::Bca => IntervalMethod::BootstrapBca,
            };
        }
        view
    }
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
    Typst,
    Csv,
    Json,
}

impl FormatChoice {
    /// `None` for JSON, which is no text.
    fn of_text(self) -> Option<Format> {
        match self {
            FormatChoice::Text => Some(Format::Text),
            FormatChoice::Markdown => Some(Format::Markdown),
            FormatChoice::Latex => Some(Format::Latex),
            FormatChoice::Typst => Some(Format::Typst),
            FormatChoice::Csv => Some(Format::Csv),
            FormatChoice::Json => None,
        }
    }
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let mut experiments = on_every_backend(&arguments.experiment, &arguments.filter, &arguments.plans)?;
    experiments.iter_mut().for_each(|(_, experiment)| arguments.code.put_into(experiment));
    let store = open::existing_store(&arguments.experiment.places, arguments.experiment.smoke)?;
    let candidates: Vec<&Experiment> = experiments.iter().map(|(_, experiment)| experiment).collect();
    let rows = gather::rows_of_best(store.as_ref(), &candidates, arguments.code)?;
    // Backends differ in runs and keys alone, and a table is laid out by axes, labels and seeds.
    let experiment = candidates.first().expect("at least one backend takes the file");
    let table = AblationTable::of(experiment, &rows, &arguments.view.view(experiment))?;
    match arguments.format.of_text().filter(|_| !arguments.json) {
        None => print_json(&table.to_json())?,
        Some(format) => {
            let differences = table.render_differences(format).filter(|_| arguments.differences);
            let below = differences.map(|text| format!("\n{text}")).unwrap_or_default();
            print(&format!("{}{below}", table.render(format)))?;
        }
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
