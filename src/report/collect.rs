//! From an experiment and its records to rows: what is done, what failed, what is missing.

mod best;

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::content::Key;
use crate::experiment::run::{Run, RunKeys};
use crate::experiment::{Experiment, asked_names, protocol_of, without_snapshot};
use crate::record::{Metric, Pretrain, Provenance, Record, Stage};
use crate::report::collect::best::best_stems;
use crate::report::row::{EncoderKind, Row, Status};
use crate::results;
use crate::store::{Store, StoreError};

/// The evaluation's name under which the training's own numbers stand.
const PRETRAIN: &str = "pretrain";

/// What became of one stage of one run.
enum Outcome {
    Done(Vec<Metric>),
    Failed(String),
    Missing,
}

/// One run's rows without their metrics.
struct Stem {
    row: Row,
    outcome: Outcome,
    /// What its rows are of, where that does not follow from what the same evaluation has elsewhere.
    metrics: Option<[String; 2]>,
}

/// The rows of an experiment, and why some are not there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collected {
    pub rows: Vec<Row>,
    /// Why records that are there do not count, a line each.
    pub damage: Vec<String>,
}

/// The rows of an experiment from a store that may not be there yet, in the order of [`collect`]; all cores share the work.
/// `candidates` are that experiment on one backend after another; of every run the backend counts that got furthest, the
/// first of equals. `see` is shown every record that counts, from any thread, as often as cells share it.
///
/// # Errors
/// The store's.
///
/// # Panics
/// Without a candidate.
pub fn from_store(
    store: Option<&Store>,
    candidates: &[&Experiment],
    see: &(dyn Fn(&Record) + Sync),
) -> Result<Collected, StoreError> {
    let experiment = candidates.first().expect("an experiment on some backend");
    let has_snapshots = experiment.has_snapshots();
    let of_cell = |cell: usize| (0..experiment.cells[cell].runs.len()).map(move |run| (cell, run));
    let places: Vec<(usize, usize)> = (0..experiment.cells.len()).flat_map(of_cell).collect();
    let of_run = |&(cell, run): &(usize, usize)| -> Result<(Vec<Stem>, Vec<String>), StoreError> {
        let runs: Vec<&Run> = candidates.iter().map(|experiment| &experiment.cells[cell].runs[run]).collect();
        let (best, inspected) = results::inspect_best(store, &runs)?;
        let (keys, mut damage) = (inspected.keys.clone(), Vec::new());
        let records = inspected.into_records(&mut damage);
        records.iter().flatten().for_each(see);
        let mut stems = stems_of_run(experiment, cell, runs[best], keys, records);
        if has_snapshots {
            stems.extend(best_stems(runs[best], &stems));
        }
        Ok((stems, damage))
    };
    let results: Vec<_> = places.par_iter().map(of_run).collect();
    let (mut stems, mut damage) = (Vec::new(), Vec::new());
    for result in results {
        let (of_run, problems) = result?;
        stems.extend(of_run);
        damage.extend(problems);
    }
    Ok(Collected { rows: rows(experiment, stems), damage })
}

/// One row a cell × seed × metric, in that order: evaluations as the file has them, metrics by name; those of the final
/// encoder first, then of one snapshot after another, then the best of them all.
///
/// `find` looks a record up by its stage's key; it must hide an evaluation whose checkpoint is not the training's, as
/// `record::Evaluation::checkpoint` says. A stage without a result has a row for every metric that the same evaluation
/// has elsewhere in the experiment, and for the table's metric in any case.
pub fn collect(experiment: &Experiment, mut find: impl FnMut(&Key) -> Option<Record>) -> Vec<Row> {
    let has_snapshots = experiment.has_snapshots();
    let mut stems = Vec::new();
    for (index, cell) in experiment.cells.iter().enumerate() {
        for run in &cell.runs {
            let keys = run.keys();
            let records = std::iter::once(&keys.pretrain).chain(&keys.evaluations).map(&mut find).collect();
            let mut of_run = stems_of_run(experiment, index, run, keys, records);
            if has_snapshots {
                of_run.extend(best_stems(run, &of_run));
            }
            stems.extend(of_run);
        }
    }
    rows(experiment, stems)
}

fn rows(experiment: &Experiment, stems: Vec<Stem>) -> Vec<Row> {
    let names = metric_names(experiment, &stems);
    stems.into_par_iter().flat_map_iter(|stem| rows_of_stem(stem, &names)).collect()
}

/// `records` are the training's and then every evaluation's.
fn stems_of_run(
    experiment: &Experiment,
    cell: usize,
    run: &Run,
    keys: RunKeys,
    records: Vec<Option<Record>>,
) -> Vec<Stem> {
    let mut base = Row {
        experiment: experiment.name.clone(),
        smoke: experiment.smoke,
        cell: cell as u32,
        labels: experiment.cells[cell].labels.clone(),
        seed: run.seed,
        evaluation: PRETRAIN.to_owned(),
        encoder_step: Some(run.train.length_steps),
        encoder_epoch: Some(run.epoch_of(run.train.length_steps)),
        ..Row::blank(keys.pretrain, run.backend, run.train.numerics)
    };
    let mut records = records.into_iter();
    let training = records.next().flatten();
    if let Some(record) = &training {
        fill_provenance(&mut base, &record.provenance);
        if let Stage::Pretrain(pretrain) = &record.stage {
            fill_costs(&mut base, pretrain);
        }
    }
    let is_trained = training.is_some();
    let of_training = outcome(training);
    let no_encoder = match &of_training {
        Outcome::Failed(message) => Some(message.clone()),
        Outcome::Done(_) | Outcome::Missing => None,
    };
    let mut stems = vec![Stem { row: base.clone(), outcome: of_training, metrics: None }];
    let asked = run.asked().into_iter().zip(asked_names(run));
    for (((asked, name), evaluation_key), record) in asked.zip(keys.evaluations).zip(records) {
        let name = without_snapshot(&name).to_owned();
        let protocol = Some(protocol_of(run, asked.evaluation, asked.encoder()));
        let mut row = Row { evaluation: name, protocol, evaluation_key, ..base.clone() };
        if let Some(step) = asked.snapshot {
            row.encoder = EncoderKind::Snapshot;
            (row.encoder_step, row.encoder_epoch) = (Some(step), Some(run.epoch_of(step)));
        }
        if let (false, Some(record)) = (is_trained, &record) {
            fill_provenance(&mut row, &record.provenance);
        }
        let outcome = match (outcome(record), &no_encoder) {
            // Without an encoder there is nothing to evaluate, and the reason is the training's.
            (Outcome::Missing, Some(message)) => Outcome::Failed(message.clone()),
            (outcome, _) => outcome,
        };
        stems.push(Stem { row, outcome, metrics: None });
    }
    stems
}

fn outcome(record: Option<Record>) -> Outcome {
    match record.map(|record| record.stage) {
        None => Outcome::Missing,
        Some(Stage::Pretrain(pretrain)) => Outcome::Done(pretrain_metrics(&pretrain)),
        Some(Stage::Evaluation(evaluation)) => Outcome::Done(evaluation.metrics),
        Some(Stage::Failure(failure)) => Outcome::Failed(match failure.step {
            Some(step) => format!("{} (step {step})", failure.message),
            None => failure.message,
        }),
    }
}

fn pretrain_metrics(pretrain: &Pretrain) -> Vec<Metric> {
    let numbers = [
        ("loss_first_epoch", pretrain.loss_first_epoch, "nats"),
        ("loss_last_epoch", pretrain.loss_last_epoch, "nats"),
        ("loss_ratio", pretrain.loss_ratio, "1"),
    ];
    let metric = |(name, value, unit): (&str, Option<f64>, &str)| {
        value.map(|value| Metric { name: name.to_owned(), value, unit: unit.to_owned() })
    };
    numbers.into_iter().filter_map(metric).collect()
}

fn fill_provenance(row: &mut Row, provenance: &Provenance) {
    row.device = Some(provenance.device.clone());
    row.code = Some(provenance.code.clone());
    row.ablate_version = Some(provenance.ablate_version.clone());
    row.host = Some(provenance.host.clone());
    row.started_unix_s = Some(provenance.started_unix_s);
}

fn fill_costs(row: &mut Row, pretrain: &Pretrain) {
    row.n_parameters = Some(pretrain.n_parameters);
    row.steps = Some(pretrain.steps);
    row.train_s = Some(pretrain.train_s());
    row.images_per_s = pretrain.images_per_s();
}

/// The metrics of every evaluation, by name.
fn metric_names(experiment: &Experiment, stems: &[Stem]) -> BTreeMap<String, BTreeSet<String>> {
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut add = |evaluation: &str, metric: &str| {
        if !names.get(evaluation).is_some_and(|known| known.contains(metric)) {
            names.entry(evaluation.to_owned()).or_default().insert(metric.to_owned());
        }
    };
    let is_of_best = |stem: &Stem, evaluation: &str, metric: &str| {
        stem.row.evaluation == evaluation && stem.metrics.iter().flatten().any(|name| name == metric)
    };
    if let Some((evaluation, metric)) = experiment.table.metric.rsplit_once('.')
        && !stems.iter().any(|stem| is_of_best(stem, evaluation, metric))
    {
        add(evaluation, metric);
    }
    for stem in stems.iter().filter(|stem| stem.metrics.is_none()) {
        match &stem.outcome {
            Outcome::Done(metrics) => metrics.iter().for_each(|metric| add(&stem.row.evaluation, &metric.name)),
            Outcome::Failed(_) | Outcome::Missing => {}
        }
    }
    names
}

fn rows_of_stem(stem: Stem, names: &BTreeMap<String, BTreeSet<String>>) -> Vec<Row> {
    let Stem { row, outcome, metrics } = stem;
    let row_of = |name: &String| {
        let row = Row { metric: name.clone(), ..row.clone() };
        match &outcome {
            Outcome::Failed(message) => Row { status: Status::Failed, message: Some(message.clone()), ..row },
            Outcome::Missing => row,
            Outcome::Done(metrics) => match metrics.iter().find(|metric| &metric.name == name) {
                Some(Metric { value, unit, name: _ }) => {
                    Row { status: Status::Done, value: Some(*value), unit: Some(unit.clone()), ..row }
                }
                None => row,
            },
        }
    };
    match &metrics {
        Some(metrics) => metrics.iter().map(row_of).collect(),
        None => names.get(&row.evaluation).into_iter().flatten().map(row_of).collect(),
    }
}

#[cfg(test)]
mod tests;
