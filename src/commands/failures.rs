//! The failures of a sweep, together at its end: which cell, what happened, what was told before, how to see more.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::commands::count;
use crate::commands::progress::names;
use crate::experiment::Experiment;
use crate::record::FailureKind;
use crate::runner::{Place, StageFailure, Summary};

/// Lines of a failure's log that are shown here; `ablate show` has all that were kept.
const LOG_LINES: usize = 6;

/// Failures of a kind that are shown with their log.
const SHOWN: usize = 8;

/// Nothing where nothing failed.
pub fn report(experiment: &Experiment, summary: &Summary) -> String {
    let names = names(experiment);
    let mut kinds: BTreeMap<&str, Vec<&(Place, StageFailure)>> = BTreeMap::new();
    for failed in &summary.failed {
        kinds.entry(failed.1.failure.kind.words()).or_default().push(failed);
    }
    let mut text = String::new();
    for (words, failed) in kinds {
        let _ = writeln!(text, "\n{}, {words}:", count(failed.len(), "failure"));
        for (place, StageFailure { key, failure }) in failed.iter().take(SHOWN) {
            let name = names.get(place).map_or("", String::as_str);
            let _ = writeln!(text, "  {name}: {}", failure.message.replace('\n', "\n    "));
            for line in &failure.log[failure.log.len().saturating_sub(LOG_LINES)..] {
                let _ = writeln!(text, "    | {line}");
            }
            let _ = writeln!(text, "    ablate show {}", key.short());
        }
        if failed.len() > SHOWN {
            let _ = writeln!(text, "  and {} more", failed.len() - SHOWN);
        }
        let _ = writeln!(text, "  {}", advice(failed[0].1.failure.kind));
    }
    text
}

fn advice(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::NotFinite => "these would fail again as they are; `--retry-failed` tries all the same",
        FailureKind::Panic => {
            "a panic is a fault of this program; with RUST_BACKTRACE=1 the log says where it came from"
        }
        FailureKind::OutOfMemory => "fewer `--jobs`, or `train.micro_batch`, need less; the next sweep tries again",
        FailureKind::Preempted => "the next sweep goes on from the checkpoint before",
        FailureKind::DiskFull => "free some space, with `ablate gc` for one; the next sweep tries again",
        FailureKind::Storage => "the next sweep tries again once the disk answers",
        FailureKind::Other => "the next sweep tries again",
    }
}
