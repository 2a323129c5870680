//! Student's t: the interval of a mean whose values scatter normally.

use crate::report::statistics::{mean, sample_std};

/// mean ± t(0.975; n − 1) · std/√n, low and high; absent below two values, and where they are not finite.
pub fn interval(values: &[f64]) -> Option<(f64, f64)> {
    let (mean, std) = (mean(values)?, sample_std(values)?);
    let half = quantile_975(values.len() - 1) * std / (values.len() as f64).sqrt();
    half.is_finite().then_some((mean - half, mean + half))
}

/// The 0.975 quantile of Student's t: 95 % of the distribution lies within ± it.
///
/// # Panics
/// For 0 degrees of freedom.
pub fn quantile_975(degrees_of_freedom: usize) -> f64 {
    assert!(degrees_of_freedom > 0, "Student's t has at least one degree of freedom");
    // It falls from 12.706 at one degree of freedom; halving 64 times leaves neighbouring floats.
    let (mut low, mut high) = (1.0, 13.0);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if probability_within(middle, degrees_of_freedom) < 0.95 {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The probability A(t|ν) that Student's t lies within ± `t`, by the finite series for whole ν
/// (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4), with θ = arctan(t/√ν):
///
/// - ν = 1: 2θ/π
/// - ν odd: 2/π · (θ + sin θ · (cos θ + 2/3 cos³θ + … + (2·4⋯(ν−3))/(3·5⋯(ν−2)) cos^(ν−2) θ))
/// - ν even: sin θ · (1 + 1/2 cos²θ + (1·3)/(2·4) cos⁴θ + … + (1·3⋯(ν−3))/(2·4⋯(ν−2)) cos^(ν−2) θ)
fn probability_within(t: f64, degrees_of_freedom: usize) -> f64 {
    let nu = degrees_of_freedom as f64;
    let cos = (nu / (nu + t * t)).sqrt();
    let sin = t / (nu + t * t).sqrt();
    let odd = degrees_of_freedom % 2 == 1;
    let (mut term, mut power) = if odd { (cos, 1) } else { (1.0, 0) };
    let mut series = 0.0;
    while power + 2 <= degrees_of_freedom {
        series += term;
        power += 2;
        term *= cos * cos * (power - 1) as f64 / power as f64;
    }
    if odd {
        let theta = libm::atan2(t, nu.sqrt());
        (theta + sin * series) * 2.0 / std::f64::consts::PI
    } else {
        sin * series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// mpmath 1.3.0 at 40 digits: the root of betainc(ν/2, 1/2, 0, ν/(ν + t²), regularized) = 0.05.
    #[test]
    fn quantiles_of_student_t() {
        let known = [
            (1, 12.706204736174705),
            (2, 4.302652729749464),
            (3, 3.1824463052837095),
            (4, 2.7764451051977943),
            (5, 2.5705818356363155),
            (7, 2.3646242515927853),
            (9, 2.2621571627982053),
            (10, 2.228138851986275),
            (19, 2.0930240544083096),
            (30, 2.042272456301238),
            (99, 1.9842169515864174),
            (100, 1.9839715185235522),
            (1000, 1.9623390808264085),
            (4095, 1.9605434621072308),
        ];
        for (degrees_of_freedom, expected) in known {
            let found = quantile_975(degrees_of_freedom);
            assert!((found - expected).abs() < 1e-12 * expected, "{degrees_of_freedom}: {found} is not {expected}");
        }
    }
}
