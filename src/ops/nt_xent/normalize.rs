//! L2 normalisation of rows, as PyTorch's `F.normalize`: x / max(‖x‖, 1e-12).

/// The smallest norm divided by.
pub const NORM_MIN: f64 = 1e-12;

/// Writes the unit vector of `row` and returns its norm, in f64 so that neither 1e-30 nor 1e30 is lost.
pub fn normalize(row: &[f32], unit: &mut [f32]) -> f64 {
    let norm = dot(row, row).sqrt();
    let divisor = norm.max(NORM_MIN);
    for (value, &x) in unit.iter_mut().zip(row) {
        *value = (f64::from(x) / divisor) as f32;
    }
    norm
}

/// The inner product in f64.
pub fn dot(left: &[f32], right: &[f32]) -> f64 {
    interleaved_sum(left, right, |x, y| x * y)
}

/// ‖x − y‖² in f64, from the differences.
pub fn squared_distance(left: &[f32], right: &[f32]) -> f64 {
    interleaved_sum(left, right, |x, y| (x - y) * (x - y))
}

/// Σ term(x, y): eight interleaved sums, then those in order, then the rest.
#[inline(always)]
fn interleaved_sum(left: &[f32], right: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let term = |x: f32, y: f32| term(f64::from(x), f64::from(y));
    let (left_eights, right_eights) = (left.chunks_exact(8), right.chunks_exact(8));
    let rest: f64 = left_eights.remainder().iter().zip(right_eights.remainder()).map(|(&x, &y)| term(x, y)).sum();
    let mut sums = [0.0f64; 8];
    for (xs, ys) in left_eights.zip(right_eights) {
        for (sum, (&x, &y)) in sums.iter_mut().zip(xs.iter().zip(ys)) {
            *sum += term(x, y);
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_and_products_of_any_length() {
        for n in [0, 1, 7, 8, 19] {
            let (left, right): (Vec<f32>, Vec<f32>) = (0..n).map(|i| (i as f32 + 1.0, 2.0 * i as f32)).unzip();
            let expected = |term: fn(f64) -> f64| (0..n).map(|i| term(f64::from(i))).sum::<f64>();
            assert_eq!(squared_distance(&left, &right), expected(|i| (1.0 - i) * (1.0 - i)));
            assert_eq!(dot(&left, &right), expected(|i| (i + 1.0) * 2.0 * i));
        }
    }

    #[test]
    fn norms_of_all_sizes() {
        let check = |row: &[f32], expected_norm: f64, expected: &[f32]| {
            let mut unit = vec![f32::NAN; row.len()];
            let norm = normalize(row, &mut unit);
            assert!((norm - expected_norm).abs() <= 1e-7 * expected_norm, "{norm} for {row:?}");
            for (found, wanted) in unit.iter().zip(expected) {
                assert!((found - wanted).abs() <= 1e-6 * wanted.abs(), "{unit:?} for {row:?}");
            }
        };
        check(&[3.0, 4.0], 5.0, &[0.6, 0.8]);
        check(&[3e30, -4e30], 5e30, &[0.6, -0.8]);
        check(&[f32::MAX, f32::MAX], f64::from(f32::MAX) * 2f64.sqrt(), &[0.5f32.sqrt(), 0.5f32.sqrt()]);
        check(&[3e-10, 4e-10], 5e-10, &[0.6, 0.8]);
        check(&[3e-30, 4e-30], 5e-30, &[3e-18, 4e-18]);
        check(&[0.0; 11], 0.0, &[0.0; 11]);
        let ones = [1.0; 19];
        check(&ones, 19f64.sqrt(), &[1.0 / 19f32.sqrt(); 19]);
    }
}
