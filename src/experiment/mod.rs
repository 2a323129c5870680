//! What a file says, what will run, and the keys of it.

mod defaults;
mod file;
mod grid;
mod layout;
mod length;
pub mod meaning;
mod overrides;
mod path;
pub mod preset;
pub mod problem;
mod read;
pub mod recipe;
mod resolve;
pub mod run;
mod smoke;
mod tree;

#[cfg(test)]
mod tests;

pub use crate::experiment::file::{LoadOptions, load};
pub use crate::experiment::problem::Problems;
pub use crate::experiment::tree::TEXT_BYTES_MAX;

use crate::content::Key;
use crate::experiment::recipe::Evaluation;
use crate::experiment::run::Run;

/// A resolved file: a question, its cells and how to show them.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// The file's stem; names the results.
    pub name: String,
    pub question: String,
    /// The swept paths, in the file's order: `train.batch`.
    pub axes: Vec<AxisInfo>,
    /// In the order of the grid, the last axis fastest.
    pub cells: Vec<Cell>,
    pub seeds: Vec<u64>,
    pub table: Table,
    pub smoke: bool,
}

impl Experiment {
    /// Every run computes its convolutions as the lock of this digest says, which makes it another run.
    pub fn lock_plans(&mut self, digest: Key) {
        self.cells.iter_mut().flat_map(|cell| &mut cell.runs).for_each(|run| run.plans = Some(digest));
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AxisInfo {
    pub path: String,
    /// The label of every value, in the file's order.
    pub labels: Vec<String>,
}

/// One point of the grid and its replicates.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// One label an axis, in the order of `Experiment::axes`.
    pub labels: Vec<String>,
    /// One run a seed, in the order of `Experiment::seeds`.
    pub runs: Vec<Run>,
}

/// How the ablation table is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Paths of the axes that span the rows.
    pub rows: Vec<String>,
    /// Paths of the axes that span the columns; every axis stands in one of the two.
    pub columns: Vec<String>,
    /// `knn.top1`: the evaluation's name and the metric's.
    pub metric: String,
}

/// The names that results go by: `knn`, `linear`; the second of a kind is `knn_2`, and so on.
pub fn evaluation_names(evaluations: &[Evaluation]) -> Vec<String> {
    let kind = |evaluation: &Evaluation| match evaluation {
        Evaluation::Knn(_) => "knn",
        Evaluation::LinearProbe(_) => "linear",
    };
    let name = |(index, evaluation): (usize, &Evaluation)| {
        let name = kind(evaluation);
        match evaluations[..index].iter().filter(|earlier| kind(earlier) == name).count() {
            0 => name.to_owned(),
            earlier => format!("{name}_{}", earlier + 1),
        }
    };
    evaluations.iter().enumerate().map(name).collect()
}
