//! One pass a direction.

use crate::ops::batch::Batch;
use crate::ops::registers::registers;
use pulp::{Simd, with_simd};

/// `x` as `input`, `y` images × channels.
pub fn forward(input: &Batch, x: &[f32], y: &mut [f32]) {
    let output = output(input);
    let weight = 1.0 / (input.height * input.width) as f32;
    output.for_each_block(y, |block, y| {
        for (i, y) in y.chunks_exact_mut(input.channels).enumerate() {
            y.fill(0.0);
            for row in 0..input.height {
                let start = input.offset(row, block.first_image + i);
                let x = &x[start..start + input.row_len()];
                sum_pixels(x, y);
            }
            y.iter_mut().for_each(|y| *y *= weight);
        }
    });
}

#[with_simd(sum_pixels = registers())]
#[inline(always)]
fn sum_pixels_simd<'a, S: Simd>(_: S, x: &'a [f32], y: &'a mut [f32]) {
    for x in x.chunks_exact(y.len()) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    }
}

/// dx = dy / (H·W) everywhere, or added to it.
pub fn backward(input: &Batch, dy: &[f32], dx: &mut [f32], accumulate: bool) {
    let weight = 1.0 / (input.height * input.width) as f32;
    input.for_each_block(dx, |block, dx| {
        for (i, dx) in dx.chunks_exact_mut(input.row_len()).enumerate() {
            let dy = &dy[(block.first_image + i) * input.channels..][..input.channels];
            for dx in dx.chunks_exact_mut(input.channels) {
                for (dx, dy) in dx.iter_mut().zip(dy) {
                    *dx = dy * weight + if accumulate { *dx } else { 0.0 };
                }
            }
        }
    });
}

fn output(input: &Batch) -> Batch {
    Batch { height: 1, width: 1, ..*input }
}
