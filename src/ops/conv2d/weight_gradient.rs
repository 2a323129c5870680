//! The gradient of a convolution's weight.
//!
//! A tile of it, some taps of one kernel row × O, is a sum over output pixels of xᵀ · dy with the images as the inner
//! dimension. Tiles and the groups of output rows they are summed over are cut by shape; groups are added in order.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use crate::ops::conv2d::{Convolution, Taps, patches, winograd};
use crate::ops::microkernel::{Left, Out, Right, Size, multiply};

/// Images of one product: two map rows of as many images stay in the second-level cache.
const IMAGES: usize = 128;

/// Longest kernel row that is one tile, and the tile of longer ones.
const WHOLE_ROW: usize = 512;
const TILE_TAPS: usize = 256;

/// Tiles and groups together make at least this many tasks, where the map has rows enough.
const TASKS: usize = 12;
const MOST_GROUPS: usize = 8;

thread_local! {
    static PACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// How the gradient is cut.
struct Cut {
    /// Kernel rows, or 1 where the taps of all rows lie side by side.
    n_rows: usize,
    /// Taps × channels of one of them.
    row_len: usize,
    tile_len: usize,
    tiles_per_row: usize,
    n_groups: usize,
    outputs: usize,
    as_patches: bool,
}

impl Cut {
    fn new(convolution: &Convolution) -> Cut {
        let Convolution { input, output, window } = convolution;
        let as_patches = patches::pays(convolution);
        let taps = if as_patches { window.kernel * window.kernel } else { window.kernel };
        let n_rows = if as_patches { 1 } else { window.kernel };
        let row_len = taps * input.channels;
        let tile_len = if row_len <= WHOLE_ROW { row_len } else { TILE_TAPS };
        let tiles_per_row = row_len.div_ceil(tile_len.max(1));
        let wanted = TASKS.div_ceil((n_rows * tiles_per_row).max(1));
        let n_groups = wanted.min(MOST_GROUPS).min(output.height).max(1);
        Cut { n_rows, row_len, tile_len, tiles_per_row, n_groups, outputs: output.channels, as_patches }
    }

    fn tile_size(&self) -> usize {
        self.tile_len * self.outputs
    }

    fn tiles(&self) -> usize {
        self.n_rows * self.tiles_per_row
    }

    /// Taps × channels of a tile within its row.
    fn range(&self, tile: usize) -> Range<usize> {
        let start = tile % self.tiles_per_row * self.tile_len;
        start..self.row_len.min(start + self.tile_len)
    }
}

/// Numbers that `backward_weight` needs to work in.
pub fn scratch_len(convolution: &Convolution) -> usize {
    if winograd::pays(convolution) {
        return winograd::weight_gradient::scratch_len(convolution);
    }
    let cut = Cut::new(convolution);
    cut.n_groups * cut.tiles() * cut.tile_size()
}

/// Numbers that one thread copies rows into.
pub fn working_len(convolution: &Convolution) -> usize {
    let cut = Cut::new(convolution);
    if cut.as_patches { 0 } else { IMAGES * (cut.tile_len + cut.outputs) }
}

/// dw: K × K × I × O. Taps that never touch the input keep what they hold: their gradient is 0, and so must be what the
/// caller put there.
///
/// # Panics
/// When `scratch` is shorter than `scratch_len`.
pub fn backward_weight(convolution: &Convolution, x: &[f32], dy: &[f32], scratch: &mut [f32], dw: &mut [f32]) {
    if winograd::pays(convolution) {
        return winograd::weight_gradient::backward(convolution, x, dy, scratch, dw);
    }
    let cut = Cut::new(convolution);
    if cut.tile_size() == 0 {
        return;
    }
    let scratch = &mut scratch[..scratch_len(convolution)];
    scratch.par_chunks_mut(cut.tile_size()).enumerate().for_each(|(task, out)| {
        // Tiles of one group are neighbours, so that threads share the rows of the maps they read.
        let (group, tile) = (task / cut.tiles(), task % cut.tiles());
        let live = live_taps(convolution, &cut, tile);
        if live.is_empty() {
            return;
        }
        out.fill(0.0);
        let height = convolution.output.height;
        let rows = group * height / cut.n_groups..(group + 1) * height / cut.n_groups;
        if cut.as_patches {
            patches::sum_weight_gradient(convolution, x, dy, rows, out);
        } else {
            rows.for_each(|oh| sum_row(convolution, &cut, (x, dy), tile, oh, out));
        }
    });
    combine(convolution, &cut, scratch, dw);
}

/// Adds the products of one output row to a tile, taps × O.
fn sum_row(convolution: &Convolution, cut: &Cut, (x, dy): (&[f32], &[f32]), tile: usize, oh: usize, out: &mut [f32]) {
    let Convolution { input, output, window } = convolution;
    let (kh, tile) = (tile / cut.tiles_per_row, cut.range(tile));
    let rows = Taps::of_output(oh, input.height, *window);
    if !rows.kernel.contains(&kh) {
        return;
    }
    let ih = rows.first + kh - rows.kernel.start;
    for first_image in (0..input.images).step_by(IMAGES) {
        let n_images = IMAGES.min(input.images - first_image);
        for ow in 0..output.width {
            let columns = Taps::of_output(ow, input.width, *window);
            let start = tile.start.max(columns.kernel.start * input.channels);
            let end = tile.end.min(columns.kernel.end * input.channels);
            if start >= end {
                continue;
            }
            let first = columns.first * input.channels + start - columns.kernel.start * input.channels;
            let size = Size { rows: end - start, columns: output.channels, depth: n_images };
            let out = &mut out[(start - tile.start) * output.channels..];
            let x = &x[input.offset(ih, first_image) + first..];
            let dy = &dy[output.offset(oh, first_image) + ow * output.channels..];
            add_products(size, (x, input.row_len()), (dy, output.row_len()), out);
        }
    }
}

/// out += xᵀ · dy; both have a row an image, so many numbers apart. They are copied side by side first: every tile of the
/// output reads all rows, and rows far apart share few sets of the caches and take a page each.
fn add_products(size: Size, (x, x_stride): (&[f32], usize), (dy, dy_stride): (&[f32], usize), out: &mut [f32]) {
    let Size { rows, columns, depth } = size;
    PACKED.with_borrow_mut(|packed| {
        let len = depth * (rows + columns);
        if packed.len() < len {
            packed.resize(len, 0.0);
        }
        let (left, right) = packed[..len].split_at_mut(depth * rows);
        for (image, (left, right)) in left.chunks_exact_mut(rows).zip(right.chunks_exact_mut(columns)).enumerate() {
            left.copy_from_slice(&x[image * x_stride..][..rows]);
            right.copy_from_slice(&dy[image * dy_stride..][..columns]);
        }
        let left = Left { data: left, row_stride: 1, depth_stride: rows };
        multiply(size, left, Right { data: right, stride: columns }, Out { data: out, stride: columns }, true);
    });
}

/// The part of a tile whose taps touch the input, counted within its row.
fn live_taps(convolution: &Convolution, cut: &Cut, tile: usize) -> Range<usize> {
    let Convolution { input, output, window } = convolution;
    let range = cut.range(tile);
    if cut.as_patches {
        return range;
    }
    let kh = tile / cut.tiles_per_row;
    if !(0..output.height).any(|oh| Taps::of_output(oh, input.height, *window).kernel.contains(&kh)) {
        return 0..0;
    }
    let mut live = window.kernel..0;
    for ow in 0..output.width {
        let taps = Taps::of_output(ow, input.width, *window).kernel;
        if !taps.is_empty() {
            live = live.start.min(taps.start)..live.end.max(taps.end);
        }
    }
    range.start.max(live.start * input.channels)..range.end.min(live.end * input.channels)
}

/// Adds the groups in order.
fn combine(convolution: &Convolution, cut: &Cut, scratch: &[f32], dw: &mut [f32]) {
    let group_stride = cut.tiles() * cut.tile_size();
    dw.par_chunks_mut(cut.row_len * cut.outputs).enumerate().for_each(|(row, dw)| {
        dw.par_chunks_mut(cut.tile_len * cut.outputs).enumerate().for_each(|(index, dw)| {
            let tile = row * cut.tiles_per_row + index;
            let (live, start) = (live_taps(convolution, cut, tile), cut.range(tile).start);
            if live.is_empty() {
                return;
            }
            let range = (live.start - start) * cut.outputs..(live.end - start) * cut.outputs;
            let scratch = &scratch[tile * cut.tile_size()..];
            for at in range {
                let first = scratch[at];
                dw[at] = (1..cut.n_groups).fold(first, |sum, group| sum + scratch[group * group_stride + at]);
            }
        });
    });
}
