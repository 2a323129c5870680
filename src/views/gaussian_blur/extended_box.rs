//! Pillow's `GaussianBlur`: three extended-box passes an axis, in 24-bit fixed point with 8 bits between passes.
//!
//! The box (Gwosdek, Grewenig, Bruhn, Weickert, "Theoretical Foundations of Gaussian Convolution by Extended Box Filtering",
//! SSVM 2011) has whole taps within `radius` and one fractional tap beyond on either side.

use crate::views::gaussian_blur::Blurring;
use crate::views::gaussian_blur::edges::replicate;
use crate::views::map::Map;

const PASSES: usize = 3;
const ONE: u32 = 1 << 24;
const HALF: u32 = 1 << 23;

/// The taps of one pass, in units of 2⁻²⁴.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ExtendedBox {
    radius: usize,
    inner: u32,
    outer: u32,
}

impl ExtendedBox {
    /// The box whose `PASSES`-fold application has variance σ². Widths of the arithmetic are Pillow's.
    fn of_sigma(sigma: f32) -> ExtendedBox {
        let variance = sigma * sigma / PASSES as f32;
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
        let numerator = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance);
        let fraction = numerator / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
        let box_radius = whole + fraction;
        let radius = box_radius as usize;
        let inner = (ONE as f32 / (box_radius * 2.0 + 1.0)) as u32;
        ExtendedBox { radius, inner, outer: (ONE - (2 * radius as u32 + 1) * inner) / 2 }
    }

    /// One pass: `padded` has radius + 1 units of `step` before and after the values.
    fn pass(&self, padded: &[u32], step: usize, out: &mut [u32]) {
        let far = 2 * (self.radius + 1) * step;
        let ends = padded.iter().zip(&padded[far..]);
        if self.radius == 0 {
            for ((out, (before, after)), middle) in out.iter_mut().zip(ends).zip(&padded[step..]) {
                *out = (middle * self.inner + (before + after) * self.outer + HALF) >> 24;
            }
            return;
        }
        out.copy_from_slice(&padded[step..step + out.len()]);
        for tap in 2..=2 * self.radius + 1 {
            out.iter_mut().zip(&padded[tap * step..]).for_each(|(sum, value)| *sum += value);
        }
        for (out, (before, after)) in out.iter_mut().zip(ends) {
            *out = (*out * self.inner + (before + after) * self.outer + HALF) >> 24;
        }
    }
}

/// Blurs with Pillow's boxes of standard deviation `sigma` pixels: rows three times, then columns three times.
pub fn blur(map: &mut Map, sigma: f32, memory: &mut Blurring) {
    let taps = ExtendedBox::of_sigma(sigma);
    let (width, height) = (map.width, map.height);
    let (levels, padded) = (&mut memory.levels, &mut memory.padded_levels);
    levels.clear();
    levels.extend(map.values.iter().map(|value| (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u32));
    for row in levels.chunks_exact_mut(width) {
        for _ in 0..PASSES {
            replicate(row, 1, taps.radius + 1, padded);
            taps.pass(padded, 1, row);
        }
    }
    for plane in levels.chunks_exact_mut(width * height) {
        for _ in 0..PASSES {
            replicate(plane, width, taps.radius + 1, padded);
            taps.pass(padded, width, plane);
        }
    }
    map.values.iter_mut().zip(levels).for_each(|(value, level)| *value = *level as f32 / 255.0);
}
