//! From the points of tiles to the rows of a map.

use std::cell::RefCell;

use pulp::{Simd, WithSimd};

use crate::ops::batch::Batch;
use crate::ops::conv2d::winograd::{CHANNELS, REACH, TILE, Unit, load, store, transform};
use crate::ops::registers::registers;

thread_local! {
    /// Four rows × tiles × six columns × the channels of a register.
    static WORKING: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Aᵀ m A of a unit's tiles into the rows of its images, or added to them. `rows` begin at the unit's first image; those
/// below the map are empty.
pub fn outputs(map: &Batch, unit: Unit, points: &[f32], rows: &mut [&mut [f32]; TILE], accumulate: bool) {
    WORKING.with_borrow_mut(|working| {
        let len = TILE * map.width.div_ceil(TILE) * REACH * CHANNELS;
        if working.len() < len {
            working.resize(len, 0.0);
        }
        registers().dispatch(Outputs { map, unit, points, rows, accumulate, working });
    });
}

struct Outputs<'a, 'b> {
    map: &'a Batch,
    unit: Unit,
    points: &'a [f32],
    rows: &'a mut [&'b mut [f32]; TILE],
    accumulate: bool,
    working: &'a mut [f32],
}

impl WithSimd for Outputs<'_, '_> {
    type Output = ();

    /// First down the columns of all tiles of an image, then along its rows.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Outputs { map, unit, points, rows, accumulate, working } = self;
        let (channels, stride) = (map.channels, unit.point_stride(map));
        let row_width = map.width.div_ceil(TILE) * REACH * S::F32_LANES;
        let working = &mut working[..TILE * row_width];
        for image in 0..unit.n_images {
            let points = &points[image * map.width.div_ceil(TILE) * channels..];
            for channel in (0..channels).step_by(S::F32_LANES) {
                down(simd, &points[channel..], stride, channels, S::as_mut_simd_f32s(working).0);
                for (row, working) in rows.iter_mut().zip(working.chunks_exact(row_width)) {
                    if !row.is_empty() {
                        let row = &mut row[image * map.row_len()..][..map.row_len()];
                        along(simd, S::as_simd_f32s(working).0, channels, &mut row[channel..], accumulate);
                    }
                }
            }
        }
    }
}

/// One register of channels of all tiles' points to four rows of tiles × six columns.
#[inline(always)]
fn down<S: Simd>(simd: S, points: &[f32], stride: usize, channels: usize, working: &mut [S::f32s]) {
    let row_width = working.len() / TILE;
    for tile in 0..row_width / REACH {
        let points = &points[tile * channels..];
        for column in 0..REACH {
            let mut values = [simd.splat_f32s(0.0); REACH];
            for (row, value) in values.iter_mut().enumerate() {
                *value = load::<S>(points, (row * REACH + column) * stride);
            }
            let outputs = transform::output(simd, values);
            for (row, output) in outputs.iter().enumerate() {
                working[row * row_width + tile * REACH + column] = *output;
            }
        }
    }
}

/// Tiles × six columns to the columns of a row; the last tile may reach over its end.
#[inline(always)]
fn along<S: Simd>(simd: S, tiles: &[S::f32s], channels: usize, row: &mut [f32], accumulate: bool) {
    let columns = row.len().div_ceil(channels);
    for (tile, values) in tiles.chunks_exact(REACH).enumerate() {
        let mut own = [simd.splat_f32s(0.0); REACH];
        own.copy_from_slice(values);
        let outputs = transform::output(simd, own);
        let n_columns = TILE.min(columns - tile * TILE);
        for (column, output) in outputs.iter().enumerate() {
            if column < n_columns {
                let at = (tile * TILE + column) * channels;
                let sum = if accumulate { simd.add_f32s(load::<S>(row, at), *output) } else { *output };
                store::<S>(row, at, sum);
            }
        }
    }
}
