//! `--code`: what results of other code than this program's are worth.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};

use crate::commands::paragraph::note;
use crate::content::Key;
use crate::experiment::Experiment;
use crate::explain::CodeCensus;
use crate::record::{Record, Stage};
use crate::runner::provenance::code_digest;

#[derive(Debug, Clone, Copy, Args)]
pub struct CodeArguments {
    /// What a result of other code than this program's is worth: it counts, it counts and is told, or it is computed again
    #[arg(long, value_enum, value_name = "TRUST", default_value_t = Trust::Warn)]
    pub code: Trust,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Trust {
    /// Versions of stages say what counts; nothing is told
    Trust,
    /// As `trust`, and says how many results other code computed
    Warn,
    /// The digest of this program's source is part of every key
    Strict,
}

impl CodeArguments {
    /// Makes this program's code part of every key, where that is asked for.
    pub fn put_into(self, experiment: &mut Experiment) {
        if self.code == Trust::Strict {
            let code = Key::of_bytes(code_digest().as_bytes());
            experiment.cells.iter_mut().flat_map(|cell| &mut cell.runs).for_each(|run| run.code = Some(code));
        }
    }

    /// Says on stderr how much of what counts other code computed.
    pub fn tell(self, census: &CodeCensus) {
        if self.code == Trust::Warn
            && let Some(text) = census.note(now_unix_s())
        {
            note(&text);
        }
    }
}

/// Counts a result by whose code computed it; a failure is none.
pub fn count(record: &Record, census: &mut CodeCensus) {
    match record.stage {
        Stage::Pretrain(_) | Stage::Evaluation(_) => {
            census.add((&record.provenance.code, record.provenance.started_unix_s), code_digest());
        }
        Stage::Failure(_) => {}
    }
}

pub fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
