//! `ablate explain FILE` or `ablate explain KEY`: why each stage is stored or not, field by field.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};

use crate::commands::arguments::{DeviceArguments, ExperimentArguments, OutputArguments, PlanArguments};
use crate::commands::code::{CodeArguments, now_unix_s};
use crate::commands::error::CommandError;
use crate::commands::open::Reading;
use crate::commands::paragraph::paragraph;
use crate::commands::plan::census_json;
use crate::commands::survey::{self, Line};
use crate::commands::{Ending, count, lookup, open, plan_lock, print, print_json};
use crate::content::Key;
use crate::experiment::{Experiment, asked_names};
use crate::explain::code::{age, date};
use crate::explain::{CodeCensus, Index, Meaning, Nearest, StageKind, Verdict, nearest, units};
use crate::record::{Provenance, Stage};
use crate::results;
use crate::runner::provenance::code_digest;
use crate::store::{Entry, Peek, Store};

/// Runs told without `--all`.
const SHOWN: usize = 50;

/// Neighbours told of a key.
const NEIGHBOURS: usize = 3;

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub experiment: ExperimentArguments,
    #[command(flatten)]
    pub device: DeviceArguments,
    #[command(flatten)]
    pub plans: PlanArguments,
    #[command(flatten)]
    pub code: CodeArguments,
    #[command(flatten)]
    pub output: OutputArguments,
    /// Only the runs of this cell, numbered from 0 as `plan` shows them; may be given several times
    #[arg(long, value_name = "N")]
    pub cell: Vec<usize>,
    /// Every run, not the first 50 alone
    #[arg(long)]
    pub all: bool,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    match key_like(arguments) {
        Some(prefix) => explain_key(arguments, &prefix),
        None => explain_file(arguments),
    }
}

/// What stands where a file is expected, where there is no such file and it could begin a key.
fn key_like(arguments: &Arguments) -> Option<String> {
    let file = &arguments.experiment.file;
    let text = file.to_str()?;
    let is_key = (4..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (is_key && !file.exists()).then(|| text.to_owned())
}

/// What is told of a stage.
struct Told {
    name: String,
    key: Key,
    verdict: Verdict,
    nearest: Option<Nearest>,
    /// Of a hit.
    provenance: Option<Provenance>,
    /// It is missing because its training is.
    follows: bool,
}

fn explain_file(arguments: &Arguments) -> Result<Ending, CommandError> {
    let backend = open::named_backend(arguments.device.device);
    let lock = plan_lock::for_looking(&arguments.plans, &[backend])?;
    let mut experiment = open::experiment(&arguments.experiment, backend, Reading::Look)?;
    plan_lock::put_into(lock.as_ref(), &mut experiment);
    arguments.code.put_into(&mut experiment);
    if let Some(cell) = arguments.cell.iter().find(|cell| **cell >= experiment.cells.len()) {
        let cells = count(experiment.cells.len(), "cell");
        return Err(CommandError::Usage(format!("there is no cell `{cell}`: the file has {cells}, numbered from 0")));
    }
    let store = open::existing_store(&arguments.experiment.places, experiment.smoke)?;
    let mut census = CodeCensus::default();
    let mut lines = survey::survey(store.as_ref(), &experiment, &mut census, &mut BTreeSet::new())?;
    if !arguments.cell.is_empty() {
        lines.retain(|line| arguments.cell.contains(&line.cell));
    }
    let hidden = if arguments.all || !arguments.cell.is_empty() { 0 } else { lines.len().saturating_sub(SHOWN) };
    lines.truncate(lines.len() - hidden);
    let index = survey::index(store.as_ref(), &lines)?;
    let stages: Vec<Vec<Told>> =
        lines.iter().map(|line| stages(line, store.as_ref(), index.as_ref())).collect::<Result<_, CommandError>>()?;
    if arguments.output.json {
        let runs = lines.iter().zip(&stages).map(|(line, stages)| run_json(&experiment, line, stages));
        let runs: Vec<Value> = runs.collect();
        print_json(
            &json!({ "experiment": experiment.name, "runs": runs, "n_hidden": hidden, "code": census_json(&census) }),
        )?;
    } else {
        let mut text = String::new();
        lines.iter().zip(&stages).for_each(|(line, stages)| text.push_str(&run_text(&experiment, line, stages)));
        if hidden > 0 {
            text.push_str(&format!("and {} not shown (`--all`, or `--cell N` for some)\n", count(hidden, "run")));
        }
        print(&text)?;
    }
    arguments.code.tell(&census);
    Ok(Ending::Complete)
}

fn stages(line: &Line, store: Option<&Store>, index: Option<&Index>) -> Result<Vec<Told>, CommandError> {
    let neighbours = line.neighbours(store.zip(index));
    let mut told = vec![Told {
        name: "training".to_owned(),
        key: line.keys.pretrain,
        verdict: line.training.clone(),
        nearest: neighbours.training,
        provenance: provenance(store, &line.keys.pretrain, &line.training)?,
        follows: false,
    }];
    let named = asked_names(line.run).into_iter().zip(&line.evaluations);
    for (((name, verdict), key), nearest) in named.zip(&line.keys.evaluations).zip(neighbours.evaluations) {
        told.push(Told {
            name,
            key: *key,
            verdict: verdict.clone(),
            nearest,
            provenance: provenance(store, key, verdict)?,
            follows: *verdict == Verdict::New && line.training != Verdict::Stored,
        });
    }
    Ok(told)
}

fn provenance(store: Option<&Store>, key: &Key, verdict: &Verdict) -> Result<Option<Provenance>, CommandError> {
    let Some(store) = store.filter(|_| *verdict == Verdict::Stored) else { return Ok(None) };
    Ok(match store.peek(key)? {
        Peek::Hit(entry) => results::parse(&entry).ok().map(|record| record.provenance),
        Peek::Absent | Peek::Damaged(_) => None,
    })
}

fn run_text(experiment: &Experiment, line: &Line, stages: &[Told]) -> String {
    let place = if experiment.axes.is_empty() { String::new() } else { format!(": {}", line.place(experiment)) };
    let mut text = paragraph("", 4, &format!("cell {}, seed {}{place}", line.cell, line.run.seed));
    for stage in stages {
        let Told { name, key, verdict, nearest, provenance, follows } = stage;
        text.push_str(&format!("  {name}  {}\n", key.short()));
        let said = match (verdict, provenance) {
            (Verdict::Stored, Some(provenance)) => format!("stored: {}", origin(provenance)),
            (Verdict::New, _) if *follows => "to do: follows its training".to_owned(),
            (Verdict::New, _) if nearest.is_some() => "to do".to_owned(),
            (verdict, _) => verdict.line(None),
        };
        text.push_str(&paragraph("    ", 6, &said));
        nearest.iter().for_each(|nearest| text.push_str(&nearest_text(nearest)));
    }
    text.push('\n');
    text
}

fn nearest_text(nearest: &Nearest) -> String {
    let Nearest { key, shared_leaves, all_leaves, changes } = nearest;
    let mut text = format!("    nearest {}, which shares {shared_leaves} of {all_leaves} settings:\n", key.short());
    changes.iter().for_each(|change| text.push_str(&paragraph("      ", 8, &change.text)));
    text
}

/// Who computed a hit, when and on what.
fn origin(provenance: &Provenance) -> String {
    let Provenance { code, device, threads, host, started_unix_s, seconds, .. } = provenance;
    let whose = if code == code_digest() { "this program's code" } else { "other code" };
    format!(
        "computed {} ({}) in {} by {whose} ({}) on {}, {} ({host})",
        date(*started_unix_s),
        age(now_unix_s().saturating_sub(*started_unix_s)),
        units::duration(*seconds),
        code.chars().take(12).collect::<String>(),
        device.trim(),
        count(*threads as usize, "thread"),
    )
}

fn run_json(experiment: &Experiment, line: &Line, stages: &[Told]) -> Value {
    let stage = |stage: &Told| {
        let Told { name, key, verdict, nearest, provenance, follows } = stage;
        json!({
            "stage": name,
            "key": key,
            "state": verdict.word(),
            "reason": verdict.reason(),
            "follows_its_training": follows,
            "nearest": nearest,
            "provenance": provenance,
            "by_this_code": provenance.as_ref().map(|provenance| provenance.code == code_digest()),
        })
    };
    json!({
        "cell": line.cell,
        "axes": line.axes_json(experiment),
        "seed": line.run.seed,
        "stages": stages.iter().map(stage).collect::<Vec<_>>(),
    })
}

fn explain_key(arguments: &Arguments, prefix: &str) -> Result<Ending, CommandError> {
    let ExperimentArguments { places, smoke, .. } = &arguments.experiment;
    let store = open::existing_store(places, *smoke)?.ok_or_else(|| {
        CommandError::Usage(format!("there is no file `{prefix}`, and no store where a key could begin so"))
    })?;
    let entry = lookup::entry(&store, prefix)?;
    let record = results::parse(&entry).map_err(CommandError::Damaged)?;
    let meaning = Meaning::read(&entry.preimage);
    let index = Index::build(&store)?;
    let near = nearest(&store, &index, &entry.preimage, Some(&entry.key), NEIGHBOURS);
    let settings = meaning.as_ref().map(Meaning::settings).unwrap_or_default();
    let noun = StageKind::of_preimage(&entry.preimage).map_or("stage", StageKind::noun);
    let failure = match &record.stage {
        Stage::Failure(failure) => Some(failure.message.clone()),
        Stage::Pretrain(_) | Stage::Evaluation(_) => None,
    };
    if arguments.output.json {
        let settings: serde_json::Map<_, _> = settings.into_iter().map(|(path, value)| (path, json!(value))).collect();
        print_json(&json!({
            "key": entry.key,
            "stage": noun,
            "failure": failure,
            "settings": settings,
            "nearest": near,
            "provenance": record.provenance,
        }))?;
        return Ok(Ending::Complete);
    }
    let state = failure.map_or("stored".to_owned(), |message| format!("failed ({message})"));
    print(&key_text(&entry, noun, &format!("{state}: {}", origin(&record.provenance)), &settings, &near))?;
    if let (Some(nearest), false) = (near.first(), arguments.output.quiet) {
        tell_line!("next: ablate diff {} {}", nearest.key.short(), entry.key.short());
    }
    Ok(Ending::Complete)
}

fn key_text(entry: &Entry, noun: &str, state: &str, settings: &[(String, String)], near: &[Nearest]) -> String {
    let mut text = format!("{noun} {}\n", entry.key);
    text.push_str(&paragraph("  ", 4, state));
    let width = settings.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    for (path, value) in settings {
        text.push_str(&paragraph(&format!("  {path:<width$}  "), 6, value));
    }
    if near.is_empty() {
        text.push_str(&format!("no other {noun} is stored\n"));
    }
    near.iter().for_each(|nearest| text.push_str(&nearest_text(nearest)));
    text
}
