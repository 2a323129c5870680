//! The ablation table: one metric, laid out by the experiment's axes, replicates folded into mean and spread.

use std::collections::{BTreeMap, BTreeSet};

use crate::experiment::Experiment;
use crate::report::ReportError;
use crate::report::notes::{collapse_warning, notes, protocol_note, warnings};
use crate::report::row::{Row, Status};
use crate::report::statistics::{Summary, summarize};

/// One metric over the grid of an experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct AblationTable {
    pub experiment: String,
    pub question: String,
    /// `knn.top1`.
    pub metric: String,
    pub unit: Unit,
    pub smoke: bool,
    pub seeds: Vec<u64>,
    /// Paths of the axes of the rows and of the columns; an axis that the layout leaves out stands last in the rows.
    pub row_axes: Vec<String>,
    pub column_axes: Vec<String>,
    /// One label an axis of the rows; a single empty entry without such an axis. Likewise the columns.
    pub row_labels: Vec<Vec<String>>,
    pub column_labels: Vec<Vec<String>>,
    /// `cells[row][column]`; absent where the grid has no such point.
    pub cells: Vec<Vec<Option<TableCell>>>,
    /// What a reader must know: missing and failed runs.
    pub notes: Vec<String>,
    /// What may make the numbers incomparable.
    pub warnings: Vec<String>,
}

/// What one point of the grid gave.
#[derive(Debug, Clone, PartialEq)]
pub struct TableCell {
    /// The cell's labels, in the order of `row_axes`, then `column_axes`.
    pub labels: Vec<String>,
    /// One a seed, in the order of `AblationTable::seeds`.
    pub results: Vec<SeedResult>,
    /// Of the values there are.
    pub summary: Option<Summary>,
}

/// What one seed gave.
#[derive(Debug, Clone, PartialEq)]
pub enum SeedResult {
    Done(f64),
    Missing,
    Failed(String),
}

impl TableCell {
    pub fn n_missing(&self) -> usize {
        self.results.iter().filter(|result| matches!(result, SeedResult::Missing)).count()
    }

    pub fn n_failed(&self) -> usize {
        self.results.iter().filter(|result| matches!(result, SeedResult::Failed(_))).count()
    }

    pub fn n_done(&self) -> usize {
        self.results.len() - self.n_missing() - self.n_failed()
    }
}

/// How numbers of a metric are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// Of 1; people read percent.
    Fraction,
    Nats,
    /// A plain number, or a unit this program does not know.
    Other(String),
    /// No result has said it yet.
    Unknown,
}

impl Unit {
    fn of_rows(rows: &[&Row]) -> Unit {
        match rows.iter().find_map(|row| row.unit.as_deref()) {
            Some("fraction") => Unit::Fraction,
            Some("nats") => Unit::Nats,
            Some(other) => Unit::Other(other.to_owned()),
            None => Unit::Unknown,
        }
    }

    /// As records spell it.
    pub fn name(&self) -> &str {
        match self {
            Unit::Fraction => "fraction",
            Unit::Nats => "nats",
            Unit::Other(name) => name,
            Unit::Unknown => "",
        }
    }
}

impl AblationTable {
    /// The table of `metric` (`knn.top1`; an experiment's own choice is `experiment.table.metric`). `rows` are those of
    /// `report::collect` or of a results file; of two rows of one cell and seed, a result wins over a failure.
    ///
    /// # Errors
    /// When there are rows and none is of `metric`.
    pub fn new(experiment: &Experiment, rows: &[Row], metric: &str) -> Result<AblationTable, ReportError> {
        let chosen: Vec<&Row> = rows.iter().filter(|row| row.is_of(metric)).collect();
        if chosen.is_empty() && !rows.is_empty() {
            let known: BTreeSet<String> = rows.iter().map(Row::full_metric).collect();
            return Err(ReportError::UnknownMetric { metric: metric.to_owned(), known: known.into_iter().collect() });
        }
        let layout = Layout::of(experiment);
        let mut table = AblationTable {
            experiment: experiment.name.clone(),
            question: experiment.question.clone(),
            metric: metric.to_owned(),
            unit: Unit::of_rows(&chosen),
            smoke: experiment.smoke,
            seeds: experiment.seeds.clone(),
            row_axes: layout.paths(experiment, &layout.rows),
            column_axes: layout.paths(experiment, &layout.columns),
            cells: grid(experiment, &layout, &chosen),
            row_labels: layout.labels(experiment, &layout.rows, &layout.row_places),
            column_labels: layout.labels(experiment, &layout.columns, &layout.column_places),
            notes: Vec::new(),
            warnings: warnings(experiment, &chosen),
        };
        table.notes = notes(&table);
        table.notes.extend(protocol_note(&chosen));
        table.warnings.extend(collapse_warning(rows));
        Ok(table)
    }

    /// Every cell, row by row.
    pub fn cells(&self) -> impl Iterator<Item = &TableCell> {
        self.cells.iter().flatten().flatten()
    }

    /// All axes, in the order of a cell's labels.
    pub fn axes(&self) -> impl Iterator<Item = &str> {
        self.row_axes.iter().chain(&self.column_axes).map(String::as_str)
    }
}

/// A row or column of the table: the index of its label on each of its axes.
type Place = Vec<usize>;

/// Which axes span the rows and the columns, and the places on them that the grid fills, in order.
struct Layout {
    /// Indices into `Experiment::axes`.
    rows: Vec<usize>,
    columns: Vec<usize>,
    row_places: Vec<Place>,
    column_places: Vec<Place>,
}

impl Layout {
    fn of(experiment: &Experiment) -> Layout {
        let index = |path: &String| experiment.axes.iter().position(|axis| &axis.path == path);
        let mut rows: Vec<usize> = experiment.table.rows.iter().filter_map(index).collect();
        let columns: Vec<usize> = experiment.table.columns.iter().filter_map(index).collect();
        let left_out = (0..experiment.axes.len()).filter(|axis| !rows.contains(axis) && !columns.contains(axis));
        rows.extend(left_out.collect::<Vec<_>>());
        let places = |axes: &[usize]| -> Vec<Place> {
            let all: BTreeSet<Place> = (0..experiment.cells.len()).map(|cell| place(experiment, cell, axes)).collect();
            all.into_iter().collect()
        };
        Layout { row_places: places(&rows), column_places: places(&columns), rows, columns }
    }

    fn paths(&self, experiment: &Experiment, axes: &[usize]) -> Vec<String> {
        axes.iter().map(|&axis| experiment.axes[axis].path.clone()).collect()
    }

    fn labels(&self, experiment: &Experiment, axes: &[usize], places: &[Place]) -> Vec<Vec<String>> {
        let label =
            |(&axis, &index): (&usize, &usize)| experiment.axes[axis].labels.get(index).cloned().unwrap_or_default();
        places.iter().map(|place| axes.iter().zip(place).map(label).collect()).collect()
    }
}

/// By the cell's index in a whole grid, where two values may share a label; by its labels in one with holes.
fn place(experiment: &Experiment, cell: usize, axes: &[usize]) -> Place {
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

fn grid(experiment: &Experiment, layout: &Layout, rows: &[&Row]) -> Vec<Vec<Option<TableCell>>> {
    let mut by_run: BTreeMap<(u32, u64), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        by_run.entry((row.cell, row.seed)).or_default().push(row);
    }
    let mut by_place: BTreeMap<(Place, Place), TableCell> = BTreeMap::new();
    for (index, cell) in experiment.cells.iter().enumerate() {
        let of_seed = |seed: &u64| seed_result(by_run.get(&(index as u32, *seed)).map_or(&[][..], Vec::as_slice));
        let results: Vec<SeedResult> = experiment.seeds.iter().map(of_seed).collect();
        let label = |&axis: &usize| cell.labels.get(axis).cloned().unwrap_or_default();
        let labels = layout.rows.iter().chain(&layout.columns).map(label).collect();
        let at = (place(experiment, index, &layout.rows), place(experiment, index, &layout.columns));
        let summary = summarize(&done_values(&results));
        by_place.insert(at, TableCell { labels, results, summary });
    }
    let row = |row: &Place| -> Vec<Option<TableCell>> {
        layout.column_places.iter().map(|column| by_place.remove(&(row.clone(), column.clone()))).collect()
    };
    layout.row_places.iter().map(row).collect()
}

fn done_values(results: &[SeedResult]) -> Vec<f64> {
    let value = |result: &SeedResult| match result {
        SeedResult::Done(value) => Some(*value),
        SeedResult::Missing | SeedResult::Failed(_) => None,
    };
    results.iter().filter_map(value).collect()
}

fn seed_result(rows: &[&Row]) -> SeedResult {
    if let Some(value) = rows.iter().filter(|row| row.status == Status::Done).find_map(|row| row.value) {
        return SeedResult::Done(value);
    }
    match rows.iter().find(|row| row.status == Status::Failed) {
        Some(row) => SeedResult::Failed(row.message.clone().unwrap_or_default()),
        None => SeedResult::Missing,
    }
}

#[cfg(test)]
mod tests;
