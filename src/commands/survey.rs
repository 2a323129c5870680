//! Every run of an experiment with what the store holds of it, without the records themselves.

use std::collections::BTreeSet;

use rayon::prelude::*;
use serde_json::json;

use crate::commands::error::CommandError;
use crate::content::Key;
use crate::experiment::Experiment;
use crate::experiment::run::{Run, RunKeys};
use crate::explain::{CodeCensus, Index, Nearest, Verdict, nearest};
use crate::results::{self, Inspected, State};
use crate::runner::provenance::code_digest;
use crate::store::Store;

/// A run and what became of its stages.
#[derive(Debug)]
pub struct Line<'a> {
    /// The cell's place in the grid, from 0.
    pub cell: usize,
    pub labels: &'a [String],
    pub run: &'a Run,
    pub keys: RunKeys,
    pub training: Verdict,
    /// In the order of `Run::asked`.
    pub evaluations: Vec<Verdict>,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Complete,
    /// Some stage gave no result.
    Failed,
    /// Some stages are stored.
    Partial,
    Missing,
}

/// The nearest stored stage of each missing one.
#[derive(Debug, Default)]
pub struct Neighbours {
    pub training: Option<Nearest>,
    pub evaluations: Vec<Option<Nearest>>,
}

/// Who computed a stage that counts: its key, the code, when it began.
type Origin = (Key, String, u64);

/// Looks up every run. `census` counts each stage once; `seen` holds the ones that are counted.
///
/// # Errors
/// The store's.
pub fn survey<'a>(
    store: Option<&Store>,
    experiment: &'a Experiment,
    census: &mut CodeCensus,
    seen: &mut BTreeSet<Key>,
) -> Result<Vec<Line<'a>>, CommandError> {
    let runs: Vec<_> = experiment
        .cells
        .iter()
        .enumerate()
        .flat_map(|(index, cell)| cell.runs.iter().map(move |run| (index, cell.labels.as_slice(), run)))
        .collect();
    let looked_up: Vec<(Line, Vec<Origin>)> =
        runs.into_par_iter().map(|run| line(store, run)).collect::<Result<_, CommandError>>()?;
    let mut lines = Vec::with_capacity(looked_up.len());
    for (line, origins) in looked_up {
        for (key, code, started) in origins {
            if seen.insert(key) {
                census.add((&code, started), code_digest());
            }
        }
        lines.push(line);
    }
    Ok(lines)
}

fn line<'a>(
    store: Option<&Store>,
    (cell, labels, run): (usize, &'a [String], &'a Run),
) -> Result<(Line<'a>, Vec<Origin>), CommandError> {
    let (_, Inspected { keys, state }) = results::inspect_best(store, &[run])?;
    let mut origins: Vec<Origin> = origin(keys.pretrain, &state.pretrain).into_iter().collect();
    origins.extend(keys.evaluations.iter().zip(&state.evaluations).filter_map(|(key, state)| origin(*key, state)));
    let evaluations: Vec<Verdict> = state.evaluations.iter().map(Verdict::of).collect();
    let training = match Verdict::of(&state.pretrain) {
        // Nothing to evaluate is left of it.
        Verdict::Stored if state.checkpoint_dropped() && evaluations.iter().any(Verdict::is_to_do) => {
            Verdict::Again { damage: format!("the checkpoint of {} was dropped by `gc`", keys.pretrain.short()) }
        }
        verdict => verdict,
    };
    Ok((Line { cell, labels, run, keys, training, evaluations }, origins))
}

fn origin<T>(key: Key, state: &State<T>) -> Option<Origin> {
    match state {
        State::Hit(found) => Some((key, found.provenance.code.clone(), found.provenance.started_unix_s)),
        State::Miss { .. } | State::Failed(..) => None,
    }
}

impl Line<'_> {
    pub fn is_complete(&self) -> bool {
        self.stages().all(|verdict| *verdict == Verdict::Stored)
    }

    /// The training and then the evaluations.
    pub fn stages(&self) -> impl Iterator<Item = &Verdict> {
        std::iter::once(&self.training).chain(&self.evaluations)
    }

    pub fn standing(&self) -> Standing {
        if self.is_complete() {
            Standing::Complete
        } else if self.stages().any(|verdict| matches!(verdict, Verdict::Failed { .. })) {
            Standing::Failed
        } else if self.stages().any(|verdict| *verdict == Verdict::Stored) {
            Standing::Partial
        } else {
            Standing::Missing
        }
    }

    /// Nothing of it was ever computed here.
    pub fn is_untouched(&self) -> bool {
        self.stages().all(|verdict| *verdict == Verdict::New)
    }

    /// Whether a sweep computes something of it: what hangs on a training that fails again is left alone.
    pub fn is_to_do(&self) -> bool {
        let is_blocked = matches!(self.training, Verdict::Failed { repeats: true, .. });
        !is_blocked && (self.training.is_to_do() || self.evaluations.iter().any(Verdict::is_to_do))
    }

    /// What is nearest to each stage that was never computed. An evaluation without its training needs no other reason.
    pub fn neighbours(&self, records: Option<(&Store, &Index)>) -> Neighbours {
        let Some((store, index)) = records else {
            return Neighbours { training: None, evaluations: vec![None; self.evaluations.len()] };
        };
        let of = |preimage: String, key: &Key| nearest(store, index, &preimage, Some(key), 1).pop();
        let is_trained = self.training == Verdict::Stored;
        let training =
            if self.training == Verdict::New { of(self.run.pretrain_preimage(), &self.keys.pretrain) } else { None };
        let stages = self.evaluations.iter().zip(self.run.asked()).zip(&self.keys.evaluations);
        let evaluations = stages.map(|((verdict, asked), key)| {
            let is_new = is_trained && *verdict == Verdict::New;
            if is_new { of(self.run.asked_preimage(asked), key) } else { None }
        });
        Neighbours { training, evaluations: evaluations.collect() }
    }

    /// `train.temperature = 0.1`, every axis; nothing without axes.
    pub fn place(&self, experiment: &Experiment) -> String {
        let named = experiment.axes.iter().zip(self.labels);
        named.map(|(axis, label)| format!("{} = {label}", axis.path)).collect::<Vec<_>>().join(", ")
    }

    pub fn axes_json(&self, experiment: &Experiment) -> serde_json::Value {
        let named = experiment.axes.iter().zip(self.labels);
        let labels: serde_json::Map<_, _> = named.map(|(axis, label)| (axis.path.clone(), json!(label))).collect();
        labels.into()
    }
}

/// The index over a store where something has to be explained.
///
/// # Errors
/// The store's.
pub fn index(store: Option<&Store>, lines: &[Line]) -> Result<Option<Index>, CommandError> {
    match store {
        Some(store) if lines.iter().any(Line::is_to_do) => Ok(Some(Index::build(store)?)),
        Some(_) | None => Ok(None),
    }
}
