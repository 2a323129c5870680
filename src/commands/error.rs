//! What ends a command, worded for the person who can do something about it.

use std::path::PathBuf;

use crate::data::DataError;
use crate::experiment::Problems;
use crate::report::ReportError;
use crate::runner::RunnerError;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("failed to read experiment `{path}`: {source}", path = .path.display())]
    ReadExperiment { path: PathBuf, source: std::io::Error },
    #[error("{} problems", .0.list().len())]
    Experiment(Problems),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error("failed to write `{path}`: {source}", path = .path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("failed to write to standard output: {0}")]
    Output(#[from] std::io::Error),
    #[error("failed to make the picture: {0}")]
    Picture(String),
    #[error("{0}")]
    Damaged(String),
    /// A measurement that did not come to an end.
    #[error("{0}")]
    Bench(String),
}

impl CommandError {
    /// 1 internal or the system's, 2 usage or experiment, 4 damaged store, 5 a claim that cannot be had.
    pub fn exit_code(&self) -> u8 {
        match self {
            CommandError::ReadExperiment { .. }
            | CommandError::Experiment(_)
            | CommandError::Usage(_)
            | CommandError::Data(_)
            | CommandError::Report(ReportError::UnknownMetric { .. } | ReportError::View(_))
            | CommandError::Runner(RunnerError::Data(_) | RunnerError::DataChanged { .. }) => 2,
            CommandError::Damaged(_) => 4,
            CommandError::Store(error) | CommandError::Runner(RunnerError::Store(error)) => store_exit_code(error),
            CommandError::Runner(RunnerError::NoRoom(_) | RunnerError::Artefact(_) | RunnerError::Tuning(_))
            | CommandError::Report(_)
            | CommandError::Write { .. }
            | CommandError::Output(_)
            | CommandError::Bench(_)
            | CommandError::Picture(_) => 1,
        }
    }

    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, CommandError::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The text for stderr: an experiment's problems with their places, else one `error:` line.
    pub fn render(&self, color: bool) -> String {
        if let CommandError::Experiment(problems) = self {
            return format!("{}\n", problems.render(color).trim_end());
        }
        // Names of files may hold what a terminal obeys.
        let harmless = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
        let text: String = self.to_string().chars().map(harmless).collect();
        if color { format!("\x1b[1;31merror\x1b[0m: {text}\n") } else { format!("error: {text}\n") }
    }
}

fn store_exit_code(error: &StoreError) -> u8 {
    match error {
        StoreError::NotAStore { .. } | StoreError::UnknownVersion { .. } => 2,
        StoreError::DamagedBlob { .. } => 4,
        StoreError::ClaimBusy { .. } | StoreError::ClaimLost { .. } | StoreError::GcBusy { .. } => 5,
        StoreError::Io { .. }
        | StoreError::SyncDirectory { .. }
        | StoreError::ShortWrite { .. }
        | StoreError::BlobName(_) => 1,
    }
}
