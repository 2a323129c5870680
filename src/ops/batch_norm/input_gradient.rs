//! The second pass of a batch norm's way back, once its first has left the sums.
// One index into many arrays, as in the formula.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, with_simd};

use crate::ops::batch_norm::Normalization;
use crate::ops::batch_norm::cpu::{Affine, Derivative};
use crate::ops::registers::registers;

/// Where the gradient of the input goes.
#[derive(Debug)]
pub enum InputGradient<'a> {
    /// Over dz, whose place nobody else needs.
    InPlace,
    Write(&'a mut [f32]),
    Accumulate(&'a mut [f32]),
}

/// Second pass: the gradient of the input, after `Normalization::finish_gradients`. `gradient` as the first pass left it.
pub fn backward_input(
    normalization: &Normalization,
    affine: Affine,
    x: &[f32],
    derivative: Derivative,
    gradient: &mut [f32],
    target: InputGradient,
) {
    let masks = derivative.is_recomputed();
    let dz = gradient;
    let batch = &normalization.batch;
    let slopes = |view| Slopes::of_view(normalization, affine, view);
    match target {
        InputGradient::InPlace => batch.for_each_block(dz, |block, dz| {
            let x = &x[batch.range(&block)];
            in_place(slopes(block.view), masks, x, dz);
        }),
        InputGradient::Write(dx) => batch.for_each_block(dx, |block, dx| {
            let (x, dz) = (&x[batch.range(&block)], &dz[batch.range(&block)]);
            write(slopes(block.view), masks, x, dz, dx);
        }),
        InputGradient::Accumulate(dx) => batch.for_each_block(dx, |block, dx| {
            let (x, dz) = (&x[batch.range(&block)], &dz[batch.range(&block)]);
            add(slopes(block.view), masks, x, dz, dx);
        }),
    }
}

#[with_simd(in_place = registers())]
#[inline(always)]
fn in_place_simd<'a, S: Simd>(_: S, slopes: Slopes<'a>, masks: bool, x: &'a [f32], dz: &'a mut [f32]) {
    if masks {
        slopes.in_place::<true>(x, dz);
    } else {
        slopes.in_place::<false>(x, dz);
    }
}

#[with_simd(write = registers())]
#[inline(always)]
fn write_simd<'a, S: Simd>(_: S, slopes: Slopes<'a>, masks: bool, x: &'a [f32], dz: &'a [f32], dx: &'a mut [f32]) {
    if masks {
        slopes.each::<true>(x, dz, dx, |dx, value| *dx = value);
    } else {
        slopes.each::<false>(x, dz, dx, |dx, value| *dx = value);
    }
}

#[with_simd(add = registers())]
#[inline(always)]
fn add_simd<'a, S: Simd>(_: S, slopes: Slopes<'a>, masks: bool, x: &'a [f32], dz: &'a [f32], dx: &'a mut [f32]) {
    if masks {
        slopes.each::<true>(x, dz, dx, |dx, value| *dx += value);
    } else {
        slopes.each::<false>(x, dz, dx, |dx, value| *dx += value);
    }
}

/// What the gradient of the input is made of; every slice is one number a channel.
#[derive(Clone, Copy)]
struct Slopes<'a> {
    affine: Affine<'a>,
    mean: &'a [f32],
    inverse_std: &'a [f32],
    mean_dz: &'a [f32],
    mean_product: &'a [f32],
}

impl<'a> Slopes<'a> {
    #[inline(always)]
    fn of_view(normalization: &'a Normalization, affine: Affine<'a>, view: usize) -> Slopes<'a> {
        let range = normalization.channels_of(view);
        let (n, start) = (range.len(), range.start);
        Slopes {
            affine: Affine { scale: &affine.scale[..n], shift: &affine.shift[..n] },
            mean: &normalization.statistics.mean[start..][..n],
            inverse_std: &normalization.statistics.inverse_std[start..][..n],
            mean_dz: &normalization.mean_dz[start..][..n],
            mean_product: &normalization.mean_product[start..][..n],
        }
    }

    #[inline(always)]
    fn at<const MASK: bool>(&self, c: usize, x: f32, dz: f32) -> f32 {
        let centred = x - self.mean[c];
        let gain = self.inverse_std[c] * self.affine.scale[c];
        let dz = if MASK && centred * gain + self.affine.shift[c] <= 0.0 { 0.0 } else { dz };
        gain * (dz - self.mean_dz[c] - centred * self.inverse_std[c] * self.mean_product[c])
    }

    #[inline(always)]
    fn in_place<const MASK: bool>(&self, x: &[f32], dz: &mut [f32]) {
        let n = self.mean.len();
        for (x, dz) in x.chunks_exact(n).zip(dz.chunks_exact_mut(n)) {
            for c in 0..n {
                dz[c] = self.at::<MASK>(c, x[c], dz[c]);
            }
        }
    }

    #[inline(always)]
    fn each<const MASK: bool>(&self, x: &[f32], dz: &[f32], dx: &mut [f32], store: impl Fn(&mut f32, f32)) {
        let n = self.mean.len();
        for ((x, dz), dx) in x.chunks_exact(n).zip(dz.chunks_exact(n)).zip(dx.chunks_exact_mut(n)) {
            for c in 0..n {
                store(&mut dx[c], self.at::<MASK>(c, x[c], dz[c]));
            }
        }
    }
}
