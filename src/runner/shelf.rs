//! The data sets in memory, shared by the members of a sweep.

use std::sync::{Arc, Mutex, PoisonError};

use crate::content::Key;
use crate::data::{self, Dataset};
use crate::experiment::recipe::{self, Split, Transfer};
use crate::experiment::run::Run;
use crate::runner::RunnerError;

/// A data set stays until another one is loaded while no member uses it.
#[derive(Debug, Default)]
pub struct Shelf {
    /// By what was asked for.
    datasets: Mutex<Vec<(String, Arc<Dataset>)>>,
}

impl Shelf {
    /// The run's data set, loaded once for all who ask at the same time or in a row.
    ///
    /// # Errors
    /// The data set's; `DataChanged` where it is no longer what the run's keys were made of.
    pub fn dataset(&self, run: &Run) -> Result<Arc<Dataset>, RunnerError> {
        self.loaded(&run.dataset, run.split, run.facts.digest)
    }

    /// As [`Shelf::dataset`], of the data that an evaluation transfers to.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// Of a transfer whose data nobody looked at, which no run has.
    pub fn other(&self, transfer: &Transfer) -> Result<Arc<Dataset>, RunnerError> {
        let facts = transfer.facts.expect("a run's data have been looked at");
        self.loaded(&transfer.dataset, Split::Official, facts.digest)
    }

    fn loaded(&self, dataset: &recipe::Dataset, split: Split, digest: Key) -> Result<Arc<Dataset>, RunnerError> {
        // Held while it loads: whoever wants the same one waits for it.
        let mut datasets = self.datasets.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{dataset:?} {split:?}");
        if let Some((_, dataset)) = datasets.iter().find(|(loaded, _)| *loaded == name) {
            return Ok(Arc::clone(dataset));
        }
        datasets.retain(|(_, dataset)| Arc::strong_count(dataset) > 1);
        let dataset = Arc::new(data::load(dataset, split)?);
        if dataset.digest != digest {
            return Err(RunnerError::DataChanged { expected: digest, found: dataset.digest });
        }
        datasets.push((name, Arc::clone(&dataset)));
        Ok(dataset)
    }
}
