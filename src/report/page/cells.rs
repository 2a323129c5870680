//! Every cell in full: its seeds, how it differs from the baseline, its settings, who computed it on what, what failed.

use maud::{Markup, html};

use crate::report::page::Page;
use crate::report::page::figure::color;
use crate::report::page::grid::{Grid, GridCell};
use crate::report::table::SeedResult;

/// Digits of a key that are shown; the whole key is in the tables.
const KEY_DIGITS: usize = 12;
/// Lines of a failure's log.
const LOG_LINES: usize = 20;
/// More cells make a page nobody can open; the data has them all.
const CELLS_MAX: usize = 300;

/// One cell of the experiment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CellDetails {
    /// What a file would say of it, a path and a value each.
    pub settings: Vec<(String, String)>,
    /// How it differs from the baseline, a line a field.
    pub differences: Vec<String>,
    pub metrics: Metrics,
    /// Of every seed: the training and then its evaluations.
    pub stages: Vec<StageDetails>,
}

/// Every number of every seed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics {
    /// `knn.top1 in %`.
    pub names: Vec<String>,
    /// A seed and one text a name, in the order of the seeds.
    pub of_seeds: Vec<(u64, Vec<Option<String>>)>,
}

/// One stage of one seed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StageDetails {
    pub seed: u64,
    /// `training`, `knn`.
    pub name: String,
    pub key: String,
    /// `done`, `missing`, `failed`.
    pub state: String,
    pub device: String,
    pub host: String,
    pub begun: String,
    pub took: String,
    pub code: String,
    /// What was used of the device, and what was typed.
    pub details: Vec<(String, String)>,
    pub failure: Option<FailureDetails>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailureDetails {
    pub kind: String,
    pub message: String,
    pub log: Vec<String>,
}

impl CellDetails {
    /// Processors that trained it.
    pub fn training_devices(&self) -> impl Iterator<Item = &str> {
        let of = |stage: &StageDetails| stage.name == "training" && !stage.device.is_empty();
        self.stages.iter().filter(move |stage| of(stage)).map(|stage| stage.device.as_str())
    }
}

pub fn section(page: &Page, grid: &Grid) -> Markup {
    let shown = &grid.cells[..grid.cells.len().min(CELLS_MAX)];
    let axes: Vec<&str> = page.table.axes().collect();
    html! {
        section #cells aria-labelledby="cells-title" {
            h2 #cells-title { "Cells" }
            div.tools.script-only {
                button #open-all type="button" { "Open all" }
                button #close-all type="button" { "Close all" }
            }
            @for (place, cell) in shown.iter().enumerate() {
                @if let Some(details) = page.cells.get(cell.index) {
                    (one(grid, (&axes, cell), details, grid.baseline == Some(place) && grid.cells.len() > 1))
                }
            }
            @if grid.cells.len() > shown.len() {
                p.note {
                    "The first " (shown.len()) " of " (grid.cells.len()) " cells; all are in the "
                    a href="#data" { "data below" } " and in " code { (page.experiment.name) ".parquet" }
                    ", which " code { "ablate sweep" } " leaves."
                }
            }
        }
    }
}

fn one(grid: &Grid, (axes, cell): (&[&str], &GridCell), details: &CellDetails, is_baseline: bool) -> Markup {
    let mean = cell.summary.map(|summary| grid.quantity.text(summary.mean));
    let std = cell.summary.and_then(|summary| summary.std).map(|std| grid.quantity.text(std));
    html! {
        details.cell id=(format!("cell-{}", cell.index)) {
            summary {
                span class={ "key " (color(cell.row)) } aria-hidden="true" {}
                span.cell-name {
                    @for (axis, label) in axes.iter().zip(&cell.labels) {
                        span.axis-name { (axis) } span.label { (label) }
                    }
                    @if cell.labels.is_empty() { (cell.name()) }
                }
                @if is_baseline { span.pill { "baseline" } }
                @if let Some(remark) = cell.remark() {
                    span.pill.failed[cell.n_failed() > 0].missing[cell.n_failed() == 0] { (remark) }
                }
                span.cell-mean {
                    @if let Some(mean) = mean { (mean) @if let Some(std) = std { " ± " (std) } } @else { "–" }
                }
            }
            div.cell-body {
                (failures(&details.stages))
                @if !is_baseline && !details.differences.is_empty() {
                    h3 { "Differs from the baseline" }
                    ul.changes { @for change in &details.differences { li { (change) } } }
                }
                h3 { "Seeds" }
                (seeds(grid, cell, &details.metrics))
                h3 { "Settings" }
                (settings(&details.settings))
                h3 { "Origin" }
                (origin(&details.stages))
            }
        }
    }
}

fn seeds(grid: &Grid, cell: &GridCell, metrics: &Metrics) -> Markup {
    if metrics.of_seeds.is_empty() {
        return html! {
            p.note { @for result in &cell.results { (seed_word(grid, result)) " " } }
        };
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Numbers of every seed" {
            table {
                thead {
                    tr {
                        th.label scope="col" { "seed" }
                        @for name in &metrics.names { th.number scope="col" { (name) } }
                    }
                }
                tbody {
                    @for (seed, texts) in &metrics.of_seeds {
                        tr {
                            th.label scope="row" { (seed) }
                            @for text in texts {
                                td.number { @if let Some(text) = text { (text) } @else { span.absent { "–" } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn seed_word(grid: &Grid, result: &SeedResult) -> String {
    match result {
        SeedResult::Done(value) => grid.quantity.text(*value),
        SeedResult::Missing => "missing".to_owned(),
        SeedResult::Failed(_) => "failed".to_owned(),
    }
}

fn settings(settings: &[(String, String)]) -> Markup {
    html! {
        dl.settings { @for (path, value) in settings { div { dt { (path) } dd { (value) } } } }
    }
}

fn failures(stages: &[StageDetails]) -> Markup {
    let failed: Vec<(&StageDetails, &FailureDetails)> =
        stages.iter().filter_map(|stage| Some((stage, stage.failure.as_ref()?))).collect();
    html! {
        @for (stage, failure) in failed {
            div.banner.failure {
                p { strong { "Seed " (stage.seed) ", " (stage.name) ": " (failure.kind) "." } " " (failure.message) }
                @if !failure.log.is_empty() {
                    pre.scroll tabindex="0" { (failure.log[failure.log.len().saturating_sub(LOG_LINES)..].join("\n")) }
                }
                p.note { code { "ablate show " (short(&stage.key)) } }
            }
        }
    }
}

fn origin(stages: &[StageDetails]) -> Markup {
    // What was used of the device is told once a way of using it, not once a stage.
    let mut ways: Vec<&Vec<(String, String)>> = Vec::new();
    for stage in stages.iter().filter(|stage| !stage.details.is_empty()) {
        if !ways.contains(&&stage.details) {
            ways.push(&stage.details);
        }
    }
    let columns = ["seed", "stage", "state", "device", "host", "begun", "took", "code", "key"];
    html! {
        div.scroll tabindex="0" role="region" aria-label="Where every stage came from" {
            table.origin {
                thead { tr { @for column in columns { th.label scope="col" { (column) } } } }
                tbody {
                    @for stage in stages {
                        tr {
                            td { (stage.seed) }
                            td { (stage.name) }
                            td { (stage.state) }
                            td { (stage.device) }
                            td { (stage.host) }
                            td { (stage.begun) }
                            td.number { (stage.took) }
                            td { code { (stage.code) } }
                            td { code title=(stage.key) { (short(&stage.key)) } }
                        }
                    }
                }
            }
        }
        @for way in ways {
            p.note { @for (place, (name, value)) in way.iter().enumerate() { @if place > 0 { "; " } (name) " " (value) } }
        }
    }
}

fn short(key: &str) -> String {
    key.chars().take(KEY_DIGITS).collect()
}
