//! An ablation table, written: for a terminal, Markdown, LaTeX, and as data.

mod csv;
mod json;
mod latex;
mod markdown;
pub mod text;

use crate::report::table::{AblationTable, TableCell, Unit};

/// The forms of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a terminal of 80 columns: wide tables are cut into blocks of columns.
    Text,
    /// A GitHub table.
    Markdown,
    /// A `tabular` for the `booktabs` package, in UTF-8.
    Latex,
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
            Format::Csv => csv::render(self),
        }
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
    std: Option<String>,
    /// In brackets behind the numbers; absent when every seed is there.
    remark: Option<String>,
}

const NO_VALUE: &str = "–";

fn cell_words(unit: &Unit, cell: &TableCell) -> CellWords {
    let (n, failed, done) = (cell.results.len(), cell.n_failed(), cell.n_done());
    let remark = match (cell.n_missing(), failed) {
        (0, 0) => None,
        (_, 0) => Some(format!("{done} of {n}")),
        (0, _) => Some(format!("failed {failed}/{n}")),
        (_, _) => Some(format!("{done} of {n}, failed {failed}/{n}")),
    };
    let mean = cell.summary.map_or(NO_VALUE.to_owned(), |summary| number(unit, summary.mean));
    let std = cell.summary.and_then(|summary| summary.std).map(|std| number(unit, std));
    CellWords { mean, std, remark }
}

/// Percent with one decimal for fractions, else three decimals.
fn number(unit: &Unit, value: f64) -> String {
    match unit {
        Unit::Fraction => format!("{:.1}", 100.0 * value),
        Unit::Nats | Unit::Other(_) | Unit::Unknown => format!("{value:.3}"),
    }
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

/// Notes and warnings, in the order they are shown.
fn footnotes(table: &AblationTable) -> impl Iterator<Item = String> {
    let warnings = table.warnings.iter().map(|warning| format!("warning: {warning}"));
    table.notes.iter().cloned().chain(warnings)
}

#[cfg(test)]
mod tests;
