//! Passes over blocks; channels are the fastest axis, so every loop runs along them.
// One index into many arrays, as in the formula.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, with_simd};
use rayon::prelude::*;

use crate::model::plan::Activation;
use crate::ops::activation::{relu, silu, silu_derivative};
use crate::ops::batch::Batch;
use crate::ops::batch_norm::{Normalization, Statistics};
use crate::ops::registers::registers;

/// Channels summed at once: their f64 sums fit the registers.
const LANES: usize = 16;

/// Scale and shift, one number a channel.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
}

/// How dz follows from dy, and what of the forward pass that takes, as long as the batch.
#[derive(Debug, Clone, Copy)]
pub enum Derivative<'a> {
    Identity,
    /// With a residual: the sign is read from the output.
    ReluOfOutput {
        y: &'a [f32],
    },
    /// Without one z is recomputed from x in both passes, which is cheaper than to read y and to write dz.
    ReluOfInput,
    Silu {
        residual: Option<&'a [f32]>,
    },
}

impl Derivative<'_> {
    pub(super) fn is_recomputed(&self) -> bool {
        match self {
            Derivative::ReluOfInput => true,
            Derivative::Identity | Derivative::ReluOfOutput { .. } | Derivative::Silu { .. } => false,
        }
    }
}

/// Sums of x and x² of one block into 2 × channels.
pub fn sum_block(x: &[f32], sums: &mut [f64]) {
    let (sum, squares) = sums.split_at_mut(sums.len() / 2);
    sum_squares(x, sum, squares);
}

/// Partial sums of x and x² where the operation before did not leave them.
pub fn sum(normalization: &mut Normalization, x: &[f32]) {
    let batch = normalization.batch;
    normalization.partials.par_chunks_mut((2 * batch.channels).max(1)).enumerate().for_each(|(index, sums)| {
        sum_block(&x[batch.range(&batch.block(index))], sums);
    });
}

#[with_simd(sum_squares = registers())]
#[inline(always)]
fn sum_squares_simd<'a, S: Simd>(_: S, x: &'a [f32], sum: &'a mut [f64], squares: &'a mut [f64]) {
    let tiles = sum.len() / LANES * LANES;
    for first in (0..tiles).step_by(LANES) {
        sum_squares_tile::<LANES>(x, first, sum, squares);
    }
    for channel in tiles..sum.len() {
        sum_squares_tile::<1>(x, channel, sum, squares);
    }
}

#[inline(always)]
fn sum_squares_tile<const N: usize>(x: &[f32], first: usize, sum: &mut [f64], squares: &mut [f64]) {
    let (mut s, mut q) = ([0.0f64; N], [0.0f64; N]);
    for x in x.chunks_exact(sum.len()) {
        let x: [f32; N] = lanes(x, first);
        for lane in 0..N {
            let value = f64::from(x[lane]);
            s[lane] += value;
            q[lane] += value * value;
        }
    }
    sum[first..first + N].copy_from_slice(&s);
    squares[first..first + N].copy_from_slice(&q);
}

#[inline(always)]
fn lanes<const N: usize>(row: &[f32], first: usize) -> [f32; N] {
    let mut out = [0.0; N];
    out.copy_from_slice(&row[first..first + N]);
    out
}

/// y = activation(scale · (x − mean) · inverse_std + shift [+ residual]).
pub fn forward(
    normalization: &Normalization,
    affine: Affine,
    activation: Activation,
    x: &[f32],
    residual: Option<&[f32]>,
    y: &mut [f32],
) {
    let batch = &normalization.batch;
    batch.for_each_block(y, |block, y| {
        let range = batch.range(&block);
        let channels = Channels::of_view(normalization, affine, block.view);
        channels.forward(activation, &x[range.clone()], residual.map(|residual| &residual[range]), y);
    });
}

/// The same with given statistics for all images: evaluation.
pub fn evaluate(
    batch: &Batch,
    affine: Affine,
    statistics: &Statistics,
    activation: Activation,
    (x, residual): (&[f32], Option<&[f32]>),
    y: &mut [f32],
) {
    let channels = Channels { affine, mean: &statistics.mean, inverse_std: &statistics.inverse_std };
    batch.for_each_block(y, |block, y| {
        let range = batch.range(&block);
        channels.forward(activation, &x[range.clone()], residual.map(|residual| &residual[range]), y);
    });
}

/// What is the same for all rows of a group; every slice is one number a channel.
#[derive(Clone, Copy)]
struct Channels<'a> {
    affine: Affine<'a>,
    mean: &'a [f32],
    inverse_std: &'a [f32],
}

impl<'a> Channels<'a> {
    fn of_view(normalization: &'a Normalization, affine: Affine<'a>, view: usize) -> Channels<'a> {
        let range = normalization.channels_of(view);
        let Statistics { mean, inverse_std } = &normalization.statistics;
        Channels { affine, mean: &mean[range.clone()], inverse_std: &inverse_std[range] }
    }

    fn forward(&self, activation: Activation, x: &[f32], residual: Option<&[f32]>, y: &mut [f32]) {
        match (activation, residual) {
            (Activation::Identity, None) => apply(self, x, y),
            (Activation::Relu, None) => apply_relu(self, x, y),
            (Activation::Silu, None) => self.apply(x, y, silu),
            (Activation::Identity, Some(residual)) => apply_with(self, x, residual, y),
            (Activation::Relu, Some(residual)) => apply_relu_with(self, x, residual, y),
            (Activation::Silu, Some(residual)) => self.apply_with(x, residual, y, silu),
        }
    }

    #[inline(always)]
    fn normalize(&self, channel: usize, x: f32) -> f32 {
        let gain = self.inverse_std[channel] * self.affine.scale[channel];
        (x - self.mean[channel]) * gain + self.affine.shift[channel]
    }

    /// The same channels with lengths the compiler can see are equal.
    #[inline(always)]
    fn equal_lengths(&self) -> (Channels<'a>, usize) {
        let n = self.mean.len();
        let affine = Affine { scale: &self.affine.scale[..n], shift: &self.affine.shift[..n] };
        (Channels { affine, mean: &self.mean[..n], inverse_std: &self.inverse_std[..n] }, n)
    }

    #[inline(always)]
    fn apply(&self, x: &[f32], y: &mut [f32], activation: impl Fn(f32) -> f32) {
        let (channels, n) = self.equal_lengths();
        for (x, y) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)) {
            for c in 0..n {
                y[c] = activation(channels.normalize(c, x[c]));
            }
        }
    }

    #[inline(always)]
    fn apply_with(&self, x: &[f32], residual: &[f32], y: &mut [f32], activation: impl Fn(f32) -> f32) {
        let (channels, n) = self.equal_lengths();
        for ((x, residual), y) in x.chunks_exact(n).zip(residual.chunks_exact(n)).zip(y.chunks_exact_mut(n)) {
            for c in 0..n {
                y[c] = activation(channels.normalize(c, x[c]) + residual[c]);
            }
        }
    }

    /// Multiplies by the derivative of SiLU, recomputed from x: its argument was not stored.
    fn scale_by_silu(&self, x: &[f32], residual: Option<&[f32]>, gradient: &mut [f32]) {
        let n = self.mean.len();
        for (at, gradient) in gradient.iter_mut().enumerate() {
            let residual = residual.map_or(0.0, |residual| residual[at]);
            *gradient *= silu_derivative(self.normalize(at % n, x[at]) + residual);
        }
    }

    /// Sums of dz and dz · x̂. With `MASK`, ReLU's slope is taken at the recomputed z.
    #[inline(always)]
    fn sum_gradients<const MASK: bool>(&self, x: &[f32], dz: &[f32], sum: &mut [f64], products: &mut [f64]) {
        let tiles = sum.len() / LANES * LANES;
        for first in (0..tiles).step_by(LANES) {
            self.sum_gradients_tile::<MASK, LANES>(x, dz, first, sum, products);
        }
        for channel in tiles..sum.len() {
            self.sum_gradients_tile::<MASK, 1>(x, dz, channel, sum, products);
        }
    }

    #[inline(always)]
    fn sum_gradients_tile<const MASK: bool, const N: usize>(
        &self,
        x: &[f32],
        dz: &[f32],
        first: usize,
        sum: &mut [f64],
        products: &mut [f64],
    ) {
        let (mean, inverse_std): ([f32; N], [f32; N]) = (lanes(self.mean, first), lanes(self.inverse_std, first));
        let (scale, shift): ([f32; N], [f32; N]) = (lanes(self.affine.scale, first), lanes(self.affine.shift, first));
        let (mut s, mut p) = ([0.0f64; N], [0.0f64; N]);
        for (x, dz) in x.chunks_exact(sum.len()).zip(dz.chunks_exact(sum.len())) {
            let (x, dz): ([f32; N], [f32; N]) = (lanes(x, first), lanes(dz, first));
            for lane in 0..N {
                let centred = x[lane] - mean[lane];
                let z = centred * (inverse_std[lane] * scale[lane]) + shift[lane];
                let dz = if MASK && z <= 0.0 { 0.0 } else { dz[lane] };
                s[lane] += f64::from(dz);
                p[lane] += f64::from(dz * (centred * inverse_std[lane]));
            }
        }
        sum[first..first + N].copy_from_slice(&s);
        products[first..first + N].copy_from_slice(&p);
    }
}

#[with_simd(apply = registers())]
#[inline(always)]
fn apply_simd<'a, S: Simd>(_: S, channels: &'a Channels<'a>, x: &'a [f32], y: &'a mut [f32]) {
    channels.apply(x, y, |z| z);
}

#[with_simd(apply_relu = registers())]
#[inline(always)]
fn apply_relu_simd<'a, S: Simd>(_: S, channels: &'a Channels<'a>, x: &'a [f32], y: &'a mut [f32]) {
    channels.apply(x, y, relu);
}

#[with_simd(apply_with = registers())]
#[inline(always)]
fn apply_with_simd<'a, S: Simd>(_: S, channels: &'a Channels<'a>, x: &'a [f32], residual: &'a [f32], y: &'a mut [f32]) {
    channels.apply_with(x, residual, y, |z| z);
}

#[with_simd(apply_relu_with = registers())]
#[inline(always)]
fn apply_relu_with_simd<'a, S: Simd>(
    _: S,
    channels: &'a Channels<'a>,
    x: &'a [f32],
    residual: &'a [f32],
    y: &'a mut [f32],
) {
    channels.apply_with(x, residual, y, relu);
}

/// Sums of dz and dz · x̂, where it `masks` with ReLU's slope taken at the recomputed z.
#[with_simd(sum_gradients = registers())]
#[inline(always)]
fn sum_gradients_simd<'a, S: Simd>(
    _: S,
    channels: &'a Channels<'a>,
    masks: bool,
    (x, dz): (&'a [f32], &'a [f32]),
    sum: &'a mut [f64],
    products: &'a mut [f64],
) {
    if masks {
        channels.sum_gradients::<true>(x, dz, sum, products);
    } else {
        channels.sum_gradients::<false>(x, dz, sum, products);
    }
}

/// First pass: leaves the partial sums of dz and dz · x̂, and replaces dy by dz unless it is recomputed.
pub fn backward_sums(
    normalization: &mut Normalization,
    affine: Affine,
    x: &[f32],
    derivative: Derivative,
    gradient: &mut [f32],
) {
    let mut partials = std::mem::take(&mut normalization.partials);
    let read = &*normalization;
    let batch = &read.batch;
    batch.for_each_block_with(gradient, &mut partials, |block, gradient, sums| {
        let channels = Channels::of_view(read, affine, block.view);
        let range = batch.range(&block);
        let x = &x[range.clone()];
        match derivative {
            Derivative::Identity | Derivative::ReluOfInput => {}
            Derivative::ReluOfOutput { y } => mask(&y[range], gradient),
            Derivative::Silu { residual } => channels.scale_by_silu(x, residual.map(|r| &r[range]), gradient),
        }
        let (sum, products) = sums.split_at_mut(batch.channels);
        sum_gradients(&channels, derivative.is_recomputed(), (x, &*gradient), sum, products);
    });
    normalization.partials = partials;
}

#[with_simd(mask = registers())]
#[inline(always)]
fn mask_simd<'a, S: Simd>(_: S, y: &'a [f32], gradient: &'a mut [f32]) {
    for (gradient, y) in gradient.iter_mut().zip(y) {
        *gradient = if *y > 0.0 { *gradient } else { 0.0 };
    }
}
