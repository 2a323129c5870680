//! What became of a stage and why, in a word and a reason.

use crate::explain::nearest::Nearest;
use crate::record::Failure;
use crate::results::State;

/// Differences told in a line.
const TOLD: usize = 3;

/// A stage's state without its record.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Stored,
    /// Never computed here.
    New,
    /// There is a record that cannot be used.
    Again {
        damage: String,
    },
    Failed {
        message: String,
        /// It would fail again as it is.
        repeats: bool,
    },
}

impl Verdict {
    /// The one place where the state of a record becomes a reason.
    pub fn of<T>(state: &State<T>) -> Verdict {
        match state {
            State::Hit(_) => Verdict::Stored,
            State::Miss { reason: None } => Verdict::New,
            State::Miss { reason: Some(reason) } => Verdict::Again { damage: reason.clone() },
            State::Failed(failure, _) => Verdict::failed(failure),
        }
    }

    fn failed(failure: &Failure) -> Verdict {
        Verdict::Failed { message: failure.message.clone(), repeats: failure.kind.is_deterministic() }
    }

    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Stored => "stored",
            Verdict::New => "to do",
            Verdict::Again { .. } => "to do again",
            Verdict::Failed { .. } => "failed",
        }
    }

    /// Whether a sweep computes it.
    pub fn is_to_do(&self) -> bool {
        match self {
            Verdict::New | Verdict::Again { .. } | Verdict::Failed { repeats: false, .. } => true,
            Verdict::Stored | Verdict::Failed { repeats: true, .. } => false,
        }
    }

    /// What the record says beyond the word.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Verdict::Stored | Verdict::New => None,
            Verdict::Again { damage } => Some(damage),
            Verdict::Failed { message, .. } => Some(message),
        }
    }

    /// The word with its reason: `to do: train.temperature 0.5 → 0.1 (nearest 0a1b2c3d4e5f)`.
    pub fn line(&self, nearest: Option<&Nearest>) -> String {
        let word = self.word();
        match (self, nearest) {
            (Verdict::Stored, _) => word.to_owned(),
            (Verdict::New, Some(nearest)) => format!("{word}: {}", nearest.line(TOLD)),
            (Verdict::New, None) => format!("{word}: nothing like it is stored"),
            (Verdict::Again { damage }, _) => format!("{word}: {damage}"),
            (Verdict::Failed { message, repeats: true }, _) => format!("{word}: {message}"),
            (Verdict::Failed { message, repeats: false }, _) => format!("{word}, to do again: {message}"),
        }
    }
}
