//! Figures of training: what the history has of each step, its mean over the seeds of a cell in a band from the lowest to
//! the highest of them.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::history::{History, StepMetrics};
use crate::report::histories::RunHistory;
use crate::report::page::figure::{
    BOTTOM, Entry, Figure, HEIGHT, LEFT, Mark, Panel, RIGHT, TOP, WIDTH, axes, color, dash, px,
};
use crate::report::page::grid::{Grid, GridCell};
use crate::report::page::scale::{Scale, extent};

/// Places along the steps; steps that fall into one place are averaged.
const BINS: usize = 110;
/// Lines of a panel, and panels of a figure; more cannot be told apart.
const ROWS_MAX: usize = 8;
const COLUMNS_MAX: usize = 6;

/// A number that the history has of a step.
#[derive(Debug, Clone, Copy)]
struct Measure {
    name: &'static str,
    title: &'static str,
    axis: &'static str,
    /// `None` where the step did not measure it.
    of: fn(&StepMetrics) -> Option<f64>,
}

const MEASURES: [Measure; 6] = [
    Measure { name: "loss", title: "Loss", axis: "loss of the batch in nats", of: |step| Some(step.loss) },
    Measure {
        name: "alignment",
        title: "Alignment",
        axis: "mean squared distance of positive pairs",
        of: |step| step.detail.map(|detail| detail.alignment),
    },
    Measure {
        name: "uniformity",
        title: "Uniformity",
        axis: "log mean Gaussian potential in nats",
        of: |step| step.detail.map(|detail| detail.uniformity),
    },
    Measure {
        name: "contrastive-top1",
        title: "Contrastive accuracy",
        axis: "positives nearest of all, in %",
        of: |step| step.detail.map(|detail| 100.0 * detail.contrastive_top1),
    },
    Measure {
        name: "train-top1",
        title: "Training accuracy",
        axis: "training views told apart, in %",
        of: |step| step.detail.and_then(|detail| detail.train_top1).map(|top1| 100.0 * top1),
    },
    Measure {
        name: "learning-rate",
        title: "Learning rate",
        axis: "learning rate of the update",
        of: |step| Some(step.learning_rate),
    },
];

/// The seeds of a cell over the steps.
#[derive(Debug, Clone, PartialEq, Default)]
struct Band {
    points: Vec<BandPoint>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct BandPoint {
    step: f64,
    low: f64,
    mean: f64,
    high: f64,
}

/// A figure a measure that was taken, the loss first.
pub fn figures(grid: &Grid, histories: &[RunHistory]) -> Vec<Figure> {
    MEASURES.iter().filter_map(|measure| figure(grid, histories, measure)).collect()
}

/// Whether a figure of that name is one of these.
pub fn is_of_training(name: &str) -> bool {
    name == EVALUATED.name || MEASURES.iter().any(|measure| measure.name == name)
}

fn figure(grid: &Grid, histories: &[RunHistory], measure: &Measure) -> Option<Figure> {
    let of_cell = |cell: &GridCell| {
        let of_cell = histories.iter().filter(|run| run.cell as usize == cell.index);
        band(of_cell.map(|run| &run.history), measure.of)
    };
    let Measure { name, title, axis, of: _ } = *measure;
    lines(grid, &of_cell, &Words { name, title, axes: ("step", axis), over: "the steps of training" })
}

/// The table's metric of the snapshots and the final encoder; none where nothing but the final one was evaluated.
pub fn evaluated(grid: &Grid, evaluated: &[Evaluated]) -> Option<Figure> {
    let of_cell = |cell: &GridCell| {
        let own = evaluated.iter().filter(|one| one.cell == cell.index && one.value.is_finite());
        let mut by_epoch: BTreeMap<u64, (f64, Vec<f64>)> = BTreeMap::new();
        for one in own {
            // Epochs are not negative, so that their bits are in their order.
            let (_, values) = by_epoch.entry(one.epoch.to_bits()).or_insert((one.epoch, Vec::new()));
            values.push(grid.quantity.shown(one.value));
        }
        let point = |(epoch, values): (f64, Vec<f64>)| BandPoint {
            step: epoch,
            low: values.iter().copied().fold(f64::INFINITY, f64::min),
            mean: values.iter().sum::<f64>() / values.len() as f64,
            high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        };
        Band { points: by_epoch.into_values().map(point).collect() }
    };
    lines(grid, &of_cell, &Words { axes: ("epoch", &grid.quantity.name), ..EVALUATED })
}

/// A number of an encoder that was evaluated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluated {
    /// Index into `Experiment::cells`.
    pub cell: usize,
    pub epoch: f64,
    /// In the unit of the record.
    pub value: f64,
}

/// What a figure of lines is called.
struct Words<'a> {
    name: &'a str,
    title: &'a str,
    axes: (&'a str, &'a str),
    over: &'a str,
}

const EVALUATED: Words =
    Words { name: "evaluated", title: "Evaluated on the way", axes: ("epoch", ""), over: "the epochs of training" };

/// A line a row in a panel a column.
fn lines(grid: &Grid, of_cell: &dyn Fn(&GridCell) -> Band, words: &Words) -> Option<Figure> {
    let cells = grid.cells.iter().filter(|cell| cell.row < ROWS_MAX && cell.column < COLUMNS_MAX);
    let bands: Vec<(usize, usize, Band)> = cells
        .map(|cell| (cell.row, cell.column, of_cell(cell)))
        .filter(|(_, _, band)| !band.points.is_empty())
        .collect();
    let first = bands.first()?;
    // A schedule that nothing swept changes is one line, not one a cell.
    let is_one = bands.len() > 1 && bands.iter().all(|(_, _, band)| *band == first.2);
    let drawn = if is_one { &bands[..1] } else { &bands[..] };
    let points = || drawn.iter().flat_map(|(_, _, band)| &band.points);
    let (_, last_step) = extent(points().map(|point| point.step))?;
    let x = Scale::exact(0.0, last_step, LEFT, RIGHT);
    let y = Scale::linear(points().flat_map(|point| [point.low, point.high]), BOTTOM, TOP);
    let columns: Vec<usize> = (0..grid.column_labels.len().min(COLUMNS_MAX))
        .filter(|column| drawn.iter().any(|(_, of, _)| of == column))
        .collect();
    let panel = |column: &usize| {
        let lines = html! {
            @for (row, _, band) in drawn.iter().filter(|(_, of, _)| of == column) { (line(*row, band, &x, &y)) }
        };
        let label = &grid.column_labels[*column];
        Panel {
            title: if is_one || grid.column_labels.len() < 2 {
                String::new()
            } else {
                format!("{} {label}", grid.column_axes)
            },
            description: format!("{} over {} {label}", words.title, words.over),
            width: WIDTH,
            height: HEIGHT,
            body: axes(&x, &y, words.axes, &lines),
        }
    };
    let rows: Vec<usize> = (0..grid.row_labels.len().min(ROWS_MAX)).collect();
    let entry = |row: &usize| Entry {
        class: color(*row),
        label: grid.row_labels[*row].clone(),
        mark: Mark::Line(*row / 2 % 4),
    };
    let has_legend = !is_one && grid.row_labels.len() > 1;
    Some(Figure {
        name: words.name.to_owned(),
        title: words.title.to_owned(),
        caption: caption(grid, is_one),
        panels: columns.iter().map(panel).collect(),
        legend: if has_legend { rows.iter().map(entry).collect() } else { Vec::new() },
    })
}

fn caption(grid: &Grid, is_one: bool) -> String {
    if is_one {
        return "The same in every cell.".to_owned();
    }
    let mut text = "Mean over the seeds of a cell; the band reaches from the lowest seed to the highest.".to_owned();
    let (rows, columns) = (grid.row_labels.len(), grid.column_labels.len());
    if rows > 1 {
        text.push_str(&format!(" Colours: {}.", grid.row_axes));
    }
    if rows > ROWS_MAX || columns > COLUMNS_MAX {
        text.push_str(&format!(
            " The first {} of {rows} rows and {} of {columns} columns of the table are drawn.",
            rows.min(ROWS_MAX),
            columns.min(COLUMNS_MAX)
        ));
    }
    text
}

fn line(row: usize, band: &Band, x: &Scale, y: &Scale) -> Markup {
    let place = |step: f64, value: f64| format!("{},{}", px(x.place(step)), px(y.place(value)));
    let middle: Vec<String> = band.points.iter().map(|point| place(point.step, point.mean)).collect();
    let above = band.points.iter().map(|point| place(point.step, point.high));
    let below = band.points.iter().rev().map(|point| place(point.step, point.low));
    let outline: Vec<String> = above.chain(below).collect();
    let has_width = band.points.iter().any(|point| point.high > point.low);
    html! {
        g class=(color(row)) {
            @if has_width { polygon.band points=(outline.join(" ")) {} }
            @if let [only] = band.points.as_slice() {
                circle.dot cx=(px(x.place(only.step))) cy=(px(y.place(only.mean))) r="3" {}
            } @else {
                polyline.curve points=(middle.join(" ")) stroke-dasharray=(dash(row / 2)) {}
            }
        }
    }
}

/// Steps in places of equal width; in each the mean of every seed, then over the seeds. Numbers that are not finite are
/// passed over.
fn band<'a>(histories: impl Iterator<Item = &'a History>, of: fn(&StepMetrics) -> Option<f64>) -> Band {
    let histories: Vec<&History> = histories.collect();
    let n_steps = histories.iter().flat_map(|history| &history.steps).map(|step| step.step + 1).max().unwrap_or(0);
    let bins = BINS.min(usize::try_from(n_steps).unwrap_or(BINS)).max(1);
    let mut points: Vec<Option<BandPoint>> = vec![None; bins];
    let mut n_seeds = vec![0_u32; bins];
    for history in histories {
        for (bin, step, value) in means_by_bin(history, of, n_steps, bins) {
            n_seeds[bin] += 1;
            let point = points[bin].get_or_insert(BandPoint { step: 0.0, low: value, mean: 0.0, high: value });
            let weight = 1.0 / f64::from(n_seeds[bin]);
            point.step += weight * (step - point.step);
            point.mean += weight * (value - point.mean);
            (point.low, point.high) = (point.low.min(value), point.high.max(value));
        }
    }
    Band { points: points.into_iter().flatten().collect() }
}

/// The place, the mean step and the mean value of each place where there is one.
fn means_by_bin(
    history: &History,
    of: fn(&StepMetrics) -> Option<f64>,
    n_steps: u64,
    bins: usize,
) -> Vec<(usize, f64, f64)> {
    let mut sums = vec![(0_u32, 0.0, 0.0); bins];
    for step in &history.steps {
        if let Some(value) = of(step).filter(|value| value.is_finite()) {
            let bin = (u128::from(step.step) * bins as u128 / u128::from(n_steps.max(1))) as usize;
            let (n, steps, values) = &mut sums[bin.min(bins - 1)];
            *n += 1;
            *steps += step.step as f64;
            *values += value;
        }
    }
    let mean = |(bin, (n, steps, values)): (usize, (u32, f64, f64))| {
        (n > 0).then(|| (bin, steps / f64::from(n), values / f64::from(n)))
    };
    sums.into_iter().enumerate().filter_map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Key;
    use crate::history::Detail;
    use crate::report::sample::{complete, experiment};
    use crate::report::table::AblationTable;

    fn history(losses: impl Iterator<Item = f64>) -> History {
        let step = |(loss, step)| StepMetrics { step, epoch: 0, loss, learning_rate: 0.5, detail: None };
        History { steps: losses.zip(0..).map(step).collect() }
    }

    #[test]
    fn bands_reach_from_the_lowest_seed_to_the_highest() {
        let runs = [history([4.0, 2.0].into_iter()), history([6.0, f64::NAN].into_iter())];
        let band = band(runs.iter(), |step| Some(step.loss));
        let expected = [
            BandPoint { step: 0.0, low: 4.0, mean: 5.0, high: 6.0 },
            BandPoint { step: 1.0, low: 2.0, mean: 2.0, high: 2.0 },
        ];
        assert_eq!(band.points, expected);
    }

    #[test]
    fn long_trainings_are_averaged_into_places() {
        let run = history((0..100_000).map(f64::from));
        let band = band([&run].into_iter(), |step| Some(step.loss));
        assert_eq!(band.points.len(), BINS);
        assert!(band.points.iter().all(|point| (point.mean - point.step).abs() < 1e-6), "{band:?}");
        let mean = band.points.iter().map(|point| point.mean).sum::<f64>() / BINS as f64;
        assert!((mean - 49_999.5).abs() < 1.0, "{mean}");
    }

    #[test]
    fn a_line_a_row_a_panel_a_column_and_one_schedule_for_all() {
        let axes: [(&str, &[&str]); 2] = [("train.batch", &["64", "128"]), ("train.temperature", &["0.1", "0.5"])];
        let experiment = experiment(&axes, &["train.temperature"], &[0, 1]);
        let table = AblationTable::new(&experiment, &complete(&experiment), "knn.top1").unwrap();
        let grid = Grid::of(&table);
        let run = |cell: u32, seed: u64| RunHistory {
            cell,
            seed,
            pretrain_key: Key::of_bytes(b"k"),
            history: history(
                (0..10).map(move |step| 4.0 - 0.1 * f64::from(step) - f64::from(cell) - 0.2 * seed as f64),
            ),
        };
        let runs: Vec<RunHistory> = (0..4).flat_map(|cell| (0..2).map(move |seed| run(cell, seed))).collect();
        let figures = figures(&grid, &runs);
        let names: Vec<&str> = figures.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(names, ["loss", "learning-rate"], "what was not measured has no figure");
        let [loss, rate] = figures.as_slice() else { panic!("two figures") };
        assert_eq!((loss.panels.len(), loss.legend.len()), (2, 2));
        let lines = |figure: &Figure, panel: usize| {
            figure.panels[panel].body.clone().into_string().matches("class=\"curve\"").count()
        };
        assert_eq!((lines(loss, 0), lines(loss, 1), rate.panels.len(), lines(rate, 0)), (2, 2, 1, 1));
        insta::assert_snapshot!(loss.panels[1].body.clone().into_string().replace("><", ">\n<"));
        assert!(super::figures(&grid, &[]).is_empty());
    }

    #[test]
    fn only_a_loss_of_labels_has_a_training_accuracy() {
        let experiment = experiment(&[("train.loss", &["SimCLR", "supervised"])], &[], &[0]);
        let grid = Grid::of(&AblationTable::new(&experiment, &complete(&experiment), "knn.top1").unwrap());
        let run = |cell: u32, train_top1: Option<f64>| {
            let mut history = history([2.0, 1.0].into_iter());
            let detail = Detail {
                gradient_norm: 1.0,
                parameter_norm: 1.0,
                update_norm: 1.0,
                alignment: 1.0,
                uniformity: -1.0,
                contrastive_top1: 0.5,
                train_top1,
            };
            history.steps.iter_mut().for_each(|step| step.detail = Some(detail));
            RunHistory { cell, seed: 0, pretrain_key: Key::of_bytes(b"k"), history }
        };
        let names = |runs: &[RunHistory]| -> Vec<String> {
            figures(&grid, runs).into_iter().map(|figure| figure.name).collect()
        };
        assert!(!names(&[run(0, None)]).contains(&"train-top1".to_owned()));
        let figures = figures(&grid, &[run(0, None), run(1, Some(0.25))]);
        let figure = figures.iter().find(|figure| figure.name == "train-top1").expect("a figure");
        let body = figure.panels[0].body.clone().into_string();
        assert_eq!(body.matches("class=\"curve\"").count(), 1, "{body}");
        assert!(is_of_training("train-top1") && body.contains("training views told apart"), "{body}");
    }

    #[test]
    fn evaluated_encoders_are_drawn_over_their_epochs() {
        let experiment = experiment(&[("train.batch", &["64", "128"])], &[], &[0, 1]);
        let grid = Grid::of(&AblationTable::new(&experiment, &complete(&experiment), "knn.top1").unwrap());
        let of = |cell: usize, epoch: f64, value: f64| Evaluated { cell, epoch, value };
        let all = [of(0, 20.0, 0.5), of(0, 10.0, 0.25), of(0, 10.0, 0.75), of(1, 10.0, 0.5), of(1, 20.0, f64::NAN)];
        let figure = evaluated(&grid, &all).expect("a figure");
        assert!(is_of_training(&figure.name) && figure.panels.len() == 1 && figure.legend.len() == 2);
        let body = figure.panels[0].body.clone().into_string();
        // Two epochs of the first cell, in order and with a band; one of the second, a point.
        assert_eq!((body.matches("class=\"curve\"").count(), body.matches("class=\"band\"").count()), (1, 1), "{body}");
        assert!(body.contains("class=\"dot\"") && body.contains("epoch") && body.contains("knn.top1 in %"), "{body}");
        assert!(evaluated(&grid, &[]).is_none());
    }
}
