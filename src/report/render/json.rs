//! The table as data, with the values of every seed.

use serde_json::{Map, Value, json};

use crate::report::table::{AblationTable, SeedResult, TableCell};

/// Changes with the form.
const SCHEMA: &str = "ablate.table/1";

pub fn render(table: &AblationTable) -> Value {
    json!({
        "schema": SCHEMA,
        "experiment": table.experiment,
        "question": table.question,
        "metric": table.metric,
        "unit": table.unit.name(),
        "smoke": table.smoke,
        "seeds": table.seeds,
        "rows": table.row_axes,
        "columns": table.column_axes,
        "cells": table.cells().map(|cell| cell_value(table, cell)).collect::<Vec<_>>(),
        "notes": table.notes,
        "warnings": table.warnings,
    })
}

fn cell_value(table: &AblationTable, cell: &TableCell) -> Value {
    let labels: Map<String, Value> =
        table.axes().zip(&cell.labels).map(|(path, label)| (path.to_owned(), json!(label))).collect();
    let values: Vec<Option<f64>> = cell.results.iter().map(value).collect();
    let failures: Map<String, Value> = table.seeds.iter().zip(&cell.results).filter_map(failure).collect();
    json!({
        "labels": labels,
        "mean": cell.summary.map(|summary| summary.mean),
        "std": cell.summary.and_then(|summary| summary.std),
        "interval95": cell.summary.and_then(|summary| summary.interval95),
        "min": cell.summary.map(|summary| summary.min),
        "max": cell.summary.map(|summary| summary.max),
        "n": cell.n_done(),
        "n_missing": cell.n_missing(),
        "n_failed": cell.n_failed(),
        "values": values,
        "failures": failures,
    })
}

fn value(result: &SeedResult) -> Option<f64> {
    match result {
        SeedResult::Done(value) => Some(*value),
        SeedResult::Missing | SeedResult::Failed(_) => None,
    }
}

fn failure((seed, result): (&u64, &SeedResult)) -> Option<(String, Value)> {
    match result {
        SeedResult::Failed(message) => Some((seed.to_string(), json!(message))),
        SeedResult::Done(_) | SeedResult::Missing => None,
    }
}
