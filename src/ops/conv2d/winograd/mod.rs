//! Winograd's minimal filtering F(4×4, 3×3): tiles of 4 × 4 outputs from 6 × 6 inputs by 36 products for 144.
//!
//! y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A for every tile and pair of channels, summed over input channels between the products and
//! Aᵀ…A: one matrix product a point. The gradients are the adjoints: dg = Gᵀ[Σ over tiles of (Bᵀ d B) ⊙ (A dy Aᵀ)]G, and
//! dx is the convolution of dy with the filters turned by 180°. Source: Lavin and Gray, "Fast algorithms for
//! convolutional neural networks", 2016, section 4.3; at the points 0, ±1, ±2 and ∞.
//!
//! Points are not exact: rounding errors grow by about 5 against direct sums, to 1e-6 to 4e-6 of the norm. F(2×2) would
//! take no fewer products on any map: what F(4×4) loses in tiles that reach over the edge it has gained from 3 × 3 maps on.

mod filters;
mod gather;
mod maps;
mod scatter;
pub mod transform;
pub mod weight_gradient;

pub use filters::{filters, filters_len};
pub use maps::{convolve, working_len};

use pulp::Simd;

use crate::model::plan::Window;
use crate::ops::batch::Batch;
use crate::ops::conv2d::{Convolution, Taps};

/// Points of a tile: rows × columns.
const POINTS: usize = 36;
/// Outputs of a tile along an axis.
const TILE: usize = 4;
/// Inputs of a tile along an axis.
const REACH: usize = 6;
/// Channels are a multiple of the widest register's numbers.
const CHANNELS: usize = 16;
/// Numbers between two points' matrices: their places fall into different sets of the caches.
const GAP: usize = 16;

/// Whether a convolution takes this way, by its shapes alone.
pub fn pays(convolution: &Convolution) -> bool {
    let Convolution { input, output, window } = convolution;
    if *window != (Window { kernel: 3, stride: 1, padding: 1 }) {
        return false;
    }
    let live = |size: usize| (0..size).map(|at| Taps::of_output(at, size, *window).kernel.len()).sum::<usize>();
    let direct = live(output.height) * live(output.width);
    let products = POINTS * output.height.div_ceil(TILE) * output.width.div_ceil(TILE);
    output.height.min(output.width) >= TILE
        && 3 * products < 2 * direct
        && input.channels.is_multiple_of(CHANNELS)
        && output.channels.is_multiple_of(CHANNELS)
}

/// Tiles of some images: one row of tiles of a map, image after image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    /// Of the tiles.
    row: usize,
    first_image: usize,
    n_images: usize,
}

impl Unit {
    fn tiles(&self, map: &Batch) -> usize {
        self.n_images * map.width.div_ceil(TILE)
    }

    /// Numbers from one point's matrix to the next.
    fn point_stride(&self, map: &Batch) -> usize {
        self.tiles(map) * map.channels + GAP
    }
}

/// Images whose tiles make up one unit. Wide layers take more: each unit reads all filters.
fn images_a_unit(map: &Batch, channels: usize) -> usize {
    let tiles = if channels < 256 { 32 } else { 64 };
    (tiles / map.width.div_ceil(TILE)).max(1)
}

/// One register from `place` on.
#[inline(always)]
fn load<S: Simd>(data: &[f32], place: usize) -> S::f32s {
    S::as_simd_f32s(&data[place..place + S::F32_LANES]).0[0]
}

#[inline(always)]
fn store<S: Simd>(data: &mut [f32], place: usize, value: S::f32s) {
    S::as_mut_simd_f32s(&mut data[place..place + S::F32_LANES]).0[0] = value;
}
