//! The standard normal distribution.

/// The share of it below `z`: Φ(z) = erfc(−z/√2) / 2.
pub fn cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z * std::f64::consts::FRAC_1_SQRT_2)
}

/// The z below which the share `p` of it lies; infinite for 0 and 1.
pub fn quantile(p: f64) -> f64 {
    // Below the median no digit of a small share is lost.
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    // Φ(−40) is 0 in f64; halving 64 times leaves neighbouring floats.
    let (mut low, mut high) = (-40.0, 0.0);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}
