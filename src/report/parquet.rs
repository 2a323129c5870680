//! Rows as Parquet, for any other program: one file, schema `ablate.results/3` (in the footer's `ablate.schema`).
//!
//! | column | type | |
//! |---|---|---|
//! | `experiment` | text | the file's stem |
//! | `smoke` | boolean | shrunk by `--smoke`, no result |
//! | `cell` | u32 | index of the grid's point, the last axis fastest |
//! | `axis.<path>` | text | the cell's label; one column a swept axis, `axis.train.batch` |
//! | `seed` | u64 | |
//! | `evaluation` | text | `knn`, `linear`, `knn_2`, ...; `pretrain` |
//! | `protocol` | text, null | what the evaluation does, in one line |
//! | `metric` | text | `top1`, `top5`, `top1_best`, `loss_last_epoch`, ... |
//! | `encoder` | text | `final`, `snapshot`, `best` |
//! | `encoder_step` | u64, null | updates behind it |
//! | `encoder_epoch` | f64, null | passes over the training images behind it |
//! | `status` | text | `done`, `missing`, `failed` |
//! | `value` | f64, null | in `unit`; null unless done |
//! | `unit` | text, null | `fraction` (of 1), `nats`, `1` |
//! | `backend` | text | `cpu`, `cuda`, `reference` |
//! | `numerics` | text | `f32`, `bf16` |
//! | `pretrain_key` `evaluation_key` | text | 64 hexadecimal digits |
//! | `n_parameters` | u64, null | of backbone and head |
//! | `steps` | u64, null | steps trained |
//! | `train_s` | f64, null | wall-clock time of the training, seconds |
//! | `images_per_s` | f64, null | pairs of views a second over the training |
//! | `device` `code` `ablate_version` `host` | text, null | provenance |
//! | `started_unix_s` | u64, null | seconds since 1970-01-01 UTC |
//! | `message` | text, null | of a failure |
//!
//! Rows are sorted by experiment, cell, seed, evaluation, metric and the encoder's step, so the order they came in changes no byte.

use polars::prelude::{Column, NamedFrom, Series};

use crate::content::Key;
use crate::experiment::AxisInfo;
use crate::experiment::recipe::Backend;
use crate::history::parquet::{self, Table, required};
use crate::report::ReportError;
use crate::report::row::{EncoderKind, NUMERICS, Row, Status, numerics_name};

const SCHEMA: &str = "ablate.results/3";
const AXIS: &str = "axis.";

/// The rows as a Parquet file, `axes` those of their experiment.
///
/// # Errors
/// When a row has not one label an axis, or two axes have one path.
pub fn to_parquet(rows: &[Row], axes: &[AxisInfo]) -> Result<Vec<u8>, ReportError> {
    for row in rows {
        if row.labels.len() != axes.len() {
            let (expected, found) = (axes.len(), row.labels.len());
            return Err(ReportError::Labels { experiment: row.experiment.clone(), cell: row.cell, expected, found });
        }
    }
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by_key(|row| (&row.experiment, row.cell, row.seed, &row.evaluation, &row.metric, row.encoder_step));
    let mut columns = vec![
        texts("experiment", sorted.iter().map(|row| row.experiment.as_str())),
        column("smoke", sorted.iter().map(|row| row.smoke).collect::<Vec<bool>>()),
        column("cell", sorted.iter().map(|row| row.cell).collect::<Vec<u32>>()),
    ];
    for (index, axis) in axes.iter().enumerate() {
        columns.push(texts(&format!("{AXIS}{}", axis.path), sorted.iter().map(|row| row.labels[index].as_str())));
    }
    columns.extend(identity_columns(&sorted));
    columns.extend(cost_columns(&sorted));
    Ok(parquet::write(SCHEMA, columns)?)
}

fn identity_columns(rows: &[&Row]) -> Vec<Column> {
    vec![
        column("seed", rows.iter().map(|row| row.seed).collect::<Vec<u64>>()),
        texts("evaluation", rows.iter().map(|row| row.evaluation.as_str())),
        optional_texts("protocol", rows.iter().map(|row| row.protocol.as_deref())),
        texts("metric", rows.iter().map(|row| row.metric.as_str())),
        texts("encoder", rows.iter().map(|row| row.encoder.name())),
        column("encoder_step", rows.iter().map(|row| row.encoder_step).collect::<Vec<Option<u64>>>()),
        column("encoder_epoch", rows.iter().map(|row| row.encoder_epoch).collect::<Vec<Option<f64>>>()),
        texts("status", rows.iter().map(|row| row.status.name())),
        column("value", rows.iter().map(|row| row.value).collect::<Vec<Option<f64>>>()),
        optional_texts("unit", rows.iter().map(|row| row.unit.as_deref())),
        texts("backend", rows.iter().map(|row| row.backend.name())),
        texts("numerics", rows.iter().map(|row| numerics_name(row.numerics))),
        keys("pretrain_key", rows.iter().map(|row| row.pretrain_key)),
        keys("evaluation_key", rows.iter().map(|row| row.evaluation_key)),
    ]
}

fn cost_columns(rows: &[&Row]) -> Vec<Column> {
    vec![
        column("n_parameters", rows.iter().map(|row| row.n_parameters).collect::<Vec<Option<u64>>>()),
        column("steps", rows.iter().map(|row| row.steps).collect::<Vec<Option<u64>>>()),
        column("train_s", rows.iter().map(|row| row.train_s).collect::<Vec<Option<f64>>>()),
        column("images_per_s", rows.iter().map(|row| row.images_per_s).collect::<Vec<Option<f64>>>()),
        optional_texts("device", rows.iter().map(|row| row.device.as_deref())),
        optional_texts("code", rows.iter().map(|row| row.code.as_deref())),
        optional_texts("ablate_version", rows.iter().map(|row| row.ablate_version.as_deref())),
        optional_texts("host", rows.iter().map(|row| row.host.as_deref())),
        column("started_unix_s", rows.iter().map(|row| row.started_unix_s).collect::<Vec<Option<u64>>>()),
        optional_texts("message", rows.iter().map(|row| row.message.as_deref())),
    ]
}

fn column<T, Values: ?Sized>(name: &str, values: T) -> Column
where
    Series: NamedFrom<T, Values>,
{
    Column::from(Series::new(name.into(), values))
}

fn texts<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> Column {
    column(name, values.collect::<Vec<&str>>())
}

fn optional_texts<'a>(name: &str, values: impl Iterator<Item = Option<&'a str>>) -> Column {
    column(name, values.collect::<Vec<Option<&str>>>())
}

fn keys(name: &str, values: impl Iterator<Item = Key>) -> Column {
    column(name, values.map(|key| key.to_string()).collect::<Vec<String>>())
}

/// The rows of a file that [`to_parquet`] wrote, sorted, and the paths of its axes.
///
/// # Errors
/// On any other bytes.
pub fn from_parquet(bytes: &[u8]) -> Result<(Vec<Row>, Vec<String>), ReportError> {
    let table = parquet::read(SCHEMA, bytes)?;
    let names = table.names();
    let axes: Vec<String> = names.iter().filter_map(|name| name.strip_prefix(AXIS)).map(str::to_owned).collect();
    let mut labels = vec![Vec::new(); table.n_rows()];
    for axis in &axes {
        let column = required_texts(&table, &format!("{AXIS}{axis}"))?;
        labels.iter_mut().zip(column).for_each(|(labels, label)| labels.push(label));
    }
    let mut rows = base_rows(&table, labels)?;
    fill_costs(&table, &mut rows)?;
    Ok((rows, axes))
}

fn required_texts(table: &Table, name: &str) -> Result<Vec<String>, ReportError> {
    Ok(required(name, table.texts(name)?)?)
}

fn base_rows(table: &Table, labels: Vec<Vec<String>>) -> Result<Vec<Row>, ReportError> {
    let experiment = required_texts(table, "experiment")?;
    let smoke = required("smoke", table.booleans("smoke")?)?;
    let cell = required("cell", table.u32s("cell")?)?;
    let seed = required("seed", table.u64s("seed")?)?;
    let evaluation = required_texts(table, "evaluation")?;
    // Files of older programs have none.
    let has_protocol = table.names().iter().any(|name| name == "protocol");
    let protocol = if has_protocol { table.texts("protocol")? } else { vec![None; table.n_rows()] };
    let metric = required_texts(table, "metric")?;
    let encoder = named(table, "encoder", "final, snapshot or best", EncoderKind::ALL.map(|kind| (kind.name(), kind)))?;
    let encoder_step = table.u64s("encoder_step")?;
    let encoder_epoch = table.f64s("encoder_epoch")?;
    let status = named(table, "status", "done, missing or failed", Status::ALL.map(|status| (status.name(), status)))?;
    let value = table.f64s("value")?;
    let unit = table.texts("unit")?;
    let backend = named(table, "backend", "cpu, cuda or reference", Backend::ALL.map(|kind| (kind.name(), kind)))?;
    let numerics = named(table, "numerics", "f32 or bf16", NUMERICS.map(|kind| (numerics_name(kind), kind)))?;
    let pretrain_key = keys_of(table, "pretrain_key")?;
    let evaluation_key = keys_of(table, "evaluation_key")?;
    let row = |(index, labels): (usize, Vec<String>)| Row {
        experiment: experiment[index].clone(),
        smoke: smoke[index],
        cell: cell[index],
        labels,
        seed: seed[index],
        evaluation: evaluation[index].clone(),
        protocol: protocol[index].clone(),
        metric: metric[index].clone(),
        encoder: encoder[index],
        encoder_step: encoder_step[index],
        encoder_epoch: encoder_epoch[index],
        status: status[index],
        value: value[index],
        unit: unit[index].clone(),
        evaluation_key: evaluation_key[index],
        ..Row::blank(pretrain_key[index], backend[index], numerics[index])
    };
    Ok(labels.into_iter().enumerate().map(row).collect())
}

fn fill_costs(table: &Table, rows: &mut [Row]) -> Result<(), ReportError> {
    let n_parameters = table.u64s("n_parameters")?;
    let steps = table.u64s("steps")?;
    let train_s = table.f64s("train_s")?;
    let images_per_s = table.f64s("images_per_s")?;
    let device = table.texts("device")?;
    let code = table.texts("code")?;
    let ablate_version = table.texts("ablate_version")?;
    let host = table.texts("host")?;
    let started_unix_s = table.u64s("started_unix_s")?;
    let message = table.texts("message")?;
    for (index, row) in rows.iter_mut().enumerate() {
        row.n_parameters = n_parameters[index];
        row.steps = steps[index];
        row.train_s = train_s[index];
        row.images_per_s = images_per_s[index];
        row.device = device[index].clone();
        row.code = code[index].clone();
        row.ablate_version = ablate_version[index].clone();
        row.host = host[index].clone();
        row.started_unix_s = started_unix_s[index];
        row.message = message[index].clone();
    }
    Ok(())
}

/// The column's texts as the values they name.
fn named<T: Copy, const N: usize>(
    table: &Table,
    column: &'static str,
    expected: &'static str,
    names: [(&str, T); N],
) -> Result<Vec<T>, ReportError> {
    let value = |text: String| {
        let found = names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        found.ok_or(ReportError::Value { column, found: text, expected })
    };
    required_texts(table, column)?.into_iter().map(value).collect()
}

fn keys_of(table: &Table, column: &'static str) -> Result<Vec<Key>, ReportError> {
    let key = |text: String| {
        text.parse::<Key>().map_err(|_| ReportError::Value { column, found: text, expected: "64 hexadecimal digits" })
    };
    required_texts(table, column)?.into_iter().map(key).collect()
}

#[cfg(test)]
mod tests;
