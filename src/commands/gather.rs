//! What the store holds of an experiment, as the tables want it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::commands::code::{self, CodeArguments};
use crate::commands::error::CommandError;
use crate::commands::paragraph::note;
use crate::experiment::Experiment;
use crate::explain::CodeCensus;
use crate::history::History;
use crate::record::blob;
use crate::report::collect;
use crate::report::histories::RunHistory;
use crate::report::row::Row;
use crate::results::{self, State};
use crate::store::Store;

/// One row a cell, seed and metric. Says on stderr what the table hides: damage, and hits of other code.
pub fn rows(store: Option<&Store>, experiment: &Experiment, code: CodeArguments) -> Result<Vec<Row>, CommandError> {
    rows_of_best(store, &[experiment], code)
}

/// As [`rows`] of an experiment on several backends: of every run the one counts that got furthest, the first of equals.
pub fn rows_of_best(
    store: Option<&Store>,
    candidates: &[&Experiment],
    code: CodeArguments,
) -> Result<Vec<Row>, CommandError> {
    // Cells that share a stage show its record once each.
    let (census, seen) = (Mutex::new(CodeCensus::default()), Mutex::new(BTreeSet::new()));
    let collected = collect::from_store(store, candidates, &|record| {
        if seen.lock().unwrap_or_else(PoisonError::into_inner).insert(record.key) {
            code::count(record, &mut census.lock().unwrap_or_else(PoisonError::into_inner));
        }
    })?;
    tell_damage(&collected.damage);
    code.tell(&census.into_inner().unwrap_or_else(PoisonError::into_inner));
    Ok(collected.rows)
}

/// Says on stderr what is there but cannot be used; a sweep computes it again.
pub fn tell_damage(damage: &[String]) {
    const SHOWN: usize = 5;
    damage.iter().take(SHOWN).for_each(|line| note(&format!("{line}; `ablate sweep` computes it again")));
    if damage.len() > SHOWN {
        note(&format!("and {} more", damage.len() - SHOWN));
    }
}

/// The history of every training that is there, by cell and seed. A broken one is said and left out.
pub fn histories(store: &Store, experiment: &Experiment) -> Result<Vec<RunHistory>, CommandError> {
    let mut histories = Vec::new();
    for (index, cell) in experiment.cells.iter().enumerate() {
        for run in &cell.runs {
            let State::Hit(found) = results::pretrain(store, run.pretrain_key())? else { continue };
            let Some(stored) = found.entry.blobs.get(blob::HISTORY) else { continue };
            let read = store.read_blob(stored).map_err(|error| error.to_string());
            match read.and_then(|bytes| History::from_parquet(&bytes).map_err(|error| error.to_string())) {
                Ok(history) => {
                    let pretrain_key = run.pretrain_key();
                    histories.push(RunHistory { cell: index as u32, seed: run.seed, pretrain_key, history });
                }
                Err(problem) => note(&format!("the history of {} is left out: {problem}", run.pretrain_key().short())),
            }
        }
    }
    Ok(histories)
}
