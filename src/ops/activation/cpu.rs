//! Elementwise loops over blocks.

use crate::model::plan::Activation;
use crate::ops::activation::{relu, silu, silu_derivative};
use crate::ops::batch::Batch;
use crate::ops::wide::wide;

/// y = activation(x).
pub fn forward(batch: &Batch, activation: Activation, x: &[f32], y: &mut [f32]) {
    batch.for_each_block(y, |block, y| {
        let x = &x[batch.range(&block)];
        match activation {
            Activation::Identity => y.copy_from_slice(x),
            Activation::Relu => wide(|| map(x, y, relu)),
            Activation::Silu => map(x, y, silu),
        }
    });
}

/// Replaces the gradient of y by that of x. ReLU reads `y`, SiLU reads `x`; the other may be empty.
pub fn backward(batch: &Batch, activation: Activation, x: &[f32], y: &[f32], gradient: &mut [f32]) {
    if activation == Activation::Identity {
        return;
    }
    batch.for_each_block(gradient, |block, gradient| match activation {
        Activation::Identity => {}
        Activation::Relu => {
            let y = &y[batch.range(&block)];
            wide(|| scale(y, gradient, |y| if y > 0.0 { 1.0 } else { 0.0 }));
        }
        Activation::Silu => scale(&x[batch.range(&block)], gradient, silu_derivative),
    });
}

/// out += values.
pub fn accumulate(batch: &Batch, values: &[f32], out: &mut [f32]) {
    batch.for_each_block(out, |block, out| {
        let values = &values[batch.range(&block)];
        wide(|| out.iter_mut().zip(values).for_each(|(out, value)| *out += value));
    });
}

/// out = left + right.
pub fn add(batch: &Batch, left: &[f32], right: &[f32], out: &mut [f32]) {
    batch.for_each_block(out, |block, out| {
        let (left, right) = (&left[batch.range(&block)], &right[batch.range(&block)]);
        wide(|| out.iter_mut().zip(left).zip(right).for_each(|((out, left), right)| *out = left + right));
    });
}

#[inline(always)]
fn map(x: &[f32], y: &mut [f32], function: impl Fn(f32) -> f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = function(*x);
    }
}

#[inline(always)]
fn scale(at: &[f32], gradient: &mut [f32], derivative: impl Fn(f32) -> f32) {
    for (gradient, at) in gradient.iter_mut().zip(at) {
        *gradient *= derivative(*at);
    }
}
