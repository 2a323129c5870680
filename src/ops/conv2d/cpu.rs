//! Forward pass and gradient of the input, by the way that the shapes choose.
//!
//! Every block of output is computed by one thread, each element by chains of products fixed by the shapes, so the cut into
//! blocks and the number of threads never change a bit.

use rayon::prelude::*;

use crate::ops::batch::{Batch, Block};
use crate::ops::conv2d::taps::{Taps, order};
use crate::ops::conv2d::{Convolution, patches, weight_gradient, winograd};
use crate::ops::gemm::{Matrix, turn_round};
use crate::ops::microkernel::{Left, Out, Right, Size, multiply};

/// Numbers that any of the three passes needs to work in.
pub fn scratch_len(convolution: &Convolution) -> usize {
    let points = if winograd::pays(convolution) {
        winograd::filters_len(convolution.input.channels, convolution.output.channels)
    } else {
        0
    };
    (convolution.weight_len() + points).max(weight_gradient::scratch_len(convolution))
}

/// Numbers that each thread keeps to work in.
pub fn working_len(convolution: &Convolution) -> usize {
    if winograd::pays(convolution) {
        return winograd::working_len(&convolution.input, &convolution.output);
    }
    patches::working_len(convolution).max(weight_gradient::working_len(convolution))
}

/// y = x ∗ w. `finish` sees every block of y once it is complete, with the block's own part of `partials`.
///
/// Shapes: `x` as `convolution.input`, `weight` K × K × I × O, `y` as `convolution.output`.
///
/// # Panics
/// When `scratch` is shorter than `scratch_len`, and when another length does not fit.
pub fn forward<T: Send>(
    convolution: &Convolution,
    x: &[f32],
    weight: &[f32],
    scratch: &mut [f32],
    y: &mut [f32],
    partials: &mut [T],
    finish: impl Fn(&[f32], &mut [T]) + Sync,
) {
    let Convolution { input, output, window } = convolution;
    if winograd::pays(convolution) {
        let filters = winograd::filters(weight, input.channels, output.channels, scratch);
        return winograd::convolve((input, x), filters, (output, y), false, partials, finish);
    }
    let as_patches = patches::pays(convolution);
    let products = Products { from: input, data: x, weight, kernel: window.kernel, to: output };
    let rows = |row| Taps::of_output(row, input.height, *window);
    let columns = |column| Taps::of_output(column, input.width, *window);
    output.for_each_block_with(y, partials, |block, part, partial| {
        if as_patches {
            patches::forward_block(convolution, x, weight, &block, part);
        } else {
            products.block(&block, part, [&rows, &columns], false);
        }
        finish(part, partial);
    });
}

/// dx = dy ∗ wᵀ, or dx += dy ∗ wᵀ.
///
/// # Panics
/// As `forward`.
pub fn backward_input(
    convolution: &Convolution,
    dy: &[f32],
    weight: &[f32],
    scratch: &mut [f32],
    dx: &mut [f32],
    accumulate: bool,
) {
    let Convolution { input, output, window } = convolution;
    let (transposed, scratch) = scratch.split_at_mut(convolution.weight_len());
    transpose_weight(convolution, weight, transposed);
    if winograd::pays(convolution) {
        // Taps in the order in which they reach consecutive outputs: the filters turned by 180°.
        let filters = winograd::filters(transposed, output.channels, input.channels, scratch);
        let mut nothing = vec![(); input.n_blocks()];
        return winograd::convolve((output, dy), filters, (input, dx), accumulate, &mut nothing, |_, _| {});
    }
    let products = Products { from: output, data: dy, weight: transposed, kernel: window.kernel, to: input };
    let rows = |row| Taps::of_input(row, output.height, *window);
    let columns = |column| Taps::of_input(column, output.width, *window);
    input.for_each_block(dx, |block, part| products.block(&block, part, [&rows, &columns], accumulate));
}

/// One map from another, pixel by pixel.
struct Products<'a> {
    from: &'a Batch,
    data: &'a [f32],
    /// A matrix a tap, in the order in which `taps` counts them.
    weight: &'a [f32],
    kernel: usize,
    to: &'a Batch,
}

impl Products<'_> {
    /// One block of `to`, replaced or added to. `taps`: of a row and of a column of `to`.
    fn block(&self, block: &Block, part: &mut [f32], taps: [&dyn Fn(usize) -> Taps; 2], accumulate: bool) {
        let Products { from, data, weight, kernel, to } = *self;
        let rows = taps[0](block.row);
        for column in 0..to.width {
            let columns = taps[1](column);
            let depth = columns.kernel.len() * from.channels;
            for (step, kh) in rows.kernel.clone().enumerate() {
                let start = (kh * kernel + columns.kernel.start) * from.channels * to.channels;
                multiply(
                    Size { rows: block.n_images, columns: to.channels, depth },
                    pixels(from, data, rows.first + step, block, columns.first),
                    Right { data: &weight[start..], stride: to.channels },
                    pixel_mut(to, part, column),
                    accumulate || step > 0,
                );
            }
            if !accumulate && (rows.is_empty() || columns.is_empty()) {
                clear_pixel(to, block, part, column);
            }
        }
    }
}

/// Weights K × K × I × O to K × K × O × I, taps in the order in which they reach consecutive outputs. Taps that never touch
/// the input are left as they are: nobody reads them.
fn transpose_weight(convolution: &Convolution, weight: &[f32], transposed: &mut [f32]) {
    let Convolution { input, output, window } = convolution;
    let tap_len = input.channels * output.channels;
    let live = |place: usize, size: usize, n_outputs: usize| {
        let mut outputs = 0..n_outputs;
        order(*window).nth(place).filter(|tap| outputs.any(|o| Taps::of_output(o, size, *window).kernel.contains(tap)))
    };
    transposed.par_chunks_mut(tap_len.max(1)).enumerate().for_each(|(place, tap)| {
        let (row, column) = (place / window.kernel, place % window.kernel);
        let kernel = (live(row, input.height, output.height), live(column, input.width, output.width));
        if let (Some(kh), Some(kw)) = kernel {
            let start = (kh * window.kernel + kw) * tap_len;
            let matrix = Matrix::dense(&weight[start..start + tap_len], input.channels, output.channels);
            turn_round(matrix.transposed(), 0, input.channels, tap);
        }
    });
}

/// What lies from pixel (`row`, `column`) on, one matrix row an image of the block.
fn pixels<'a>(map: &Batch, data: &'a [f32], row: usize, block: &Block, column: usize) -> Left<'a> {
    let start = map.offset(row, block.first_image) + column * map.channels;
    Left { data: data.get(start..).unwrap_or(&[]), row_stride: map.row_len(), depth_stride: 1 }
}

fn pixel_mut<'a>(map: &Batch, part: &'a mut [f32], column: usize) -> Out<'a> {
    Out { data: &mut part[column * map.channels..], stride: map.row_len() }
}

fn clear_pixel(map: &Batch, block: &Block, part: &mut [f32], column: usize) {
    for image in 0..block.n_images {
        let start = image * map.row_len() + column * map.channels;
        part[start..start + map.channels].fill(0.0);
    }
}
