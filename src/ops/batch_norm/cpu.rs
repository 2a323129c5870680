//! Passes over blocks; channels are the fastest axis, so every loop runs along them.

use rayon::prelude::*;

use crate::model::plan::Activation;
use crate::ops::activation::{relu, silu, silu_derivative};
use crate::ops::batch::{Batch, Block};
use crate::ops::batch_norm::{Normalization, Statistics};
use crate::ops::wide::wide;

/// Channels summed at once: their f64 sums fit the registers.
const LANES: usize = 16;

/// Scale and shift, one number a channel.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
}

/// What a backward pass reads again of the forward one, as long as the batch.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub x: &'a [f32],
    /// Read by ReLU only; may be empty for the others.
    pub y: &'a [f32],
    /// Read by SiLU only.
    pub residual: Option<&'a [f32]>,
}

impl<'a> Seen<'a> {
    fn block(&self, batch: &Batch, block: &Block) -> Seen<'a> {
        let range = batch.range(block);
        Seen {
            x: &self.x[range.clone()],
            y: self.y.get(range.clone()).unwrap_or(&[]),
            residual: self.residual.map(|residual| &residual[range]),
        }
    }
}

/// Where the gradient of the input goes.
#[derive(Debug)]
pub enum InputGradient<'a> {
    /// Over dz, whose place nobody else needs.
    InPlace,
    Write(&'a mut [f32]),
    Accumulate(&'a mut [f32]),
}

/// Sums of x and x² of one block into 2 × channels.
pub fn sum_block(x: &[f32], sums: &mut [f64]) {
    let (sum, squares) = sums.split_at_mut(sums.len() / 2);
    wide(|| sum_squares(x, sum, squares));
}

/// Partial sums of x and x² where the operation before did not leave them.
pub fn sum(normalization: &mut Normalization, x: &[f32]) {
    let batch = normalization.batch;
    normalization.partials.par_chunks_mut((2 * batch.channels).max(1)).enumerate().for_each(|(index, sums)| {
        sum_block(&x[batch.range(&batch.block(index))], sums);
    });
}

#[inline(always)]
fn sum_squares(x: &[f32], sum: &mut [f64], squares: &mut [f64]) {
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
            (Activation::Identity, None) => wide(|| self.apply(x, y, |z| z)),
            (Activation::Relu, None) => wide(|| self.apply(x, y, relu)),
            (Activation::Silu, None) => self.apply(x, y, silu),
            (Activation::Identity, Some(residual)) => wide(|| self.apply_with(x, residual, y, |z| z)),
            (Activation::Relu, Some(residual)) => wide(|| self.apply_with(x, residual, y, relu)),
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
    fn scale_by_silu(&self, seen: &Seen, gradient: &mut [f32]) {
        let n = self.mean.len();
        for (at, gradient) in gradient.iter_mut().enumerate() {
            let residual = seen.residual.map_or(0.0, |residual| residual[at]);
            *gradient *= silu_derivative(self.normalize(at % n, seen.x[at]) + residual);
        }
    }

    /// Sums of dz and dz · x̂.
    #[inline(always)]
    fn sum_gradients(&self, x: &[f32], dz: &[f32], sum: &mut [f64], products: &mut [f64]) {
        let tiles = sum.len() / LANES * LANES;
        for first in (0..tiles).step_by(LANES) {
            self.sum_gradients_tile::<LANES>(x, dz, first, sum, products);
        }
        for channel in tiles..sum.len() {
            self.sum_gradients_tile::<1>(x, dz, channel, sum, products);
        }
    }

    #[inline(always)]
    fn sum_gradients_tile<const N: usize>(
        &self,
        x: &[f32],
        dz: &[f32],
        first: usize,
        sum: &mut [f64],
        products: &mut [f64],
    ) {
        let (mean, inverse_std): ([f32; N], [f32; N]) = (lanes(self.mean, first), lanes(self.inverse_std, first));
        let (mut s, mut p) = ([0.0f64; N], [0.0f64; N]);
        for (x, dz) in x.chunks_exact(sum.len()).zip(dz.chunks_exact(sum.len())) {
            let (x, dz): ([f32; N], [f32; N]) = (lanes(x, first), lanes(dz, first));
            for lane in 0..N {
                s[lane] += f64::from(dz[lane]);
                p[lane] += f64::from(dz[lane] * ((x[lane] - mean[lane]) * inverse_std[lane]));
            }
        }
        sum[first..first + N].copy_from_slice(&s);
        products[first..first + N].copy_from_slice(&p);
    }
}

/// First pass: replaces dy by dz and leaves the partial sums of dz and dz · x̂.
pub fn backward_sums(
    normalization: &mut Normalization,
    affine: Affine,
    activation: Activation,
    seen: Seen,
    gradient: &mut [f32],
) {
    let mut partials = std::mem::take(&mut normalization.partials);
    let normalization_ref = &*normalization;
    let batch = &normalization_ref.batch;
    batch.for_each_block_with(gradient, &mut partials, |block, gradient, sums| {
        let channels = Channels::of_view(normalization_ref, affine, block.view);
        let seen = seen.block(batch, &block);
        match activation {
            Activation::Identity => {}
            Activation::Relu => wide(|| mask(seen.y, gradient)),
            Activation::Silu => channels.scale_by_silu(&seen, gradient),
        }
        let (sum, products) = sums.split_at_mut(batch.channels);
        wide(|| channels.sum_gradients(seen.x, gradient, sum, products));
    });
    normalization.partials = partials;
}

#[inline(always)]
fn mask(y: &[f32], gradient: &mut [f32]) {
    for (gradient, y) in gradient.iter_mut().zip(y) {
        *gradient = if *y > 0.0 { *gradient } else { 0.0 };
    }
}

/// Second pass: the gradient of the input, after `Normalization::finish_gradients`.
pub fn backward_input(normalization: &Normalization, scale: &[f32], x: &[f32], dz: &mut [f32], target: InputGradient) {
    let batch = &normalization.batch;
    match target {
        InputGradient::InPlace => batch.for_each_block(dz, |block, dz| {
            let x = &x[batch.range(&block)];
            wide(|| Slopes::of_view(normalization, scale, block.view).in_place(x, dz));
        }),
        InputGradient::Write(dx) => batch.for_each_block(dx, |block, dx| {
            let (x, dz) = (&x[batch.range(&block)], &dz[batch.range(&block)]);
            wide(|| Slopes::of_view(normalization, scale, block.view).each(x, dz, dx, |dx, value| *dx = value));
        }),
        InputGradient::Accumulate(dx) => batch.for_each_block(dx, |block, dx| {
            let (x, dz) = (&x[batch.range(&block)], &dz[batch.range(&block)]);
            wide(|| Slopes::of_view(normalization, scale, block.view).each(x, dz, dx, |dx, value| *dx += value));
        }),
    }
}

/// What the gradient of the input is made of; every slice is one number a channel.
#[derive(Clone, Copy)]
struct Slopes<'a> {
    scale: &'a [f32],
    mean: &'a [f32],
    inverse_std: &'a [f32],
    mean_dz: &'a [f32],
    mean_product: &'a [f32],
}

impl<'a> Slopes<'a> {
    #[inline(always)]
    fn of_view(normalization: &'a Normalization, scale: &'a [f32], view: usize) -> Slopes<'a> {
        let range = normalization.channels_of(view);
        let n = range.len();
        let start = range.start;
        Slopes {
            scale: &scale[..n],
            mean: &normalization.statistics.mean[start..][..n],
            inverse_std: &normalization.statistics.inverse_std[start..][..n],
            mean_dz: &normalization.mean_dz[start..][..n],
            mean_product: &normalization.mean_product[start..][..n],
        }
    }

    #[inline(always)]
    fn at(&self, c: usize, x: f32, dz: f32) -> f32 {
        let normalized = (x - self.mean[c]) * self.inverse_std[c];
        self.scale[c] * self.inverse_std[c] * (dz - self.mean_dz[c] - normalized * self.mean_product[c])
    }

    #[inline(always)]
    fn in_place(&self, x: &[f32], dz: &mut [f32]) {
        let n = self.scale.len();
        for (x, dz) in x.chunks_exact(n).zip(dz.chunks_exact_mut(n)) {
            for c in 0..n {
                dz[c] = self.at(c, x[c], dz[c]);
            }
        }
    }

    #[inline(always)]
    fn each(&self, x: &[f32], dz: &[f32], dx: &mut [f32], store: impl Fn(&mut f32, f32)) {
        let n = self.scale.len();
        for ((x, dz), dx) in x.chunks_exact(n).zip(dz.chunks_exact(n)).zip(dx.chunks_exact_mut(n)) {
            for c in 0..n {
                store(&mut dx[c], self.at(c, x[c], dz[c]));
            }
        }
    }
}
