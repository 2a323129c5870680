//! `ablate plan FILE`: what a sweep would compute, before it does.

use std::collections::BTreeSet;

use clap::Args;
use comfy_table::{ContentArrangement, Table};
use serde_json::json;

use crate::commands::arguments::{DeviceArguments, ExperimentArguments, OutputArguments};
use crate::commands::error::CommandError;
use crate::commands::{Ending, count, open, print, print_json};
use crate::experiment::{Cell, Experiment, evaluation_names};
use crate::report::render::text::STYLE;
use crate::results::{self, RunState, State};

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub experiment: ExperimentArguments,
    #[command(flatten)]
    pub device: DeviceArguments,
    #[command(flatten)]
    pub output: OutputArguments,
    /// Exit with 3 when anything is left to compute
    #[arg(long)]
    pub exit_code: bool,
}

/// What a plan says of one run.
struct Line<'a> {
    cell: &'a Cell,
    seed: u64,
    key: crate::content::Key,
    state: RunState,
    evaluations: Vec<String>,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let backend = open::backend(arguments.device.device)?;
    let experiment = open::experiment(&arguments.experiment, backend, false)?;
    let store = open::existing_store(&arguments.experiment.places, experiment.smoke)?;
    let mut lines = Vec::new();
    for cell in &experiment.cells {
        for run in &cell.runs {
            let state = results::inspect_in(store.as_ref(), run)?;
            let evaluations = evaluation_names(&run.evaluate);
            lines.push(Line { cell, seed: run.seed, key: run.pretrain_key(), state, evaluations });
        }
    }
    if arguments.output.json {
        print_json(&as_json(&experiment, &lines))?;
    } else {
        print(&as_text(&experiment, &lines))?;
    }
    let complete = lines.iter().all(|line| line.state.is_complete());
    Ok(if arguments.exit_code && !complete { Ending::Incomplete } else { Ending::Complete })
}

/// Trainings to do: equal cells share one.
fn to_train(lines: &[Line]) -> usize {
    let missing = lines.iter().filter(|line| !matches!(line.state.pretrain, State::Hit(_)));
    missing.map(|line| line.key).collect::<BTreeSet<_>>().len()
}

fn as_text(experiment: &Experiment, lines: &[Line]) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic);
    let axes = experiment.axes.iter().map(|axis| axis.path.clone());
    table.set_header(axes.chain(["seed", "key", "training", "evaluations"].map(str::to_owned)));
    for line in lines {
        let labels = line.cell.labels.iter().cloned();
        table.add_row(labels.chain([
            line.seed.to_string(),
            line.key.short(),
            word(&line.state.pretrain),
            evaluations_text(line),
        ]));
    }
    let complete = lines.iter().filter(|line| line.state.is_complete()).count();
    format!(
        "{}\n{table}\n{}: {complete} stored, {} to train\n",
        experiment.question,
        count(lines.len(), "run"),
        to_train(lines)
    )
}

fn evaluations_text(line: &Line) -> String {
    let named = line.evaluations.iter().zip(&line.state.evaluations);
    named.map(|(name, state)| format!("{name} {}", word(state))).collect::<Vec<_>>().join(", ")
}

fn word<T>(state: &State<T>) -> String {
    match state {
        State::Hit(_) => "stored".to_owned(),
        State::Miss { reason: None } => "to do".to_owned(),
        State::Miss { reason: Some(reason) } => format!("to do again: {reason}"),
        State::Failed(failure, _) => format!("failed: {}", failure.message),
    }
}

fn as_json(experiment: &Experiment, lines: &[Line]) -> serde_json::Value {
    let run = |line: &Line| {
        let labels: serde_json::Map<_, _> = experiment
            .axes
            .iter()
            .zip(&line.cell.labels)
            .map(|(axis, label)| (axis.path.clone(), json!(label)))
            .collect();
        let named = line.evaluations.iter().zip(&line.state.evaluations);
        let evaluations: serde_json::Map<_, _> =
            named.map(|(name, state)| (name.clone(), json!(word(state)))).collect();
        json!({ "axes": labels, "seed": line.seed, "pretrain_key": line.key, "training": word(&line.state.pretrain), "evaluations": evaluations })
    };
    json!({
        "experiment": experiment.name,
        "question": experiment.question,
        "runs": lines.iter().map(run).collect::<Vec<_>>(),
        "to_train": to_train(lines),
    })
}
