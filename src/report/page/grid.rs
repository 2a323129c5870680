//! The table's cells as figures see them: flat, with their place in rows and columns.

use crate::report::statistics::Summary;
use crate::report::statistics::paired::Difference;
use crate::report::table::{AblationTable, BestEncoder, SeedResult, TableCell, Unit};
use crate::report::verdict::number;

/// All cells of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    pub quantity: Quantity,
    /// Paths of the axes that span the rows, joined; empty for none. Likewise the columns.
    pub row_axes: String,
    pub column_axes: String,
    /// Labels of a row's axes, joined; a single empty one where no axis spans the rows. Likewise the columns.
    pub row_labels: Vec<String>,
    pub column_labels: Vec<String>,
    /// Row by row.
    pub cells: Vec<GridCell>,
    /// Index into `cells` of the one that others are compared with.
    pub baseline: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct GridCell {
    /// Index into `Experiment::cells`.
    pub index: usize,
    pub row: usize,
    pub column: usize,
    /// One an axis, those of the rows first.
    pub labels: Vec<String>,
    pub results: Vec<SeedResult>,
    pub summary: Option<Summary>,
    /// Less the baseline, seed by seed.
    pub difference: Option<Difference>,
    /// Of the best encoders, where snapshots were evaluated.
    pub best: Option<BestEncoder>,
}

/// What the numbers are, and how people read them.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    /// `knn.top1 in %`.
    pub name: String,
    pub unit: Unit,
}

impl Quantity {
    /// Of a metric, `knn.top1`.
    pub fn of(metric: &str, unit: Unit) -> Quantity {
        let words = match &unit {
            Unit::Fraction => "%",
            Unit::Nats => "nats",
            Unit::Other(name) if name == "1" => "",
            Unit::Other(name) => name,
            Unit::Unknown => "",
        };
        let name = if words.is_empty() { metric.to_owned() } else { format!("{metric} in {words}") };
        Quantity { name, unit }
    }

    /// As people read it: percent for fractions.
    pub fn shown(&self, value: f64) -> f64 {
        match self.unit {
            Unit::Fraction => 100.0 * value,
            Unit::Nats | Unit::Other(_) | Unit::Unknown => value,
        }
    }

    pub fn text(&self, value: f64) -> String {
        number(&self.unit, value)
    }
}

impl GridCell {
    /// `64, 0.1`; `the only cell` where nothing is swept.
    pub fn name(&self) -> String {
        if self.labels.is_empty() { "the only cell".to_owned() } else { self.labels.join(", ") }
    }

    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.results.iter().filter_map(SeedResult::value)
    }

    pub fn n_failed(&self) -> usize {
        self.results.iter().filter(|result| matches!(result, SeedResult::Failed(_))).count()
    }

    pub fn n_missing(&self) -> usize {
        self.results.iter().filter(|result| matches!(result, SeedResult::Missing)).count()
    }

    /// `2 of 3 seeds`, and why some are not there.
    pub fn remark(&self) -> Option<String> {
        let (n, failed, missing) = (self.results.len(), self.n_failed(), self.n_missing());
        match (failed, missing) {
            (0, 0) => None,
            (0, missing) => Some(format!("{missing} of {n} missing")),
            (failed, 0) => Some(format!("{failed} of {n} failed")),
            (failed, missing) => Some(format!("{failed} of {n} failed, {missing} missing")),
        }
    }
}

impl Grid {
    /// Of a table.
    pub fn of(table: &AblationTable) -> Grid {
        let join = |labels: &Vec<Vec<String>>| labels.iter().map(|labels| labels.join(", ")).collect();
        let (mut cells, mut baseline) = (Vec::new(), None);
        for (row, columns) in table.cells.iter().enumerate() {
            for (column, cell) in columns.iter().enumerate() {
                let Some(TableCell { index, labels, results, summary, is_baseline, difference, best }) = cell else {
                    continue;
                };
                let index = *index as usize;
                let (labels, results) = (labels.clone(), results.clone());
                if *is_baseline {
                    baseline = Some(cells.len());
                }
                let (summary, difference) = (*summary, *difference);
                let best = best.clone();
                cells.push(GridCell { index, row, column, labels, results, summary, difference, best });
            }
        }
        Grid {
            quantity: Quantity::of(&table.metric, table.unit.clone()),
            row_axes: table.row_axes.join(", "),
            column_axes: table.column_axes.join(", "),
            row_labels: join(&table.row_labels),
            column_labels: join(&table.column_labels),
            cells,
            baseline,
        }
    }

    /// Rows and columns both are spanned.
    pub fn is_plane(&self) -> bool {
        self.row_labels.len() > 1 && self.column_labels.len() > 1
    }

    /// The finished cell with the highest mean.
    pub fn highest(&self) -> Option<usize> {
        let mean = |cell: &GridCell| cell.summary.map(|summary| summary.mean).filter(|mean| mean.is_finite());
        let found = self.cells.iter().enumerate().filter_map(|(place, cell)| Some((place, mean(cell)?)));
        found.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map(|(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{complete, experiment, failed, missing};

    #[test]
    fn cells_keep_their_place_when_columns_come_first() {
        let axes: [(&str, &[&str]); 2] = [("train.batch", &["64", "128"]), ("seedless", &["a", "a", "b"])];
        let experiment = experiment(&axes, &["train.batch"], &[0, 1]);
        let table = AblationTable::new(&experiment, &complete(&experiment), "knn.top1").unwrap();
        let grid = Grid::of(&table);
        assert_eq!(grid.cells.len(), 6);
        let by_index = |index: usize| grid.cells.iter().find(|cell| cell.index == index).unwrap();
        assert_eq!(by_index(4).labels, ["a", "128"]);
        assert_eq!((by_index(2).row, by_index(2).column), (2, 0));
        // Cell c has the mean 50 + 2.5c %, so every cell got its own numbers.
        for cell in &grid.cells {
            let mean = cell.summary.map(|summary| summary.mean).unwrap();
            assert!((mean - 0.5 - 0.025 * cell.index as f64).abs() < 1e-12, "{cell:?}");
        }
        assert_eq!(grid.highest().map(|place| grid.cells[place].index), Some(5));
        assert_eq!(grid.baseline.map(|place| grid.cells[place].index), Some(0));
        assert!(grid.is_plane());
    }

    #[test]
    fn what_is_not_there_is_told() {
        let experiment = experiment(&[("train.batch", &["64", "128"])], &[], &[0, 1]);
        let mut rows = complete(&experiment);
        rows[0] = failed(&experiment, 0, 0, "not finite");
        rows[1] = missing(&experiment, 0, 1);
        let table = AblationTable::new(&experiment, &rows, "knn.top1").unwrap();
        let grid = Grid::of(&table);
        assert_eq!(grid.cells[0].remark().as_deref(), Some("1 of 2 failed, 1 missing"));
        assert_eq!(grid.cells[1].remark(), None);
        assert_eq!(grid.highest(), Some(1));
        assert_eq!((grid.baseline, grid.is_plane()), (Some(0), false));
    }
}
