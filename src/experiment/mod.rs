//! What a file says, what will run, and the keys of it.

mod defaults;
mod evaluations;
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

pub use crate::experiment::evaluations::{
    Encoder, asked_names, augmentation_names, best_names, best_words, evaluation_names, is_chosen_on_test, kind,
    metrics, metrics_of_best, protocol, protocol_of, without_snapshot,
};
pub use crate::experiment::file::{LoadOptions, load};
pub use crate::experiment::problem::Problems;
pub use crate::experiment::tree::TEXT_BYTES_MAX;

use std::str::FromStr;

use crate::content::Key;
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

    /// Whether some run keeps encoders before its last.
    pub fn has_snapshots(&self) -> bool {
        self.cells.iter().flat_map(|cell| cell.runs.first()).any(|run| run.train.snapshots_every_steps.is_some())
    }

    /// Whether a cell, by its index, has a label; no cell has one of an axis that there is not.
    pub fn has_label(&self, cell: usize, wanted: &AxisLabel) -> bool {
        let axis = self.axes.iter().position(|axis| axis.path == wanted.path);
        axis.and_then(|axis| self.cells[cell].labels.get(axis)).is_some_and(|label| *label == wanted.label)
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
    /// The first cell with these labels is what the others are compared with; without labels, the first of all.
    pub baseline: Vec<AxisLabel>,
}

/// One value of an axis, by the axis' path and the value's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AxisLabel {
    pub path: String,
    pub label: String,
}

impl FromStr for AxisLabel {
    type Err = String;

    /// `train.batch=256`.
    fn from_str(text: &str) -> Result<AxisLabel, String> {
        let (path, label) =
            text.split_once('=').ok_or("expected an axis and one of its labels, `train.batch=256`".to_owned())?;
        Ok(AxisLabel { path: path.trim().to_owned(), label: label.trim().to_owned() })
    }
}
