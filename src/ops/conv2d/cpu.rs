//! Pixel matrix products over blocks of images.
//!
//! Every block of output is computed by one thread with matrix products of at most 512 products an element, added in an
//! order fixed by the shapes, so the cut into blocks and the number of threads never change a bit.

use rayon::prelude::*;

use crate::ops::batch::{Batch, Block};
use crate::ops::conv2d::taps::{Taps, order};
use crate::ops::conv2d::{Convolution, patches};
use crate::ops::gemm::{Matrix, MatrixMut, multiply};

/// Images of one product of the weight's gradient: two rows of as many images stay in the second-level cache.
const GRADIENT_IMAGES: usize = 128;

/// Rows of the weight's gradient a task.
const GRADIENT_ROWS: usize = 128;

/// y = x ∗ w. `finish` sees every block of y once it is complete, with the block's own part of `partials`.
///
/// Shapes: `x` as `convolution.input`, `weight` K × K × I × O, `y` as `convolution.output`.
pub fn forward<T: Send>(
    convolution: &Convolution,
    x: &[f32],
    weight: &[f32],
    y: &mut [f32],
    partials: &mut [T],
    finish: impl Fn(&[f32], &mut [T]) + Sync,
) {
    let as_patches = patches::pays(convolution);
    convolution.output.for_each_block_with(y, partials, |block, part, partial| {
        if as_patches {
            patches::forward_block(convolution, x, weight, &block, part);
        } else {
            forward_block(convolution, x, weight, &block, part);
        }
        finish(part, partial);
    });
}

fn forward_block(convolution: &Convolution, x: &[f32], weight: &[f32], block: &Block, part: &mut [f32]) {
    let Convolution { input, output, window } = convolution;
    let rows = Taps::of_output(block.row, input.height, *window);
    for ow in 0..output.width {
        let columns = Taps::of_output(ow, input.width, *window);
        let depth = columns.kernel.len() * input.channels;
        let mut pixel = pixel_mut(output, block, part, ow);
        for (step, kh) in rows.kernel.clone().enumerate() {
            let left = pixels(input, x, rows.first + step, block, columns.first, depth);
            let start = (kh * window.kernel + columns.kernel.start) * input.channels * output.channels;
            let right = Matrix::new(&weight[start..], depth, output.channels, output.channels);
            multiply(&mut pixel, left, right, step > 0);
        }
        if rows.is_empty() || columns.is_empty() {
            clear_pixel(output, block, part, ow);
        }
    }
}

/// dx = dy ∗ wᵀ, or dx += dy ∗ wᵀ. `transposed` as `transpose_weight` leaves it.
pub fn backward_input(convolution: &Convolution, dy: &[f32], transposed: &[f32], dx: &mut [f32], accumulate: bool) {
    let Convolution { input, output, window } = convolution;
    input.for_each_block(dx, |block, part| {
        let rows = Taps::of_input(block.row, output.height, *window);
        for iw in 0..input.width {
            let columns = Taps::of_input(iw, output.width, *window);
            let depth = columns.kernel.len() * output.channels;
            let mut pixel = pixel_mut(input, &block, part, iw);
            for (step, kh) in rows.kernel.clone().enumerate() {
                let left = pixels(output, dy, rows.first + step, &block, columns.first, depth);
                let start = (kh * window.kernel + columns.kernel.start) * input.channels * output.channels;
                let right = Matrix::new(&transposed[start..], depth, input.channels, input.channels);
                multiply(&mut pixel, left, right, accumulate || step > 0);
            }
            if !accumulate && (rows.is_empty() || columns.is_empty()) {
                clear_pixel(input, &block, part, iw);
            }
        }
    });
}

/// Weights K × K × I × O to K × K × O × I, taps in the order in which they reach consecutive outputs. Taps that never touch
/// the input are left as they are: nobody reads them.
pub fn transpose_weight(convolution: &Convolution, weight: &[f32], transposed: &mut [f32]) {
    let Convolution { input, output, window } = convolution;
    let tap_len = input.channels * output.channels;
    transposed.par_chunks_mut((tap_len * window.kernel).max(1)).zip(order_rows(convolution)).for_each(|(row, kh)| {
        row.par_chunks_mut(tap_len).zip(order_columns(convolution)).for_each(|(tap, kw)| {
            if let (Some(kh), Some(kw)) = (kh, kw) {
                let start = (kh * window.kernel + kw) * tap_len;
                transpose(&weight[start..start + tap_len], output.channels, tap);
            }
        });
    });
}

/// Kernel rows in transposed order, those that never touch the input left out.
fn order_rows(convolution: &Convolution) -> Vec<Option<usize>> {
    live_order(convolution, convolution.input.height, convolution.output.height)
}

fn order_columns(convolution: &Convolution) -> Vec<Option<usize>> {
    live_order(convolution, convolution.input.width, convolution.output.width)
}

fn live_order(convolution: &Convolution, size: usize, n_outputs: usize) -> Vec<Option<usize>> {
    let window = convolution.window;
    let live = |tap: &usize| (0..n_outputs).any(|o| Taps::of_output(o, size, window).kernel.contains(tap));
    order(window).map(|tap| Some(tap).filter(live)).collect()
}

/// out[j, i] = matrix[i, j], in tiles that stay in the first-level cache.
fn transpose(matrix: &[f32], columns: usize, out: &mut [f32]) {
    const TILE: usize = 16;
    let rows = matrix.len() / columns;
    for i0 in (0..rows).step_by(TILE) {
        for j0 in (0..columns).step_by(TILE) {
            for j in j0..columns.min(j0 + TILE) {
                for i in i0..rows.min(i0 + TILE) {
                    out[j * rows + i] = matrix[i * columns + j];
                }
            }
        }
    }
}

/// dw: the gradient of the weight, K × K × I × O. Taps that never touch the input keep what they hold: their gradient is 0,
/// and so must be what the caller put there.
pub fn backward_weight(convolution: &Convolution, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let Convolution { input, output, window } = convolution;
    let row_len = window.kernel * input.channels;
    let n_parts = row_len.div_ceil(GRADIENT_ROWS).max(1);
    let part_rows = row_len.div_ceil(n_parts).max(1);
    dw.par_chunks_mut((row_len * output.channels).max(1)).enumerate().for_each(|(kh, dw)| {
        dw.par_chunks_mut(part_rows * output.channels).enumerate().for_each(|(index, dw)| {
            let rows = index * part_rows..(index * part_rows + dw.len() / output.channels);
            backward_weight_part(convolution, x, dy, kh, rows, dw);
        });
    });
}

/// Rows `part` of kernel row `kh`, counted over kw × I.
fn backward_weight_part(
    convolution: &Convolution,
    x: &[f32],
    dy: &[f32],
    kh: usize,
    part: std::ops::Range<usize>,
    dw: &mut [f32],
) {
    let Convolution { input, output, window } = convolution;
    let mut clean = true;
    for oh in 0..output.height {
        let rows = Taps::of_output(oh, input.height, *window);
        if !rows.kernel.contains(&kh) {
            continue;
        }
        let ih = rows.first + kh - rows.kernel.start;
        for first_image in (0..input.images).step_by(GRADIENT_IMAGES) {
            let n_images = GRADIENT_IMAGES.min(input.images - first_image);
            let block = Block { row: oh, view: 0, first_image, n_images };
            for ow in 0..output.width {
                let columns = Taps::of_output(ow, input.width, *window);
                let start = part.start.max(columns.kernel.start * input.channels);
                let end = part.end.min(columns.kernel.end * input.channels);
                if start >= end {
                    continue;
                }
                if std::mem::take(&mut clean) {
                    clear_live(convolution, &part, dw);
                }
                let first = (columns.first * input.channels + start) - columns.kernel.start * input.channels;
                let left = inputs(input, x, ih, &block, first, end - start).transposed();
                let right = pixels(output, dy, oh, &block, ow, output.channels);
                let dw = &mut dw[(start - part.start) * output.channels..];
                multiply(&mut MatrixMut::new(dw, end - start, output.channels, output.channels), left, right, true);
            }
        }
    }
}

/// Zeroes the rows of a part whose taps touch the input.
fn clear_live(convolution: &Convolution, part: &std::ops::Range<usize>, dw: &mut [f32]) {
    let Convolution { input, output, window } = convolution;
    let mut live = window.kernel..0;
    for ow in 0..output.width {
        let taps = Taps::of_output(ow, input.width, *window).kernel;
        if !taps.is_empty() {
            live = live.start.min(taps.start)..live.end.max(taps.end);
        }
    }
    let start = part.start.max(live.start * input.channels) - part.start;
    let end = part.end.min(live.end * input.channels).saturating_sub(part.start);
    if start < end {
        dw[start * output.channels..end * output.channels].fill(0.0);
    }
}

/// `depth` numbers from pixel (`row`, `column`) on, one matrix row an image of the block.
fn pixels<'a>(map: &Batch, data: &'a [f32], row: usize, block: &Block, column: usize, depth: usize) -> Matrix<'a> {
    inputs(map, data, row, block, column * map.channels, depth)
}

fn inputs<'a>(map: &Batch, data: &'a [f32], row: usize, block: &Block, first: usize, depth: usize) -> Matrix<'a> {
    let start = map.offset(row, block.first_image) + first;
    Matrix::new(data.get(start..).unwrap_or(&[]), block.n_images, depth, map.row_len())
}

fn pixel_mut<'a>(map: &Batch, block: &Block, part: &'a mut [f32], column: usize) -> MatrixMut<'a> {
    MatrixMut::new(&mut part[column * map.channels..], block.n_images, map.channels, map.row_len())
}

fn clear_pixel(map: &Batch, block: &Block, part: &mut [f32], column: usize) {
    for image in 0..block.n_images {
        let start = image * map.row_len() + column * map.channels;
        part[start..start + map.channels].fill(0.0);
    }
}
