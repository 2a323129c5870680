//! `ablate plan FILE`: what a sweep would compute, before it does.

use std::collections::BTreeSet;

use clap::Args;
use comfy_table::{ContentArrangement, Table};
use serde_json::json;

use crate::commands::arguments::{DeviceArguments, ExperimentArguments, OutputArguments, PlanArguments};
use crate::commands::error::CommandError;
use crate::commands::open::Reading;
use crate::commands::{Ending, count, open, plan_lock, print, print_json};
use crate::experiment::run::RunKeys;
use crate::experiment::{Cell, Experiment, evaluation_names};
use crate::report::render::text::{STYLE, printable};
use crate::results::{self, RunState, State};

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub experiment: ExperimentArguments,
    #[command(flatten)]
    pub device: DeviceArguments,
    #[command(flatten)]
    pub plans: PlanArguments,
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
    keys: RunKeys,
    state: RunState,
    evaluations: Vec<String>,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let backend = open::named_backend(arguments.device.device)?;
    let lock = plan_lock::for_looking(&arguments.plans, &[backend])?;
    let mut experiment = open::experiment(&arguments.experiment, backend, Reading::Look)?;
    plan_lock::put_into(lock.as_ref(), &mut experiment);
    let store = open::existing_store(&arguments.experiment.places, experiment.smoke)?;
    let mut lines = Vec::new();
    for cell in &experiment.cells {
        for run in &cell.runs {
            let state = results::inspect_in(store.as_ref(), run)?;
            let evaluations = evaluation_names(&run.evaluate);
            lines.push(Line { cell, seed: run.seed, keys: run.keys(), state, evaluations });
        }
    }
    if arguments.output.json {
        print_json(&as_json(&experiment, &lines))?;
    } else {
        print(&as_text(&experiment, &lines))?;
    }
    let Todo { trainings, evaluations, failed } = todo(&lines);
    Ok(if arguments.exit_code && trainings + evaluations + failed > 0 { Ending::Incomplete } else { Ending::Complete })
}

/// What a sweep would compute. Equal cells share their stages; a failure that repeats itself is left alone.
struct Todo {
    trainings: usize,
    evaluations: usize,
    /// Stages that failed and would fail again.
    failed: usize,
}

fn todo(lines: &[Line]) -> Todo {
    let mut trainings = BTreeSet::new();
    let (mut evaluations, mut failed) = (BTreeSet::new(), BTreeSet::new());
    for line in lines {
        match fate(&line.state.pretrain) {
            Fate::Stored => {}
            Fate::Failed => {
                failed.insert(line.keys.pretrain);
                continue;
            }
            Fate::ToDo => {
                trainings.insert(line.keys.pretrain);
            }
        }
        for (key, state) in line.keys.evaluations.iter().zip(&line.state.evaluations) {
            match fate(state) {
                Fate::Stored => {}
                Fate::Failed => {
                    failed.insert(*key);
                }
                Fate::ToDo => {
                    evaluations.insert(*key);
                }
            }
        }
    }
    Todo { trainings: trainings.len(), evaluations: evaluations.len(), failed: failed.len() }
}

enum Fate {
    Stored,
    ToDo,
    Failed,
}

fn fate<T>(state: &State<T>) -> Fate {
    match state {
        State::Hit(_) => Fate::Stored,
        State::Failed(failure, _) if failure.kind.is_deterministic() => Fate::Failed,
        State::Miss { .. } | State::Failed(..) => Fate::ToDo,
    }
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
            line.keys.pretrain.short(),
            word(&line.state.pretrain).to_owned(),
            evaluations_text(line),
        ]));
    }
    let complete = lines.iter().filter(|line| line.state.is_complete()).count();
    let Todo { trainings, evaluations, failed } = todo(lines);
    let failed = if failed == 0 { String::new() } else { format!(", {failed} failed (`sweep --retry-failed`)") };
    let mut text = format!(
        "{}\n{table}\n{}: {complete} complete; to do: {}, {}{failed}\n",
        printable(&experiment.question),
        count(lines.len(), "run"),
        count(trainings, "training"),
        count(evaluations, "evaluation"),
    );
    for line in lines.iter().flat_map(reasons) {
        text.push_str(&format!("{}\n", printable(&line)));
    }
    text
}

fn evaluations_text(line: &Line) -> String {
    let named = line.evaluations.iter().zip(&line.state.evaluations);
    named.map(|(name, state)| format!("{name} {}", word(state))).collect::<Vec<_>>().join(", ")
}

fn word<T>(state: &State<T>) -> &'static str {
    match state {
        State::Hit(_) => "stored",
        State::Miss { reason: None } => "to do",
        State::Miss { reason: Some(_) } => "to do again",
        State::Failed(..) => "failed",
    }
}

/// What a state says beyond its word.
fn reason<T>(state: &State<T>) -> Option<&str> {
    match state {
        State::Hit(_) | State::Miss { reason: None } => None,
        State::Miss { reason: Some(reason) } => Some(reason),
        State::Failed(failure, _) => Some(&failure.message),
    }
}

/// The reasons of a run's states, a line each.
fn reasons(line: &Line) -> Vec<String> {
    let name = line.keys.pretrain.short();
    let training = reason(&line.state.pretrain).map(|reason| format!("{name} training: {reason}"));
    let named = line.evaluations.iter().zip(&line.state.evaluations);
    let others = named.filter_map(|(evaluation, state)| Some(format!("{name} {evaluation}: {}", reason(state)?)));
    training.into_iter().chain(others).collect()
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
        let evaluations: serde_json::Map<_, _> = named
            .map(|(name, state)| (name.clone(), json!({ "state": word(state), "reason": reason(state) })))
            .collect();
        let evaluation_keys: serde_json::Map<_, _> =
            line.evaluations.iter().zip(&line.keys.evaluations).map(|(name, key)| (name.clone(), json!(key))).collect();
        json!({ "axes": labels, "seed": line.seed, "pretrain_key": line.keys.pretrain, "training": { "state": word(&line.state.pretrain), "reason": reason(&line.state.pretrain) }, "evaluations": evaluations, "evaluation_keys": evaluation_keys })
    };
    let Todo { trainings, evaluations, failed } = todo(lines);
    json!({
        "experiment": experiment.name,
        "question": experiment.question,
        "runs": lines.iter().map(run).collect::<Vec<_>>(),
        "to_train": trainings,
        "to_evaluate": evaluations,
        "failed": failed,
    })
}
