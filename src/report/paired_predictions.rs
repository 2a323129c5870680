//! Cells and the baseline image by image: which test images only one of two encoders of the same seed told right.

use crate::content::Key;
use crate::experiment::recipe::{Evaluation, Split};
use crate::experiment::{Experiment, evaluation_names};
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
}

/// What one evaluation left behind.
struct Predicted {
    predictions: Vec<u16>,
    labels: Vec<u16>,
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
            let outcome = if images(experiment, row) == images(experiment, of_baseline) {
                first.and_then(|first| compared(&first, second.as_ref().map_err(Clone::clone)?))
            } else {
                Err("other test images than the baseline's".to_owned())
            };
            let (labels, seed) = (cell.labels.clone(), *seed);
            found.push(PairedPredictions { labels, seed, outcome, adjusted_p: None });
        }
    }
    let p_values: Vec<Option<f64>> = found.iter().map(|pair| pair.outcome.as_ref().ok().map(|test| test.p)).collect();
    found.iter_mut().zip(holm(&p_values)).for_each(|(pair, adjusted_p)| pair.adjusted_p = adjusted_p);
    Ok(found)
}

/// The test images a row's evaluation asks about: which data set, by its digest, and which split of it.
fn images(experiment: &Experiment, row: &Row) -> Option<(Key, Split)> {
    let run = experiment.cells[row.cell as usize].runs.first()?;
    let place = evaluation_names(&run.evaluate).iter().position(|name| *name == row.evaluation)?;
    match &run.evaluate[place] {
        Evaluation::Transfer(transfer) => transfer.facts.map(|facts| (facts.digest, Split::Official)),
        Evaluation::Knn(_)
        | Evaluation::LinearProbe(_)
        | Evaluation::Health(_)
        | Evaluation::Robustness(_)
        | Evaluation::FineTune(_) => Some((run.facts.digest, run.split)),
    }
}

fn compared(first: &Predicted, second: &Predicted) -> Result<McNemar, String> {
    if first.labels != second.labels {
        return Err("other labels than the baseline's".to_owned());
    }
    mcnemar(&first.predictions, &second.predictions, &first.labels).map_err(|error| error.to_string())
}

/// What an evaluation predicted and what was to be predicted; else what is not there.
fn predicted(store: &Store, key: &Key) -> Result<Result<Predicted, String>, StoreError> {
    let entry = match store.peek(key)? {
        Peek::Hit(entry) => entry,
        Peek::Absent => return Ok(Err("its record went away".to_owned())),
        Peek::Damaged(problem) => return Ok(Err(problem)),
    };
    Ok(match (classes(store, &entry, blob::PREDICTIONS)?, classes(store, &entry, blob::LABELS)?) {
        (Ok(predictions), Ok(labels)) => Ok(Predicted { predictions, labels }),
        (Err(problem), _) | (_, Err(problem)) => Err(problem),
    })
}

/// A class a test image.
fn classes(store: &Store, entry: &Entry, name: &str) -> Result<Result<Vec<u16>, String>, StoreError> {
    let bytes = match entry.blobs.get(name) {
        None => return Ok(Err(format!("its record has no `{name}`"))),
        Some(_) if entry.dropped.contains_key(name) => return Ok(Err(format!("`gc` dropped its `{name}`"))),
        Some(blob) => store.read_blob(blob)?,
    };
    Ok(Ok(bytes.chunks_exact(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]])).collect()))
}

#[cfg(test)]
mod tests;
