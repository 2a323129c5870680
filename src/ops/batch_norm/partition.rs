//! How the GPU's passes over a batch norm's rows are cut into blocks: by shapes alone, never by the device.

/// As in the kernels: rows that a block reads side by side.
const LANES: usize = 32;

/// Parts that every block of the second pass may merge by itself: their bytes are few beside its own.
const FEW_PARTS: usize = 32;
/// Blocks of the first pass: three of its size run at once on each of a large device's 132 multiprocessors.
const FULL_BLOCKS: usize = 384;
/// Blocks of the second pass, beyond which they only grow.
const APPLY_BLOCKS: usize = 1024;

/// How the rows of a group are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Of the first pass; none is empty.
    pub parts: usize,
    pub rows_per_part: usize,
    /// A launch between the passes folds the parts to one.
    pub folded: bool,
    /// Of the second pass.
    pub rows_per_block: usize,
}

impl Partition {
    /// `columns`: blocks side by side, of all channels and groups.
    pub fn of(rows: usize, columns: usize) -> Partition {
        let columns = columns.max(1);
        // Four rows a thread at least, and no more blocks than run at once.
        let full = rows.max(1).div_ceil(4 * LANES).min((FULL_BLOCKS / columns).max(1));
        let suffices = columns * FEW_PARTS >= FULL_BLOCKS / 2 || rows <= 16 * LANES * FEW_PARTS;
        let parts = if suffices { full.min(FEW_PARTS) } else { full };
        let rows_per_block = rows.div_ceil((APPLY_BLOCKS / columns).max(1)).max(2 * LANES);
        let cut = Partition::cut(rows, parts, rows_per_block.next_multiple_of(LANES));
        Partition { folded: cut.parts > FEW_PARTS, ..cut }
    }

    /// At most `parts` parts, not folded.
    pub fn cut(rows: usize, parts: usize, rows_per_block: usize) -> Partition {
        let rows = rows.max(1);
        let rows_per_part = rows.div_ceil(parts);
        Partition { parts: rows.div_ceil(rows_per_part), rows_per_part, folded: false, rows_per_block }
    }

    /// What the second pass reads: parts and the rows of each.
    pub fn remaining(&self, rows: usize) -> (usize, usize) {
        if self.folded { (1, rows) } else { (self.parts, self.rows_per_part) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_rows_and_are_few_where_that_suffices() {
        for (rows, columns, parts, folded) in [
            (262_144, 2, 192, true),
            (65_536, 4, 96, true),
            (16_384, 8, 32, false),
            (16_384, 2, 32, false),
            (4096, 16, 24, false),
            (256, 4, 2, false),
            (1, 1, 1, false),
            (0, 0, 1, false),
        ] {
            let cut = Partition::of(rows, columns);
            assert_eq!((cut.parts, cut.folded), (parts, folded), "{rows} rows, {columns} columns");
        }
        for rows in 1..2000 {
            let Partition { parts, rows_per_part, rows_per_block, .. } = Partition::of(rows * 37, rows % 9);
            assert!((parts - 1) * rows_per_part < rows * 37 && parts * rows_per_part >= rows * 37);
            assert!(rows_per_block.is_multiple_of(LANES));
        }
    }
}
