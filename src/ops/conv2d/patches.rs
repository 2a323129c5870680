//! Convolutions of few input channels: the taps under an output pixel are first copied side by side, so that one product
//! of a useful depth replaces many shallow ones. Columns outside the map are copied as zeros.

use std::cell::RefCell;

use crate::ops::batch::Block;
use crate::ops::conv2d::{Convolution, Taps};
use crate::ops::gemm::{Matrix, MatrixMut, multiply};

/// A kernel row shallower than this is not worth a product of its own.
const SHALLOW: usize = 48;

thread_local! {
    static PATCHES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

pub fn pays(convolution: &Convolution) -> bool {
    convolution.window.kernel > 1 && convolution.window.kernel * convolution.input.channels < SHALLOW
}

/// One block of the output.
pub fn forward_block(convolution: &Convolution, x: &[f32], weight: &[f32], block: &Block, part: &mut [f32]) {
    let Convolution { input, output, window } = convolution;
    let rows = Taps::of_output(block.row, input.height, *window);
    let row_depth = window.kernel * input.channels;
    let depth = rows.kernel.len() * row_depth;
    let weight = &weight[rows.kernel.start * row_depth * output.channels..];
    PATCHES.with_borrow_mut(|patches| {
        if patches.len() < block.n_images * depth {
            patches.resize(block.n_images * depth, 0.0);
        }
        for ow in 0..output.width {
            let columns = Taps::of_output(ow, input.width, *window);
            copy_patches(convolution, x, block, &rows, &columns, patches);
            let mut pixel =
                MatrixMut::new(&mut part[ow * output.channels..], block.n_images, output.channels, output.row_len());
            let left = Matrix::new(patches, block.n_images, depth, depth);
            multiply(&mut pixel, left, Matrix::new(weight, depth, output.channels, output.channels), false);
        }
    });
}

fn copy_patches(convolution: &Convolution, x: &[f32], block: &Block, rows: &Taps, columns: &Taps, patches: &mut [f32]) {
    let Convolution { input, window, .. } = convolution;
    let row_depth = window.kernel * input.channels;
    let inside = columns.kernel.start * input.channels..columns.kernel.end * input.channels;
    let mut places = patches.chunks_exact_mut(row_depth);
    for image in block.first_image..block.first_image + block.n_images {
        for ih in rows.first..rows.first + rows.kernel.len() {
            let Some(place) = places.next() else { return };
            let start = input.offset(ih, image) + columns.first * input.channels;
            place[..inside.start].fill(0.0);
            place[inside.clone()].copy_from_slice(&x[start..start + inside.len()]);
            place[inside.end..].fill(0.0);
        }
    }
}
