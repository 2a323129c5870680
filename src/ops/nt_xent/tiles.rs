//! How products of rows of vectors are cut on a GPU, and where their parts lie: by the sizes alone.

use crate::device::gpu::Address;

/// Columns of a tile; rows are padded to it, so that tiles are whole.
pub const TILE_COLUMNS: usize = 64;
/// Numbers of a slice of the width.
const SLICE: usize = 16;
/// Weights that are kept at once, at most (64 MiB), as long as that makes 64 rows: up to 262,144 views.
const PANEL_WEIGHTS: usize = 1 << 24;
/// Blocks that fill any device of today twice over.
const BLOCKS_ENOUGH: usize = 256;
/// Column tiles that one running sum goes through: the fewer, the less its f32 loses.
const SUM_TILES_MAX: usize = 16;
/// Parts of a gradient that are added up.
const GRADIENT_SPLITS_MAX: usize = 16;

/// Rows that are compared with columns, both padded to whole tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sides {
    pub rows: usize,
    pub columns: usize,
    /// Numbers from one vector to the next.
    pub stride: usize,
}

impl Sides {
    pub fn new(rows: usize, columns: usize, width: usize) -> Sides {
        let [rows, columns] = [rows, columns].map(|n| n.next_multiple_of(TILE_COLUMNS));
        Sides { rows, columns, stride: width.next_multiple_of(SLICE) }
    }

    pub fn column_tiles(&self) -> usize {
        self.columns / TILE_COLUMNS
    }

    pub fn sum_splits(&self, tiling: &Tiling) -> usize {
        self.column_tiles().div_ceil(tiling.sum_tiles)
    }

    /// Row blocks × splits.
    pub fn sums_grid(&self, tiling: &Tiling) -> [usize; 3] {
        [self.rows / tiling.tile_rows, self.sum_splits(tiling), 1]
    }

    pub fn gradient_splits(&self, tiling: &Tiling) -> usize {
        self.column_tiles().div_ceil(tiling.gradient_tiles)
    }

    /// The panels: first row and rows of each.
    pub fn panels(&self, tiling: &Tiling) -> Vec<(usize, usize)> {
        let starts = (0..self.rows).step_by(tiling.panel_rows);
        starts.map(|first| (first, tiling.panel_rows.min(self.rows - first))).collect()
    }
}

/// How the work is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// Rows of a tile: 32 or 64.
    pub tile_rows: usize,
    /// Column tiles of one split of the sums.
    pub sum_tiles: usize,
    /// Rows that keep their weights at once: a multiple of 64.
    pub panel_rows: usize,
    /// Column tiles of one split of the gradient.
    pub gradient_tiles: usize,
}

impl Tiling {
    pub fn of(sides: &Sides) -> Tiling {
        let tiles = sides.column_tiles();
        let tile_rows = if sides.rows / TILE_COLUMNS * tiles < BLOCKS_ENOUGH { 32 } else { 64 };
        let row_blocks = sides.rows / tile_rows;
        let panel_rows = (PANEL_WEIGHTS / sides.columns / TILE_COLUMNS * TILE_COLUMNS).max(TILE_COLUMNS);
        let panel_rows = panel_rows.min(sides.rows);
        let gradient_blocks = panel_rows / tile_rows * sides.stride.div_ceil(TILE_COLUMNS);
        let splits = BLOCKS_ENOUGH.div_ceil(gradient_blocks).min(GRADIENT_SPLITS_MAX).min(tiles);
        Tiling {
            tile_rows,
            sum_tiles: (row_blocks * tiles / (2 * BLOCKS_ENOUGH)).clamp(1, SUM_TILES_MAX),
            panel_rows,
            gradient_tiles: tiles.div_ceil(splits),
        }
    }

    /// 8 × 4 numbers a thread.
    pub fn block(&self) -> [u32; 3] {
        [16, self.tile_rows as u32 / 8, 1]
    }
}

/// The parts of the scratch.
pub struct Scratch {
    pub unit: Address,
    pub norms: Address,
    pub maxima: Address,
    pub sums: Address,
    pub positives: Address,
    /// Log-sums; for the metrics ‖z‖².
    pub log_sums: Address,
    /// What the log-sums' f32 leave out; for the metrics the distances of pairs.
    pub log_sum_rests: Address,
    pub rest_shares: Address,
    pub weights: Address,
    pub partials: Address,
    pub bytes: usize,
}

impl Scratch {
    /// For `units` padded unit vectors, of which the rows are the first.
    pub fn of(units: usize, sides: &Sides, tiling: &Tiling, base: Address) -> Scratch {
        let Sides { rows, columns, stride } = *sides;
        let mut bytes = 0;
        let mut part = |n_numbers: usize, number_bytes: usize| {
            let start = bytes;
            bytes += (n_numbers * number_bytes).next_multiple_of(256);
            base.offset(start)
        };
        let sums = sides.sum_splits(tiling) * rows;
        Scratch {
            unit: part(units * stride, 4),
            norms: part(units, 8),
            maxima: part(sums, 4),
            sums: part(sums, 4),
            positives: part(rows, 4),
            log_sums: part(rows, 4),
            log_sum_rests: part(rows, 4),
            rest_shares: part(rows, 4),
            weights: part(tiling.panel_rows * columns, 4),
            partials: part(sides.gradient_splits(tiling) * tiling.panel_rows * stride, 4),
            bytes,
        }
    }
}
