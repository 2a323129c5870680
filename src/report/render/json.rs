//! The table as data, with the values of every seed.

use serde_json::{Map, Value, json};

use crate::experiment::AxisLabel;
use crate::report::statistics::correction;
use crate::report::statistics::paired::Difference;
use crate::report::table::{AblationTable, BestEncoder, BestMetric, SeedResult, TableCell};

/// Changes with the form.
const SCHEMA: &str = "ablate.table/2";

pub fn render(table: &AblationTable) -> Value {
    let mut value = json!({
        "schema": SCHEMA,
        "experiment": table.experiment,
        "question": table.question,
        "metric": table.metric,
        "unit": table.unit.name(),
        "smoke": table.smoke,
        "seeds": table.seeds,
        "rows": table.row_axes,
        "columns": table.column_axes,
        "fixed": table.fixed.iter().map(|AxisLabel { path, label }| (path.clone(), json!(label))).collect::<Map<_, _>>(),
        "interval_method": table.interval.name(),
        "n_comparisons": table.n_comparisons,
        "correction": correction::NAME,
        "cells": table.cells().map(|cell| cell_value(table, cell)).collect::<Vec<_>>(),
        "verdict": table.verdict,
        "notes": table.notes,
        "warnings": table.warnings,
    });
    if let (Some(best), Some(object)) = (&table.best, value.as_object_mut()) {
        let BestMetric { name, is_optimistic, note } = best;
        object.insert("best".to_owned(), json!({ "metric": name, "is_optimistic": is_optimistic, "note": note }));
    }
    value
}

fn cell_value(table: &AblationTable, cell: &TableCell) -> Value {
    let labels: Map<String, Value> =
        table.axes().zip(&cell.labels).map(|(path, label)| (path.to_owned(), json!(label))).collect();
    let values: Vec<Option<f64>> = cell.results.iter().map(SeedResult::value).collect();
    let failures: Map<String, Value> = table.seeds.iter().zip(&cell.results).filter_map(failure).collect();
    let mut value = json!({
        "labels": labels,
        "mean": cell.summary.map(|summary| summary.mean),
        "std": cell.summary.and_then(|summary| summary.std),
        "interval95": cell.summary.and_then(|summary| summary.interval).map(|interval| [interval.low, interval.high]),
        "min": cell.summary.map(|summary| summary.min),
        "max": cell.summary.map(|summary| summary.max),
        "n": cell.n_done(),
        "n_missing": cell.n_missing(),
        "n_failed": cell.n_failed(),
        "values": values,
        "failures": failures,
        "is_baseline": cell.is_baseline,
        "difference": cell.difference.as_ref().map(difference),
    });
    if let (Some(best), Some(object)) = (&cell.best, value.as_object_mut()) {
        object.insert("best".to_owned(), best_value(best));
    }
    value
}

fn best_value(best: &BestEncoder) -> Value {
    let BestEncoder { results, summary, epochs } = best;
    json!({
        "mean": summary.map(|summary| summary.mean),
        "std": summary.and_then(|summary| summary.std),
        "interval95": summary.and_then(|summary| summary.interval).map(|interval| [interval.low, interval.high]),
        "n": results.iter().filter_map(SeedResult::value).count(),
        "values": results.iter().map(SeedResult::value).collect::<Vec<_>>(),
        "epochs": epochs,
    })
}

fn difference(difference: &Difference) -> Value {
    let Difference { n_pairs, mean, std, interval, sign_flip_p, smallest_p, adjusted_p } = difference;
    json!({
        "n_pairs": n_pairs,
        "mean": mean,
        "std": std,
        "interval95": interval.map(|interval| [interval.low, interval.high]),
        "sign_flip_p": sign_flip_p,
        "smallest_p": smallest_p,
        "adjusted_p": adjusted_p,
    })
}

fn failure((seed, result): (&u64, &SeedResult)) -> Option<(String, Value)> {
    match result {
        SeedResult::Failed(message) => Some((seed.to_string(), json!(message))),
        SeedResult::Done(_) | SeedResult::Missing => None,
    }
}
