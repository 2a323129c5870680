//! From a map to the points of its tiles.

use pulp::{Arch, Simd, WithSimd};

use crate::ops::batch::Batch;
use crate::ops::conv2d::winograd::{REACH, TILE, Unit, load, store, transform};

/// Bᵀ d B of a unit's tiles: 36 matrices of tiles × channels, `Unit::point_stride` apart. Positions outside the map are 0.
pub fn inputs(map: &Batch, unit: Unit, data: &[f32], out: &mut [f32]) {
    Arch::new().dispatch(Inputs { map, unit, data, out });
}

/// A dy Aᵀ of a unit's tiles, laid out alike.
pub fn output_gradients(map: &Batch, unit: Unit, data: &[f32], out: &mut [f32]) {
    Arch::new().dispatch(OutputGradients { map, unit, data, out });
}

struct Inputs<'a> {
    map: &'a Batch,
    unit: Unit,
    data: &'a [f32],
    out: &'a mut [f32],
}

struct OutputGradients<'a> {
    map: &'a Batch,
    unit: Unit,
    data: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Inputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        each_tile::<S, OfInput, REACH>(simd, self.map, self.unit, self.data, self.out);
    }
}

impl WithSimd for OutputGradients<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        each_tile::<S, OfOutputGradient, TILE>(simd, self.map, self.unit, self.data, self.out);
    }
}

/// What is done to N positions of a tile.
trait Transform<const N: usize> {
    /// Positions that a tile begins above and left of its outputs.
    const PADDING: usize;

    fn apply<S: Simd>(simd: S, column: [S::f32s; N]) -> [S::f32s; REACH];
}

struct OfInput;

impl Transform<REACH> for OfInput {
    const PADDING: usize = 1;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, column: [S::f32s; REACH]) -> [S::f32s; REACH] {
        transform::input(simd, column)
    }
}

struct OfOutputGradient;

impl Transform<TILE> for OfOutputGradient {
    const PADDING: usize = 0;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, column: [S::f32s; TILE]) -> [S::f32s; REACH] {
        transform::output_gradient(simd, column)
    }
}

/// Transforms the N × N positions of every tile down the columns and along the rows.
#[inline(always)]
fn each_tile<S: Simd, T: Transform<N>, const N: usize>(
    simd: S,
    map: &Batch,
    unit: Unit,
    data: &[f32],
    out: &mut [f32],
) {
    let (channels, tile_columns, stride) = (map.channels, map.width.div_ceil(TILE), unit.point_stride(map));
    let zero = simd.splat_f32s(0.0);
    for image in 0..unit.n_images {
        let mut rows = [&[][..]; N];
        for (step, out) in rows.iter_mut().enumerate() {
            let row = (unit.row * TILE + step).wrapping_sub(T::PADDING);
            if row < map.height {
                *out = &data[map.offset(row, unit.first_image + image)..][..map.row_len()];
            }
        }
        for tile_column in 0..tile_columns {
            let out = &mut out[(image * tile_columns + tile_column) * channels..];
            for channel in (0..channels).step_by(S::F32_LANES) {
                let mut columns = [[zero; REACH]; N];
                for (step, column) in columns.iter_mut().enumerate() {
                    let at = (tile_column * TILE + step).wrapping_sub(T::PADDING);
                    if at < map.width {
                        let mut values = [zero; N];
                        for (value, row) in values.iter_mut().zip(rows) {
                            if !row.is_empty() {
                                *value = load::<S>(row, at * channels + channel);
                            }
                        }
                        *column = T::apply(simd, values);
                    }
                }
                for point_row in 0..REACH {
                    let mut values = [zero; N];
                    for (value, column) in values.iter_mut().zip(&columns) {
                        *value = column[point_row];
                    }
                    let points = T::apply(simd, values);
                    for (point_column, point) in points.iter().enumerate() {
                        store::<S>(out, (point_row * REACH + point_column) * stride + channel, *point);
                    }
                }
            }
        }
    }
}
