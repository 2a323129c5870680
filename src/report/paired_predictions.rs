//! Cells and the baseline image by image: which test images only one of two encoders of the same seed told right.
//!
//! A record of an evaluation keeps every prediction, but labels of the first test images only (its blob `features`), so the
//! test speaks of those.

use crate::content::Key;
use crate::experiment::Experiment;
use crate::record::blob;
use crate::report::row::{Row, Status};
use crate::report::statistics::correction::holm;
use crate::report::statistics::predictions::{McNemar, mcnemar};
use crate::report::table::{AblationTable, TableCell};
use crate::store::{Entry, Peek, Store, StoreError};

/// One cell and seed against the baseline of the same seed.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedPredictions {
    /// The cell's labels, as in the table.
    pub labels: Vec<String>,
    pub seed: u64,
    /// The cell is the first of the two and the baseline the second; else why they cannot be compared.
    pub outcome: Result<McNemar, String>,
    /// The outcome's p corrected for all of them.
    pub adjusted_p: Option<f64>,
    /// Test images with a prediction; labels are kept of no more.
    pub n_predictions: usize,
}

/// What one evaluation left behind.
struct Predicted {
    predictions: Vec<u16>,
    labels: Vec<u32>,
}

/// Every cell of the table that has a result, and is not the baseline, by its seeds; none where the metric is the training's
/// own, which predicts nothing. `rows` are those the table is of.
///
/// # Errors
/// The store's.
pub fn of(
    store: &Store,
    experiment: &Experiment,
    rows: &[Row],
    table: &AblationTable,
) -> Result<Vec<PairedPredictions>, StoreError> {
    let is_asked = |row: &&Row| row.is_of(&table.metric) && row.evaluation_key != row.pretrain_key;
    let rows: Vec<&Row> = rows.iter().filter(is_asked).filter(|row| row.status == Status::Done).collect();
    let Some(baseline) = table.baseline() else { return Ok(Vec::new()) };
    let find = |cell: &TableCell, seed: u64| rows.iter().find(|row| row.cell == cell.index && row.seed == seed);
    let mut found = Vec::new();
    for seed in &table.seeds {
        let Some(of_baseline) = find(baseline, *seed) else { continue };
        let second = predicted(store, &of_baseline.evaluation_key)?;
        for cell in table.cells().filter(|cell| !cell.is_baseline) {
            let Some(row) = find(cell, *seed) else { continue };
            let first = predicted(store, &row.evaluation_key)?;
            let n_predictions = first.as_ref().map_or(0, |first| first.predictions.len());
            let outcome = if shares_images(experiment, cell.index, baseline.index) {
                first.and_then(|first| compared(&first, second.as_ref().map_err(Clone::clone)?))
            } else {
                Err("other test images than the baseline's".to_owned())
            };
            let (labels, seed) = (cell.labels.clone(), *seed);
            found.push(PairedPredictions { labels, seed, outcome, adjusted_p: None, n_predictions });
        }
    }
    let p_values: Vec<Option<f64>> = found.iter().map(|pair| pair.outcome.as_ref().ok().map(|test| test.p)).collect();
    found.iter_mut().zip(holm(&p_values)).for_each(|(pair, adjusted_p)| pair.adjusted_p = adjusted_p);
    Ok(found)
}

/// Whether two cells were asked about the same test images: one data set, by its digest, and one split.
fn shares_images(experiment: &Experiment, a: u32, b: u32) -> bool {
    let of = |cell: u32| experiment.cells[cell as usize].runs.first().map(|run| (run.facts.digest, run.split));
    of(a) == of(b)
}

fn compared(first: &Predicted, second: &Predicted) -> Result<McNemar, String> {
    if first.labels != second.labels {
        return Err("other labels than the baseline's".to_owned());
    }
    mcnemar(&first.predictions, &second.predictions, &first.labels).map_err(|error| error.to_string())
}

/// The predictions of an evaluation and the labels that are kept; else what is not there.
fn predicted(store: &Store, key: &Key) -> Result<Result<Predicted, String>, StoreError> {
    let entry = match store.peek(key)? {
        Peek::Hit(entry) => entry,
        Peek::Absent => return Ok(Err("its record went away".to_owned())),
        Peek::Damaged(problem) => return Ok(Err(problem)),
    };
    let (predictions, features) = match (read(store, &entry, blob::PREDICTIONS)?, read(store, &entry, blob::FEATURES)?)
    {
        (Ok(predictions), Ok(features)) => (predictions, features),
        (Err(problem), _) | (_, Err(problem)) => return Ok(Err(problem)),
    };
    let predictions = predictions.chunks_exact(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]])).collect();
    Ok(labels(&features).map(|labels| Predicted { predictions, labels }))
}

fn read(store: &Store, entry: &Entry, name: &str) -> Result<Result<Vec<u8>, String>, StoreError> {
    match entry.blobs.get(name) {
        None => Ok(Err(format!("its record has no `{name}`"))),
        Some(_) if entry.dropped.contains_key(name) => Ok(Err(format!("`gc` dropped its `{name}`"))),
        Some(blob) => store.read_blob(blob).map(Ok),
    }
}

/// The tensor `labels` of the kept features.
fn labels(features: &[u8]) -> Result<Vec<u32>, String> {
    let broken = |problem: String| format!("its `{}` cannot be read: {problem}", blob::FEATURES);
    let tensors = safetensors::SafeTensors::deserialize(features).map_err(|error| broken(error.to_string()))?;
    let labels = tensors.tensor("labels").map_err(|error| broken(error.to_string()))?;
    if labels.dtype() != safetensors::Dtype::U32 {
        return Err(broken(format!("labels are {:?}, expected U32", labels.dtype())));
    }
    let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    Ok(labels.data().chunks_exact(4).map(word).collect())
}

#[cfg(test)]
mod tests;
