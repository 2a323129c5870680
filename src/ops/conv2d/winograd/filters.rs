//! From filters to their points, once a pass over the batch.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::ops::batch::{for_each_part, split};
use crate::ops::conv2d::winograd::{POINTS, REACH, load, store, transform};
use crate::ops::registers::registers;

/// Outputs whose points lie together: one panel of the product's right side.
const PANEL: usize = 64;
/// Inputs of one task, at least.
const INPUTS: usize = 16;
const TAPS: usize = 9;

/// The points of all filters. Panel after panel of up to 64 outputs: 36 matrices of inputs × outputs of the panel.
#[derive(Debug, Clone, Copy)]
pub struct Filters<'a> {
    data: &'a [f32],
    inputs: usize,
    outputs: usize,
}

impl<'a> Filters<'a> {
    /// First output, their number and the matrix of inputs × outputs at `point`, panel by panel.
    pub fn panels(&self, point: usize) -> impl Iterator<Item = (usize, usize, &'a [f32])> {
        let Filters { data, inputs, outputs } = *self;
        (0..outputs).step_by(PANEL).map(move |first| {
            let width = PANEL.min(outputs - first);
            let start = (first * POINTS + point * width) * inputs;
            (first, width, &data[start..start + inputs * width])
        })
    }
}

/// Numbers that `filters` fills.
pub fn filters_len(inputs: usize, outputs: usize) -> usize {
    POINTS * inputs * outputs
}

/// G g Gᵀ of every filter. `weight`: 3 × 3 × inputs × outputs.
///
/// # Panics
/// When a length does not fit.
pub fn filters<'a>(weight: &[f32], inputs: usize, outputs: usize, points: &'a mut [f32]) -> Filters<'a> {
    use rayon::prelude::*;
    assert_eq!(weight.len(), TAPS * inputs * outputs, "filters of {inputs} × {outputs}");
    let points = &mut points[..filters_len(inputs, outputs)];
    points.par_chunks_mut(POINTS * inputs * PANEL).enumerate().for_each(|(panel, points)| {
        let (first, width) = (panel * PANEL, points.len() / (POINTS * inputs));
        let of = Panel { weight, inputs, outputs, first, width };
        for_each_part(0..inputs, INPUTS, width, split(points, inputs * width), &|inputs, points| {
            registers().dispatch(Transform { panel: of, inputs, points });
        });
    });
    Filters { data: points, inputs, outputs }
}

#[derive(Clone, Copy)]
struct Panel<'a> {
    weight: &'a [f32],
    inputs: usize,
    outputs: usize,
    first: usize,
    width: usize,
}

struct Transform<'a> {
    panel: Panel<'a>,
    inputs: Range<usize>,
    points: [&'a mut [f32]; POINTS],
}

impl WithSimd for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Transform { panel, inputs, points } = self;
        let Panel { weight, inputs: n_inputs, outputs, first, width } = panel;
        let zero = simd.splat_f32s(0.0);
        for (row, input) in inputs.enumerate() {
            for output in (0..width).step_by(S::F32_LANES) {
                let mut columns = [[zero; REACH]; 3];
                for (kernel_column, out) in columns.iter_mut().enumerate() {
                    let mut values = [zero; 3];
                    for (kernel_row, value) in values.iter_mut().enumerate() {
                        let tap = kernel_row * 3 + kernel_column;
                        *value = load::<S>(weight, (tap * n_inputs + input) * outputs + first + output);
                    }
                    *out = transform::filter(simd, values);
                }
                for point_row in 0..REACH {
                    let mut values = [zero; 3];
                    for (value, column) in values.iter_mut().zip(&columns) {
                        *value = column[point_row];
                    }
                    let values = transform::filter(simd, values);
                    for (point_column, value) in values.iter().enumerate() {
                        store::<S>(points[point_row * REACH + point_column], row * width + output, *value);
                    }
                }
            }
        }
    }
}
