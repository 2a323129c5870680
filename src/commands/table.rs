//! `ablate table FILE`: the ablation table from what is stored, whichever backend computed it.

use clap::{Args, ValueEnum};

use crate::commands::error::CommandError;
use crate::commands::look::LookArguments;
use crate::commands::paragraph::note;
use crate::commands::{Ending, gather, in_work, print, print_json};
use crate::experiment::{AxisLabel, Experiment};
use crate::report::paired_predictions::{self, PairedPredictions};
use crate::report::render::Format;
use crate::report::row::Row;
use crate::report::statistics::IntervalMethod;
use crate::report::table::AblationTable;
use crate::report::view::{Spread, View};
use crate::store::Store;

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub look: LookArguments,
    #[arg(long, value_enum, default_value_t = FormatChoice::Text)]
    pub format: FormatChoice,
    #[command(flatten)]
    pub view: ViewArguments,
    /// Add a second table: every cell less the baseline, seed by seed, with its interval and p
    #[arg(long)]
    pub differences: bool,
    /// Add a table of McNemar's test: which test images only one of a cell and the baseline told right, seed by seed
    #[arg(long)]
    pub predictions: bool,
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
    let experiments = arguments.look.experiments()?;
    let store = arguments.look.store()?;
    let candidates: Vec<&Experiment> = experiments.iter().map(|(_, experiment)| experiment).collect();
    let rows = gather::rows_of_best(store.as_ref(), &candidates, arguments.look.code)?;
    // Backends differ in runs and keys alone, and a table is laid out by axes, labels and seeds.
    let experiment = candidates.first().expect("at least one backend takes the file");
    let table = AblationTable::of(experiment, &rows, &arguments.view.view(experiment))?;
    let pairs = pairs(arguments, store.as_ref(), experiment, &rows, &table)?;
    match arguments.format.of_text().filter(|_| !arguments.json) {
        None => {
            let mut value = table.to_json();
            if arguments.predictions {
                value["predictions"] = table.predictions_to_json(&pairs);
            }
            print_json(&value)?;
        }
        Some(format) => {
            let differences = table.render_differences(format).filter(|_| arguments.differences);
            let below = differences.into_iter().chain(table.render_predictions(&pairs, format));
            print(&below.fold(table.render(format), |above, below| format!("{above}\n{below}")))?;
        }
    }
    tell!("{}", in_work::text(&in_work::of(store.as_ref(), &experiments)?));
    Ok(Ending::Complete)
}

/// What `--predictions` asks for.
fn pairs(
    arguments: &Arguments,
    store: Option<&Store>,
    experiment: &Experiment,
    rows: &[Row],
    table: &AblationTable,
) -> Result<Vec<PairedPredictions>, CommandError> {
    let Some(store) = store.filter(|_| arguments.predictions) else { return Ok(Vec::new()) };
    let pairs = paired_predictions::of(store, experiment, rows, table)?;
    if pairs.is_empty() {
        note(&format!("no cell and seed has predictions behind `{}` to set beside the baseline's", table.metric));
    }
    Ok(pairs)
}
