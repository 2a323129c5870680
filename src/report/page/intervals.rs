//! The figure of means: a line a cell, its interval, and the value of every seed.

use maud::{Markup, html};

use crate::report::page::figure::{Figure, Panel, WIDTH, color, point, px, shortened};
use crate::report::page::grid::{Grid, GridCell};
use crate::report::page::scale::{Scale, extent};

const LINE: f64 = 26.0;
const LEFT: f64 = 132.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 8.0;
const LABEL_CHARACTERS: usize = 19;
/// More lines are no picture; the table has them all.
const CELLS_MAX: usize = 60;
/// Intervals of two seeds may be many times as wide as what was measured; beyond this they are cut, with an arrow.
const BEYOND: f64 = 0.8;

/// `interval` names what the whiskers are.
pub fn figure(grid: &Grid, interval: &str) -> Figure {
    let shown = &grid.cells[..grid.cells.len().min(CELLS_MAX)];
    let scale = scale(grid, shown);
    let bottom = TOP + LINE * shown.len() as f64;
    let baseline = grid.baseline.and_then(|place| grid.cells[place].summary);
    let body = html! {
        @for tick in scale.ticks() {
            line.grid x1=(px(tick.at)) x2=(px(tick.at)) y1=(px(TOP)) y2=(px(bottom)) {}
            text.tick x=(px(tick.at)) y=(px(bottom + 16.0)) text-anchor="middle" { (tick.text) }
        }
        @if let Some(summary) = baseline {
            @let at = px(scale.place(grid.quantity.shown(summary.mean)));
            line.zero x1=(at) x2=(at) y1=(px(TOP)) y2=(px(bottom)) {}
        }
        @for (line, cell) in shown.iter().enumerate() {
            (drawn(grid, cell, &scale, TOP + LINE * (line as f64 + 0.5)))
        }
        line.axis x1=(px(LEFT)) x2=(px(RIGHT)) y1=(px(bottom)) y2=(px(bottom)) {}
        text.name x=(px((LEFT + RIGHT) / 2.0)) y=(px(bottom + 33.0)) text-anchor="middle" { (grid.quantity.name) }
    };
    let left_out = match grid.cells.len() - shown.len() {
        0 => String::new(),
        _ => format!(" The first {} of {} cells are drawn.", shown.len(), grid.cells.len()),
    };
    let of_baseline = if baseline.is_some() { "; the dashed line is the baseline's mean" } else { "" };
    Figure {
        name: "means".to_owned(),
        title: "Means and seeds".to_owned(),
        caption: format!("Large points: means; small points: seeds; lines: {interval}{of_baseline}.{left_out}"),
        panels: vec![Panel {
            title: String::new(),
            description: description(grid, shown),
            width: WIDTH,
            height: bottom + 42.0,
            body,
        }],
        legend: Vec::new(),
    }
}

fn scale(grid: &Grid, shown: &[GridCell]) -> Scale {
    let seen = |value: f64| grid.quantity.shown(value);
    let values = || shown.iter().flat_map(GridCell::values).map(seen);
    let (low, high) = extent(values()).unwrap_or((0.0, 1.0));
    let reach = BEYOND * (high - low).max(1e-9 + 0.01 * high.abs());
    let ends = shown.iter().filter_map(|cell| cell.summary.and_then(|summary| summary.interval));
    let ends = ends
        .flat_map(|interval| [seen(interval.low), seen(interval.high)])
        .map(|end| end.clamp(low - reach, high + reach));
    Scale::linear(values().chain(ends), LEFT, RIGHT)
}

fn drawn(grid: &Grid, cell: &GridCell, scale: &Scale, y: f64) -> Markup {
    let place = |value: f64| scale.place(grid.quantity.shown(value));
    let interval =
        cell.summary.and_then(|summary| summary.interval).map(|interval| (place(interval.low), place(interval.high)));
    let name = cell.name();
    html! {
        g class=(color(cell.row)) {
            text x=(px(LEFT - 8.0)) y=(px(y + 4.0)) text-anchor="end" {
                (shortened(&name, LABEL_CHARACTERS))
                @if name.chars().count() > LABEL_CHARACTERS { title { (name) } }
            }
            @if let Some((low, high)) = interval {
                line.whisker x1=(px(low.clamp(LEFT, RIGHT))) x2=(px(high.clamp(LEFT, RIGHT))) y1=(px(y)) y2=(px(y)) {}
                @for (end, direction) in [(low, -1.0), (high, 1.0)] {
                    @if end < LEFT || end > RIGHT {
                        @let at = end.clamp(LEFT, RIGHT);
                        @let back = at - 5.0 * direction;
                        (point_to(at, back, y))
                    }
                }
            }
            @for value in cell.values().filter(|value| value.is_finite()) {
                circle.seed cx=(px(place(value))) cy=(px(y)) r="3" { title { (grid.quantity.text(value)) } }
            }
            @if let Some(summary) = cell.summary.filter(|summary| summary.mean.is_finite()) {
                (point(cell.column, place(summary.mean), y, 5.0))
            } @else {
                text.tick x=(px(LEFT + 6.0)) y=(px(y + 4.0)) { (cell.remark().unwrap_or_else(|| "no number".to_owned())) }
            }
        }
    }
}

/// An arrow's head from `back` to `at`.
fn point_to(at: f64, back: f64, y: f64) -> Markup {
    let (at, back) = (px(at), px(back));
    html! { polygon.dot points=(format!("{at},{} {back},{} {back},{}", px(y), px(y - 3.5), px(y + 3.5))) {} }
}

fn description(grid: &Grid, shown: &[GridCell]) -> String {
    let of = |cell: &GridCell| {
        let mean = cell.summary.map_or("none".to_owned(), |summary| grid.quantity.text(summary.mean));
        format!("{}: {mean}", cell.name())
    };
    format!("{}. {}", grid.quantity.name, shown.iter().map(of).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{complete, experiment, missing};
    use crate::report::table::AblationTable;

    #[test]
    fn every_seed_has_its_point_and_what_is_missing_its_word() {
        let experiment = experiment(&[("train.batch", &["64", "128"])], &[], &[0, 1, 2]);
        let mut rows = complete(&experiment);
        rows.truncate(3);
        rows.extend([0, 1, 2].map(|seed| missing(&experiment, 1, seed)));
        let table = AblationTable::new(&experiment, &rows, "knn.top1").unwrap();
        let grid = Grid::of(&experiment, &table);
        let figure = figure(&grid, "95 % intervals");
        let body = figure.panels[0].body.clone().into_string();
        assert_eq!(body.matches("class=\"seed\"").count(), 3, "{body}");
        assert_eq!(body.matches("class=\"whisker\"").count(), 1);
        assert!(body.contains("3 of 3 missing") && figure.panels[0].description.contains("64: 50.0; 128: none"));
        insta::assert_snapshot!(body.replace("><", ">\n<"));
    }
}
