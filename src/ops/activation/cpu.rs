//! Elementwise loops over blocks.

use crate::model::plan::Activation;
use crate::ops::activation::{relu, silu, silu_derivative};
use crate::ops::batch::Batch;
use crate::ops::registers::registers;
use pulp::{Simd, with_simd};

/// y = activation(x).
pub fn forward(batch: &Batch, activation: Activation, x: &[f32], y: &mut [f32]) {
    batch.for_each_block(y, |block, y| {
        let x = &x[batch.range(&block)];
        match activation {
            Activation::Identity => y.copy_from_slice(x),
            Activation::Relu => relu_of(x, y),
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
            keep_positive(y, gradient);
        }
        Activation::Silu => scale(&x[batch.range(&block)], gradient, silu_derivative),
    });
}

/// out += values.
pub fn accumulate(batch: &Batch, values: &[f32], out: &mut [f32]) {
    batch.for_each_block(out, |block, out| {
        let values = &values[batch.range(&block)];
        add_to(values, out);
    });
}

/// out = left + right.
pub fn add(batch: &Batch, left: &[f32], right: &[f32], out: &mut [f32]) {
    batch.for_each_block(out, |block, out| {
        let (left, right) = (&left[batch.range(&block)], &right[batch.range(&block)]);
        sum(left, right, out);
    });
}

#[with_simd(relu_of = registers())]
#[inline(always)]
fn relu_of_simd<'a, S: Simd>(_: S, x: &'a [f32], y: &'a mut [f32]) {
    map(x, y, relu);
}

#[with_simd(keep_positive = registers())]
#[inline(always)]
fn keep_positive_simd<'a, S: Simd>(_: S, y: &'a [f32], gradient: &'a mut [f32]) {
    for (gradient, y) in gradient.iter_mut().zip(y) {
        *gradient *= if *y > 0.0 { 1.0 } else { 0.0 };
    }
}

#[with_simd(add_to = registers())]
#[inline(always)]
fn add_to_simd<'a, S: Simd>(_: S, values: &'a [f32], out: &'a mut [f32]) {
    for (out, value) in out.iter_mut().zip(values) {
        *out += value;
    }
}

#[with_simd(sum = registers())]
#[inline(always)]
fn sum_simd<'a, S: Simd>(_: S, left: &'a [f32], right: &'a [f32], out: &'a mut [f32]) {
    for ((out, left), right) in out.iter_mut().zip(left).zip(right) {
        *out = left + right;
    }
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
