//! What training measures, step by step, and its Parquet form.
//!
//! | column | type | unit | |
//! |---|---|---|---|
//! | `step` | u64 | | counted from 0 |
//! | `epoch` | u32 | | counted from 0 |
//! | `loss` | f64 | nats | of the step's batch; a margin triplet's is a similarity |
//! | `learning_rate` | f64 | | what the step's update used |
//! | `gradient_norm` `parameter_norm` `update_norm` | f64, null | | Euclidean, over all parameters |
//! | `alignment` | f64, null | | mean squared distance of positive pairs |
//! | `uniformity` | f64, null | nats | log of the mean Gaussian potential |
//! | `contrastive_top1` | f64, null | fraction | positives that are nearest of all 2N − 1 |
//! | `train_top1` | f64, null | fraction | views whose label has the highest logit |
//!
//! The six before the last stand in a row together or not at all. Of a loss of labels the embeddings are the logits; the last
//! column is there for such a loss alone, whose table is of version 2 for it. Nothing that differs from one computation of a run to the next is
//! in here, so equal runs have equal bytes.

use polars::prelude::Column;

pub mod parquet;

use crate::history::parquet::{ParquetError, required};

/// The table's name and version; a change of columns is a new version.
const SCHEMA: &str = "ablate.history/1";
/// With [`TRAIN_TOP1`].
const SCHEMA_OF_LABELS: &str = "ablate.history/2";
const TRAIN_TOP1: &str = "train_top1";

/// One entry a step, in the order of the steps.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    pub steps: Vec<StepMetrics>,
}

/// One step of training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepMetrics {
    /// Counted from 0.
    pub step: u64,
    /// Counted from 0.
    pub epoch: u32,
    /// Of the step's batch, in nats; a margin triplet's is a similarity.
    pub loss: f64,
    pub learning_rate: f64,
    /// Measured every so many steps.
    pub detail: Option<Detail>,
}

/// What costs more to measure than a step's loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detail {
    /// Euclidean norms over all parameters; the update is the parameters' change in the step.
    pub gradient_norm: f64,
    pub parameter_norm: f64,
    pub update_norm: f64,
    /// Mean squared distance of the two normalised embeddings of an image (Wang and Isola 2020, α = 2).
    pub alignment: f64,
    /// Logarithm of the mean of exp(−2·d²) over pairs of embeddings (Wang and Isola 2020, t = 2), in nats.
    pub uniformity: f64,
    /// Share of views whose nearest of the other 2N − 1 is their partner.
    pub contrastive_top1: f64,
    /// Share of views whose label has the highest logit, by the very logits of the step's loss: before its update. Of a loss of
    /// labels alone.
    pub train_top1: Option<f64>,
}

/// The columns of every [`Detail`], in the file's order.
const DETAIL_COLUMNS: [&str; 6] =
    ["gradient_norm", "parameter_norm", "update_norm", "alignment", "uniformity", "contrastive_top1"];

impl Detail {
    fn to_values(self) -> [f64; 6] {
        let Detail {
            gradient_norm,
            parameter_norm,
            update_norm,
            alignment,
            uniformity,
            contrastive_top1,
            train_top1: _,
        } = self;
        [gradient_norm, parameter_norm, update_norm, alignment, uniformity, contrastive_top1]
    }

    fn from_values(values: [f64; 6], train_top1: Option<f64>) -> Detail {
        let [gradient_norm, parameter_norm, update_norm, alignment, uniformity, contrastive_top1] = values;
        Detail { gradient_norm, parameter_norm, update_norm, alignment, uniformity, contrastive_top1, train_top1 }
    }
}

/// Why bytes are no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("the history of a training: {0}")]
    Parquet(#[from] ParquetError),
    #[error("the history of a training: row {row} has {found} of the {} detail columns; expected all or none", DETAIL_COLUMNS.len())]
    TornDetail { row: usize, found: usize },
    #[error(
        "the history of a training: row {row} has `{TRAIN_TOP1}` and none of the detail columns; expected them beside it"
    )]
    LoneAccuracy { row: usize },
}

impl History {
    /// Equal histories have equal bytes.
    ///
    /// # Errors
    /// When the encoder fails, which no history is known to cause.
    pub fn to_parquet(&self) -> Result<Vec<u8>, HistoryError> {
        let mut columns = columns(self.steps.iter());
        let is_of_labels = self.steps.iter().any(|step| step.detail.is_some_and(|detail| detail.train_top1.is_some()));
        if is_of_labels {
            return Ok(parquet::write(SCHEMA_OF_LABELS, columns)?);
        }
        columns.retain(|column| column.name() != TRAIN_TOP1);
        Ok(parquet::write(SCHEMA, columns)?)
    }

    /// # Errors
    /// On bytes that [`History::to_parquet`] did not write, whatever they are.
    pub fn from_parquet(bytes: &[u8]) -> Result<History, HistoryError> {
        let table = match parquet::read(SCHEMA, bytes) {
            Err(ParquetError::Schema { found, .. }) if found == SCHEMA_OF_LABELS => parquet::read(&found, bytes)?,
            table => table?,
        };
        let is_of_labels = table.names().iter().any(|name| name == TRAIN_TOP1);
        let step = required("step", table.u64s("step")?)?;
        let epoch = required("epoch", table.u32s("epoch")?)?;
        let loss = required("loss", table.f64s("loss")?)?;
        let learning_rate = required("learning_rate", table.f64s("learning_rate")?)?;
        let mut details = Vec::with_capacity(DETAIL_COLUMNS.len());
        for name in DETAIL_COLUMNS {
            details.push(table.f64s(name)?);
        }
        let train_top1 = if is_of_labels { table.f64s(TRAIN_TOP1)? } else { vec![None; table.n_rows()] };
        let mut steps = Vec::with_capacity(table.n_rows());
        for row in 0..table.n_rows() {
            let detail = detail_of_row(&details, train_top1[row], row)?;
            let (step, epoch, loss, learning_rate) = (step[row], epoch[row], loss[row], learning_rate[row]);
            steps.push(StepMetrics { step, epoch, loss, learning_rate, detail });
        }
        Ok(History { steps })
    }
}

/// The table above of any steps, those of several histories one behind another for one.
pub fn columns<'a>(steps: impl Iterator<Item = &'a StepMetrics> + Clone) -> Vec<Column> {
    let mut columns = vec![
        Column::new("step".into(), steps.clone().map(|step| step.step).collect::<Vec<u64>>()),
        Column::new("epoch".into(), steps.clone().map(|step| step.epoch).collect::<Vec<u32>>()),
        Column::new("loss".into(), steps.clone().map(|step| step.loss).collect::<Vec<f64>>()),
        Column::new("learning_rate".into(), steps.clone().map(|step| step.learning_rate).collect::<Vec<f64>>()),
    ];
    for (index, name) in DETAIL_COLUMNS.into_iter().enumerate() {
        let values = steps.clone().map(|step| step.detail.map(|detail| detail.to_values()[index]));
        columns.push(Column::new(name.into(), values.collect::<Vec<Option<f64>>>()));
    }
    let train_top1 = steps.map(|step| step.detail.and_then(|detail| detail.train_top1));
    columns.push(Column::new(TRAIN_TOP1.into(), train_top1.collect::<Vec<Option<f64>>>()));
    columns
}

fn detail_of_row(
    columns: &[Vec<Option<f64>>],
    train_top1: Option<f64>,
    row: usize,
) -> Result<Option<Detail>, HistoryError> {
    let present: Vec<f64> = columns.iter().filter_map(|column| column[row]).collect();
    match (<[f64; 6]>::try_from(present.as_slice()), present.len()) {
        (Ok(values), _) => Ok(Some(Detail::from_values(values, train_top1))),
        (Err(_), 0) if train_top1.is_some() => Err(HistoryError::LoneAccuracy { row }),
        (Err(_), 0) => Ok(None),
        (Err(_), found) => Err(HistoryError::TornDetail { row, found }),
    }
}

#[cfg(test)]
mod tests;
