//! The figure of cost: the result of a cell against the seconds that its training took.

use maud::html;

use crate::report::page::figure::{
    BOTTOM, Entry, Figure, HEIGHT, LEFT, Mark, Panel, RIGHT, TOP, WIDTH, axes, color, point, px,
};
use crate::report::page::grid::{Grid, GridCell};
use crate::report::page::scale::Scale;

/// Rows told apart by colour, columns by shape; more cannot be.
const ROWS_MAX: usize = 10;
const COLUMNS_MAX: usize = 4;

/// A run that is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    /// Index into `Experiment::cells`.
    pub cell: usize,
    /// Of the training, wall clock.
    pub train_s: f64,
    /// In the unit of the record.
    pub value: f64,
}

/// None where no training took time. `on_one_device` is false where seconds are of different processors.
pub fn figure(grid: &Grid, runs: &[Spent], on_one_device: bool) -> Option<Figure> {
    let of = |cell: &GridCell| -> Vec<(f64, f64)> {
        let own = runs.iter().filter(|run| run.cell == cell.index && run.value.is_finite() && run.train_s > 0.0);
        own.map(|run| (run.train_s, grid.quantity.shown(run.value))).collect()
    };
    let cells: Vec<(&GridCell, Vec<(f64, f64)>)> =
        grid.cells.iter().map(|cell| (cell, of(cell))).filter(|(_, points)| !points.is_empty()).collect();
    if cells.is_empty() {
        return None;
    }
    let points = || cells.iter().flat_map(|(_, points)| points.iter().copied());
    let x = Scale::of_costs(points().map(|(seconds, _)| seconds), LEFT, RIGHT);
    let y = Scale::linear(points().map(|(_, value)| value), BOTTOM, TOP);
    let mean = |points: &[(f64, f64)]| {
        let n = points.len() as f64;
        (points.iter().map(|point| point.0).sum::<f64>() / n, points.iter().map(|point| point.1).sum::<f64>() / n)
    };
    let marks = html! {
        @for (cell, points) in &cells {
            g class=(color(cell.row)) {
                @for (seconds, value) in points {
                    circle.seed cx=(px(x.place(*seconds))) cy=(px(y.place(*value))) r="2.5" {}
                }
                @let (seconds, value) = mean(points);
                g {
                    title { (cell.name()) ": " (format!("{seconds:.1} s")) }
                    (point(cell.column, x.place(seconds), y.place(value), 5.0))
                }
            }
        }
    };
    let warning = if on_one_device { "" } else { " Seconds of different devices cannot be compared." };
    Some(Figure {
        name: "cost".to_owned(),
        title: "Result against cost".to_owned(),
        caption: format!(
            "Large points: means of a cell; small points: seeds; evaluations are not in the time.{}{warning}",
            keys(grid)
        ),
        panels: vec![Panel {
            title: String::new(),
            description: format!("{} against the seconds of training, a point a run", grid.quantity.name),
            width: WIDTH,
            height: HEIGHT,
            body: axes(&x, &y, ("training in seconds", &grid.quantity.name), &marks),
        }],
        legend: legend(grid),
    })
}

/// What colours and shapes stand for.
fn keys(grid: &Grid) -> String {
    let key = |what: &str, axes: &str, n: usize| {
        if n > 1 { format!(" {what}: {axes}.") } else { String::new() }
    };
    key("Colours", &grid.row_axes, grid.row_labels.len()) + &key("Shapes", &grid.column_axes, grid.column_labels.len())
}

fn legend(grid: &Grid) -> Vec<Entry> {
    let rows = grid.row_labels.iter().take(ROWS_MAX).enumerate();
    let rows = rows.map(|(row, label)| Entry { class: color(row), label: label.clone(), mark: Mark::Point(0) });
    let columns = grid.column_labels.iter().take(COLUMNS_MAX).enumerate();
    let columns = columns.map(|(column, label)| Entry {
        class: "ink".to_owned(),
        label: label.clone(),
        mark: Mark::Point(column),
    });
    let mut entries = Vec::new();
    if grid.row_labels.len() > 1 {
        entries.extend(rows);
    }
    if grid.column_labels.len() > 1 {
        entries.extend(columns);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{complete, experiment};
    use crate::report::table::AblationTable;

    #[test]
    fn every_run_that_took_time_has_a_point() {
        let experiment = experiment(&[("train.batch", &["64", "128"])], &[], &[0, 1]);
        let table = AblationTable::new(&experiment, &complete(&experiment), "knn.top1").unwrap();
        let grid = Grid::of(&table);
        let run = |cell, train_s, value| Spent { cell, train_s, value };
        let runs = [run(0, 10.0, 0.5), run(0, 12.0, 0.6), run(1, 0.0, 0.2), run(1, 20.0, f64::NAN)];
        let figure = figure(&grid, &runs, false).unwrap();
        let body = figure.panels[0].body.clone().into_string();
        assert_eq!(body.matches("class=\"seed\"").count(), 2, "{body}");
        assert!(body.contains("64: 11.0 s") && !body.contains("128:"), "{body}");
        assert!(figure.caption.ends_with("cannot be compared."));
        assert!(super::figure(&grid, &runs[2..], true).is_none());
    }
}
