//! `ablate sweep FILE`: compute what is missing, then print the table.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::commands::arguments::ComputeArguments;
use crate::commands::error::CommandError;
use crate::commands::open::Reading;
use crate::commands::progress::Display;
use crate::commands::{Ending, count, gather, open, plan_lock, print, print_json};
use crate::device::cuda::plan_lock::PlanLock;
use crate::experiment::Experiment;
use crate::experiment::recipe::Backend;
use crate::record::FailureKind;
use crate::report::atomic_file::write_atomically;
use crate::report::render::Format;
use crate::report::row::Row;
use crate::report::table::AblationTable;
use crate::report::{histories, parquet};
use crate::runner::{Policy, Summary, Sweep};
use crate::store::Store;

/// For a device that several runs share.
const MEMORY_HINT: &str = "\nwhat ran out of memory has more of it with fewer `--jobs`";

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub compute: ComputeArguments,
    /// Leave at the first failure; runs beside it stop with a checkpoint
    #[arg(long)]
    pub fail_fast: bool,
    /// Runs to compute at the same time on the one device; never changes a result
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let Arguments { compute: arguments, fail_fast, jobs } = arguments;
    let policy = Policy { retry_failed: arguments.retry_failed, fail_fast: *fail_fast, jobs: usize::from(*jobs) };
    let device = open::backend(arguments.device.device)?;
    let lock = plan_lock::for_computing(arguments, device)?;
    let mut experiment = open::experiment(&arguments.experiment, device.0, Reading::Compute)?;
    let lock = lock.apply(&mut experiment, device.1, arguments.output.quiet)?;
    arguments.code.put_into(&mut experiment);
    let (store, summary) = compute(arguments, device, &experiment, lock.as_ref(), policy)?;
    let rows = gather::rows(Some(&store), &experiment, arguments.code)?;
    let table = AblationTable::new(&experiment, &rows, &experiment.table.metric)?;
    if arguments.output.json {
        print_json(
            &serde_json::json!({ "experiment": experiment.name, "summary": summary_json(&summary), "table": table.to_json() }),
        )?;
    } else {
        print(&table.render(Format::Text))?;
    }
    // Written after the table is told: a folder that cannot be written must not hide a result.
    let files = write_tables(arguments, &experiment, &store, &rows)?;
    if !arguments.output.quiet {
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let memory = if *jobs > 1 && ran_out_of_memory(&summary) { MEMORY_HINT } else { "" };
        eprintln!("{}{memory}\nwrote {}", closing_line(&summary), files.join(" and "));
    }
    Ok(ending(&summary))
}

/// Runs what is missing on a backend and its device; the experiment's runs, in the file's order. `lock` is the one in
/// their keys.
pub fn compute(
    arguments: &ComputeArguments,
    device: (Backend, usize),
    experiment: &Experiment,
    lock: Option<&PlanLock>,
    policy: Policy,
) -> Result<(Store, Summary), CommandError> {
    let store = open::store(&arguments.experiment.places, experiment.smoke)?;
    let interrupt = interrupt_flag();
    let mut display = Display::new(experiment, arguments.output.quiet, Arc::clone(&interrupt));
    let origin = open::origin(device, &arguments.device);
    let sweep = Sweep { store: &store, origin, policy, interrupt: &interrupt, plans: lock };
    let summary = sweep.compute(experiment, &mut display);
    display.finish();
    let summary = summary?;
    Ok((store, summary))
}

/// The first Ctrl-C, SIGTERM or SIGHUP leaves after the step under way, with a checkpoint; the second leaves at once.
/// The store is whole either way.
fn interrupt_flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // Registered first, so that it sees the flag the second registration set at an earlier signal.
        let forced = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag));
        let gentle = signal_hook::flag::register(signal, Arc::clone(&flag));
        if forced.is_err() || gentle.is_err() {
            eprintln!(
                "note: this system lets no signal be caught; an interruption loses the steps since the last checkpoint"
            );
        }
    }
    flag
}

/// Writes the results as Parquet: one row a cell, seed and metric, and the histories of all runs.
fn write_tables(
    arguments: &ComputeArguments,
    experiment: &Experiment,
    store: &Store,
    rows: &[Row],
) -> Result<Vec<PathBuf>, CommandError> {
    let folder = open::results_folder(&arguments.experiment.places, experiment.smoke);
    let results = folder.join(format!("{}.parquet", experiment.name));
    let history_file = folder.join(format!("{}.history.parquet", experiment.name));
    std::fs::create_dir_all(&folder).map_err(|source| CommandError::Write { path: folder.clone(), source })?;
    let bytes = parquet::to_parquet(rows, &experiment.axes)?;
    // Equal tables name equal trainings, and a training has one history.
    if std::fs::read(&results).is_ok_and(|old| old == bytes) && history_file.exists() {
        return Ok(vec![results, history_file]);
    }
    write_atomically(&history_file, &histories::to_parquet(&gather::histories(store, experiment)?)?)?;
    write_atomically(&results, &bytes)?;
    Ok(vec![results, history_file])
}

fn ran_out_of_memory(summary: &Summary) -> bool {
    summary.failed.iter().any(|(_, failure)| failure.kind == FailureKind::OutOfMemory)
}

/// The exit a summary means.
pub fn ending(summary: &Summary) -> Ending {
    if summary.interrupted {
        Ending::Interrupted
    } else if !summary.failed.is_empty() {
        Ending::Incomplete
    } else if summary.taken > 0 {
        Ending::Taken
    } else {
        Ending::Complete
    }
}

/// What was done, in a line; what to do next, where there is something.
pub fn closing_line(summary: &Summary) -> String {
    let stopped = !summary.failed.is_empty() || summary.taken > 0 || summary.interrupted;
    let mut parts = vec![match (summary.computed, summary.cached) {
        (0, cached) if stopped => format!("computed nothing, {} from the store", count(cached, "run")),
        (0, cached) => format!("computed nothing, all {} from the store", count(cached, "run")),
        (computed, 0) => format!("computed {}", count(computed, "run")),
        (computed, cached) => format!("computed {}, {cached} from the store", count(computed, "run")),
    }];
    if !summary.failed.is_empty() {
        parts.push(format!("{} failed", summary.failed.len()));
    }
    if summary.taken > 0 {
        parts.push(format!("{} in work elsewhere", summary.taken));
    }
    let mut line = parts.join(", ");
    if summary.interrupted {
        line.push_str("\ninterrupted; the same command goes on from here");
    }
    if summary.failed.iter().any(|(_, failure)| failure.kind.is_deterministic()) {
        line.push_str("\nwhat failed would fail again as it is; `--retry-failed` tries all the same");
    }
    line
}

fn summary_json(summary: &Summary) -> serde_json::Value {
    let failed = summary.failed.iter().map(|(place, failure)| {
        serde_json::json!({ "cell": place.cell, "seed": place.seed, "kind": format!("{:?}", failure.kind), "message": failure.message, "step": failure.step })
    });
    serde_json::json!({
        "computed": summary.computed,
        "cached": summary.cached,
        "failed": failed.collect::<Vec<_>>(),
        "taken": summary.taken,
        "interrupted": summary.interrupted,
    })
}
