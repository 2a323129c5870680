//! Convolutions of few input channels: the taps under the output pixels of one row are first copied side by side, so that
//! one product of a useful depth replaces many shallow ones. Taps outside the map are copied as zeros.

use std::cell::RefCell;
use std::ops::Range;

use crate::ops::batch::Block;
use crate::ops::conv2d::{Convolution, Taps};
use crate::ops::microkernel::{Left, Out, Right, Size, multiply};

/// A kernel row shallower than this is not worth a product of its own.
const SHALLOW: usize = 48;

/// Pixels of one product: their patches stay in the second-level cache.
const PIXELS: usize = 256;

thread_local! {
    static PATCHES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

pub fn pays(convolution: &Convolution) -> bool {
    let Convolution { input, window, .. } = convolution;
    window.kernel > 1 && window.kernel * input.channels < SHALLOW
}

/// Numbers that one thread keeps its patches in.
pub fn working_len(convolution: &Convolution) -> usize {
    let Convolution { input, output, window } = convolution;
    if !pays(convolution) {
        return 0;
    }
    images_at_once(convolution) * output.width * window.kernel * window.kernel * input.channels
}

/// Images whose rows make up one product.
fn images_at_once(convolution: &Convolution) -> usize {
    (PIXELS / convolution.output.width.max(1)).max(1)
}

/// One block of the output.
pub fn forward_block(convolution: &Convolution, x: &[f32], weight: &[f32], block: &Block, part: &mut [f32]) {
    let row_len = convolution.output.row_len();
    let n_outputs = convolution.output.channels;
    let step = images_at_once(convolution);
    for (index, part) in part.chunks_mut(step * row_len).enumerate() {
        let first_image = block.first_image + index * step;
        let images = first_image..first_image + part.len() / row_len;
        with_patches(convolution, x, block.row, images, |patches, depth| {
            multiply(
                Size { rows: part.len() / n_outputs, columns: n_outputs, depth },
                Left { data: patches, row_stride: depth, depth_stride: 1 },
                Right { data: weight, stride: n_outputs },
                Out { data: part, stride: n_outputs },
                false,
            );
        });
    }
}

/// Adds the products of some output rows to the gradient of the weight, all taps × O.
pub fn sum_weight_gradient(convolution: &Convolution, x: &[f32], dy: &[f32], rows: Range<usize>, out: &mut [f32]) {
    let output = &convolution.output;
    let step = images_at_once(convolution);
    for row in rows {
        for first_image in (0..output.images).step_by(step) {
            let images = first_image..output.images.min(first_image + step);
            let dy = &dy[output.offset(row, images.start)..output.offset(row, images.end)];
            with_patches(convolution, x, row, images, |patches, depth| {
                multiply(
                    Size { rows: depth, columns: output.channels, depth: dy.len() / output.channels },
                    Left { data: patches, row_stride: 1, depth_stride: depth },
                    Right { data: dy, stride: output.channels },
                    Out { data: out, stride: output.channels },
                    true,
                );
            });
        }
    }
}

/// Calls `work` with images × output width × all taps under output row `row`, and the number of taps × channels.
fn with_patches<R>(
    convolution: &Convolution,
    x: &[f32],
    row: usize,
    images: Range<usize>,
    work: impl FnOnce(&[f32], usize) -> R,
) -> R {
    let Convolution { input, output, window } = convolution;
    let depth = window.kernel * window.kernel * input.channels;
    let len = images.len() * output.width * depth;
    PATCHES.with_borrow_mut(|patches| {
        if patches.len() < len {
            patches.resize(len, 0.0);
        }
        for (image, patches) in images.zip(patches.chunks_exact_mut(output.width * depth)) {
            for (ow, patch) in patches.chunks_exact_mut(depth).enumerate() {
                copy_patch(convolution, x, image, row, ow, patch);
            }
        }
        work(&patches[..len], depth)
    })
}

fn copy_patch(convolution: &Convolution, x: &[f32], image: usize, oh: usize, ow: usize, patch: &mut [f32]) {
    let Convolution { input, window, .. } = convolution;
    let rows = Taps::of_output(oh, input.height, *window);
    let columns = Taps::of_output(ow, input.width, *window);
    let inside = columns.kernel.start * input.channels..columns.kernel.end * input.channels;
    let whole = rows.kernel.len() == window.kernel && columns.kernel.len() == window.kernel;
    if !whole {
        patch.fill(0.0);
    }
    let places = patch.chunks_exact_mut(window.kernel * input.channels).skip(rows.kernel.start).take(rows.kernel.len());
    for (step, place) in places.enumerate() {
        let start = input.offset(rows.first + step, image) + columns.first * input.channels;
        place[inside.clone()].copy_from_slice(&x[start..start + inside.len()]);
    }
}
