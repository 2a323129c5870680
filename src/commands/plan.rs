//! `ablate plan FILE`: what a sweep would compute and why, and what that takes, before it does.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use serde_json::json;

use crate::commands::arguments::{DeviceArguments, ExperimentArguments, OutputArguments, PlanArguments};
use crate::commands::code::CodeArguments;
use crate::commands::error::CommandError;
use crate::commands::open::Reading;
use crate::commands::paragraph::paragraph;
use crate::commands::survey::{self, Line, Neighbours};
use crate::commands::{Ending, count, open, plan_lock, print, print_json, quoted};
use crate::content::Key;
use crate::device;
use crate::experiment::recipe::Backend;
use crate::experiment::{Experiment, asked_names};
use crate::explain::cost::{Forecaster, Share};
use crate::explain::{CodeCensus, Forecast, Index, Nearest, Verdict, units};
use crate::report::statistics::LEVEL;
use crate::report::statistics::sign_flip::smallest_p;
use crate::runner::memory::{self, Largest};
use crate::store::Store;
use crate::store::fs::{Fs, RealFs};

/// Runs told one by one without `--all`.
const SHOWN: usize = 50;

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
    /// Explain every run, not the first 50 alone
    #[arg(long)]
    pub all: bool,
    /// Exit with 3 when anything is left to compute
    #[arg(long)]
    pub exit_code: bool,
}

/// All that is told.
struct Plan<'a> {
    experiment: &'a Experiment,
    lines: Vec<Line<'a>>,
    /// Of the first lines, as many as are told.
    neighbours: Vec<Neighbours>,
    todo: Todo,
    forecast: Forecast,
    free_bytes: Option<u64>,
    /// Of the training to do that takes the most memory.
    memory: Option<Largest>,
    census: CodeCensus,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let backend = open::named_backend(arguments.device.device);
    let lock = plan_lock::for_looking(&arguments.plans, &[backend])?;
    let mut experiment = open::experiment(&arguments.experiment, backend, Reading::Look)?;
    plan_lock::put_into(lock.as_ref(), &mut experiment);
    arguments.code.put_into(&mut experiment);
    let store = open::existing_store(&arguments.experiment.places, experiment.smoke)?;
    let mut census = CodeCensus::default();
    let lines = survey::survey(store.as_ref(), &experiment, &mut census, &mut BTreeSet::new())?;
    let index = survey::index(store.as_ref(), &lines)?;
    let records = store.as_ref().zip(index.as_ref());
    let n_told = if arguments.all { lines.len() } else { SHOWN };
    let neighbours = lines.iter().take(n_told).map(|line| line.neighbours(records)).collect();
    let forecast = forecast(&lines, records, backend);
    let folder = open::store_folder(&arguments.experiment.places, experiment.smoke);
    let todo = todo(&lines);
    let free_bytes = free_bytes(&folder);
    let to_train = lines.iter().filter(|line| line.training.is_to_do()).map(|line| line.run);
    let memory = memory::largest(to_train, open::pool(&arguments.device).threads());
    let plan = Plan { experiment: &experiment, lines, neighbours, todo, forecast, free_bytes, memory, census };
    if arguments.output.json {
        print_json(&as_json(&plan))?;
    } else {
        print(&as_text(&plan))?;
    }
    arguments.code.tell(&plan.census);
    if !arguments.output.quiet {
        tell_line!("next: {}", next(&plan.todo, &arguments.experiment));
    }
    let is_left = arguments.exit_code && !plan.todo.is_empty();
    Ok(if is_left { Ending::Incomplete } else { Ending::Complete })
}

/// The command to go on with, fit for a shell.
fn next(todo: &Todo, arguments: &ExperimentArguments) -> String {
    let verb = if todo.is_empty() { "table" } else { "sweep" };
    let file = arguments.file.display().to_string();
    let words = std::iter::once(&file).chain(&arguments.overrides).map(|word| quoted(word));
    let smoke = arguments.smoke.then(|| "--smoke".to_owned());
    let all: Vec<String> = ["ablate".to_owned(), verb.to_owned()].into_iter().chain(words).chain(smoke).collect();
    all.join(" ")
}

/// What a sweep would compute. Equal cells share their stages; a failure that repeats itself is left alone.
struct Todo {
    trainings: usize,
    evaluations: usize,
    /// Stages that failed and would fail again.
    failed: usize,
}

impl Todo {
    fn is_empty(&self) -> bool {
        self.trainings + self.evaluations + self.failed == 0
    }
}

fn todo(lines: &[Line]) -> Todo {
    let mut trainings = BTreeSet::new();
    let (mut evaluations, mut failed) = (BTreeSet::new(), BTreeSet::new());
    let mut sort = |verdict: &Verdict, key: Key, to_do: &mut BTreeSet<Key>| match verdict {
        Verdict::Stored => {}
        Verdict::Failed { repeats: true, .. } => {
            failed.insert(key);
        }
        Verdict::New | Verdict::Again { .. } | Verdict::Failed { repeats: false, .. } => {
            to_do.insert(key);
        }
    };
    for line in lines {
        sort(&line.training, line.keys.pretrain, &mut trainings);
        if matches!(line.training, Verdict::Failed { repeats: true, .. }) {
            continue;
        }
        for (key, verdict) in line.keys.evaluations.iter().zip(&line.evaluations) {
            sort(verdict, *key, &mut evaluations);
        }
    }
    Todo { trainings: trainings.len(), evaluations: evaluations.len(), failed: failed.len() }
}

/// What everything that is to do takes. The seeds of a cell cost alike.
fn forecast(lines: &[Line], records: Option<(&Store, &Index)>, backend: Backend) -> Forecast {
    let device = match backend {
        Backend::Cpu | Backend::Reference => Some(device::processor_name()),
        // Asking a GPU for its name would take longer than the rest; any GPU's records do.
        Backend::Cuda => None,
    };
    let mut forecaster = Forecaster::new(records, device.as_deref());
    let mut counted = BTreeSet::new();
    let mut new_key = |key: Key| usize::from(counted.insert(key));
    for cell in lines.chunk_by(|a, b| a.cell == b.cell) {
        let run = cell[0].run;
        let lines: Vec<&Line> = cell.iter().filter(|line| line.is_to_do()).collect();
        let to_train = lines.iter().filter(|line| line.training.is_to_do());
        let n: usize = to_train.map(|line| new_key(line.keys.pretrain)).sum();
        if n > 0 {
            let images = run.train.length_steps.saturating_mul(u64::from(run.train.batch));
            forecaster.trainings(|| run.pretrain_preimage(), n, images);
            let n_snapshots = n * run.snapshots().len();
            if n_snapshots > 0 {
                forecaster.snapshots(|| run.pretrain_preimage(), n_snapshots);
            }
        }
        for (index, asked) in run.asked().into_iter().enumerate() {
            let to_do = lines.iter().filter(|line| line.evaluations[index].is_to_do());
            let n: usize = to_do.map(|line| new_key(line.keys.evaluations[index])).sum();
            if n > 0 {
                forecaster.evaluations(|| run.asked_preimage(asked), n);
            }
        }
    }
    forecaster.finish()
}

/// What is left for this user where a folder is or would be.
fn free_bytes(folder: &Path) -> Option<u64> {
    let absolute = std::path::absolute(folder).ok()?;
    let existing = absolute.ancestors().find(|path| path.exists())?;
    RealFs.free_bytes(existing).ok()
}

fn as_text(plan: &Plan) -> String {
    let Plan { experiment, lines, neighbours, todo, .. } = plan;
    let mut text = paragraph("", 0, &experiment.question);
    for (index, (line, neighbours)) in lines.iter().zip(neighbours).enumerate() {
        let is_first = index == 0 || lines[index - 1].cell != line.cell;
        if is_first && !experiment.axes.is_empty() {
            text.push_str(&paragraph("", 4, &format!("cell {}: {}", line.cell, line.place(experiment))));
        }
        text.push_str(&line_text(line, neighbours));
    }
    if lines.len() > neighbours.len() {
        let hidden = &lines[neighbours.len()..];
        let stored = hidden.iter().filter(|line| line.is_complete()).count();
        text.push_str(&format!(
            "and {} not shown, {stored} of them complete (`--all` shows them)\n",
            count(hidden.len(), "run")
        ));
    }
    let complete = lines.iter().filter(|line| line.is_complete()).count();
    let Todo { trainings, evaluations, failed } = todo;
    let failed = if *failed == 0 { String::new() } else { format!(", {failed} failed (`sweep --retry-failed`)") };
    text.push_str(&paragraph(
        "\n",
        0,
        &format!(
            "{}: {complete} complete; to do: {}, {}{failed}",
            count(lines.len(), "run"),
            count(*trainings, "training"),
            count(*evaluations, "evaluation"),
        ),
    ));
    plan.forecast.sentences().iter().for_each(|sentence| text.push_str(&paragraph("", 2, sentence)));
    text.push_str(&disk(plan));
    plan.memory.iter().for_each(|largest| text.push_str(&memory_text(largest)));
    text.push_str(&seeds(experiment.seeds.len(), experiment.cells.len()));
    text
}

/// One run: in a line where the training's reason says it all.
fn line_text(line: &Line, neighbours: &Neighbours) -> String {
    let head = format!("  seed {}  {}  ", line.run.seed, line.keys.pretrain.short());
    let all_are = |verdict: &Verdict| line.evaluations.iter().all(|evaluation| evaluation == verdict);
    let training = line.training.line(neighbours.training.as_ref());
    let says_all = match &line.training {
        Verdict::Stored => all_are(&Verdict::Stored),
        Verdict::New | Verdict::Again { .. } | Verdict::Failed { .. } => all_are(&Verdict::New),
    };
    if says_all {
        return paragraph(&head, 8, &training);
    }
    let mut text = paragraph(&head, 8, &format!("training {training}"));
    let named = asked_names(line.run).into_iter().zip(&line.keys.snapshots);
    // A training may have hundreds of snapshots, of which mostly the same is to be said.
    let mut of_snapshots: Vec<(String, String, usize)> = Vec::new();
    for (((name, snapshot), verdict), nearest) in named.zip(&line.evaluations).zip(&neighbours.evaluations) {
        let said = match verdict {
            Verdict::New if line.training != Verdict::Stored => "to do: follows its training".to_owned(),
            verdict => verdict.line(nearest.as_ref()),
        };
        match of_snapshots.iter_mut().find(|(_, known, _)| *known == said) {
            _ if snapshot.is_none() => text.push_str(&paragraph("      ", 8, &format!("{name} {said}"))),
            Some((_, _, n)) => *n += 1,
            None => of_snapshots.push((name, said, 1)),
        }
    }
    for (first, said, n) in of_snapshots {
        let others = if n > 1 { format!(" and {} more of snapshots", n - 1) } else { String::new() };
        text.push_str(&paragraph("      ", 8, &format!("{first}{others} {said}")));
    }
    text
}

/// The space there is, where something is to be written; said louder where it will not do.
fn disk(plan: &Plan) -> String {
    let Some(free) = plan.free_bytes.filter(|_| plan.todo.trainings + plan.todo.evaluations > 0) else {
        return String::new();
    };
    let needed = plan.forecast.bytes();
    let lack = if needed > free { format!(", {} too few", units::bytes(needed - free)) } else { String::new() };
    format!("free disk space: {}{lack}\n", units::bytes(free))
}

/// What the largest training takes, and that it would be refused where it would.
fn memory_text(largest: &Largest) -> String {
    let Largest { backend, needed_bytes, available_bytes, refused_above } = largest;
    if *backend == Backend::Cuda {
        let said = format!(
            "memory of the largest training: {} of the GPU's, beside the data set and the libraries' workspace",
            units::bytes(*needed_bytes)
        );
        return paragraph("", 2, &said);
    }
    let available = available_bytes.map_or_else(String::new, |bytes| format!(", {} available", units::bytes(bytes)));
    let said = format!("memory of the largest training: {}{available}\n", units::bytes(*needed_bytes));
    let refused = refused_above.map(|batch| {
        let fits = if batch == 0 {
            "no batch of this model fits".to_owned()
        } else {
            format!("the largest batch that fits is {batch}")
        };
        let advice = format!("it would be refused: {fits}; `train.micro_batch` takes a batch in pieces");
        paragraph("", 2, &advice)
    });
    said + &refused.unwrap_or_default()
}

fn seeds_for_level() -> usize {
    (1..).find(|n| smallest_p(*n) < LEVEL).unwrap_or(usize::MAX)
}

fn seeds(n: usize, cells: usize) -> String {
    if cells < 2 || n == 0 {
        return String::new();
    }
    let needed = seeds_for_level();
    let hint = if n < needed { format!("; {needed} seeds can reach p < {LEVEL}") } else { String::new() };
    let p = smallest_p(n);
    let p = if p < 0.001 { format!("{p:.0e}") } else { format!("{}", (p * 1e4).round() / 1e4) };
    format!("{}: the smallest two-sided sign-flip p is {p}{hint}\n", count(n, "seed"))
}

fn as_json(plan: &Plan) -> serde_json::Value {
    let Plan { experiment, lines, neighbours, todo, forecast, free_bytes, memory, census } = plan;
    let runs = lines.iter().enumerate().map(|(index, line)| run_json(experiment, line, neighbours.get(index)));
    let share = |share: &Share| {
        let Share { n, seconds, n_timed, bytes, n_sized } = share;
        json!({ "n": n, "seconds": seconds, "n_timed": n_timed, "bytes": bytes, "n_sized": n_sized })
    };
    let n_seeds = experiment.seeds.len();
    json!({
        "experiment": experiment.name,
        "question": experiment.question,
        "runs": runs.collect::<Vec<_>>(),
        "n_explained": neighbours.len(),
        "to_train": todo.trainings,
        "to_evaluate": todo.evaluations,
        "failed": todo.failed,
        "forecast": {
            "seconds": forecast.seconds(),
            "bytes": forecast.bytes(),
            "trainings": share(&forecast.trainings),
            "evaluations": share(&forecast.evaluations),
            "from": forecast.from,
            "devices": forecast.devices,
            "free_bytes": free_bytes,
        },
        "memory": memory.as_ref().map(|Largest { backend, needed_bytes, available_bytes, refused_above }| json!({
            "backend": backend.name(),
            "needed_bytes": needed_bytes,
            "available_bytes": available_bytes,
            "largest_batch_that_fits": refused_above,
        })),
        "seeds": {
            "n": n_seeds,
            "smallest_sign_flip_p": smallest_p(n_seeds),
            "n_for_p_below_0.05": seeds_for_level(),
        },
        "code": census_json(census),
    })
}

/// How much of what counts other code computed.
pub fn census_json(census: &CodeCensus) -> serde_json::Value {
    let CodeCensus { stored, other, newest } = census;
    let newest = newest.as_ref().map(|(code, started)| json!({ "code": code, "started_unix_s": started }));
    json!({ "stored": stored, "by_other_code": other, "newest_other": newest })
}

fn run_json(experiment: &Experiment, line: &Line, neighbours: Option<&Neighbours>) -> serde_json::Value {
    let stage = |verdict: &Verdict, nearest: Option<&Nearest>| json!({ "state": verdict.word(), "reason": verdict.reason(), "nearest": nearest });
    let names = asked_names(line.run);
    let evaluations: serde_json::Map<_, _> = names
        .iter()
        .zip(&line.evaluations)
        .enumerate()
        .map(|(index, (name, verdict))| {
            let nearest = neighbours.and_then(|neighbours| neighbours.evaluations.get(index)?.as_ref());
            (name.clone(), stage(verdict, nearest))
        })
        .collect();
    let evaluation_keys: serde_json::Map<_, _> =
        names.iter().zip(&line.keys.evaluations).map(|(name, key)| (name.clone(), json!(key))).collect();
    json!({
        "cell": line.cell,
        "axes": line.axes_json(experiment),
        "seed": line.run.seed,
        "pretrain_key": line.keys.pretrain,
        "training": stage(&line.training, neighbours.and_then(|neighbours| neighbours.training.as_ref())),
        "evaluations": evaluations,
        "evaluation_keys": evaluation_keys,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_say_what_they_can_show() {
        assert_eq!(seeds_for_level(), 6);
        for (n, expected) in [
            (1, "1 seed: the smallest two-sided sign-flip p is 1; 6 seeds can reach p < 0.05\n"),
            (3, "3 seeds: the smallest two-sided sign-flip p is 0.25; 6 seeds can reach p < 0.05\n"),
            (6, "6 seeds: the smallest two-sided sign-flip p is 0.0313\n"),
            (20, "20 seeds: the smallest two-sided sign-flip p is 1e-5\n"),
        ] {
            assert_eq!(seeds(n, 2), expected);
        }
        assert_eq!(seeds(3, 1), "");
    }
}
