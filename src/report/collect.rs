//! From an experiment and its records to rows: what is done, what failed, what is missing.

use std::collections::{BTreeMap, BTreeSet};

use crate::content::Key;
use crate::experiment::run::Run;
use crate::experiment::{Cell, Experiment, evaluation_names};
use crate::record::{Metric, Pretrain, Provenance, Record, Stage};
use crate::report::row::{Row, Status};

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
}

/// One row a cell × seed × metric, in that order: evaluations as the file has them, metrics by name.
///
/// `find` looks a record up by its stage's key; it must hide an evaluation whose checkpoint is not the training's, as
/// `record::Evaluation::checkpoint` says. A stage without a result has a row for every metric that the same evaluation
/// has elsewhere in the experiment, and for the table's metric in any case.
pub fn collect(experiment: &Experiment, mut find: impl FnMut(&Key) -> Option<Record>) -> Vec<Row> {
    let mut stems = Vec::new();
    for (index, cell) in experiment.cells.iter().enumerate() {
        for run in &cell.runs {
            let keys = run.keys();
            let base = base_row(experiment, index as u32, cell, run, keys.pretrain);
            stems.extend(stems_of_run(&base, run, keys.evaluations, &mut find));
        }
    }
    let names = metric_names(experiment, &stems);
    stems.into_iter().flat_map(|stem| rows_of_stem(stem, &names)).collect()
}

fn base_row(experiment: &Experiment, cell_index: u32, cell: &Cell, run: &Run, pretrain_key: Key) -> Row {
    Row {
        experiment: experiment.name.clone(),
        smoke: experiment.smoke,
        cell: cell_index,
        labels: cell.labels.clone(),
        seed: run.seed,
        evaluation: PRETRAIN.to_owned(),
        metric: String::new(),
        status: Status::Missing,
        value: None,
        unit: None,
        backend: run.backend,
        numerics: run.train.numerics,
        pretrain_key,
        evaluation_key: pretrain_key,
        n_parameters: None,
        steps: None,
        train_s: None,
        images_per_s: None,
        device: None,
        code: None,
        ablate_version: None,
        host: None,
        started_unix_s: None,
        message: None,
    }
}

fn stems_of_run(
    base: &Row,
    run: &Run,
    evaluations: Vec<Key>,
    find: &mut impl FnMut(&Key) -> Option<Record>,
) -> Vec<Stem> {
    let mut base = base.clone();
    let training = find(&base.pretrain_key);
    if let Some(record) = &training {
        fill_provenance(&mut base, &record.provenance);
        if let Stage::Pretrain(pretrain) = &record.stage {
            fill_costs(&mut base, pretrain);
        }
    }
    let mut stems = vec![Stem { row: base.clone(), outcome: outcome(training.as_ref()) }];
    for (name, evaluation_key) in evaluation_names(&run.evaluate).into_iter().zip(evaluations) {
        let mut row = Row { evaluation: name, evaluation_key, ..base.clone() };
        let record = find(&evaluation_key);
        if let (None, Some(record)) = (&training, &record) {
            fill_provenance(&mut row, &record.provenance);
        }
        let outcome = match (outcome(record.as_ref()), outcome(training.as_ref())) {
            // Without an encoder there is nothing to evaluate, and the reason is the training's.
            (Outcome::Missing, Outcome::Failed(message)) => Outcome::Failed(message),
            (outcome, _) => outcome,
        };
        stems.push(Stem { row, outcome });
    }
    stems
}

fn outcome(record: Option<&Record>) -> Outcome {
    match record.map(|record| &record.stage) {
        None => Outcome::Missing,
        Some(Stage::Pretrain(pretrain)) => Outcome::Done(pretrain_metrics(pretrain)),
        Some(Stage::Evaluation(evaluation)) => Outcome::Done(evaluation.metrics.clone()),
        Some(Stage::Failure(failure)) => Outcome::Failed(match failure.step {
            Some(step) => format!("{} (step {step})", failure.message),
            None => failure.message.clone(),
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
    let mut add =
        |evaluation: &str, metric: &str| names.entry(evaluation.to_owned()).or_default().insert(metric.to_owned());
    if let Some((evaluation, metric)) = experiment.table.metric.split_once('.') {
        add(evaluation, metric);
    }
    for stem in stems {
        match &stem.outcome {
            Outcome::Done(metrics) => metrics.iter().for_each(|metric| _ = add(&stem.row.evaluation, &metric.name)),
            Outcome::Failed(_) | Outcome::Missing => {}
        }
    }
    names
}

fn rows_of_stem(stem: Stem, names: &BTreeMap<String, BTreeSet<String>>) -> Vec<Row> {
    let Stem { row, outcome } = stem;
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
    names.get(&row.evaluation).into_iter().flatten().map(row_of).collect()
}

#[cfg(test)]
mod tests;
