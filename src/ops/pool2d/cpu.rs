//! Loops over blocks of the output (forward) and of the input (backward).
// One index into many arrays, as in the formula.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, with_simd};
use rayon::prelude::*;

use crate::ops::batch::{BLOCK_IMAGES, Batch, Block};
use crate::ops::conv2d::{Taps, kernel_order};
use crate::ops::pool2d::{POOLING_KERNEL_MAX, Pooling};
use crate::ops::registers::registers;

/// Channels compared at once.
const LANES: usize = 16;

/// No tap of the window is inside the map.
const NOBODY: u8 = u8::MAX;

/// Fills y and, for each output, which tap won (kh · K + kw). `winners` is as long as `y`.
///
/// # Panics
/// When the window is larger than 15 × 15: its taps are counted in a byte.
pub fn max_forward(pooling: &Pooling, x: &[f32], y: &mut [f32], winners: &mut [u8]) {
    assert!(
        pooling.window.kernel <= POOLING_KERNEL_MAX,
        "a pooling window of at most 15 × 15, got {}",
        pooling.window.kernel
    );
    let Pooling { input, output, window } = pooling;
    for_each_block_and_winners(output, y, winners, |block, y, winners| {
        let rows = Taps::of_output(block.row, input.height, *window);
        let pixels = y.chunks_exact_mut(output.channels).zip(winners.chunks_exact_mut(output.channels));
        for (at, (y, winner)) in pixels.enumerate() {
            let image = block.first_image + at / output.width;
            let columns = Taps::of_output(at % output.width, input.width, *window);
            let taps = Inside { pooling, image, rows: &rows, columns: &columns };
            max_of(&taps, x, y, winner);
        }
    });
}

/// The taps of one window that lie inside the map.
struct Inside<'a> {
    pooling: &'a Pooling,
    image: usize,
    rows: &'a Taps,
    columns: &'a Taps,
}

#[with_simd(max_of = registers())]
#[inline(always)]
fn max_of_simd<'a, S: Simd>(_: S, taps: &'a Inside<'a>, x: &'a [f32], y: &'a mut [f32], winners: &'a mut [u8]) {
    taps.max(x, y, winners);
}

impl Inside<'_> {
    #[inline(always)]
    fn max(&self, x: &[f32], y: &mut [f32], winners: &mut [u8]) {
        let tiles = y.len() / LANES * LANES;
        for first in (0..tiles).step_by(LANES) {
            self.max_tile::<LANES>(x, first, y, winners);
        }
        for channel in tiles..y.len() {
            self.max_tile::<1>(x, channel, y, winners);
        }
    }

    #[inline(always)]
    fn max_tile<const N: usize>(&self, x: &[f32], first: usize, y: &mut [f32], winners: &mut [u8]) {
        let Pooling { input, window, .. } = self.pooling;
        let (mut best, mut winner) = ([f32::NEG_INFINITY; N], [u32::from(NOBODY); N]);
        for (step, kh) in self.rows.kernel.clone().enumerate() {
            let row = input.offset(self.rows.first + step, self.image);
            for (step, kw) in self.columns.kernel.clone().enumerate() {
                let start = row + (self.columns.first + step) * input.channels + first;
                let (x, tap) = (&x[start..start + N], (kh * window.kernel + kw) as u32);
                for lane in 0..N {
                    // A first value, a larger one, or the first that is not a number.
                    let first = winner[lane] == u32::from(NOBODY);
                    let wins = (x[lane] > best[lane]) | first | (x[lane].is_nan() & !best[lane].is_nan());
                    best[lane] = if wins { x[lane] } else { best[lane] };
                    winner[lane] = if wins { tap } else { winner[lane] };
                }
            }
        }
        y[first..first + N].copy_from_slice(&best);
        winners[first..first + N].iter_mut().zip(winner).for_each(|(out, winner)| *out = winner as u8);
    }
}

fn for_each_block_and_winners(
    output: &Batch,
    y: &mut [f32],
    winners: &mut [u8],
    work: impl Fn(Block, &mut [f32], &mut [u8]) + Sync,
) {
    if output.is_empty() {
        return;
    }
    let (row_len, per_view) = (output.row_len(), output.images_per_view());
    y.par_chunks_mut(per_view * row_len).zip(winners.par_chunks_mut(per_view * row_len)).enumerate().for_each(
        |(index, (y, winners))| {
            let (row, view) = (index / output.views, index % output.views);
            let parts = y.par_chunks_mut(BLOCK_IMAGES * row_len).zip(winners.par_chunks_mut(BLOCK_IMAGES * row_len));
            parts.enumerate().for_each(|(block, (y, winners))| {
                let first_image = view * per_view + block * BLOCK_IMAGES;
                work(Block { row, view, first_image, n_images: y.len() / row_len }, y, winners);
            });
        },
    );
}

pub fn average_forward(pooling: &Pooling, x: &[f32], y: &mut [f32]) {
    let Pooling { input, output, window } = pooling;
    let weight = 1.0 / (window.kernel * window.kernel) as f32;
    output.for_each_block(y, |block, y| {
        let rows = Taps::of_output(block.row, input.height, *window);
        for (at, y) in y.chunks_exact_mut(output.channels).enumerate() {
            let image = block.first_image + at / output.width;
            let columns = Taps::of_output(at % output.width, input.width, *window);
            y.fill(0.0);
            for ih in rows.first..rows.first + rows.kernel.len() {
                let start = input.offset(ih, image) + columns.first * input.channels;
                let x = &x[start..start + columns.kernel.len() * input.channels];
                for x in x.chunks_exact(input.channels) {
                    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
                }
            }
            y.iter_mut().for_each(|y| *y *= weight);
        }
    });
}

pub fn max_backward(pooling: &Pooling, dy: &[f32], winners: &[u8], dx: &mut [f32], accumulate: bool) {
    gather(pooling, dx, accumulate, |range, tap, dx| {
        let (dy, winners) = (&dy[range.clone()], &winners[range]);
        take_won(dy, winners, tap, dx);
    });
}

#[with_simd(take_won = registers())]
#[inline(always)]
fn take_won_simd<'a, S: Simd>(_: S, dy: &'a [f32], winners: &'a [u8], tap: u8, dx: &'a mut [f32]) {
    for ((dx, dy), winner) in dx.iter_mut().zip(dy).zip(winners) {
        *dx += if *winner == tap { *dy } else { 0.0 };
    }
}

pub fn average_backward(pooling: &Pooling, dy: &[f32], dx: &mut [f32], accumulate: bool) {
    let weight = 1.0 / (pooling.window.kernel * pooling.window.kernel) as f32;
    gather(pooling, dx, accumulate, |range, _, dx| {
        dx.iter_mut().zip(&dy[range]).for_each(|(dx, dy)| *dx += dy * weight);
    });
}

/// Calls `add` with every output whose window holds an input pixel and the tap it is seen through.
fn gather(
    pooling: &Pooling,
    dx: &mut [f32],
    accumulate: bool,
    add: impl Fn(std::ops::Range<usize>, u8, &mut [f32]) + Sync,
) {
    let Pooling { input, output, window } = pooling;
    assert!(window.kernel <= POOLING_KERNEL_MAX, "a pooling window of at most 15 × 15, got {}", window.kernel);
    let mut order = [0; POOLING_KERNEL_MAX];
    order.iter_mut().zip(kernel_order(*window)).for_each(|(place, tap)| *place = tap);
    input.for_each_block(dx, |block, dx| {
        let rows = Taps::of_input(block.row, output.height, *window);
        for (at, dx) in dx.chunks_exact_mut(input.channels).enumerate() {
            let image = block.first_image + at / input.width;
            let columns = Taps::of_input(at % input.width, output.width, *window);
            if !accumulate {
                dx.fill(0.0);
            }
            for (step, kh) in order[rows.kernel.clone()].iter().enumerate() {
                let row = output.offset(rows.first + step, image);
                for (step, kw) in order[columns.kernel.clone()].iter().enumerate() {
                    let start = row + (columns.first + step) * output.channels;
                    add(start..start + output.channels, (kh * window.kernel + kw) as u8, dx);
                }
            }
        }
    });
}
