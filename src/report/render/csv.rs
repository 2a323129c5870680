//! Raw numbers, one line a cell: `axis.<path>`..., then metric, unit, statistics, counts, and the difference from the
//! baseline. New columns are added at the end.

use crate::report::table::{AblationTable, BestMetric, SeedResult, TableCell};

const COLUMNS: [&str; 23] = [
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
    "interval_method",
    "is_baseline",
    "n_pairs",
    "difference_mean",
    "difference_std",
    "difference_interval95_low",
    "difference_interval95_high",
    "sign_flip_p",
    "smallest_p",
    "adjusted_p",
];

/// Of the best encoders, where snapshots were evaluated; epochs one a seed, parted by blanks.
const BEST_COLUMNS: [&str; 7] =
    ["best_metric", "best_mean", "best_std", "best_interval95_low", "best_interval95_high", "best_n", "best_epochs"];

pub fn render(table: &AblationTable) -> String {
    let fixed = || table.fixed.iter();
    let axes = table.axes().chain(fixed().map(|fixed| fixed.path.as_str())).map(|path| format!("axis.{path}"));
    let best = table.best.iter().flat_map(|_| BEST_COLUMNS);
    let mut text = line(axes.chain(COLUMNS.into_iter().chain(best).map(str::to_owned)));
    for cell in table.cells() {
        let labels = cell.labels.iter().chain(fixed().map(|fixed| &fixed.label)).cloned();
        let best = table.best.iter().flat_map(|best| best_fields(best, cell));
        text.push_str(&line(labels.chain(fields(table, cell)).chain(difference_fields(table, cell)).chain(best)));
    }
    text
}

fn number(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{value:?}"))
}

fn fields(table: &AblationTable, cell: &TableCell) -> [String; 13] {
    let summary = cell.summary;
    let interval = summary.and_then(|summary| summary.interval);
    [
        table.metric.clone(),
        table.unit.name().to_owned(),
        number(summary.map(|summary| summary.mean)),
        number(summary.and_then(|summary| summary.std)),
        number(interval.map(|interval| interval.low)),
        number(interval.map(|interval| interval.high)),
        number(summary.map(|summary| summary.min)),
        number(summary.map(|summary| summary.max)),
        cell.n_done().to_string(),
        cell.results.len().to_string(),
        cell.n_missing().to_string(),
        cell.n_failed().to_string(),
        table.smoke.to_string(),
    ]
}

fn difference_fields(table: &AblationTable, cell: &TableCell) -> [String; 10] {
    let difference = cell.difference;
    let interval = difference.and_then(|difference| difference.interval);
    [
        table.interval.name().to_owned(),
        cell.is_baseline.to_string(),
        difference.map_or(String::new(), |difference| difference.n_pairs.to_string()),
        number(difference.map(|difference| difference.mean)),
        number(difference.and_then(|difference| difference.std)),
        number(interval.map(|interval| interval.low)),
        number(interval.map(|interval| interval.high)),
        number(difference.and_then(|difference| difference.sign_flip_p)),
        number(difference.map(|difference| difference.smallest_p)),
        number(difference.and_then(|difference| difference.adjusted_p)),
    ]
}

fn best_fields(metric: &BestMetric, cell: &TableCell) -> [String; 7] {
    let best = cell.best.as_ref();
    let summary = best.and_then(|best| best.summary);
    let interval = summary.and_then(|summary| summary.interval);
    let n = best.map(|best| best.results.iter().filter_map(SeedResult::value).count());
    let epochs = best.map(|best| best.epochs.iter().map(|epoch| number(*epoch)).collect::<Vec<_>>().join(" "));
    [
        metric.name.clone(),
        number(summary.map(|summary| summary.mean)),
        number(summary.and_then(|summary| summary.std)),
        number(interval.map(|interval| interval.low)),
        number(interval.map(|interval| interval.high)),
        n.map_or(String::new(), |n| n.to_string()),
        epochs.unwrap_or_default(),
    ]
}

fn line(fields: impl Iterator<Item = String>) -> String {
    fields.map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

fn quoted(field: String) -> String {
    if field.contains([',', '"', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}
