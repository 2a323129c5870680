//! Which axes span the rows and the columns of a table, and where its cells stand.

use std::collections::BTreeSet;

use crate::experiment::{AxisLabel, Experiment};
use crate::report::view::View;

/// A row or column of the table: the index of its label on each of its axes.
pub type Place = Vec<usize>;

/// Which axes span the rows and the columns, and the places on them that the grid fills, in order.
pub struct Layout {
    /// Indices into `Experiment::axes`.
    pub rows: Vec<usize>,
    pub columns: Vec<usize>,
    pub row_places: Vec<Place>,
    pub column_places: Vec<Place>,
}

impl Layout {
    /// Of the cells shown; the axes in `fixed` stand in neither.
    pub fn of(experiment: &Experiment, view: &View, shown: &[usize], fixed: &[AxisLabel]) -> Layout {
        let index = |path: &String| experiment.axes.iter().position(|axis| &axis.path == path);
        let varies = |axis: &usize| !fixed.iter().any(|fixed| fixed.path == experiment.axes[*axis].path);
        let mut rows: Vec<usize> = view.rows.iter().filter_map(index).filter(varies).collect();
        let columns: Vec<usize> = view.columns.iter().filter_map(index).filter(varies).collect();
        let left_out = (0..experiment.axes.len()).filter(|axis| !rows.contains(axis) && !columns.contains(axis));
        rows.extend(left_out.filter(varies).collect::<Vec<_>>());
        let places = |axes: &[usize]| -> Vec<Place> {
            let all: BTreeSet<Place> = shown.iter().map(|&cell| place(experiment, cell, axes)).collect();
            all.into_iter().collect()
        };
        Layout { row_places: places(&rows), column_places: places(&columns), rows, columns }
    }

    pub fn paths(&self, experiment: &Experiment, axes: &[usize]) -> Vec<String> {
        axes.iter().map(|&axis| experiment.axes[axis].path.clone()).collect()
    }

    pub fn labels(&self, experiment: &Experiment, axes: &[usize], places: &[Place]) -> Vec<Vec<String>> {
        let label =
            |(&axis, &index): (&usize, &usize)| experiment.axes[axis].labels.get(index).cloned().unwrap_or_default();
        places.iter().map(|place| axes.iter().zip(place).map(label).collect()).collect()
    }
}

/// By the cell's index in a whole grid, where two values may share a label; by its labels in one with holes.
pub fn place(experiment: &Experiment, cell: usize, axes: &[usize]) -> Place {
    let lengths: Vec<usize> = experiment.axes.iter().map(|axis| axis.labels.len()).collect();
    let whole = lengths.iter().product::<usize>() == experiment.cells.len();
    let index = |&axis: &usize| {
        if whole {
            return cell / lengths[axis + 1..].iter().product::<usize>() % lengths[axis];
        }
        let label = experiment.cells[cell].labels.get(axis);
        experiment.axes[axis].labels.iter().position(|known| Some(known) == label).unwrap_or(usize::MAX)
    };
    axes.iter().map(index).collect()
}
