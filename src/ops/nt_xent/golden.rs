//! The inputs of the reference values in `tests/golden`: pseudo-random numbers that f32 holds exactly, and what
//! is kept of them.

use serde::Deserialize;

/// What is kept of a gradient: its norm, its sum and some of its entries.
#[derive(Deserialize)]
pub struct Probe {
    pub norm: f64,
    pub sum: f64,
    pub index: Vec<usize>,
    pub value: Vec<f64>,
}

/// NT-Xent of two views of `n` images, `d` wide, drawn from two streams.
#[derive(Deserialize)]
pub struct Case {
    pub n: usize,
    pub d: usize,
    pub temperature: f64,
    pub scale: f64,
    pub seed_view0: u64,
    pub seed_view1: u64,
    pub loss: f64,
    pub grad_view0: Probe,
    pub grad_view1: Probe,
}

/// Value `index` of stream `seed`, in [−1, 1): splitmix64 of seed · 2³² + index, its top 24 bits.
fn value(seed: u64, index: u64) -> f64 {
    let mut z = (seed << 32).wrapping_add(index).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

/// The first `n` values of stream `seed`, times `scale`.
pub fn values(seed: u64, n: usize, scale: f64) -> Vec<f64> {
    (0..n as u64).map(|index| value(seed, index) * scale).collect()
}

/// [`values`] in f32.
pub fn values_f32(seed: u64, n: usize, scale: f64) -> Vec<f32> {
    values(seed, n, scale).into_iter().map(|value| value as f32).collect()
}
