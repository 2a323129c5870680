//! Raw numbers, one line a cell: `axis.<path>`..., then metric, unit, statistics and counts.

use crate::report::table::{AblationTable, TableCell};

const COLUMNS: [&str; 13] = [
    "metric",
    "unit",
    "mean",
    "std",
    "interval95_low",
    "interval95_high",
    "min",
    "max",
    "n",
    "n_seeds",
    "n_missing",
    "n_failed",
    "smoke",
];

pub fn render(table: &AblationTable) -> String {
    let axes = table.axes().map(|path| format!("axis.{path}"));
    let mut text = line(axes.chain(COLUMNS.map(str::to_owned)));
    for cell in table.cells() {
        text.push_str(&line(cell.labels.iter().cloned().chain(fields(table, cell))));
    }
    text
}

fn fields(table: &AblationTable, cell: &TableCell) -> [String; COLUMNS.len()] {
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:?}"));
    let summary = cell.summary;
    let interval = summary.and_then(|summary| summary.interval95);
    [
        table.metric.clone(),
        table.unit.name().to_owned(),
        number(summary.map(|summary| summary.mean)),
        number(summary.and_then(|summary| summary.std)),
        number(interval.map(|(low, _)| low)),
        number(interval.map(|(_, high)| high)),
        number(summary.map(|summary| summary.min)),
        number(summary.map(|summary| summary.max)),
        cell.n_done().to_string(),
        cell.results.len().to_string(),
        cell.n_missing().to_string(),
        cell.n_failed().to_string(),
        table.smoke.to_string(),
    ]
}

fn line(fields: impl Iterator<Item = String>) -> String {
    fields.map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

fn quoted(field: String) -> String {
    if field.contains([',', '"', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}
