//! The true Gaussian along rows, then along columns.

use crate::views::exponential::exp;
use crate::views::gaussian_blur::Blurring;
use crate::views::gaussian_blur::edges::replicate;
use crate::views::map::Map;

/// Convolves rows, then columns, with exp(−d²/2σ²) for |d| ≤ max(1, ⌈4σ⌉), normalised; edges replicated. σ = 0 changes nothing.
pub fn gaussian(map: &mut Map, sigma: f32, memory: &mut Blurring) {
    if sigma.is_nan() || sigma <= 0.0 {
        return;
    }
    half_kernel(sigma, &mut memory.weights);
    let radius = memory.weights.len() - 1;
    let (width, height) = (map.width, map.height);
    for row in map.values.chunks_exact_mut(width) {
        replicate(row, 1, radius, &mut memory.padded);
        convolve(&memory.padded, 1, &memory.weights, row);
    }
    for plane in map.values.chunks_exact_mut(width * height) {
        replicate(plane, width, radius, &mut memory.padded);
        convolve(&memory.padded, width, &memory.weights, plane);
    }
}

/// The weights at distance 0, 1, …, max(1, ⌈4σ⌉).
fn half_kernel(sigma: f32, weights: &mut Vec<f32>) {
    let radius = ((4.0 * sigma).ceil() as usize).max(1);
    let scale = -0.5 / (sigma * sigma);
    weights.clear();
    weights.extend(
        (0..=radius).map(|distance| if distance == 0 { 1.0 } else { exp((distance * distance) as f32 * scale) }),
    );
    let sum = weights[0] + 2.0 * weights[1..].iter().sum::<f32>();
    weights.iter_mut().for_each(|weight| *weight /= sum);
}

const LANES: usize = 16;

/// out[i] = w₀ p[i] + Σ_d w_d (p[i − d·step] + p[i + d·step]), where index 0 of `out` lies radius·step into `padded`.
fn convolve(padded: &[f32], step: usize, weights: &[f32], out: &mut [f32]) {
    let radius = weights.len() - 1;
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    let done = chunks.len() * LANES;
    for (index, chunk) in chunks.iter_mut().enumerate() {
        let centre = index * LANES + radius * step;
        let lanes = |at: usize| padded[at..].first_chunk::<LANES>().expect("the padding holds every tap");
        let mut sums = lanes(centre).map(|value| weights[0] * value);
        for (distance, &weight) in weights.iter().enumerate().skip(1) {
            let (before, after) = (lanes(centre - distance * step), lanes(centre + distance * step));
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum += weight * (before[lane] + after[lane]);
            }
        }
        *chunk = sums;
    }
    for (index, out) in rest.iter_mut().enumerate() {
        let centre = done + index + radius * step;
        let mut sum = weights[0] * padded[centre];
        for (distance, &weight) in weights.iter().enumerate().skip(1) {
            sum += weight * (padded[centre - distance * step] + padded[centre + distance * step]);
        }
        *out = sum;
    }
}
