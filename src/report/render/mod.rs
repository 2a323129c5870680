//! An ablation table, written: for a terminal, Markdown, LaTeX, Typst, and as data.

mod csv;
mod differences;
mod grid;
mod json;
mod latex;
mod markdown;
pub mod text;
mod typst;

use crate::report::table::{AblationTable, TableCell, Unit};
use crate::report::verdict::number;
use crate::report::view::Spread;

/// The forms of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a terminal of 80 columns: wide tables are cut into blocks of columns.
    Text,
    /// A GitHub table.
    Markdown,
    /// A `tabular` for the `booktabs` package, in UTF-8.
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

    /// Every number the table rests on, the values of each seed included. Numbers that are not finite are null.
    pub fn to_json(&self) -> serde_json::Value {
        json::render(self)
    }
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
    let (n, failed, done) = (cell.results.len(), cell.n_failed(), cell.n_done());
    let remark = match (cell.n_missing(), failed) {
        (0, 0) => None,
        (_, 0) => Some(format!("{done} of {n}")),
        (0, _) => Some(format!("failed {failed}/{n}")),
        (_, _) => Some(format!("{done} of {n}, failed {failed}/{n}")),
    };
    let number = |value: f64| number(&table.unit, value);
    let mean = cell.summary.map_or(NO_VALUE.to_owned(), |summary| number(summary.mean));
    let spread = cell.summary.and_then(|summary| match table.spread {
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

/// The verdict as one paragraph, notes and warnings, in the order they are shown.
fn footnotes(table: &AblationTable) -> impl Iterator<Item = String> {
    let verdict = Some(table.verdict.join(" ")).filter(|verdict| !verdict.is_empty());
    let warnings = table.warnings.iter().map(|warning| format!("warning: {warning}"));
    verdict.into_iter().chain(table.notes.iter().cloned()).chain(warnings)
}

#[cfg(test)]
mod tests;
