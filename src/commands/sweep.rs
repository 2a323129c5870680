//! `ablate sweep FILE`: compute what is missing, then print the table.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::commands::arguments::ComputeArguments;
use crate::commands::error::CommandError;
use crate::commands::interruption::Watch;
use crate::commands::live::Told;
use crate::commands::open::Reading;
use crate::commands::progress::Display;
use crate::commands::{Ending, count, failures, gather, open, plan_lock, print, print_json};
use crate::device::cuda::plan_lock::PlanLock;
use crate::experiment::Experiment;
use crate::experiment::recipe::Backend;
use crate::report::atomic_file::write_atomically;
use crate::report::render::Format;
use crate::report::row::Row;
use crate::report::table::AblationTable;
use crate::report::{histories, parquet};
use crate::runner::{Departure, Interrupt, Policy, Summary, Sweep, panics};
use crate::store::Store;

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
    let policy = policy(arguments, *fail_fast, usize::from(*jobs));
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
        tell_line!("{}\nwrote {}", closing_line(&summary), files.join(" and "));
        tell!("{}", failures::report(&experiment, &summary));
    }
    Ok(ending(&summary))
}

/// What the arguments say of how to go about it.
pub fn policy(arguments: &ComputeArguments, fail_fast: bool, jobs: usize) -> Policy {
    Policy {
        retry_failed: arguments.retry_failed,
        fail_fast,
        jobs,
        wait: !arguments.no_wait,
        disk_floor_bytes: arguments.disk_floor.0,
    }
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
    let interrupt = Arc::new(Interrupt::default());
    let watch = Watch::begin(&interrupt);
    panics::write_down();
    let display = Display::new(experiment, arguments.output.quiet, Arc::clone(&interrupt));
    let origin = open::origin(device, &arguments.device);
    let folder = open::results_folder(&arguments.experiment.places, experiment.smoke);
    let mut display = Told::new(display, &folder, &experiment.name, &origin);
    let sweep = Sweep { store: &store, origin, policy, interrupt: &interrupt, plans: lock };
    let summary = sweep.compute(experiment, &mut display);
    watch.work_ended();
    display.finish();
    Ok((store, summary?))
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
    let is_told = std::fs::read(&results).is_ok_and(|old| old == bytes);
    if is_told && std::fs::read(&history_file).is_ok_and(|old| histories::is_current(&old)) {
        return Ok(vec![results, history_file]);
    }
    write_atomically(&history_file, &histories::to_parquet(&gather::histories(store, experiment)?)?)?;
    write_atomically(&results, &bytes)?;
    Ok(vec![results, history_file])
}

/// The exit a summary means.
pub fn ending(summary: &Summary) -> Ending {
    match summary.departure {
        Some(Departure::Interrupted) => Ending::Interrupted,
        Some(Departure::Preempted) => Ending::Preempted,
        None if !summary.failed.is_empty() || summary.without_room > 0 => Ending::Incomplete,
        None if summary.taken > 0 => Ending::Taken,
        None => Ending::Complete,
    }
}

/// What was done, in a line; what to do next, where there is something.
pub fn closing_line(summary: &Summary) -> String {
    let stopped = !summary.failed.is_empty() || summary.taken + summary.without_room > 0 || summary.departure.is_some();
    let mut parts = vec![match (summary.computed, summary.cached) {
        (0, cached) if stopped => format!("computed nothing, {} from the store", count(cached, "run")),
        (0, cached) => format!("computed nothing, all {} from the store", count(cached, "run")),
        (computed, 0) => format!("computed {}", count(computed, "run")),
        (computed, cached) => format!("computed {}, {cached} from the store", count(computed, "run")),
    }];
    if !summary.failed.is_empty() {
        parts.push(format!("{} failed", summary.n_failed()));
    }
    if summary.taken > 0 {
        parts.push(format!("{} in work elsewhere", summary.taken));
    }
    if summary.without_room > 0 {
        parts.push(format!("{} not begun for want of space", summary.without_room));
    }
    let mut line = parts.join(", ");
    match summary.departure {
        Some(Departure::Interrupted) => line.push_str("\ninterrupted; the same command goes on from here"),
        Some(Departure::Preempted) => line.push_str("\nasked to leave; the same command goes on from here"),
        None => {}
    }
    if let Some(shortage) = &summary.shortage {
        line.push_str(&format!("\n{shortage}"));
    }
    line
}

fn summary_json(summary: &Summary) -> serde_json::Value {
    let failed = summary.failed.iter().map(|(place, stage)| {
        let failure = &stage.failure;
        serde_json::json!({
            "cell": place.cell,
            "seed": place.seed,
            "key": stage.key,
            "kind": format!("{:?}", failure.kind),
            "message": failure.message,
            "step": failure.step,
            "log": failure.log,
        })
    });
    serde_json::json!({
        "computed": summary.computed,
        "cached": summary.cached,
        "failed": failed.collect::<Vec<_>>(),
        "taken": summary.taken,
        "without_room": summary.without_room,
        "interrupted": summary.departure == Some(Departure::Interrupted),
        "preempted": summary.departure == Some(Departure::Preempted),
    })
}
