//! The ablation table: one metric, laid out by the experiment's axes, replicates folded into mean and spread, every cell
//! compared with the baseline seed by seed.

mod best;
mod layout;

use std::collections::{BTreeMap, BTreeSet};

use crate::experiment::{AxisLabel, Experiment};
use crate::report::ReportError;
use crate::report::direction::Direction;
use crate::report::notes::{collapse_warning, notes, protocol_note, warnings};
use crate::report::row::{Row, Status};
use crate::report::statistics::correction::holm;
use crate::report::statistics::paired::Difference;
use crate::report::statistics::{IntervalMethod, Summary, summarize};
pub use crate::report::table::best::BestMetric;
use crate::report::table::layout::{Layout, Place, place};
use crate::report::verdict::verdict;
use crate::report::view::{Spread, View};

/// One metric over the grid of an experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct AblationTable {
    pub experiment: String,
    pub question: String,
    /// `knn.top1`.
    pub metric: String,
    /// The same of each run's best encoder, `knn.top1_best`, where that is known and not what the table is of.
    pub best: Option<BestMetric>,
    pub unit: Unit,
    pub smoke: bool,
    pub seeds: Vec<u64>,
    /// How the intervals were made.
    pub interval: IntervalMethod,
    /// What stands behind a mean.
    pub spread: Spread,
    /// Axes of which only one label is shown, with it; they stand in neither rows nor columns.
    pub fixed: Vec<AxisLabel>,
    /// Paths of the axes of the rows and of the columns; an axis that the layout leaves out stands last in the rows.
    pub row_axes: Vec<String>,
    pub column_axes: Vec<String>,
    /// One label an axis of the rows; a single empty entry without such an axis. Likewise the columns.
    pub row_labels: Vec<Vec<String>>,
    pub column_labels: Vec<Vec<String>>,
    /// `cells[row][column]`; absent where the grid has no such point.
    pub cells: Vec<Vec<Option<TableCell>>>,
    /// Comparisons with the baseline that have a p, those of rows that are not shown included.
    pub n_comparisons: usize,
    /// Rows left out by `View::best`.
    pub n_rows_hidden: usize,
    /// What the comparisons say, in sentences; empty where there is nothing to compare.
    pub verdict: Vec<String>,
    /// What a reader must know: missing and failed runs.
    pub notes: Vec<String>,
    /// What may make the numbers incomparable.
    pub warnings: Vec<String>,
}

/// What one point of the grid gave.
#[derive(Debug, Clone, PartialEq)]
pub struct TableCell {
    /// Into `Experiment::cells`.
    pub index: u32,
    /// The cell's labels, in the order of `row_axes`, then `column_axes`.
    pub labels: Vec<String>,
    /// One a seed, in the order of `AblationTable::seeds`.
    pub results: Vec<SeedResult>,
    /// Of the values there are.
    pub summary: Option<Summary>,
    /// What the others are compared with.
    pub is_baseline: bool,
    /// Less the baseline, over the seeds that both have; absent without such a seed and for the baseline itself.
    pub difference: Option<Difference>,
    /// Where snapshots were evaluated.
    pub best: Option<BestEncoder>,
}

/// What the best encoder of each run gave.
#[derive(Debug, Clone, PartialEq)]
pub struct BestEncoder {
    /// One a seed.
    pub results: Vec<SeedResult>,
    pub summary: Option<Summary>,
    /// The epoch that was best, one a seed.
    pub epochs: Vec<Option<f64>>,
}

/// What one seed gave.
#[derive(Debug, Clone, PartialEq)]
pub enum SeedResult {
    Done(f64),
    Missing,
    Failed(String),
}

impl SeedResult {
    pub fn value(&self) -> Option<f64> {
        match self {
            SeedResult::Done(value) => Some(*value),
            SeedResult::Missing | SeedResult::Failed(_) => None,
        }
    }
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
        Unit::of_record(rows.iter().find_map(|row| row.unit.as_deref()))
    }

    /// From the word of a record.
    pub fn of_record(word: Option<&str>) -> Unit {
        match word {
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
    /// The file's own table of `metric` (`knn.top1`; the file's choice is `experiment.table.metric`): [`AblationTable::of`].
    ///
    /// # Errors
    /// When there are rows and none is of `metric`.
    pub fn new(experiment: &Experiment, rows: &[Row], metric: &str) -> Result<AblationTable, ReportError> {
        AblationTable::of(experiment, rows, &View { metric: metric.to_owned(), ..View::of(experiment) })
    }

    /// `rows` are those of `report::collect` or of a results file; of two rows of one cell and seed, a result wins over a
    /// failure.
    ///
    /// # Errors
    /// When there are rows and none is of the metric, and when the view asks for what the experiment does not have.
    pub fn of(experiment: &Experiment, rows: &[Row], view: &View) -> Result<AblationTable, ReportError> {
        let metric = &view.metric;
        let chosen: Vec<&Row> = rows.iter().filter(|row| row.is_of(metric)).collect();
        if chosen.is_empty() && !rows.is_empty() {
            let known: BTreeSet<String> = rows.iter().map(Row::full_metric).collect();
            return Err(ReportError::UnknownMetric { metric: metric.to_owned(), known: known.into_iter().collect() });
        }
        view.check(experiment)?;
        let shown = view.selected(experiment)?;
        let fixed = view.fixed(experiment, &shown);
        let layout = Layout::of(experiment, view, &shown, &fixed);
        let chosen: Vec<&Row> =
            chosen.into_iter().filter(|row| shown.binary_search(&(row.cell as usize)).is_ok()).collect();
        let baseline = view.baseline_of(experiment, &shown)?;
        let mut cells = cells(experiment, view, &layout, &shown, &chosen);
        let n_comparisons = compare(&mut cells, baseline, view.interval);
        let best = best::fill(&mut cells, experiment, rows, view);
        let mut table = AblationTable {
            experiment: experiment.name.clone(),
            question: experiment.question.clone(),
            metric: metric.to_owned(),
            best,
            unit: Unit::of_rows(&chosen),
            smoke: experiment.smoke,
            seeds: experiment.seeds.clone(),
            interval: view.interval,
            spread: view.spread,
            row_axes: layout.paths(experiment, &layout.rows),
            column_axes: layout.paths(experiment, &layout.columns),
            cells: grid(experiment, &layout, cells),
            row_labels: layout.labels(experiment, &layout.rows, &layout.row_places),
            column_labels: layout.labels(experiment, &layout.columns, &layout.column_places),
            fixed,
            n_comparisons,
            n_rows_hidden: 0,
            verdict: Vec::new(),
            notes: Vec::new(),
            warnings: warnings(experiment, &chosen),
        };
        table.verdict = verdict(&table);
        view.best.map_or(Ok(()), |n| table.keep_best(n))?;
        table.notes = notes(&table);
        table.notes.extend(table.best.iter().map(|best| best.note.clone()));
        table.notes.extend(protocol_note(&chosen));
        table.warnings.extend(collapse_warning(rows));
        Ok(table)
    }

    /// Every cell, row by row.
    pub fn cells(&self) -> impl Iterator<Item = &TableCell> {
        self.cells.iter().flatten().flatten()
    }

    /// What the others are compared with.
    pub fn baseline(&self) -> Option<&TableCell> {
        self.cells().find(|cell| cell.is_baseline)
    }

    /// All axes, in the order of a cell's labels.
    pub fn axes(&self) -> impl Iterator<Item = &str> {
        self.row_axes.iter().chain(&self.column_axes).map(String::as_str)
    }

    pub fn direction(&self) -> Direction {
        Direction::of(&self.metric, &self.unit)
    }

    /// Keeps the `n` rows whose best cell has the best mean, in their order, and the baseline's.
    fn keep_best(&mut self, n: usize) -> Result<(), ReportError> {
        let direction = self.direction();
        if direction == Direction::Unknown && self.unit != Unit::Unknown {
            let problem = format!("`--best` cannot choose: nothing says whether a higher `{}` is better", self.metric);
            return Err(ReportError::View(problem));
        }
        let goodness = |row: &[Option<TableCell>]| {
            let means = row.iter().flatten().filter_map(|cell| cell.summary).map(|summary| summary.mean);
            means.filter_map(|mean| direction.goodness(mean)).fold(f64::NEG_INFINITY, f64::max)
        };
        let mut order: Vec<usize> = (0..self.cells.len()).collect();
        order.sort_by(|a, b| goodness(&self.cells[*b]).total_cmp(&goodness(&self.cells[*a])));
        let is_kept = |index: usize, row: &[Option<TableCell>]| {
            order.iter().take(n).any(|kept| *kept == index) || row.iter().flatten().any(|cell| cell.is_baseline)
        };
        let kept: Vec<bool> = self.cells.iter().enumerate().map(|(index, row)| is_kept(index, row)).collect();
        let (mut of_cells, mut of_labels) = (kept.iter(), kept.iter());
        self.cells.retain(|_| of_cells.next().is_some_and(|kept| *kept));
        self.row_labels.retain(|_| of_labels.next().is_some_and(|kept| *kept));
        self.n_rows_hidden = kept.iter().filter(|kept| !**kept).count();
        Ok(())
    }
}

/// The cells shown, by their index.
fn cells(
    experiment: &Experiment,
    view: &View,
    layout: &Layout,
    shown: &[usize],
    rows: &[&Row],
) -> BTreeMap<usize, TableCell> {
    let mut by_run: BTreeMap<(u32, u64), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        by_run.entry((row.cell, row.seed)).or_default().push(row);
    }
    let cell = |&index: &usize| {
        let of_seed = |seed: &u64| seed_result(by_run.get(&(index as u32, *seed)).map_or(&[][..], Vec::as_slice));
        let results: Vec<SeedResult> = experiment.seeds.iter().map(of_seed).collect();
        let label = |&axis: &usize| experiment.cells[index].labels.get(axis).cloned().unwrap_or_default();
        let labels = layout.rows.iter().chain(&layout.columns).map(label).collect();
        let summary = summarize(&done_values(&results), view.interval);
        (
            index,
            TableCell {
                index: index as u32,
                labels,
                results,
                summary,
                is_baseline: false,
                difference: None,
                best: None,
            },
        )
    };
    shown.iter().map(cell).collect()
}

/// Fills in the differences, each corrected for all of them; how many have a p.
fn compare(cells: &mut BTreeMap<usize, TableCell>, baseline: Option<usize>, method: IntervalMethod) -> usize {
    let Some(cell) = baseline.and_then(|index| cells.get_mut(&index)) else { return 0 };
    cell.is_baseline = true;
    let of_baseline = cell.results.clone();
    let mut others: Vec<&mut TableCell> = cells.values_mut().filter(|cell| !cell.is_baseline).collect();
    for cell in &mut others {
        let pairs = cell.results.iter().zip(&of_baseline);
        let differences: Vec<f64> = pairs.filter_map(|(a, b)| Some(a.value()? - b.value()?)).collect();
        cell.difference = Difference::of(&differences, method);
    }
    let p_values: Vec<Option<f64>> = others.iter().map(|cell| cell.difference?.sign_flip_p).collect();
    for (cell, adjusted_p) in others.iter_mut().zip(holm(&p_values)) {
        cell.difference.iter_mut().for_each(|difference| difference.adjusted_p = adjusted_p);
    }
    p_values.iter().flatten().count()
}

/// `cells[row][column]`.
fn grid(experiment: &Experiment, layout: &Layout, cells: BTreeMap<usize, TableCell>) -> Vec<Vec<Option<TableCell>>> {
    let at = |index: usize| (place(experiment, index, &layout.rows), place(experiment, index, &layout.columns));
    let mut by_place: BTreeMap<(Place, Place), TableCell> =
        cells.into_iter().map(|(index, cell)| (at(index), cell)).collect();
    let row = |row: &Place| -> Vec<Option<TableCell>> {
        layout.column_places.iter().map(|column| by_place.remove(&(row.clone(), column.clone()))).collect()
    };
    layout.row_places.iter().map(row).collect()
}

fn done_values(results: &[SeedResult]) -> Vec<f64> {
    results.iter().filter_map(SeedResult::value).collect()
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
