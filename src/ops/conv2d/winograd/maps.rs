//! A map from another: the forward pass, and with the filters turned the gradient of the input.

use std::cell::RefCell;

use crate::ops::batch::{Batch, Block};
use crate::ops::conv2d::winograd::filters::Filters;
use crate::ops::conv2d::winograd::{GAP, POINTS, TILE, Unit, gather, images_a_unit, scatter};
use crate::ops::microkernel::{Left, Out, Right, Size, multiply};

thread_local! {
    /// Points of a unit's inputs, then of its outputs.
    static WORKING: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Numbers that one thread works in, in either direction.
pub fn working_len(input: &Batch, output: &Batch) -> usize {
    let channels = input.channels + output.channels;
    let tiles = images_a_unit(input, input.channels.max(output.channels)) * input.width.div_ceil(TILE);
    POINTS * (tiles * channels + 2 * GAP)
}

/// to = from ∗ filters, or to += from ∗ filters: 3 × 3, stride 1, padding 1. `finish` sees every row of the images of
/// every block once it is complete, with the block's own part of `partials`.
pub fn convolve<T: Send>(
    (from, data): (&Batch, &[f32]),
    filters: Filters,
    (to, out): (&Batch, &mut [f32]),
    accumulate: bool,
    partials: &mut [T],
    finish: impl Fn(&[f32], &mut [T]) + Sync,
) {
    to.for_each_band(out, partials, |block, mut rows: [&mut [f32]; TILE], partials| {
        WORKING.with_borrow_mut(|working| {
            let len = working_len(from, to);
            if working.len() < len {
                working.resize(len, 0.0);
            }
            band((from, data), filters, to, &block, &mut rows, accumulate, working);
        });
        for (row, partials) in rows.into_iter().zip(partials).filter(|(row, _)| !row.is_empty()) {
            finish(row, partials);
        }
    });
}

fn band(
    (from, data): (&Batch, &[f32]),
    filters: Filters,
    to: &Batch,
    block: &Block,
    rows: &mut [&mut [f32]; TILE],
    accumulate: bool,
    working: &mut [f32],
) {
    let step = images_a_unit(from, from.channels.max(to.channels));
    for skipped in (0..block.n_images).step_by(step) {
        let n_images = step.min(block.n_images - skipped);
        let unit = Unit { row: block.row / TILE, first_image: block.first_image + skipped, n_images };
        let (strides, tiles) = ((unit.point_stride(from), unit.point_stride(to)), unit.tiles(from));
        let (inputs, outputs) = working.split_at_mut(POINTS * strides.0);
        gather::inputs(from, unit, data, inputs);
        for point in 0..POINTS {
            let left = Left { data: &inputs[point * strides.0..], row_stride: from.channels, depth_stride: 1 };
            for (first, width, panel) in filters.panels(point) {
                let size = Size { rows: tiles, columns: width, depth: from.channels };
                let out = Out { data: &mut outputs[point * strides.1 + first..], stride: to.channels };
                multiply(size, left, Right { data: panel, stride: width }, out, false);
            }
        }
        let mut rows = rows.each_mut().map(|row| row.get_mut(skipped * to.row_len()..).unwrap_or_default());
        scatter::outputs(to, unit, outputs, &mut rows, accumulate);
    }
}
