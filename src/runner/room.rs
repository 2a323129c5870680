//! Disk space: what a run leaves behind, and whether there is room for it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::experiment::recipe::Evaluation;
use crate::experiment::run::Run;
use crate::model::plan::Plan;
use crate::model::registry;
use crate::ops::{contrastive, optimizer};
use crate::results::{RunState, State};
use crate::runner::KEPT_FEATURES;
use crate::store::Store;

/// A record, its pre-image and the headers of its blobs, generously.
const RECORD_BYTES: u64 = 32 << 10;

/// A step's row of the history, with its measurements.
const HISTORY_BYTES_PER_STEP: u64 = 120;

/// Pictures on the contact sheet: so many images and two views of each.
const SHEET_PICTURES: u64 = 3 * 64;

/// Too little space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    pub needed_bytes: u64,
    pub free_bytes: u64,
    /// What is to stay free in any case.
    pub floor_bytes: u64,
    /// A write has failed for want of space or quota, whatever is said to be free.
    pub was_met: bool,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortage { needed_bytes, free_bytes, floor_bytes, was_met } = *self;
        let free = Bytes(free_bytes);
        if was_met {
            return write!(
                f,
                "no space or no quota is left where the store is, of which {free} are free: free some, with `ablate gc` \
                 for one, and run again"
            );
        }
        let (needed, floor) = (Bytes(needed_bytes), Bytes(floor_bytes));
        write!(
            f,
            "too little space where the store is: what is missing needs {needed}, `--disk-floor` keeps {floor} free, and \
             {free} are there: free some, with `ablate gc` for one, or lower the floor"
        )
    }
}

/// Whether runs may begin, for all members of a sweep.
#[derive(Debug)]
pub struct Room {
    floor_bytes: u64,
    /// A write has failed for want of space or quota.
    full: AtomicBool,
}

impl Room {
    pub fn new(floor_bytes: u64) -> Room {
        Room { floor_bytes, full: AtomicBool::new(false) }
    }

    /// A write has failed for want of space, whatever the file system says is free.
    pub fn is_full(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// What is missing for `needed_bytes` more; nothing where there is enough, or where the system does not tell.
    pub fn lacks(&self, store: &Store, needed_bytes: u64) -> Option<Shortage> {
        let floor_bytes = self.floor_bytes;
        let free_bytes = store.free_bytes();
        let was_met = self.full.load(Ordering::Relaxed);
        if was_met {
            return Some(Shortage { needed_bytes, free_bytes: free_bytes.unwrap_or(0), floor_bytes, was_met });
        }
        let free_bytes = free_bytes?;
        (free_bytes < floor_bytes.saturating_add(needed_bytes)).then_some(Shortage {
            needed_bytes,
            free_bytes,
            floor_bytes,
            was_met,
        })
    }
}

/// What a run leaves in the store, all stages of it: an estimate that is not below the truth.
pub fn bytes_needed(run: &Run) -> u64 {
    let size = Size::of(run);
    let n_encoders = run.snapshots().len() as u64 + 1;
    size.training_bytes + size.evaluation_bytes * run.asked().len() as u64 + size.features_bytes * n_encoders
}

/// What the missing stages of a run leave in the store, and what training takes in passing.
pub(super) fn missing_bytes(run: &Run, state: &RunState) -> Needed {
    let size = Size::of(run);
    let trains = !matches!(state.pretrain, State::Hit(_)) || state.checkpoint_dropped();
    let asked = run.asked();
    let stages = state.evaluations.iter().zip(&asked).filter(|(state, _)| !matches!(state, State::Hit(_)));
    let encoders: Vec<Option<u64>> = stages.map(|(_, asked)| asked.snapshot).collect();
    let n_missing = encoders.len() as u64;
    let features_bytes = size.features_bytes * encoders.into_iter().collect::<BTreeSet<_>>().len() as u64;
    Needed {
        training_bytes: if trains { size.training_bytes } else { 0 },
        evaluations_bytes: n_missing * size.evaluation_bytes + features_bytes,
        // A checkpoint to resume from is written beside the last one before it takes its place.
        passing_bytes: if trains { 2 * size.checkpoint_bytes } else { 0 },
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Needed {
    /// For good; once for all runs that share the training.
    pub training_bytes: u64,
    /// For good.
    pub evaluations_bytes: u64,
    /// While training is under way.
    pub passing_bytes: u64,
}

struct Size {
    checkpoint_bytes: u64,
    /// The training's record and blobs, snapshots included.
    training_bytes: u64,
    /// The record, predictions and labels of one evaluation.
    evaluation_bytes: u64,
    /// Kept once for all evaluations of an encoder.
    features_bytes: u64,
}

impl Size {
    /// A model that was not compiled has no size; it fails before it writes anything.
    fn of(run: &Run) -> Size {
        let plan = registry::plan(&run.model).ok();
        let of = |count: &dyn Fn(&Plan) -> usize| plan.as_ref().map_or(0, |plan| count(plan) as u64);
        let n_slots = optimizer::slots(&run.train.optimizer, 0).len() as u64;
        let n_parameters = of(&Plan::n_parameters);
        let n_bank = of(&|plan: &Plan| contrastive::bank_len(run.train.loss, plan.projection_width()));
        let n_numbers = n_parameters * (1 + n_slots) + of(&Plan::n_buffers) + n_bank;
        let checkpoint_bytes = 4 * n_numbers + RECORD_BYTES;
        let history_bytes = HISTORY_BYTES_PER_STEP * run.train.length_steps + RECORD_BYTES;
        let sheet_bytes = SHEET_PICTURES * 3 * u64::from(run.model.side).pow(2);
        let n_snapshots = run.snapshots().len() as u64;
        let snapshot_bytes = 4 * (n_parameters + of(&Plan::n_buffers)) + RECORD_BYTES;
        let n_kept = u64::from(run.facts.n_test).min(KEPT_FEATURES as u64);
        let width = of(&Plan::feature_width);
        Size {
            checkpoint_bytes: checkpoint_bytes + history_bytes,
            training_bytes: checkpoint_bytes
                + history_bytes
                + sheet_bytes
                + n_snapshots * snapshot_bytes
                + RECORD_BYTES,
            evaluation_bytes: 4 * u64::from(n_test_max(run)) + RECORD_BYTES,
            features_bytes: n_kept * (4 * width + 4) + RECORD_BYTES,
        }
    }
}

/// Images asked about by the evaluation that asks about most.
fn n_test_max(run: &Run) -> u32 {
    let n_test = |evaluation: &Evaluation| match evaluation {
        Evaluation::Transfer(transfer) => transfer.facts.map_or(0, |facts| facts.n_test),
        Evaluation::Knn(_)
        | Evaluation::LinearProbe(_)
        | Evaluation::Health(_)
        | Evaluation::Robustness(_)
        | Evaluation::FineTune(_) => run.facts.n_test,
    };
    run.evaluate.iter().map(n_test).max().unwrap_or(0)
}

/// A number of bytes for people.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = self.0 as f64 / 1e6;
        if megabytes < 1e3 { write!(f, "{megabytes:.1} MB") } else { write!(f, "{:.1} GB", megabytes / 1e3) }
    }
}
