//! A batch of maps in memory and its cut into blocks of work.
//!
//! Layout: height × images × width × channels. One row of all images lies together, so a kernel row's taps of one image
//! are contiguous, the images of a block are a short constant stride apart, and a block's rows stay in the second-level
//! cache while a window passes over them. A vector is a map of one position, stored images × width.
//!
//! Blocks are fixed by shape alone and never hold images of two views.

use std::ops::Range;

use rayon::prelude::*;

use crate::model::plan::Shape;

/// Images a block: enough rows for a matrix product to pay for its packing.
pub const BLOCK_IMAGES: usize = 64;

/// Sizes of a batch of maps. `images` counts all views; the images of a view are consecutive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub height: usize,
    pub images: usize,
    pub width: usize,
    pub channels: usize,
    pub views: usize,
}

/// One row of the images of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub row: usize,
    pub view: usize,
    /// First image, counted over the whole batch.
    pub first_image: usize,
    pub n_images: usize,
}

impl Batch {
    /// # Panics
    /// When `images` is not a multiple of `views`.
    pub fn new(shape: Shape, images: usize, views: usize) -> Batch {
        assert!(views > 0 && images.is_multiple_of(views), "{images} images are not {views} equal views");
        match shape {
            Shape::Map { channels, height, width } => Batch { height, images, width, channels, views },
            Shape::Vector { width } => Batch { height: 1, images, width: 1, channels: width, views },
        }
    }

    pub fn len(&self) -> usize {
        self.height * self.images * self.width * self.channels
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers in one image's row.
    pub fn row_len(&self) -> usize {
        self.width * self.channels
    }

    /// Where one image's row starts.
    pub fn offset(&self, row: usize, image: usize) -> usize {
        (row * self.images + image) * self.row_len()
    }

    pub fn images_per_view(&self) -> usize {
        self.images / self.views
    }

    pub fn blocks_per_view(&self) -> usize {
        self.images_per_view().div_ceil(BLOCK_IMAGES)
    }

    /// Blocks of the whole batch.
    pub fn n_blocks(&self) -> usize {
        self.height * self.views * self.blocks_per_view()
    }

    /// The block at `index`: by row, then view, then images.
    pub fn block(&self, index: usize) -> Block {
        let (per_view, block) = (self.images_per_view(), index % self.blocks_per_view());
        let view = self.view_of_block(index);
        let n_images = BLOCK_IMAGES.min(per_view - block * BLOCK_IMAGES);
        let row = index / self.blocks_per_view() / self.views;
        Block { row, view, first_image: view * per_view + block * BLOCK_IMAGES, n_images }
    }

    pub fn view_of_block(&self, index: usize) -> usize {
        index / self.blocks_per_view() % self.views
    }

    /// Where a block's numbers lie.
    pub fn range(&self, block: &Block) -> Range<usize> {
        let start = self.offset(block.row, block.first_image);
        start..start + block.n_images * self.row_len()
    }

    /// Calls `work` with every block and its part of `data`, on the current thread pool.
    pub fn for_each_block(&self, data: &mut [f32], work: impl Fn(Block, &mut [f32]) + Sync) {
        let mut nothing = vec![(); self.n_blocks()];
        self.for_each_block_with(data, &mut nothing, |block, part, _| work(block, part));
    }

    /// As `for_each_block`, with each block's own part of `partials`, whose length is a multiple of `n_blocks`.
    ///
    /// # Panics
    /// When a length does not fit.
    pub fn for_each_block_with<T: Send>(
        &self,
        data: &mut [f32],
        partials: &mut [T],
        work: impl Fn(Block, &mut [f32], &mut [T]) + Sync,
    ) {
        assert_eq!(data.len(), self.len(), "a batch of {self:?}");
        if self.is_empty() || partials.is_empty() {
            return;
        }
        assert!(partials.len().is_multiple_of(self.n_blocks()), "{} partials for {self:?}", partials.len());
        let per_block = partials.len() / self.n_blocks();
        let per_view = self.images_per_view();
        data.par_chunks_mut(per_view * self.row_len())
            .zip(partials.par_chunks_mut(self.blocks_per_view() * per_block))
            .enumerate()
            .for_each(|(index, (data, partials))| {
                let (row, view) = (index / self.views, index % self.views);
                data.par_chunks_mut(BLOCK_IMAGES * self.row_len())
                    .zip(partials.par_chunks_mut(per_block))
                    .enumerate()
                    .for_each(|(block, (data, partials))| {
                        let first_image = view * per_view + block * BLOCK_IMAGES;
                        let n_images = data.len() / self.row_len();
                        work(Block { row, view, first_image, n_images }, data, partials);
                    });
            });
    }

    /// Calls `work` with every band of `R` rows of the images of one block, each row's part of `data` and of `partials`
    /// apart. Rows of the last band that lie below the map are empty.
    ///
    /// # Panics
    /// When a length does not fit.
    pub fn for_each_band<const R: usize, T: Send>(
        &self,
        data: &mut [f32],
        partials: &mut [T],
        work: impl Fn(Block, [&mut [f32]; R], [&mut [T]; R]) + Sync,
    ) {
        assert_eq!(data.len(), self.len(), "a batch of {self:?}");
        if self.is_empty() {
            return;
        }
        assert!(
            !partials.is_empty() && partials.len().is_multiple_of(self.n_blocks()),
            "{} partials for {self:?}",
            partials.len()
        );
        let (row_len, row_partials) = (self.images * self.row_len(), partials.len() / self.height);
        let bands = data.par_chunks_mut(R * row_len).zip(partials.par_chunks_mut(R * row_partials));
        bands.enumerate().for_each(|(band, (data, partials))| {
            let rows = Rows { data: split(data, row_len), partials: split(partials, row_partials) };
            self.halve(band * R, 0..self.views * self.blocks_per_view(), rows, &work);
        });
    }

    /// Halves the blocks of a band until one is left.
    fn halve<const R: usize, T: Send>(
        &self,
        row: usize,
        blocks: Range<usize>,
        mut rows: Rows<R, T>,
        work: &(impl Fn(Block, [&mut [f32]; R], [&mut [T]; R]) + Sync),
    ) {
        let first = Block { row, ..self.block(blocks.start) };
        if blocks.len() == 1 {
            return work(first, rows.data, rows.partials);
        }
        let middle = blocks.start + blocks.len() / 2;
        let images = self.block(middle).first_image - first.first_image;
        let per_block = rows.partials[0].len() / blocks.len();
        let rest = Rows {
            data: split_off(&mut rows.data, images * self.row_len()),
            partials: split_off(&mut rows.partials, (middle - blocks.start) * per_block),
        };
        rayon::join(
            || self.halve(row, blocks.start..middle, rows, work),
            || self.halve(row, middle..blocks.end, rest, work),
        );
    }

    /// Copies images × height × width × channels into this layout.
    pub fn from_images(&self, images: &[f32], out: &mut [f32]) {
        self.from_images_at(images, |image| image, out);
    }

    /// As `from_images`, where image i of the batch is image `place(i)` of `images`.
    pub fn from_images_at(&self, images: &[f32], place: impl Fn(usize) -> usize + Sync, out: &mut [f32]) {
        let row_len = self.row_len();
        self.for_each_block(out, |block, part| {
            for (i, row) in part.chunks_exact_mut(row_len).enumerate() {
                let start = (place(block.first_image + i) * self.height + block.row) * row_len;
                row.copy_from_slice(&images[start..start + row_len]);
            }
        });
    }
}

/// The same part of each of a band's rows.
struct Rows<'a, const R: usize, T> {
    data: [&'a mut [f32]; R],
    partials: [&'a mut [T]; R],
}

/// Pieces of `len`, as far as `whole` reaches.
pub fn split<T, const R: usize>(whole: &mut [T], len: usize) -> [&mut [T]; R] {
    let mut rest = whole;
    std::array::from_fn(|_| {
        let (piece, tail) = std::mem::take(&mut rest).split_at_mut_checked(len).unwrap_or_default();
        rest = tail;
        piece
    })
}

/// Halves `items`, each with `len` numbers in each of the rows, until at most `most` are left, and calls `work` with them.
pub fn for_each_part<const R: usize>(
    items: Range<usize>,
    most: usize,
    len: usize,
    mut rows: [&mut [f32]; R],
    work: &(impl Fn(Range<usize>, [&mut [f32]; R]) + Sync),
) {
    if items.len() <= most {
        return work(items, rows);
    }
    let middle = items.start + items.len() / 2;
    let rest = split_off(&mut rows, (middle - items.start) * len);
    rayon::join(
        || for_each_part(items.start..middle, most, len, rows, work),
        || for_each_part(middle..items.end, most, len, rest, work),
    );
}

/// Cuts each slice at `len` and hands out what comes behind; empty ones stay so.
fn split_off<'a, T, const R: usize>(slices: &mut [&'a mut [T]; R], len: usize) -> [&'a mut [T]; R] {
    std::array::from_fn(|index| {
        let whole = std::mem::take(&mut slices[index]);
        let (head, tail) = whole.split_at_mut(len.min(whole.len()));
        slices[index] = head;
        tail
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(images: usize, views: usize, expected: &[(usize, usize, usize)]) {
        let batch = Batch::new(Shape::Map { channels: 3, height: 2, width: 5 }, images, views);
        let mut data = vec![0.0; batch.len()];
        let mut blocks = vec![None; batch.n_blocks()];
        batch.for_each_block_with(&mut data, &mut blocks, |block, part, seen| {
            assert_eq!(part.len(), batch.range(&block).len());
            part.fill(batch.range(&block).start as f32);
            seen[0] = Some(block);
        });
        assert_eq!(blocks, (0..batch.n_blocks()).map(|index| Some(batch.block(index))).collect::<Vec<_>>());
        let seen: Vec<_> = blocks.into_iter().flatten().map(|b| (b.row, b.view, b.first_image, b.n_images)).collect();
        let rows: Vec<_> = (0..2).flat_map(|row| expected.iter().map(move |&(v, f, n)| (row, v, f, n))).collect();
        assert_eq!(seen, rows);
        for (index, &(row, view, first, _)) in seen.iter().enumerate() {
            assert_eq!(batch.view_of_block(index), view);
            assert_eq!(data[batch.offset(row, first)], batch.offset(row, first) as f32);
        }
    }

    #[test]
    fn blocks_never_straddle_views() {
        check(6, 2, &[(0, 0, 3), (1, 3, 3)]);
        check(140, 2, &[(0, 0, 64), (0, 64, 6), (1, 70, 64), (1, 134, 6)]);
        check(65, 1, &[(0, 0, 64), (0, 64, 1)]);
        check(0, 2, &[]);
    }

    #[test]
    fn bands_are_the_rows_of_each_block() {
        for (height, images) in [(8, 140), (2, 6), (7, 260)] {
            let batch = Batch::new(Shape::Map { channels: 3, height, width: 5 }, images, 2);
            let mut data = vec![-1.0; batch.len()];
            let mut seen = vec![None; batch.n_blocks()];
            batch.for_each_band(&mut data, &mut seen, |block, rows: [&mut [f32]; 4], seen| {
                for (step, (row, seen)) in rows.into_iter().zip(seen).enumerate().filter(|(_, row)| !row.0.is_empty()) {
                    let block = Block { row: block.row + step, ..block };
                    assert_eq!(row.len(), batch.range(&block).len());
                    row.fill(batch.range(&block).start as f32);
                    seen[0] = Some(block);
                }
            });
            assert_eq!(seen, (0..batch.n_blocks()).map(|index| Some(batch.block(index))).collect::<Vec<_>>());
            for block in seen.into_iter().flatten() {
                let range = batch.range(&block);
                assert!(data[range.clone()].iter().all(|value| *value == range.start as f32));
            }
        }
    }

    #[test]
    fn images_are_reordered_by_rows() {
        let batch = Batch::new(Shape::Map { channels: 1, height: 2, width: 2 }, 2, 1);
        let mut out = vec![0.0; 8];
        batch.from_images(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &mut out);
        assert_eq!(out, [1.0, 2.0, 5.0, 6.0, 3.0, 4.0, 7.0, 8.0]);
    }
}
