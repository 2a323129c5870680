//! The bias-corrected and accelerated bootstrap of a mean (Efron 1987, "Better bootstrap confidence intervals"), with
//! SciPy's conventions: ties of the bias count half, the acceleration is the jackknife's, percentiles are interpolated.

use crate::random::{Address, Purpose, Stream};
use crate::report::statistics::{mean, normal};

/// Resamples an interval rests on.
pub const N_RESAMPLES: u32 = 9_999;
/// The streams' seed: an interval is a function of the values alone.
const SEED: u64 = 0;
/// The share left out at each end.
const TAIL: f64 = 0.025;

/// Low and high end of the 95 % interval; absent below two values, and where they are not finite.
pub fn interval(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < 2 || !values.iter().all(|value| value.is_finite()) {
        return None;
    }
    bias_corrected_accelerated(values, resampled_means(values))
}

/// The mean of every resample, each of as many values as there are, drawn with replacement. How often a value came counts,
/// not when: resamples of the same values have the same mean, to the last bit.
fn resampled_means(values: &[f64]) -> Vec<f64> {
    let n = values.len();
    let mean_of = |resample: u32| {
        let mut stream = Stream::new(SEED, Address { example: resample, ..Address::of(Purpose::Bootstrap) });
        let mut counts = vec![0u32; n];
        (0..n).for_each(|_| counts[stream.below(n as u32) as usize] += 1);
        values.iter().zip(&counts).map(|(value, &count)| value * f64::from(count)).sum::<f64>() / n as f64
    };
    (0..N_RESAMPLES).map(mean_of).collect()
}

/// The interval from the means of the resamples, with z₀ = Φ⁻¹(share of them below the mean) for the bias and a for the
/// acceleration: its ends are their percentiles Φ(z₀ + (z₀ + z) / (1 − a·(z₀ + z))), z = Φ⁻¹(0.025) and Φ⁻¹(0.975).
/// Values that are all equal leave a point.
pub(super) fn bias_corrected_accelerated(values: &[f64], mut resampled: Vec<f64>) -> Option<(f64, f64)> {
    let observed = mean(values)?;
    let Some(acceleration) = acceleration(values) else { return Some((observed, observed)) };
    resampled.sort_by(f64::total_cmp);
    let below = resampled.partition_point(|&mean| mean < observed);
    let up_to = resampled.partition_point(|&mean| mean <= observed);
    let bias = normal::quantile((below + up_to) as f64 / (2 * resampled.len()) as f64);
    let end = |tail: f64| {
        let shifted = bias + normal::quantile(tail);
        let share = normal::cdf(bias + shifted / (1.0 - acceleration * shifted));
        share.is_finite().then(|| percentile(&resampled, share))
    };
    Some((end(TAIL)?, end(1.0 - TAIL)?))
}

/// a = Σ u³ / (6 · (Σ u²)^1.5), u the mean of the means that leave one value out, less each of them. Absent where all values
/// are equal.
fn acceleration(values: &[f64]) -> Option<f64> {
    values.iter().find(|value| **value != values[0])?;
    let sum: f64 = values.iter().sum();
    let left_out: Vec<f64> = values.iter().map(|value| (sum - value) / (values.len() - 1) as f64).collect();
    let centre = mean(&left_out)?;
    let powers = |power: i32| -> f64 { left_out.iter().map(|mean| (centre - mean).powi(power)).sum() };
    let squares = powers(2);
    Some(powers(3) / (6.0 * squares * squares.sqrt()))
}

/// Of sorted values, linear between neighbours.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let low = (place.floor() as usize).min(sorted.len() - 1);
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * (place - low as f64)
}
