//! The histories of an experiment's trainings as one Parquet table.
//!
//! | column | type | |
//! |---|---|---|
//! | `cell` | u32 | index of the cell, as in the table of results |
//! | `seed` | u64 | |
//! | `pretrain_key` | text | the training's key |
//!
//! then the columns of `history`, one row a step; trainings in the order of cells and seeds.

use polars::prelude::Column;

use crate::content::Key;
use crate::history::{self, History};
use crate::report::ReportError;

/// The table's name and version; a change of columns is a new version.
const SCHEMA: &str = "ablate.histories/2";

/// The history of one training.
#[derive(Debug, Clone, PartialEq)]
pub struct RunHistory {
    pub cell: u32,
    pub seed: u64,
    pub pretrain_key: Key,
    pub history: History,
}

/// # Errors
/// When the encoder fails.
pub fn to_parquet(runs: &[RunHistory]) -> Result<Vec<u8>, ReportError> {
    fn repeated<T>(runs: &[RunHistory], of: impl Fn(&RunHistory) -> T + Copy) -> Vec<T> {
        runs.iter().flat_map(|run| run.history.steps.iter().map(move |_| of(run))).collect()
    }
    let keys: Vec<String> = repeated(runs, |run| run.pretrain_key.to_string());
    let mut columns = vec![
        Column::new("cell".into(), repeated(runs, |run| run.cell)),
        Column::new("seed".into(), repeated(runs, |run| run.seed)),
        Column::new("pretrain_key".into(), keys),
    ];
    columns.extend(history::columns(runs.iter().flat_map(|run| run.history.steps.iter())));
    Ok(history::parquet::write(SCHEMA, columns)?)
}

/// Whether the bytes are such a table, whole and of this version.
pub fn is_current(bytes: &[u8]) -> bool {
    history::parquet::is_whole(SCHEMA, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::StepMetrics;

    #[test]
    fn every_step_of_every_training_has_a_row() {
        let step = |step, loss| StepMetrics { step, epoch: 0, loss, learning_rate: 0.1, detail: None };
        let run = |cell, seed, losses: &[f64]| RunHistory {
            cell,
            seed,
            pretrain_key: Key::of_bytes(&[cell as u8]),
            history: History { steps: losses.iter().zip(0..).map(|(&loss, index)| step(index, loss)).collect() },
        };
        let bytes = to_parquet(&[run(0, 7, &[3.0, 2.0]), run(1, 7, &[]), run(2, 8, &[1.0])]).expect("a table");
        let table = history::parquet::read(SCHEMA, &bytes).expect("the same table");
        assert_eq!(table.u32s("cell").expect("cells"), [Some(0), Some(0), Some(2)]);
        assert_eq!(table.u64s("seed").expect("seeds"), [Some(7), Some(7), Some(8)]);
        assert_eq!(table.f64s("loss").expect("losses"), [Some(3.0), Some(2.0), Some(1.0)]);
        assert_eq!(table.u64s("step").expect("steps"), [Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn a_file_of_another_version_or_a_damaged_one_is_not_current() {
        let bytes = to_parquet(&[]).expect("a table");
        assert!(is_current(&bytes));
        let older = history::parquet::write("ablate.histories/1", vec![Column::new("cell".into(), [0u32])]);
        assert!(!is_current(&older.expect("a table")));
        let mut damaged = bytes.clone();
        damaged[5] ^= 1;
        assert!(!is_current(&damaged) && !is_current(&bytes[..bytes.len() - 1]) && !is_current(b""));
    }
}
