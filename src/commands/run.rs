//! `ablate run FILE`: the base recipe alone.

use clap::Args;

use crate::commands::arguments::{ComputeArguments, OutputArguments};
use crate::commands::code::CodeArguments;
use crate::commands::error::CommandError;
use crate::commands::open::Reading;
use crate::commands::{Ending, failures, gather, open, plan_lock, print, print_json, sweep};
use crate::experiment::Experiment;
use crate::record::Pretrain;
use crate::report::row::{EncoderKind, Row, Status};
use crate::results;
use crate::store::Store;

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub compute: ComputeArguments,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let arguments = &arguments.compute;
    let device = open::backend(arguments.device.device)?;
    let lock = plan_lock::for_computing(arguments, device)?;
    let mut experiment = open::experiment(&arguments.experiment, device.0, Reading::ComputeBase)?;
    keep_first_seed(&mut experiment);
    let policy = sweep::policy(arguments, false, 1);
    let lock = lock.apply(&mut experiment, device.1, arguments.output.quiet)?;
    arguments.code.put_into(&mut experiment);
    let (store, summary) = sweep::compute(arguments, device, &experiment, lock.as_ref(), policy)?;
    show(arguments.output, arguments.code, &experiment, &store)?;
    if !arguments.output.quiet {
        tell_line!("{}{}", sweep::closing_line(&summary), failures::report(&experiment, &summary).trim_end());
    }
    Ok(sweep::ending(&summary))
}

fn keep_first_seed(experiment: &mut Experiment) {
    experiment.seeds.truncate(1);
    experiment.cells.iter_mut().for_each(|cell| cell.runs.truncate(1));
}

/// Every metric of the run, what it cost and its key.
fn show(
    output: OutputArguments,
    code: CodeArguments,
    experiment: &Experiment,
    store: &Store,
) -> Result<(), CommandError> {
    let run = &experiment.cells[0].runs[0];
    let state = results::pretrain(store, run.pretrain_key())?;
    let failure = state.failure().map(|failure| failure.message.clone());
    let training = state.hit().map(|found| found.stage);
    let images_per_s = training.as_ref().and_then(Pretrain::images_per_s);
    let rows = gather::rows(Some(store), experiment, code)?;
    let is_told = |row: &&Row| row.encoder != EncoderKind::Snapshot;
    if output.json {
        let metrics: serde_json::Map<_, _> = rows
            .iter()
            .filter(is_told)
            .filter_map(|row| Some((row.full_metric(), serde_json::json!(row.value?))))
            .collect();
        return print_json(&serde_json::json!({
            "experiment": experiment.name,
            "seed": run.seed,
            "pretrain_key": run.pretrain_key(),
            "metrics": metrics,
            "images_per_s": images_per_s,
            "epochs": training.map(|training| training.epochs),
            "failure": failure,
        }));
    }
    let mut text = format!("{}  seed {}  key {}\n", experiment.name, run.seed, run.pretrain_key().short());
    for row in rows.iter().filter(is_told).filter(|row| row.status == Status::Done) {
        if let Some(value) = row.value {
            text.push_str(&format!("  {:<26} {value:.4} {}\n", row.full_metric(), row.unit.as_deref().unwrap_or("")));
        }
    }
    if let Some(speed) = images_per_s {
        text.push_str(&format!("  {:<26} {speed:.1} images/s\n", "training"));
    }
    if let Some(message) = failure {
        text.push_str(&format!("  failed: {message}\n"));
    }
    print(&text)
}
