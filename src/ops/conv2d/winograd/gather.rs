//! From a map to the points of its tiles.

use std::cell::RefCell;

use pulp::{Simd, WithSimd};

use crate::ops::batch::Batch;
use crate::ops::conv2d::winograd::{CHANNELS, REACH, TILE, Unit, load, store, transform};
use crate::ops::registers::registers;

thread_local! {
    static WORKING: RefCell<Working> = const { RefCell::new(Working { columns: Vec::new(), zeros: Vec::new() }) };
}

/// What one thread works in.
struct Working {
    /// Six points × columns × the channels of a register.
    columns: Vec<f32>,
    /// A row of the map that lies outside it.
    zeros: Vec<f32>,
}

/// Bᵀ d B of a unit's tiles: 36 matrices of tiles × channels, `Unit::point_stride` apart. Positions outside the map are 0.
pub fn inputs(map: &Batch, unit: Unit, data: &[f32], out: &mut [f32]) {
    with_working(map, |working| registers().dispatch(Inputs { tiles: Tiles { map, unit, data }, out, working }));
}

/// A dy Aᵀ of a unit's tiles, laid out alike.
pub fn output_gradients(map: &Batch, unit: Unit, data: &[f32], out: &mut [f32]) {
    with_working(map, |working| {
        registers().dispatch(OutputGradients { tiles: Tiles { map, unit, data }, out, working });
    });
}

fn with_working(map: &Batch, work: impl FnOnce(&mut Working)) {
    WORKING.with_borrow_mut(|working| {
        let n_columns = REACH * (map.width + 2 * REACH) * CHANNELS;
        if working.columns.len() < n_columns {
            working.columns.resize(n_columns, 0.0);
        }
        if working.zeros.len() < map.row_len() {
            working.zeros.resize(map.row_len(), 0.0);
        }
        work(working);
    });
}

#[derive(Clone, Copy)]
struct Tiles<'a> {
    map: &'a Batch,
    unit: Unit,
    data: &'a [f32],
}

struct Inputs<'a> {
    tiles: Tiles<'a>,
    out: &'a mut [f32],
    working: &'a mut Working,
}

struct OutputGradients<'a> {
    tiles: Tiles<'a>,
    out: &'a mut [f32],
    working: &'a mut Working,
}

impl WithSimd for Inputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        each_tile::<S, OfInput, REACH>(simd, self.tiles, self.out, self.working);
    }
}

impl WithSimd for OutputGradients<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        each_tile::<S, OfOutputGradient, TILE>(simd, self.tiles, self.out, self.working);
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

/// Transforms the N × N positions of every tile, first down all columns of an image's rows, of which neighbouring tiles
/// share two, then along the rows.
#[inline(always)]
fn each_tile<S: Simd, T: Transform<N>, const N: usize>(simd: S, tiles: Tiles, out: &mut [f32], working: &mut Working) {
    let Tiles { map, unit, data } = tiles;
    let (channels, tile_columns, stride) = (map.channels, map.width.div_ceil(TILE), unit.point_stride(map));
    let Working { columns, zeros } = working;
    let width = tile_columns * TILE + N - TILE;
    let columns = &mut columns[..REACH * width * S::F32_LANES];
    for image in 0..unit.n_images {
        let mut rows = [&zeros[..map.row_len()]; N];
        for (step, out) in rows.iter_mut().enumerate() {
            let row = (unit.row * TILE + step).wrapping_sub(T::PADDING);
            if row < map.height {
                *out = &data[map.offset(row, unit.first_image + image)..][..map.row_len()];
            }
        }
        let out = &mut out[image * tile_columns * channels..];
        for channel in (0..channels).step_by(S::F32_LANES) {
            down::<S, T, N>(simd, rows, channels, channel, columns);
            let out = &mut out[channel..];
            for (point_row, columns) in columns.chunks_exact(width * S::F32_LANES).enumerate() {
                let columns = S::as_simd_f32s(columns).0;
                let out = &mut out[point_row * REACH * stride..];
                for tile in 0..tile_columns {
                    let mut values = [simd.splat_f32s(0.0); N];
                    values.copy_from_slice(&columns[tile * TILE..][..N]);
                    let points = T::apply(simd, values);
                    for (point_column, point) in points.iter().enumerate() {
                        store::<S>(out, point_column * stride + tile * channels, *point);
                    }
                }
            }
        }
    }
}

/// One register of channels of all columns of N rows, to as many columns of the six points; beyond the map they are 0.
#[inline(always)]
fn down<S: Simd, T: Transform<N>, const N: usize>(
    simd: S,
    rows: [&[f32]; N],
    channels: usize,
    channel: usize,
    columns: &mut [f32],
) {
    let zero = simd.splat_f32s(0.0);
    let columns = S::as_mut_simd_f32s(columns).0;
    let width = columns.len() / REACH;
    let inside = rows[0].len() / channels;
    for row in columns.chunks_exact_mut(width) {
        row[..T::PADDING].fill(zero);
        row[T::PADDING + inside..].fill(zero);
    }
    for column in 0..inside {
        let mut values = [zero; N];
        for (value, row) in values.iter_mut().zip(rows) {
            *value = load::<S>(row, column * channels + channel);
        }
        let points = T::apply(simd, values);
        for (point, value) in points.iter().enumerate() {
            columns[point * width + T::PADDING + column] = *value;
        }
    }
}
