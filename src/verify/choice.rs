//! Which stored runs are computed again: always the same ones for the same records and the same share.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::content::Key;
use crate::experiment::Experiment;
use crate::experiment::run::RunKeys;
use crate::results::{self, RunState, State};
use crate::store::{Store, StoreError};

/// A share of the stored runs, above 0 and up to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fraction(f64);

/// Why a text is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a share above 0 and up to 100 %, such as `10%` or `0.1`")]
pub struct WrongFraction;

impl FromStr for Fraction {
    type Err = WrongFraction;

    /// `10%` or `0.1`; `1` is all of it.
    fn from_str(text: &str) -> Result<Fraction, WrongFraction> {
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim_end().parse::<f64>().map(|percent| percent / 100.0),
            None => text.parse(),
        };
        share.ok().filter(|share| *share > 0.0 && *share <= 1.0).map(Fraction).ok_or(WrongFraction)
    }
}

impl Fraction {
    /// How many of `n` that is: rounded up, so at least one where there is one.
    pub fn of(self, n: usize) -> usize {
        // A product such as 0.07 × 100 = 7.000000000000001 is meant to be 7.
        let exact = self.0 * n as f64;
        (exact - exact * 1e-12).ceil() as usize
    }
}

/// A run to compute again.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// One label an axis.
    pub labels: Vec<String>,
    pub seed: u64,
    pub keys: RunKeys,
    /// The names of its evaluations, in the order of the keys.
    pub evaluations: Vec<String>,
}

/// What to compute again.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The experiment with the chosen runs alone.
    pub experiment: Experiment,
    /// In the order of their keys.
    pub runs: Vec<Chosen>,
    /// Different runs whose every stage is stored.
    pub n_complete: usize,
    /// Why records that are there do not count, a line each.
    pub damage: Vec<String>,
}

/// Chooses among the runs whose every stage is stored, in the order of their keys: hashes, so an even draw that is the same
/// every time. Cells that share all their stages are one run.
///
/// # Errors
/// The store's.
pub fn choose(store: &Store, experiment: &Experiment, fraction: Fraction) -> Result<Choice, StoreError> {
    let mut complete: BTreeMap<(Key, Vec<Key>), (RunKeys, usize, usize)> = BTreeMap::new();
    let mut damage = Vec::new();
    for (cell_index, cell) in experiment.cells.iter().enumerate() {
        for (run_index, run) in cell.runs.iter().enumerate() {
            let state = results::inspect(store, run)?;
            if state.is_complete() {
                let keys = run.keys();
                let stages = (keys.pretrain, keys.evaluations.clone());
                complete.entry(stages).or_insert((keys, cell_index, run_index));
            } else {
                damage.extend(reasons(state));
            }
        }
    }
    let n_complete = complete.len();
    let kept: Vec<_> = complete.into_values().take(fraction.of(n_complete)).collect();
    let places: BTreeSet<(usize, usize)> = kept.iter().map(|(_, cell, run)| (*cell, *run)).collect();
    let chosen = |(keys, cell, run): (RunKeys, usize, usize)| {
        let cell = &experiment.cells[cell];
        Chosen {
            labels: cell.labels.clone(),
            seed: cell.runs[run].seed,
            keys,
            evaluations: crate::experiment::asked_names(&cell.runs[run]),
        }
    };
    let runs = kept.into_iter().map(chosen).collect();
    Ok(Choice { experiment: only(experiment, &places), runs, n_complete, damage })
}

fn reasons(state: RunState) -> impl Iterator<Item = String> {
    let of_training = match state.pretrain {
        State::Miss { reason } => reason,
        State::Hit(_) | State::Failed(..) => None,
    };
    let of_evaluation = |state| match state {
        State::Miss { reason } => reason,
        State::Hit(_) | State::Failed(..) => None,
    };
    of_training.into_iter().chain(state.evaluations.into_iter().filter_map(of_evaluation))
}

/// The experiment with the runs at these places, by cell and run.
fn only(experiment: &Experiment, places: &BTreeSet<(usize, usize)>) -> Experiment {
    let mut only = experiment.clone();
    for (cell_index, cell) in only.cells.iter_mut().enumerate() {
        let mut run_index = 0..;
        cell.runs.retain(|_| run_index.next().is_some_and(|run| places.contains(&(cell_index, run))));
    }
    only.cells.retain(|cell| !cell.runs.is_empty());
    only
}
