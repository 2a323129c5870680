//! eˣ in f32 from additions and multiplications alone: it vectorises and gives the same bits on every machine.

/// Below it the result is 0 (the smallest normal number is e^−87.34).
const LOWEST: f32 = -87.336_54;
/// Above it the result stays at e^88.02, below the largest number.
const HIGHEST: f32 = 88.02;

/// ln 2 = HIGH + LOW; HIGH has 9 trailing zero bits, so its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// 1.5 · 2²³: adding it rounds to an integer and leaves that integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// eˣ within 2 units in the last place for x in −87.3..88; smaller x give 0, NaN stays NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, e^r by its Taylor polynomial of degree 7 (relative error below 6e-9), times 2ⁿ.
#[inline(always)]
pub fn exponential(x: f32) -> f32 {
    let clamped = x.clamp(LOWEST, HIGHEST);
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let tail = 1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0));
    let polynomial = 0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * tail));
    let mantissa = 1.0 + (r + r * r * polynomial);
    let scaled = f32::from_bits(mantissa.to_bits().wrapping_add(rounded.to_bits() << 23));
    if x < LOWEST { 0.0 } else { scaled }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_two_units_of_the_true_value() {
        let mut worst = 0.0f64;
        let ranges = [(0.0f32, 88.0f32), (-87.3, -0.0)];
        for (low, high) in ranges {
            let (first, last) = (low.abs().min(high.abs()).to_bits(), low.abs().max(high.abs()).to_bits());
            for bits in (first..last).step_by(1013) {
                let x = f32::from_bits(bits).copysign(if low < 0.0 { -1.0 } else { 1.0 });
                let (found, expected) = (exponential(x), libm::exp(f64::from(x)));
                let nearest = expected as f32;
                let unit = f64::from(f32::from_bits(nearest.to_bits() + 1) - nearest);
                worst = worst.max((f64::from(found) - expected).abs() / unit);
            }
        }
        assert!(worst <= 2.0, "{worst} units in the last place");
    }

    #[test]
    fn edges() {
        assert_eq!(exponential(0.0), 1.0);
        assert_eq!(exponential(-88.0), 0.0);
        assert_eq!(exponential(f32::NEG_INFINITY), 0.0);
        assert!(exponential(f32::INFINITY) > 1e38 && exponential(f32::INFINITY).is_finite());
        assert!(exponential(f32::NAN).is_nan());
    }
}
