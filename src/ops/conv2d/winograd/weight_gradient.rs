//! The gradient of the filters: a matrix product over the tiles at every point, then Gᵀ…G.
//!
//! Tiles come in units fixed by shape; a point's products of one unit are one chain, and units are added in order.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::ops::batch::{Batch, for_each_part, split};
use crate::ops::conv2d::Convolution;
use crate::ops::conv2d::winograd::{GAP, POINTS, REACH, TILE, Unit, gather, load, store, transform};
use crate::ops::microkernel::{Left, Out, Right, Size, multiply};
use crate::ops::registers::registers;

/// Tiles of one unit.
const TILES: usize = 64;
/// Units whose points are kept at once.
const UNITS: usize = 8;
/// Inputs of one task, at least.
const INPUTS: usize = 16;
const TAPS: usize = 9;

fn images_a_unit(convolution: &Convolution) -> usize {
    (TILES / convolution.input.width.div_ceil(TILE)).max(1)
}

/// Numbers of one unit: the points of its inputs, then of its outputs' gradients.
fn unit_len(convolution: &Convolution) -> (usize, usize) {
    let unit = Unit { row: 0, first_image: 0, n_images: images_a_unit(convolution) };
    let points = |channels: usize| POINTS * (unit.tiles(&convolution.input) * channels + GAP);
    (points(convolution.input.channels), points(convolution.output.channels))
}

/// Numbers that `backward` works in.
pub fn scratch_len(convolution: &Convolution) -> usize {
    let (inputs, outputs) = unit_len(convolution);
    UNITS * (inputs + outputs) + POINTS * convolution.input.channels * convolution.output.channels
}

/// dw: 3 × 3 × I × O.
///
/// # Panics
/// When `scratch` is shorter than `scratch_len`.
pub fn backward(convolution: &Convolution, x: &[f32], dy: &[f32], scratch: &mut [f32], dw: &mut [f32]) {
    let Convolution { input, output, .. } = convolution;
    let n_weights = input.channels * output.channels;
    let (gradients, scratch) = scratch.split_at_mut(POINTS * n_weights);
    let units = Units::of(convolution);
    if units.len() == 0 {
        return dw.fill(0.0);
    }
    let (inputs_len, outputs_len) = unit_len(convolution);
    for first in (0..units.len()).step_by(UNITS) {
        let n_units = UNITS.min(units.len() - first);
        let scratch = &mut scratch[..n_units * (inputs_len + outputs_len)];
        scratch.par_chunks_exact_mut(inputs_len + outputs_len).enumerate().for_each(|(index, points)| {
            let (unit, (inputs, outputs)) = (units.at(first + index), points.split_at_mut(inputs_len));
            rayon::join(
                || gather::inputs(input, unit, x, inputs),
                || gather::output_gradients(output, unit, dy, outputs),
            );
        });
        let scratch = &*scratch;
        gradients.par_chunks_exact_mut(n_weights).enumerate().for_each(|(point, gradient)| {
            for (index, points) in scratch.chunks_exact(inputs_len + outputs_len).enumerate() {
                let (unit, (inputs, outputs)) = (units.at(first + index), points.split_at(inputs_len));
                let left = &inputs[point * unit.point_stride(input)..];
                let right = &outputs[point * unit.point_stride(output)..];
                multiply(
                    Size { rows: input.channels, columns: output.channels, depth: unit.tiles(input) },
                    Left { data: left, row_stride: 1, depth_stride: input.channels },
                    Right { data: right, stride: output.channels },
                    Out { data: gradient, stride: output.channels },
                    first + index > 0,
                );
            }
        });
    }
    let of = Taps { points: gradients, inputs: input.channels, outputs: output.channels };
    for_each_part(0..input.channels, INPUTS, output.channels, split(dw, n_weights), &|inputs, taps| {
        registers().dispatch(Transform { of, inputs, taps });
    });
}

/// All units, by row of tiles, then images.
#[derive(Clone, Copy)]
struct Units {
    map: Batch,
    images: usize,
}

impl Units {
    fn of(convolution: &Convolution) -> Units {
        Units { map: convolution.output, images: images_a_unit(convolution) }
    }

    fn len(&self) -> usize {
        self.map.height.div_ceil(TILE) * self.map.images.div_ceil(self.images)
    }

    fn at(&self, index: usize) -> Unit {
        let a_row = self.map.images.div_ceil(self.images);
        let first_image = index % a_row * self.images;
        Unit { row: index / a_row, first_image, n_images: self.images.min(self.map.images - first_image) }
    }
}

#[derive(Clone, Copy)]
struct Taps<'a> {
    points: &'a [f32],
    inputs: usize,
    outputs: usize,
}

struct Transform<'a> {
    of: Taps<'a>,
    inputs: Range<usize>,
    taps: [&'a mut [f32]; TAPS],
}

impl WithSimd for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Transform { of, inputs, taps } = self;
        let zero = simd.splat_f32s(0.0);
        for (row, input) in inputs.enumerate() {
            for output in (0..of.outputs).step_by(S::F32_LANES) {
                let mut columns = [[zero; 3]; REACH];
                for (column, out) in columns.iter_mut().enumerate() {
                    let mut values = [zero; REACH];
                    for (point_row, value) in values.iter_mut().enumerate() {
                        let point = point_row * REACH + column;
                        *value = load::<S>(of.points, (point * of.inputs + input) * of.outputs + output);
                    }
                    *out = transform::filter_gradient(simd, values);
                }
                for kernel_row in 0..3 {
                    let mut values = [zero; REACH];
                    for (value, column) in values.iter_mut().zip(&columns) {
                        *value = column[kernel_row];
                    }
                    let values = transform::filter_gradient(simd, values);
                    for (kernel_column, value) in values.iter().enumerate() {
                        store::<S>(taps[kernel_row * 3 + kernel_column], row * of.outputs + output, *value);
                    }
                }
            }
        }
    }
}
