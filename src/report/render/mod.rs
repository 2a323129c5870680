//! An ablation table, written: for a terminal, Markdown, LaTeX, Typst, and as data.

mod csv;
mod differences;
mod grid;
mod json;
mod latex;
mod markdown;
mod predictions;
pub mod text;
mod typst;

use crate::report::paired_predictions::PairedPredictions;
use crate::report::statistics::Summary;
use crate::report::table::{AblationTable, BestEncoder, SeedResult, TableCell, Unit};
use crate::report::verdict::number;
use crate::report::view::Spread;

/// The forms of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a terminal of 80 columns: wide tables are cut into blocks of columns.
    Text,
    /// A GitHub table.
    Markdown,
    /// A `tabular` for the `booktabs` package, in UTF-8. Letters that are neither Latin nor Greek need LuaLaTeX and a font.
    Latex,
    /// A `table` of Typst's own.
    Typst,
    /// Raw numbers in the unit of the record, one line a cell (RFC 4180, line feeds).
    Csv,
}

impl AblationTable {
    /// The table as text that ends in a line feed.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Text => text::render(self),
            Format::Markdown => markdown::render(self),
            Format::Latex => latex::render(self),
            Format::Typst => typst::render(self),
            Format::Csv => csv::render(self),
        }
    }

    /// Every cell's difference from the baseline, with its interval and p, as a table below the table. Absent where there is
    /// nothing to compare, and as CSV, whose lines have it already.
    pub fn render_differences(&self, format: Format) -> Option<String> {
        differences::of(self)?.render(format)
    }

    /// What `paired_predictions` found, as a table below the table. Absent without a pair, and as CSV.
    pub fn render_predictions(&self, pairs: &[PairedPredictions], format: Format) -> Option<String> {
        predictions::of(self, pairs)?.render(format)
    }

    /// What `paired_predictions` found, an object a pair.
    pub fn predictions_to_json(&self, pairs: &[PairedPredictions]) -> serde_json::Value {
        predictions::as_json(self, pairs)
    }

    /// Every number the table rests on, the values of each seed included. Numbers that are not finite are null.
    pub fn to_json(&self) -> serde_json::Value {
        json::render(self)
    }
}

/// A column of numbers, as every form writes it.
struct Column {
    header: String,
    /// One a row; absent where the grid has no such point.
    cells: Vec<Option<CellWords>>,
}

/// The table's columns, and behind each the one of the best encoders, where there are any.
fn columns(table: &AblationTable) -> Vec<Column> {
    let column = |index: usize, header: String, words: &dyn Fn(&TableCell) -> CellWords| Column {
        header,
        cells: table.cells.iter().map(|row| row[index].as_ref().map(words)).collect(),
    };
    let of_index = |(index, labels): (usize, &Vec<String>)| {
        let best = table.best.as_ref().map(|best| {
            let how = if best.is_optimistic { " (optimistic)" } else { "" };
            let what = if labels.is_empty() { &table.metric } else { &labels.join(", ") };
            column(index, format!("{what}, best epoch{how}"), &|cell| best_words(table, cell))
        });
        let last = column(index, column_header(table, labels), &|cell| cell_words(table, cell));
        std::iter::once(last).chain(best)
    };
    table.column_labels.iter().enumerate().flat_map(of_index).collect()
}

/// Seeds whose best epochs are listed; of more, the earliest and the latest are told.
const EPOCHS_LISTED: usize = 4;

/// `epochs 40, 60, 60`, or `epochs 40–90`; absent without any.
pub fn epochs_words(best: &BestEncoder) -> Option<String> {
    let epochs: Vec<f64> = best.epochs.iter().copied().flatten().collect();
    let text = |epoch: &f64| format!("{}", (epoch * 100.0).round() / 100.0);
    let (first, last) = (epochs.iter().min_by(|a, b| a.total_cmp(b))?, epochs.iter().max_by(|a, b| a.total_cmp(b))?);
    let noun = if epochs.len() == 1 { "epoch" } else { "epochs" };
    let listed = if epochs.len() <= EPOCHS_LISTED {
        epochs.iter().map(text).collect::<Vec<_>>().join(", ")
    } else {
        format!("{}–{}", text(first), text(last))
    };
    Some(format!("{noun} {listed}"))
}

/// A cell's best encoders in words, the epochs in brackets.
fn best_words(table: &AblationTable, cell: &TableCell) -> CellWords {
    let Some(best) = &cell.best else { return CellWords { mean: NO_VALUE.to_owned(), spread: None, remark: None } };
    let words = result_words(table, &best.results, best.summary);
    let remark = words.remark.into_iter().chain(epochs_words(best)).collect::<Vec<_>>().join("; ");
    CellWords { remark: Some(remark).filter(|remark| !remark.is_empty()), ..words }
}

/// A cell in words: `61.2`, `± 0.8` and `2 of 3` are laid out by each form.
struct CellWords {
    /// `–` without a value.
    mean: String,
    spread: Option<SpreadWords>,
    /// In brackets behind the numbers; absent when every seed is there.
    remark: Option<String>,
}

/// What stands behind a mean.
enum SpreadWords {
    /// `0.8` of `± 0.8`.
    Deviation(String),
    /// Both ends of `[60.4, 62.0]`.
    Interval(String, String),
}

const NO_VALUE: &str = "–";

fn cell_words(table: &AblationTable, cell: &TableCell) -> CellWords {
    result_words(table, &cell.results, cell.summary)
}

fn result_words(table: &AblationTable, results: &[SeedResult], summary: Option<Summary>) -> CellWords {
    let count = |is_it: fn(&SeedResult) -> bool| results.iter().filter(|result| is_it(result)).count();
    let failed = count(|result| matches!(result, SeedResult::Failed(_)));
    let missing = count(|result| matches!(result, SeedResult::Missing));
    let (n, done) = (results.len(), results.len() - failed - missing);
    let remark = match (missing, failed) {
        (0, 0) => None,
        (_, 0) => Some(format!("{done} of {n}")),
        (0, _) => Some(format!("failed {failed}/{n}")),
        (_, _) => Some(format!("{done} of {n}, failed {failed}/{n}")),
    };
    let number = |value: f64| number(&table.unit, value);
    let mean = summary.map_or(NO_VALUE.to_owned(), |summary| number(summary.mean));
    let spread = summary.and_then(|summary| match table.spread {
        Spread::Deviation => summary.std.map(|std| SpreadWords::Deviation(number(std))),
        Spread::Interval => {
            summary.interval.map(|interval| SpreadWords::Interval(number(interval.low), number(interval.high)))
        }
    });
    CellWords { mean, spread, remark }
}

/// `knn.top1 in %`.
fn title(table: &AblationTable) -> String {
    let unit = match &table.unit {
        Unit::Fraction => "%",
        Unit::Nats => "nats",
        Unit::Other(name) if name == "1" => "",
        Unit::Other(name) => name,
        Unit::Unknown => "",
    };
    if unit.is_empty() { table.metric.clone() } else { format!("{} in {unit}", table.metric) }
}

/// What the numbers are and which axes span the columns; the columns' headers say it where no axis does.
fn subtitle(table: &AblationTable) -> Option<String> {
    (!table.column_axes.is_empty()).then(|| format!("{}; columns: {}", title(table), table.column_axes.join(", ")))
}

/// The header of a column of numbers: its labels, or the metric where no axis spans the columns.
fn column_header(table: &AblationTable, labels: &[String]) -> String {
    if labels.is_empty() { title(table) } else { labels.join(", ") }
}

/// The verdict as one paragraph.
fn verdict(table: &AblationTable) -> Option<String> {
    Some(table.verdict.join(" ")).filter(|verdict| !verdict.is_empty())
}

/// Notes and warnings, in the order they are shown below the verdict.
fn footnotes(table: &AblationTable) -> impl Iterator<Item = String> {
    let warnings = table.warnings.iter().map(|warning| format!("warning: {warning}"));
    table.notes.iter().cloned().chain(warnings)
}

#[cfg(test)]
mod tests;
