//! What an experiment found: rows, statistics, ablation tables, Parquet. Rebuilt from records alone.
//!
//! `collect` turns an experiment and its records into rows, one a cell × seed × metric; `parquet` keeps them; `table` lays
//! one metric of them out as the experiment's `table` or a `view` says, `statistics` compares its cells with the baseline,
//! `verdict` puts that into sentences, and `render` writes it all for people and programs.

pub mod atomic_file;
pub mod collect;
pub mod direction;
pub mod histories;
mod notes;
pub mod page;
pub mod paired_predictions;
pub mod parquet;
pub mod principal_components;
pub mod render;
pub mod row;
pub mod statistics;
pub mod table;
pub mod verdict;
pub mod view;

use std::path::PathBuf;

use crate::history::parquet::ParquetError;

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("the table of results: {0}")]
    Parquet(#[from] ParquetError),
    #[error("cell {cell} of `{experiment}` has {found} labels; expected {expected}, one an axis")]
    Labels { experiment: String, cell: u32, expected: usize, found: usize },
    #[error("column `{column}` of the table of results holds `{found}`; expected {expected}")]
    Value { column: &'static str, found: String, expected: &'static str },
    #[error("no results of metric `{metric}`; expected one of {}", known.join(", "))]
    UnknownMetric { metric: String, known: Vec<String> },
    /// A view that asks for what the experiment does not have.
    #[error("{0}")]
    View(String),
    #[error("cannot write `{}`: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

#[cfg(test)]
pub(crate) mod sample;
