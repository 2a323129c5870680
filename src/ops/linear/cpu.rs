//! Matrix products over blocks of images, and of outputs for the weight's gradient.

use rayon::prelude::*;

use crate::ops::batch::BLOCK_IMAGES;
use crate::ops::gemm::{Matrix, MatrixMut, multiply};
use crate::ops::linear::Layer;

/// Outputs a task of the weight's gradient.
const GRADIENT_OUTPUTS: usize = 64;

pub fn forward(layer: &Layer, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let Layer { inputs, outputs, .. } = *layer;
    let right = Matrix::new(weight, outputs, inputs, inputs).transposed();
    y.par_chunks_mut((BLOCK_IMAGES * outputs).max(1)).enumerate().for_each(|(block, y)| {
        let n = y.len() / outputs;
        if let Some(bias) = bias {
            y.chunks_exact_mut(outputs).for_each(|y| y.copy_from_slice(bias));
        }
        let left = Matrix::new(&x[block * BLOCK_IMAGES * inputs..], n, inputs, inputs);
        multiply(&mut MatrixMut::new(y, n, outputs, outputs), left, right, bias.is_some());
    });
}

/// dx = dy · w, or dx += dy · w.
pub fn backward_input(layer: &Layer, dy: &[f32], weight: &[f32], dx: &mut [f32], accumulate: bool) {
    let Layer { inputs, outputs, .. } = *layer;
    let right = Matrix::new(weight, outputs, inputs, inputs);
    dx.par_chunks_mut((BLOCK_IMAGES * inputs).max(1)).enumerate().for_each(|(block, dx)| {
        let n = dx.len() / inputs;
        let left = Matrix::new(&dy[block * BLOCK_IMAGES * outputs..], n, outputs, outputs);
        multiply(&mut MatrixMut::new(dx, n, inputs, inputs), left, right, accumulate);
    });
}

pub fn backward_weight(layer: &Layer, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let Layer { images, inputs, outputs } = *layer;
    let right = Matrix::new(x, images, inputs, inputs);
    dw.par_chunks_mut((GRADIENT_OUTPUTS * inputs).max(1)).enumerate().for_each(|(part, dw)| {
        let n = dw.len() / inputs;
        let left = Matrix::new(dy.get(part * GRADIENT_OUTPUTS..).unwrap_or(&[]), images, n, outputs).transposed();
        multiply(&mut MatrixMut::new(dw, n, inputs, inputs), left, right, false);
    });
}

pub fn backward_bias(layer: &Layer, dy: &[f32], d_bias: &mut [f32]) {
    for (output, d_bias) in d_bias.iter_mut().enumerate() {
        let sum: f64 = dy.iter().skip(output).step_by(layer.outputs).map(|dy| f64::from(*dy)).sum();
        *d_bias = sum as f32;
    }
}
