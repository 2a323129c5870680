//! The figure of two axes: a tile a cell, coloured by its mean.

use maud::{Markup, html};

use crate::report::page::figure::{Figure, Panel, px, shortened};
use crate::report::page::grid::{Grid, GridCell};
use crate::report::page::scale::extent;

const TILE_WIDTH: f64 = 82.0;
const TILE_HEIGHT: f64 = 46.0;
const LEFT: f64 = 108.0;
const TOP: f64 = 40.0;
const LABEL_CHARACTERS: usize = 17;
/// Larger planes are no picture.
const TILES_MAX: usize = 400;

/// From low to high, dark blue to yellow, of even steps in lightness: told apart without colour (cividis, Nuñez et al. 2018).
const RAMP: [[f64; 3]; 10] = [
    [0.0, 32.0, 77.0],
    [0.0, 51.0, 111.0],
    [57.0, 72.0, 107.0],
    [87.0, 92.0, 109.0],
    [112.0, 113.0, 115.0],
    [138.0, 135.0, 121.0],
    [166.0, 157.0, 117.0],
    [196.0, 181.0, 108.0],
    [228.0, 207.0, 91.0],
    [255.0, 234.0, 70.0],
];

/// None where the cells span no plane.
pub fn figure(grid: &Grid) -> Option<Figure> {
    let (row_axes, column_axes) = (&grid.row_axes, &grid.column_axes);
    let n_tiles = grid.row_labels.len() * grid.column_labels.len();
    if !grid.is_plane() || n_tiles > TILES_MAX {
        return None;
    }
    let means = grid.cells.iter().filter_map(|cell| cell.summary).map(|summary| summary.mean);
    let (low, high) = extent(means)?;
    let width = LEFT + TILE_WIDTH * grid.column_labels.len() as f64 + 6.0;
    let height = TOP + TILE_HEIGHT * grid.row_labels.len() as f64 + 6.0;
    let body = html! {
        text.name x=(px(LEFT)) y="12" { (shortened(column_axes, 60)) }
        text.name x=(px(LEFT - 8.0)) y=(px(TOP - 8.0)) text-anchor="end" { (shortened(row_axes, LABEL_CHARACTERS)) }
        @for (column, label) in grid.column_labels.iter().enumerate() {
            text.tick x=(px(LEFT + TILE_WIDTH * (column as f64 + 0.5))) y=(px(TOP - 8.0)) text-anchor="middle" {
                (shortened(label, 13)) title { (label) }
            }
        }
        @for (row, label) in grid.row_labels.iter().enumerate() {
            text.tick x=(px(LEFT - 8.0)) y=(px(TOP + TILE_HEIGHT * (row as f64 + 0.5) + 4.0)) text-anchor="end" {
                (shortened(label, LABEL_CHARACTERS)) title { (label) }
            }
        }
        @for cell in &grid.cells { (tile(grid, cell, (low, high))) }
    };
    let name = &grid.quantity.name;
    Some(Figure {
        name: "heat-map".to_owned(),
        title: "Heat map of means".to_owned(),
        caption: format!(
            "Means of {name}, from {} (dark) to {} (bright); below each mean its sample standard deviation. Dashed: no \
             result.",
            grid.quantity.text(low),
            grid.quantity.text(high)
        ),
        panels: vec![Panel {
            title: String::new(),
            description: format!("Heat map of {name} by {row_axes} and {column_axes}; the table has its numbers"),
            width,
            height,
            body,
        }],
        legend: Vec::new(),
    })
}

fn tile(grid: &Grid, cell: &GridCell, (low, high): (f64, f64)) -> Markup {
    let (x, y) = (LEFT + TILE_WIDTH * cell.column as f64, TOP + TILE_HEIGHT * cell.row as f64);
    let (middle, centre) = (x + TILE_WIDTH / 2.0, y + TILE_HEIGHT / 2.0);
    let words = cell.summary.filter(|summary| summary.mean.is_finite()).map(|summary| {
        let share = if high > low { (summary.mean - low) / (high - low) } else { 0.5 };
        let std = summary.std.map_or(String::new(), |std| format!("± {}", grid.quantity.text(std)));
        (share, grid.quantity.text(summary.mean), std)
    });
    html! {
        @if let Some((share, mean, std)) = words {
            @let [red, green, blue] = ramp(share);
            @let class = if luminance([red, green, blue]) > 0.22 { "dark" } else { "bright" };
            rect.tile x=(px(x)) y=(px(y)) width=(px(TILE_WIDTH)) height=(px(TILE_HEIGHT))
                fill=(format!("rgb({red:.0},{green:.0},{blue:.0})")) { title { (cell.name()) } }
            text class=(class) x=(px(middle)) y=(px(centre - 1.0)) text-anchor="middle" { (mean) }
            text class=(class) x=(px(middle)) y=(px(centre + 13.0)) text-anchor="middle" { (std) }
        } @else {
            rect.none x=(px(x + 2.0)) y=(px(y + 2.0)) width=(px(TILE_WIDTH - 4.0)) height=(px(TILE_HEIGHT - 4.0)) {
                title { (cell.name()) }
            }
            text.tick x=(px(middle)) y=(px(centre + 4.0)) text-anchor="middle" {
                @if cell.n_failed() > 0 { "failed" } @else { "missing" }
            }
        }
    }
}

/// The colour at a share of the way from low to high.
fn ramp(share: f64) -> [f64; 3] {
    let place = share.clamp(0.0, 1.0) * (RAMP.len() - 1) as f64;
    let index = (place as usize).min(RAMP.len() - 2);
    let within = place - index as f64;
    std::array::from_fn(|channel| RAMP[index][channel] + within * (RAMP[index + 1][channel] - RAMP[index][channel]))
}

/// Of an sRGB colour, relative to white (WCAG 2.2).
fn luminance(color: [f64; 3]) -> f64 {
    let linear = color.map(|level| {
        let level = level / 255.0;
        if level <= 0.04045 { level / 12.92 } else { libm::pow((level + 0.055) / 1.055, 2.4) }
    });
    0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{complete, experiment, failed};
    use crate::report::table::AblationTable;

    #[test]
    fn a_tile_a_cell_with_words_that_can_be_read_on_it() {
        let axes: [(&str, &[&str]); 2] = [("train.batch", &["64", "128"]), ("train.temperature", &["0.1", "<b>"])];
        let experiment = experiment(&axes, &["train.temperature"], &[0, 1]);
        let mut rows = complete(&experiment);
        rows.truncate(6);
        rows.extend([0, 1].map(|seed| failed(&experiment, 3, seed, "not finite")));
        let table = AblationTable::new(&experiment, &rows, "knn.top1").unwrap();
        let figure = figure(&Grid::of(&experiment, &table)).unwrap();
        let body = figure.panels[0].body.clone().into_string();
        assert_eq!((body.matches("class=\"tile\"").count(), body.matches("class=\"none\"").count()), (3, 1));
        assert!(!body.contains("<b>"), "{body}");
        insta::assert_snapshot!(body.replace("><", ">\n<"));
    }

    #[test]
    fn words_stand_out_on_every_color() {
        for step in 0..=100 {
            let luminance = luminance(ramp(f64::from(step) / 100.0));
            let words = if luminance > 0.22 { 0.0056 } else { 1.0 };
            let (high, low) = (f64::max(luminance, words), f64::min(luminance, words));
            let contrast = (high + 0.05) / (low + 0.05);
            assert!(contrast >= 3.0, "step {step}: {contrast}");
        }
    }

    #[test]
    fn one_axis_is_no_plane() {
        let experiment = experiment(&[("train.batch", &["64", "128"])], &[], &[0]);
        let table = AblationTable::new(&experiment, &complete(&experiment), "knn.top1").unwrap();
        assert!(figure(&Grid::of(&experiment, &table)).is_none());
    }
}
