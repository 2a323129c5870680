//! `--smoke`: any experiment shrunk to seconds on a CPU. A shrunk run says so in its key and never stands in for the real one.

use crate::experiment::recipe::{Builtin, Dataset, Evaluation, Split};
use crate::experiment::run::Bookkeeping;

/// 320 images to train on, 80 to ask about; nothing to download.
pub const DATASET: Dataset =
    Dataset::Builtin(Builtin { n_classes: 10, train_per_class: 32, test_per_class: 8, seed: 0 });
pub const SPLIT: Split = Split::Official;
pub const SEEDS_MAX: usize = 2;

/// Every step is measured and every second one kept, so that both happen at all.
pub const BOOKKEEPING: Bookkeeping = Bookkeeping { metrics_every_steps: 1, checkpoint_every_steps: 2 };

const STEPS_MAX: u64 = 4;
const PROBE_EPOCHS_MAX: u32 = 5;
const BATCH_DIVISOR: u32 = 16;
const BATCH_MIN: u32 = 4;

/// Never more than there are images, never less than the two that a contrast needs.
pub fn batch(batch: u32, n_train: u32) -> u32 {
    (batch / BATCH_DIVISOR).max(BATCH_MIN).min(n_train).max(2)
}

pub fn length_steps(length_steps: u64) -> u64 {
    length_steps.min(STEPS_MAX)
}

/// A warm-up of the same share of the shrunk length, rounded up, and shorter than it.
pub fn warmup_steps(warmup_steps: u64, full_steps: u64, length_steps: u64) -> u64 {
    let share = (u128::from(warmup_steps) * u128::from(length_steps)).div_ceil(u128::from(full_steps.max(1)));
    u64::try_from(share).unwrap_or(u64::MAX).min(length_steps.saturating_sub(1))
}

pub fn evaluation(evaluation: &Evaluation, n_train: u32) -> Evaluation {
    match evaluation {
        Evaluation::Knn(knn) => {
            let mut knn = *knn;
            knn.k = knn.k.min(n_train);
            Evaluation::Knn(knn)
        }
        Evaluation::LinearProbe(probe) => {
            let mut probe = *probe;
            probe.epochs = probe.epochs.min(PROBE_EPOCHS_MAX);
            probe.batch = batch(probe.batch, n_train);
            Evaluation::LinearProbe(probe)
        }
    }
}
