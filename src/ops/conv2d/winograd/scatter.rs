//! From the points of tiles to the rows of a map.

use pulp::{Arch, Simd, WithSimd};

use crate::ops::batch::Batch;
use crate::ops::conv2d::winograd::{REACH, TILE, Unit, load, store, transform};

/// Aᵀ m A of a unit's tiles into the rows of its images, or added to them. `rows` begin at the unit's first image; those
/// below the map are empty.
pub fn outputs(map: &Batch, unit: Unit, points: &[f32], rows: &mut [&mut [f32]; TILE], accumulate: bool) {
    Arch::new().dispatch(Outputs { map, unit, points, rows, accumulate });
}

struct Outputs<'a, 'b> {
    map: &'a Batch,
    unit: Unit,
    points: &'a [f32],
    rows: &'a mut [&'b mut [f32]; TILE],
    accumulate: bool,
}

impl WithSimd for Outputs<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let tile_columns = self.map.width.div_ceil(TILE);
        let Outputs { map, unit, points, rows, accumulate } = self;
        let stride = unit.point_stride(map);
        for image in 0..unit.n_images {
            for tile_column in 0..tile_columns {
                let points = &points[(image * tile_columns + tile_column) * map.channels..];
                let place = image * map.row_len() + tile_column * TILE * map.channels;
                let columns = TILE.min(map.width - tile_column * TILE);
                for channel in (0..map.channels).step_by(S::F32_LANES) {
                    let tile = tile(simd, &points[channel..], stride);
                    for (row, tile) in rows.iter_mut().zip(&tile) {
                        if row.is_empty() {
                            continue;
                        }
                        for (column, value) in tile.iter().enumerate() {
                            if column < columns {
                                let at = place + column * map.channels + channel;
                                let sum = if accumulate { simd.add_f32s(load::<S>(row, at), *value) } else { *value };
                                store::<S>(row, at, sum);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn tile<S: Simd>(simd: S, points: &[f32], stride: usize) -> [[S::f32s; TILE]; TILE] {
    let zero = simd.splat_f32s(0.0);
    let mut columns = [[zero; TILE]; REACH];
    for (column, out) in columns.iter_mut().enumerate() {
        let mut values = [zero; REACH];
        for (row, value) in values.iter_mut().enumerate() {
            *value = load::<S>(points, (row * REACH + column) * stride);
        }
        *out = transform::output(simd, values);
    }
    let mut tile = [[zero; TILE]; TILE];
    for (row, out) in tile.iter_mut().enumerate() {
        let mut values = [zero; REACH];
        for (value, column) in values.iter_mut().zip(&columns) {
            *value = column[row];
        }
        *out = transform::output(simd, values);
    }
    tile
}
