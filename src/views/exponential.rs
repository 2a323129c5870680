//! exp for f32 from fused multiply-adds alone, so that every machine and every device gives the same bits.

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 = high + low; the high part has 9 trailing zero bits, so that its product with a whole number below 2⁹ is exact.
const LN_2_HIGH: f32 = 355.0 / 512.0;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// eˣ within 2 ulp: x = n ln 2 + r with |r| ≤ ½ ln 2, the Taylor polynomial of degree 7 in r (relative remainder 5e-9), times 2ⁿ.
/// +∞ above 88.73, 0 below −104.
pub fn exp(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    if x > 89.0 {
        return f32::INFINITY;
    }
    if x < -104.0 {
        return 0.0;
    }
    let n = (x * LOG2_E).round_ties_even();
    let r = (-n).mul_add(LN_2_LOW, (-n).mul_add(LN_2_HIGH, x));
    let coefficients = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let polynomial = coefficients.iter().fold(1.0 / 5040.0, |sum: f32, &coefficient| sum.mul_add(r, coefficient));
    let n = n as i32;
    let half = n / 2;
    polynomial * power_of_two(half) * power_of_two(n - half)
}

/// 2ⁿ for −126 ≤ n ≤ 127.
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ulps(a: f32, b: f32) -> u32 {
        a.to_bits().abs_diff(b.to_bits())
    }

    #[test]
    fn within_two_ulp_of_libm() {
        let mut worst = 0;
        for step in -1_040_000..=887_200 {
            let x = step as f32 * 1e-4;
            let expected = libm::exp(f64::from(x)) as f32;
            worst = worst.max(ulps(exp(x), expected));
        }
        assert!(worst <= 2, "{worst} ulp");
    }

    #[test]
    fn the_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(88.8), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }
}
