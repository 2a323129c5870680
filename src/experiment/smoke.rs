//! `--smoke`: any experiment shrunk to seconds on a CPU. A shrunk run says so in its key and never stands in for the real one.

use crate::experiment::recipe::{
    Builtin, Classification, Dataset, Evaluation, FineTune, Knn, LinearProbe, Loss, Robustness, Split, Transfer,
};
use crate::experiment::run::Bookkeeping;

/// 200 images to train on, 40 to ask about; nothing to download.
pub const DATASET: Dataset =
    Dataset::Builtin(Builtin { n_classes: 10, train_per_class: 20, test_per_class: 4, seed: 0 });
/// As many images from other draws, to transfer to.
pub const OTHER_DATASET: Dataset =
    Dataset::Builtin(Builtin { n_classes: 10, train_per_class: 20, test_per_class: 4, seed: 1 });
pub const SPLIT: Split = Split::Official;

/// Every step is measured; a shrunk training is over before a checkpoint would pay.
pub const BOOKKEEPING: Bookkeeping = Bookkeeping { metrics_every_steps: 1, checkpoint_every_steps: 1_000_000 };

const STEPS_MAX: u64 = 3;
const PROBE_EPOCHS_MAX: u32 = 5;
/// An epoch goes through the whole network.
const TUNING_EPOCHS_MAX: u32 = 1;
const BATCH_DIVISOR: u32 = 16;
const BATCH_MIN: u32 = 4;

/// The first two, or a single one and its successor: less is no replication, more takes longer.
pub fn seeds(seeds: &[u64]) -> Vec<u64> {
    match *seeds {
        [] => Vec::new(),
        [only] => vec![only, only.wrapping_add(1)],
        [first, second, ..] => vec![first, second],
    }
}

/// Never more than there are images, never less than the two that a contrast needs.
pub fn batch(batch: u32, n_train: u32) -> u32 {
    (batch / BATCH_DIVISOR).max(BATCH_MIN).min(n_train).max(2)
}

/// A batch that stays in pieces: even, at least 4, and taken in halves, the fewest pieces there are.
pub fn batch_in_pieces(batch: u32, n_train: u32) -> (u32, u32) {
    let half = (self::batch(batch, n_train) / 2).max(2);
    (2 * half, half)
}

/// A memory bank shrinks as the batch does.
pub fn loss(loss: Loss) -> Loss {
    match loss {
        Loss::NtXentMemoryBank { size } => Loss::NtXentMemoryBank { size: size.div_ceil(BATCH_DIVISOR) },
        Loss::NtXent { .. }
        | Loss::Dcl
        | Loss::Dclw { .. }
        | Loss::NtLogistic { .. }
        | Loss::MarginTriplet { .. }
        | Loss::CrossEntropy { .. } => loss,
    }
}

pub fn length_steps(length_steps: u64) -> u64 {
    length_steps.min(STEPS_MAX)
}

/// A warm-up of the same share of the shrunk length, rounded up, and shorter than it.
pub fn warmup_steps(warmup_steps: u64, full_steps: u64, length_steps: u64) -> u64 {
    let share = (u128::from(warmup_steps) * u128::from(length_steps)).div_ceil(u128::from(full_steps.max(1)));
    u64::try_from(share).unwrap_or(u64::MAX).min(length_steps.saturating_sub(1))
}

/// Snapshots as far apart, as a share of the shrunk length, rounded up; a step apart at least.
pub fn snapshots_every(every_steps: u64, full_steps: u64, length_steps: u64) -> u64 {
    let share = (u128::from(every_steps) * u128::from(length_steps)).div_ceil(u128::from(full_steps.max(1)));
    u64::try_from(share).unwrap_or(u64::MAX).max(1)
}

pub fn evaluation(evaluation: &Evaluation, n_train: u32) -> Evaluation {
    let shrunk = |knn: &Knn| Knn { k: knn.k.min(n_train), ..*knn };
    match evaluation {
        Evaluation::Knn(knn) => Evaluation::Knn(shrunk(knn)),
        Evaluation::LinearProbe(probe) => Evaluation::LinearProbe(shrunk_probe(probe, n_train)),
        Evaluation::Health(health) => Evaluation::Health(*health),
        Evaluation::Robustness(Robustness { knn }) => Evaluation::Robustness(Robustness { knn: shrunk(knn) }),
        Evaluation::Transfer(transfer) => {
            let protocol = match &transfer.protocol {
                Classification::Knn(knn) => Classification::Knn(shrunk(knn)),
                Classification::LinearProbe(probe) => Classification::LinearProbe(shrunk_probe(probe, n_train)),
            };
            Evaluation::Transfer(Transfer { protocol, ..transfer.clone() })
        }
        Evaluation::FineTune(tuning) => {
            let (epochs, batch) = (tuning.epochs.min(TUNING_EPOCHS_MAX), self::batch(tuning.batch, n_train));
            Evaluation::FineTune(FineTune { epochs, batch, ..*tuning })
        }
    }
}

fn shrunk_probe(probe: &LinearProbe, n_train: u32) -> LinearProbe {
    LinearProbe { epochs: probe.epochs.min(PROBE_EPOCHS_MAX), batch: batch(probe.batch, n_train), ..*probe }
}
