//! Replicates in numbers: mean, standard deviation, and the interval the mean is believed to lie in.

/// What the seeds of one cell say together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    pub n: usize,
    pub mean: f64,
    /// Of the sample, with n − 1; absent for one value.
    pub std: Option<f64>,
    /// mean ± t(0.975; n − 1) · std/√n, for values that scatter normally; absent for one value.
    pub interval95: Option<(f64, f64)>,
    pub min: f64,
    pub max: f64,
}

/// Absent for no values. Sums run in the order of the values. A value that is not a number makes every number one that is
/// not, but for `min` and `max`, which pass it over.
pub fn summarize(values: &[f64]) -> Option<Summary> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    let std = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
    let interval95 = std.map(|std| {
        let half = student_t_975(n - 1) * std / (n as f64).sqrt();
        (mean - half, mean + half)
    });
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(Summary { n, mean, std, interval95, min, max })
}

/// The 0.975 quantile of Student's t: 95 % of the distribution lies within ± it.
///
/// # Panics
/// For 0 degrees of freedom.
pub fn student_t_975(degrees_of_freedom: usize) -> f64 {
    assert!(degrees_of_freedom > 0, "Student's t has at least one degree of freedom");
    // It falls from 12.706 at one degree of freedom; halving 64 times leaves neighbouring floats.
    let (mut low, mut high) = (1.0, 13.0);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if student_t_within(middle, degrees_of_freedom) < 0.95 {
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
fn student_t_within(t: f64, degrees_of_freedom: usize) -> f64 {
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
            let found = student_t_975(degrees_of_freedom);
            assert!((found - expected).abs() < 1e-12 * expected, "{degrees_of_freedom}: {found} is not {expected}");
        }
    }

    #[test]
    fn summaries() {
        let check = |values: &[f64], mean: f64, std: Option<f64>, half: Option<f64>| {
            let summary = summarize(values).unwrap();
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs().max(1.0);
            assert_eq!(summary.n, values.len());
            assert!(close(summary.mean, mean), "{summary:?}");
            assert_eq!(summary.std.is_some(), std.is_some(), "{summary:?}");
            assert!(summary.std.zip(std).is_none_or(|(a, b)| close(a, b)), "{summary:?}");
            let found_half = summary.interval95.map(|(low, high)| 0.5 * (high - low));
            assert_eq!(found_half.is_some(), half.is_some(), "{summary:?}");
            assert!(found_half.zip(half).is_none_or(|(a, b)| close(a, b)), "{summary:?}");
            assert!(summary.interval95.is_none_or(|(low, high)| close(0.5 * (low + high), mean)), "{summary:?}");
        };
        check(&[0.7], 0.7, None, None);
        check(&[2.0, 2.0, 2.0], 2.0, Some(0.0), Some(0.0));
        check(&[1.0, 2.0], 1.5, Some(0.5f64.sqrt()), Some(12.706204736174705 * 0.5));
        check(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], 5.0, Some((32.0f64 / 7.0).sqrt()), Some(1.787487918236211));
        assert_eq!(summarize(&[]), None);
        let extremes = summarize(&[0.5, -3.0, 8.0]).map(|summary| (summary.min, summary.max));
        assert_eq!(extremes, Some((-3.0, 8.0)));
        assert!(summarize(&[1.0, f64::NAN]).unwrap().mean.is_nan());
    }
}
