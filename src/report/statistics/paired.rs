//! Two settings seed by seed: what the seeds share cancels, so pairs say more than two means side by side.

use crate::report::statistics::{Interval, IntervalMethod, mean, sample_std, sign_flip};

/// The values of a cell less those of the baseline, pairs of one seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Seeds that both have a value of.
    pub n_pairs: usize,
    pub mean: f64,
    /// Of the sample, with n − 1; absent for one pair.
    pub std: Option<f64>,
    /// Of the mean difference, for this comparison alone; absent for one pair.
    pub interval: Option<Interval>,
    /// Two-sided; absent where a value is not finite.
    pub sign_flip_p: Option<f64>,
    /// The smallest `sign_flip_p` that so many pairs can give.
    pub smallest_p: f64,
    /// `sign_flip_p` corrected for all comparisons it stands among (`correction::holm`); `None` until it stands among some.
    pub adjusted_p: Option<f64>,
}

impl Difference {
    /// `differences` in the order of the seeds; absent without any.
    pub fn of(differences: &[f64], method: IntervalMethod) -> Option<Difference> {
        Some(Difference {
            n_pairs: differences.len(),
            mean: mean(differences)?,
            std: sample_std(differences),
            interval: Interval::of_mean(differences, method),
            sign_flip_p: sign_flip::p_two_sided(differences),
            smallest_p: sign_flip::smallest_p(differences.len()),
            adjusted_p: None,
        })
    }
}
