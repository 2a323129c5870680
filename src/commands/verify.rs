//! `ablate verify FILE`: computes stored runs again, beside the store, and says whether they come out the same.

mod scratch;
mod wording;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use crate::commands::arguments::{
    Bytes, ComputeArguments, DeviceArguments, ExperimentArguments, OutputArguments, PlaceArguments, PlanArguments,
    TuneArguments,
};
use crate::commands::code::CodeArguments;
use crate::commands::error::CommandError;
use crate::commands::open::Reading;
use crate::commands::verify::scratch::Scratch;
use crate::commands::verify::wording::{as_json, as_text};
use crate::commands::{Ending, gather, open, plan_lock, print, print_json, sweep};
use crate::content::Key;
use crate::experiment::Experiment;
use crate::record::{Failure, Record, Stage};
use crate::results;
use crate::runner::{Policy, Summary};
use crate::store::{Entry, Peek, Store};
use crate::verify::{self, Choice, Chosen, Comparison, Fraction, Verdict};

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
    /// The share of the stored runs to compute again, rounded up; the same share is always the same runs
    #[arg(long, value_name = "SHARE", default_value = "10%")]
    pub fraction: Fraction,
    /// How far metrics that are a share of 1 may lie apart where the machine is of another kind than the record's; on the
    /// same kind every bit must be equal
    #[arg(long, value_name = "DIFFERENCE", default_value = "0.02", value_parser = tolerance)]
    pub tolerance: f64,
    /// Begin no run that would leave less space free where the store is
    #[arg(long, value_name = "BYTES", default_value = "1GB")]
    pub disk_floor: Bytes,
    /// Keep the second results in this new or empty folder, a store of its own, instead of removing them
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

fn tolerance(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// What became of one stage of a chosen run.
pub struct Verified<'a> {
    pub run: &'a Chosen,
    /// `pretrain`, `knn`.
    pub stage: &'a str,
    pub key: Key,
    pub outcome: Outcome,
}

pub enum Outcome {
    Compared {
        comparison: Box<Comparison>,
        /// Where a second result that diverged is kept.
        kept: Option<PathBuf>,
    },
    /// The stored result did not come out at all.
    Failed(Failure),
    /// It was not come to: interrupted, or its training failed.
    NotReached,
}

impl Outcome {
    /// A failure that repeats itself is a divergence from a result, too.
    fn diverged(&self) -> bool {
        match self {
            Outcome::Compared { comparison, .. } => comparison.verdict() == Verdict::Diverged,
            Outcome::Failed(failure) => failure.kind.is_deterministic(),
            Outcome::NotReached => false,
        }
    }
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let device = open::backend(arguments.device.device)?;
    let asked = plan_lock::for_computing(&computing(arguments, None), device)?;
    let mut experiment = open::experiment(&arguments.experiment, device.0, Reading::Compute)?;
    let lock = asked.apply(&mut experiment, device.1, arguments.output.quiet)?;
    arguments.code.put_into(&mut experiment);
    let Some(store) = open::existing_store(&arguments.experiment.places, experiment.smoke)? else {
        return nothing_stored(arguments, &experiment);
    };
    let choice = verify::choose(&store, &experiment, arguments.fraction)?;
    gather::tell_damage(&choice.damage);
    if choice.runs.is_empty() {
        return nothing_stored(arguments, &experiment);
    }
    let stored = stored(&store, &choice)?;
    let scratch = match &arguments.keep {
        Some(folder) => Scratch::kept(folder)?,
        None => Scratch::beside(store.root())?,
    };
    let compute = computing(arguments, Some(&scratch));
    let policy =
        Policy { retry_failed: false, fail_fast: false, jobs: 1, wait: true, disk_floor_bytes: compute.disk_floor.0 };
    let (again, summary) = sweep::compute(&compute, device, &choice.experiment, lock.as_ref(), policy)?;
    let outcomes = outcomes(&choice, &stored, (&store, &again), arguments.tolerance)?;
    tell(arguments, &experiment, &choice, &outcomes)?;
    Ok(ending(&outcomes, &summary))
}

/// What a sweep of the chosen runs is asked for; in the scratch store, once there is one.
fn computing(arguments: &Arguments, scratch: Option<&Scratch>) -> ComputeArguments {
    let mut experiment = arguments.experiment.clone();
    if let Some(scratch) = scratch {
        experiment.places = PlaceArguments { store: Some(scratch.store().to_owned()), ..experiment.places };
    }
    ComputeArguments {
        experiment,
        device: arguments.device.clone(),
        plans: TuneArguments { lock: arguments.plans.clone(), tune: false },
        code: arguments.code,
        output: arguments.output,
        retry_failed: false,
        no_wait: false,
        disk_floor: arguments.disk_floor,
    }
}

fn nothing_stored(arguments: &Arguments, experiment: &Experiment) -> Result<Ending, CommandError> {
    if arguments.output.json {
        print_json(&as_json(experiment, 0, &[]))?;
    }
    let file = arguments.experiment.file.display();
    tell_line!("no run of `{file}` is stored whole, so there is nothing to verify; to compute it: ablate sweep {file}");
    Ok(Ending::Incomplete)
}

type Stored = BTreeMap<Key, (Entry, Record)>;

/// The records of the chosen runs, every blob read to its last byte: nothing is compared to a damaged result.
fn stored(store: &Store, choice: &Choice) -> Result<Stored, CommandError> {
    let mut stored = Stored::new();
    for key in choice.runs.iter().flat_map(keys) {
        let entry = match store.verify(&key)? {
            Peek::Hit(entry) => entry,
            Peek::Absent => return Err(damaged(&key, "went away while it was read")),
            Peek::Damaged(problem) => return Err(damaged(&key, &format!("cannot be compared to: {problem}"))),
        };
        let record = results::parse(&entry).map_err(|problem| damaged(&key, &problem))?;
        stored.insert(key, (entry, record));
    }
    Ok(stored)
}

fn damaged(key: &Key, problem: &str) -> CommandError {
    CommandError::Damaged(format!(
        "the record of {} {problem}; `ablate check --read-data` names all damage",
        key.short()
    ))
}

fn keys(run: &Chosen) -> impl Iterator<Item = Key> {
    std::iter::once(run.keys.pretrain).chain(run.keys.evaluations.iter().copied())
}

/// Every stage of every chosen run. Second results that diverged are kept in the store, beside the first.
fn outcomes<'a>(
    choice: &'a Choice,
    stored: &Stored,
    (store, again): (&Store, &Store),
    tolerance: f64,
) -> Result<Vec<Verified<'a>>, CommandError> {
    let mut outcomes: Vec<Verified> = Vec::new();
    for run in &choice.runs {
        let names = std::iter::once("pretrain").chain(run.evaluations.iter().map(String::as_str));
        for (key, stage) in keys(run).zip(names) {
            // Runs may share a training.
            if outcomes.iter().any(|verified| verified.key == key) {
                continue;
            }
            let outcome = outcome(&stored[&key], (store, again), tolerance)?;
            outcomes.push(Verified { run, stage, key, outcome });
        }
    }
    Ok(outcomes)
}

fn outcome(
    (entry, record): &(Entry, Record),
    (store, again): (&Store, &Store),
    tolerance: f64,
) -> Result<Outcome, CommandError> {
    let key = &entry.key;
    let second = match again.verify(key)? {
        Peek::Hit(second) => second,
        Peek::Damaged(problem) => return Err(damaged(key, &problem)),
        Peek::Absent => {
            let failure = again.failure(key)?.and_then(|entry| results::parse(&entry).ok());
            return Ok(match failure.map(|record| record.stage) {
                Some(Stage::Failure(failure)) => Outcome::Failed(failure),
                Some(Stage::Pretrain(_) | Stage::Evaluation(_)) | None => Outcome::NotReached,
            });
        }
    };
    let second_record = results::parse(&second).map_err(|problem| damaged(key, &problem))?;
    let comparison = Box::new(verify::compare((entry, record), (&second, &second_record), tolerance));
    let kept = (comparison.verdict() == Verdict::Diverged).then(|| keep(store, again, &second)).transpose()?;
    Ok(Outcome::Compared { comparison, kept })
}

/// Copies a second result into the store; the first stays what lookups answer.
fn keep(store: &Store, again: &Store, second: &Entry) -> Result<PathBuf, CommandError> {
    let mut blobs = BTreeMap::new();
    for (name, blob) in &second.blobs {
        blobs.insert(name.clone(), again.read_blob(blob)?);
    }
    Ok(store.keep_divergence(second, &blobs)?)
}

fn tell(
    arguments: &Arguments,
    experiment: &Experiment,
    choice: &Choice,
    outcomes: &[Verified],
) -> Result<(), CommandError> {
    if arguments.output.json {
        return print_json(&as_json(experiment, choice.n_complete, outcomes));
    }
    print(&as_text(experiment, choice, outcomes, arguments.tolerance))
}

/// A divergence outweighs everything else that happened.
fn ending(outcomes: &[Verified], summary: &Summary) -> Ending {
    if outcomes.iter().any(|verified| verified.outcome.diverged()) {
        return Ending::Diverged;
    }
    sweep::ending(summary)
}
