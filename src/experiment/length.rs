//! Lengths as a file gives them; they become steps here and nowhere else.

use crate::experiment::problem::Found;
use crate::experiment::read::scalar::whole;
use crate::experiment::read::{At, Fields, variant};

/// A stretch of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Passes over the training images, each without its last incomplete batch.
    Epochs(u64),
    Steps(u64),
    /// Training images seen, rounded up to whole steps.
    Examples(u64),
}

const MOST: u64 = 1_000_000_000;

impl Length {
    /// `batch` is at least 1.
    pub fn steps(self, batch: u32, n_train: u32) -> u64 {
        match self {
            Length::Epochs(epochs) => epochs.saturating_mul(u64::from(n_train / batch)),
            Length::Steps(steps) => steps,
            Length::Examples(examples) => examples.div_ceil(u64::from(batch)),
        }
    }
}

/// `Epochs(100)`, `Steps(1000)` or `Examples(50000)`, of at least `least`.
pub fn length(at: &At, found: &mut Found, least: u64) -> Option<Length> {
    let length = variant(
        at,
        found,
        &[
            ("Epochs", |fields| amount(fields).map(Length::Epochs)),
            ("Steps", |fields| amount(fields).map(Length::Steps)),
            ("Examples", |fields| amount(fields).map(Length::Examples)),
        ],
    )?;
    let (Length::Epochs(amount) | Length::Steps(amount) | Length::Examples(amount)) = length;
    if amount < least {
        found.add(at.problem(format!("`{}` is too short", at.node.short())).expected(format!("at least {least}")));
        return None;
    }
    Some(length)
}

fn amount(fields: &mut Fields) -> Option<u64> {
    fields.item("a whole number", |at, found| whole(at, found, 0..=MOST))
}

#[cfg(test)]
mod tests {
    use super::Length;

    #[test]
    fn lengths_become_steps() {
        let check = |length: Length, batch, expected| assert_eq!(length.steps(batch, 50_000), expected, "{length:?}");
        check(Length::Epochs(10), 256, 1950);
        check(Length::Epochs(0), 256, 0);
        check(Length::Steps(7), 256, 7);
        check(Length::Examples(512), 256, 2);
        check(Length::Examples(513), 256, 3);
        check(Length::Epochs(u64::MAX), 1, u64::MAX);
    }
}
