//! The top of the page: the question and what the seeds say of it, warnings, and the table of all cells.

use maud::{Markup, html};

use crate::report::page::Page;
use crate::report::page::figure::color;
use crate::report::page::grid::{Grid, GridCell};
use crate::report::render::epochs_words;
use crate::report::statistics::Interval;
use crate::report::statistics::paired::Difference;

/// More failures are counted, not named.
const FAILURES_SHOWN: usize = 6;

pub fn header(page: &Page, grid: &Grid) -> Markup {
    let table = page.table;
    let runs: usize = grid.cells.iter().map(|cell| cell.results.len()).sum();
    let done: usize = grid.cells.iter().map(|cell| cell.values().count()).sum();
    let headline = [
        ("Metric", grid.quantity.name.clone()),
        ("Cells", grid.cells.len().to_string()),
        ("Seeds", table.seeds.len().to_string()),
        ("Results", if done == runs { format!("all {runs}") } else { format!("{done} of {runs}") }),
    ];
    html! {
        header.top {
            p.kicker { "Ablation report" span.separator aria-hidden="true" { "·" } span.name { (table.experiment) } }
            h1 { (table.question) }
            @if !table.verdict.is_empty() {
                div.verdict role="group" aria-label="Verdict" { @for sentence in &table.verdict { p { (sentence) } } }
            }
            dl.headline { @for (name, value) in headline { div { dt { (name) } dd { (value) } } } }
            nav aria-label="Sections" {
                a href="#results" { "Results" }
                a href="#figures" { "Figures" }
                @if !page.histories.is_empty() { a href="#training" { "Training" } }
                @if !page.maps.is_empty() { a href="#features" { "Features" } }
                @if !page.sheets.is_empty() { a href="#views" { "Views" } }
                a href="#cells" { "Cells" }
                a href="#data" { "Data" }
            }
        }
        (banners(page, grid))
    }
}

/// What must be known before any number is believed.
fn banners(page: &Page, grid: &Grid) -> Markup {
    let warnings: Vec<&String> = page.table.warnings.iter().chain(&page.warnings).collect();
    let failed: Vec<&GridCell> = grid.cells.iter().filter(|cell| cell.n_failed() > 0).collect();
    let missing: usize = grid.cells.iter().map(GridCell::n_missing).sum();
    html! {
        @if !warnings.is_empty() || !failed.is_empty() || missing > 0 {
            div.banners {
                @if page.table.smoke {
                    div.banner.smoke role="note" {
                        strong { "Smoke run." }
                        " Shrunk until it takes seconds: it shows that everything works, and answers no question."
                    }
                }
                @for warning in warnings {
                    @if !(page.table.smoke && warning.starts_with("a smoke run")) {
                        div.banner.warning role="note" { strong { "Warning." } " " (sentence(warning)) }
                    }
                }
                @if !failed.is_empty() {
                    div.banner.failure role="note" {
                        strong { "Failed." } " "
                        @for (place, cell) in failed.iter().take(FAILURES_SHOWN).enumerate() {
                            @if place > 0 { "; " }
                            a href=(format!("#cell-{}", cell.index)) { (cell.name()) }
                            " (" (cell.n_failed()) " of " (cell.results.len()) ")"
                        }
                        @if failed.len() > FAILURES_SHOWN { " and " (failed.len() - FAILURES_SHOWN) " more cells" }
                        "."
                    }
                }
                @if missing > 0 {
                    div.banner.missing role="note" {
                        strong { "Not computed yet." } " " (missing) " of "
                        (grid.cells.iter().map(|cell| cell.results.len()).sum::<usize>()) " results are missing."
                    }
                }
            }
        }
    }
}

/// The table's warnings begin with a verb, `mixes cpu and cuda results`; others are sentences without a stop.
fn sentence(warning: &str) -> String {
    if warning.starts_with("mixes") { format!("The table {warning}.") } else { format!("{warning}.") }
}

/// The table of every cell, a line each.
pub fn results(page: &Page, grid: &Grid) -> Markup {
    let table = page.table;
    let has_baseline = grid.baseline.is_some() && grid.cells.len() > 1;
    html! {
        section #results aria-labelledby="results-title" {
            h2 #results-title { "Results" }
            div.tools.script-only {
                label {
                    span { "Filter" }
                    input #filter type="search" autocomplete="off" placeholder="part of a label or number"
                        aria-controls="cells-table";
                }
                output #filter-count for="filter" aria-live="polite" {}
            }
            div.scroll tabindex="0" role="region" aria-labelledby="results-title" {
                table #cells-table {
                    caption { (grid.quantity.name) ", a line a cell" }
                    thead {
                        tr {
                            @for axis in table.axes() { (heading(axis, "text", false)) }
                            (heading("mean", "number", true))
                            (heading("95 % interval", "number", true))
                            (heading("std", "number", true))
                            (heading("n", "number", true))
                            @if let Some(best) = &table.best {
                                (heading(if best.is_optimistic { "best epoch (optimistic)" } else { "best epoch" }, "number", true))
                                (heading("reached at", "text", false))
                            }
                            @if has_baseline {
                                (heading("less baseline", "number", true))
                                (heading("its 95 % interval", "number", true))
                                (heading("p", "number", true))
                            }
                            (heading("remark", "text", false))
                        }
                    }
                    tbody {
                        @for (place, cell) in grid.cells.iter().enumerate() { (line(grid, place, cell, has_baseline)) }
                    }
                }
            }
            ul.notes {
                @for note in &table.notes { li { (note) } }
                @if has_baseline { li { (p_note(page, grid)) } }
            }
        }
    }
}

fn heading(name: &str, kind: &str, is_number: bool) -> Markup {
    html! {
        th scope="col" aria-sort="none" class=(if is_number { "number" } else { "label" }) data-kind=(kind) {
            button type="button" { (name) span.arrow aria-hidden="true" {} }
        }
    }
}

fn line(grid: &Grid, place: usize, cell: &GridCell, has_baseline: bool) -> Markup {
    let is_baseline = grid.baseline == Some(place);
    let number = |value: Option<f64>| value.map(|value| grid.quantity.text(value));
    let summary = cell.summary;
    let remarks: Vec<String> =
        (is_baseline && has_baseline).then(|| "baseline".to_owned()).into_iter().chain(cell.remark()).collect();
    html! {
        tr.baseline[is_baseline && has_baseline] {
            @if cell.labels.is_empty() {}
            @for (axis, label) in cell.labels.iter().enumerate() {
                @if axis == 0 {
                    th.label scope="row" data-order=(cell.index) {
                        span class={ "key " (color(cell.row)) } aria-hidden="true" {}
                        a href=(format!("#cell-{}", cell.index)) { (label) }
                    }
                } @else { td.label data-order=(cell.index) { (label) } }
            }
            (value(summary.map(|summary| summary.mean), number(summary.map(|summary| summary.mean))))
            (interval(grid, summary.and_then(|summary| summary.interval)))
            (value(summary.and_then(|summary| summary.std), number(summary.and_then(|summary| summary.std))))
            (value(Some(cell.values().count() as f64), Some(cell.values().count().to_string())))
            @if let Some(best) = &cell.best {
                @let mean = best.summary.map(|summary| summary.mean);
                (value(mean, number(mean)))
                td.label { (epochs_words(best).unwrap_or_default()) }
            }
            @if has_baseline { (against(grid, cell.difference.as_ref())) }
            td.label {
                @for remark in remarks {
                    span.pill.failed[remark.contains("failed")].missing[remark.contains("missing")] { (remark) } " "
                }
            }
        }
    }
}

fn against(grid: &Grid, difference: Option<&Difference>) -> Markup {
    let signed_text = |value: f64| {
        let text = grid.quantity.text(value);
        // A zero has no sign, one that is only shown as zero neither.
        if value > 0.0 && text.contains(|c: char| matches!(c, '1'..='9')) { format!("+{text}") } else { text }
    };
    let p = difference.and_then(|difference| difference.adjusted_p.or(difference.sign_flip_p));
    html! {
        (value(difference.map(|difference| difference.mean), difference.map(|difference| signed_text(difference.mean))))
        (interval(grid, difference.and_then(|difference| difference.interval)))
        (value(p, p.map(p_text)))
    }
}

/// Three digits, never a bare zero.
fn p_text(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

fn value(order: Option<f64>, text: Option<String>) -> Markup {
    html! {
        td.number data-order=[order.filter(|order| order.is_finite())] {
            @if let Some(text) = text { (text) } @else { span.absent { "–" } }
        }
    }
}

/// Ordered by its width: the surest first.
fn interval(grid: &Grid, interval: Option<Interval>) -> Markup {
    let text =
        |interval: Interval| format!("{} to {}", grid.quantity.text(interval.low), grid.quantity.text(interval.high));
    value(interval.map(|interval| interval.high - interval.low), interval.map(text))
}

fn p_note(page: &Page, grid: &Grid) -> String {
    let differences = grid.cells.iter().filter_map(|cell| cell.difference.as_ref());
    let smallest = differences.map(|difference| difference.smallest_p).fold(f64::INFINITY, f64::min);
    let reach = if smallest.is_finite() {
        format!("; before that, these seeds can reach {} at best", p_text(smallest))
    } else {
        String::new()
    };
    format!(
        "differences are taken seed by seed; intervals: {}; p: two-sided sign flips of the differences, corrected for \
         {} (Holm){reach}",
        page.table.interval.words(),
        counted(page.table.n_comparisons),
    )
}

fn counted(n_comparisons: usize) -> String {
    if n_comparisons == 1 { "1 comparison".to_owned() } else { format!("{n_comparisons} comparisons") }
}
