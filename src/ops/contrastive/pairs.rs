//! Similarities of all pairs of views in O(N·D) memory: made tile by tile, for the terms and again for the gradient.
//!
//! Each is the same chain of operations wherever it stands (see [`crate::ops::gemm`]), so that s(i,j) and s(j,i) are equal
//! to the bit and equal vectors are equally similar. Blocks of anchors are cut by shape alone.

use std::ops::Range;

use rayon::prelude::*;

use crate::ops::gemm::{Matrix, add_product, product};
use crate::ops::nt_xent::{BLOCK_ANCHORS, TILE_VIEWS, column_ranges, normalize, positive_of, through_normalization};

/// The vectors that are compared, and room for a tile a block.
#[derive(Debug)]
pub struct Pairs {
    width: usize,
    n_views: usize,
    is_normalized: bool,
    /// z: n_views × width.
    vectors: Vec<f32>,
    /// ‖x‖, where z is x/‖x‖.
    norms: Vec<f64>,
    /// s(i, p(i)).
    positives: Vec<f32>,
    tiles: Vec<f32>,
}

/// A stretch of an anchor's row of similarities.
#[derive(Debug, Clone)]
pub struct Stretch {
    pub anchor: usize,
    pub n_views: usize,
    pub columns: Range<usize>,
}

impl Stretch {
    pub fn positive(&self) -> usize {
        positive_of(self.anchor, self.n_views)
    }

    /// Where a view stands in the stretch.
    pub fn place(&self, view: usize) -> Option<usize> {
        self.columns.contains(&view).then(|| view - self.columns.start)
    }

    /// The places of the other images in the view that the anchor is not of, before and behind its positive.
    pub fn other_view(&self) -> [Range<usize>; 2] {
        let half = self.n_views / 2;
        let (positive, start) = (self.positive(), if self.anchor < half { half } else { 0 });
        [start..positive, positive + 1..start + half].map(|views| {
            let within = |view: usize| view.clamp(self.columns.start, self.columns.end) - self.columns.start;
            within(views.start)..within(views.end)
        })
    }
}

/// The vectors alone, as every block of anchors reads them.
#[derive(Clone, Copy)]
struct Rows<'a> {
    vectors: &'a [f32],
    width: usize,
    n_views: usize,
}

impl<'a> Rows<'a> {
    fn matrix(&self, range: Range<usize>) -> Matrix<'a> {
        Matrix::dense(&self.vectors[range.start * self.width..range.end * self.width], range.len(), self.width)
    }

    /// s of `n_anchors` anchors from `first` and the views in `columns`, row after row.
    fn similarities<'t>(
        &self,
        first: usize,
        n_anchors: usize,
        columns: &Range<usize>,
        tile: &'t mut [f32],
    ) -> &'t mut [f32] {
        let tile = &mut tile[..n_anchors * columns.len()];
        product(self.matrix(first..first + n_anchors), self.matrix(columns.clone()).transposed(), tile);
        tile
    }
}

impl Pairs {
    /// Cosines where `is_normalized`, else dot products.
    pub fn new(is_normalized: bool, n_views: usize, width: usize) -> Pairs {
        Pairs {
            width,
            n_views,
            is_normalized,
            vectors: vec![0.0; n_views * width],
            norms: vec![0.0; n_views],
            positives: vec![0.0; n_views],
            tiles: vec![0.0; n_views.div_ceil(BLOCK_ANCHORS) * BLOCK_ANCHORS * TILE_VIEWS],
        }
    }

    fn rows(&self) -> Rows<'_> {
        Rows { vectors: &self.vectors, width: self.width, n_views: self.n_views }
    }

    /// s(i, p(i)) of every anchor.
    pub fn positives(&self) -> &[f32] {
        &self.positives
    }

    /// Takes projections in; to be called inside the pool, as everything here.
    ///
    /// # Panics
    /// When they are not 2N × width with N ≥ 2.
    pub fn take(&mut self, projections: &[f32]) {
        let n_views = self.n_views;
        assert!(n_views >= 4 && n_views.is_multiple_of(2), "2N views of N ≥ 2 images, found {n_views}");
        assert_eq!(projections.len(), n_views * self.width, "projections of {n_views} × {}", self.width);
        if self.is_normalized {
            let rows = projections.par_chunks_exact(self.width).zip(self.vectors.par_chunks_exact_mut(self.width));
            let normalized = rows.zip(self.norms.par_iter_mut()).with_min_len(16);
            normalized.for_each(|((row, unit), norm)| *norm = normalize(row, unit));
        } else {
            self.vectors.copy_from_slice(projections);
        }
        self.find_positives();
    }

    fn find_positives(&mut self) {
        let rows = Rows { vectors: &self.vectors, width: self.width, n_views: self.n_views };
        let positives = self.positives.par_chunks_mut(BLOCK_ANCHORS);
        let blocks = positives.zip(self.tiles.par_chunks_mut(BLOCK_ANCHORS * TILE_VIEWS));
        blocks.enumerate().for_each(|(block, (positives, tile))| {
            let first = block * BLOCK_ANCHORS;
            for columns in column_ranges(rows.n_views) {
                let place = |row: usize| {
                    let stretch = Stretch { anchor: first + row, n_views: rows.n_views, columns: columns.clone() };
                    stretch.place(stretch.positive())
                };
                if (0..positives.len()).all(|row| place(row).is_none()) {
                    continue;
                }
                let tile = rows.similarities(first, positives.len(), &columns, tile);
                for (row, positive) in positives.iter_mut().enumerate() {
                    *positive = place(row).map_or(*positive, |place| tile[row * columns.len() + place]);
                }
            }
        });
    }

    /// Shows every anchor its similarities, stretch after stretch; `see` may use the stretch up.
    pub fn visit<A: Send>(&mut self, anchors: &mut [A], see: impl Fn(&Stretch, &mut [f32], &mut A) + Sync) {
        let rows = Rows { vectors: &self.vectors, width: self.width, n_views: self.n_views };
        let tiles = self.tiles.par_chunks_mut(BLOCK_ANCHORS * TILE_VIEWS);
        anchors.par_chunks_mut(BLOCK_ANCHORS).zip(tiles).enumerate().for_each(|(block, (anchors, tile))| {
            let first = block * BLOCK_ANCHORS;
            for columns in column_ranges(rows.n_views) {
                let tile = rows.similarities(first, anchors.len(), &columns, tile);
                for (row, (similarities, own)) in
                    tile.chunks_exact_mut(columns.len()).zip(anchors.iter_mut()).enumerate()
                {
                    let stretch = Stretch { anchor: first + row, n_views: rows.n_views, columns: columns.clone() };
                    see(&stretch, similarities, own);
                }
            }
        });
    }

    /// The gradient with respect to the projections. `weigh` turns similarities s(i,j) of a stretch into weights, of which
    /// `scale` makes ∂L/∂s(i,j) + ∂L/∂s(j,i).
    pub fn gradient(&mut self, gradient: &mut [f32], scale: f64, weigh: impl Fn(&Stretch, &mut [f32]) + Sync) {
        assert_eq!(gradient.len(), self.vectors.len(), "a gradient as long as the projections");
        let mut tiles = std::mem::take(&mut self.tiles);
        let (rows, width) = (self.rows(), self.width);
        let blocks = gradient.par_chunks_mut(BLOCK_ANCHORS * width);
        blocks.zip(tiles.par_chunks_mut(BLOCK_ANCHORS * TILE_VIEWS)).enumerate().for_each(
            |(block, (gradient, tile))| {
                let (first, n_anchors) = (block * BLOCK_ANCHORS, gradient.len() / width);
                gradient.fill(0.0);
                for columns in column_ranges(rows.n_views) {
                    let tile = rows.similarities(first, n_anchors, &columns, tile);
                    for (row, weights) in tile.chunks_exact_mut(columns.len()).enumerate() {
                        let stretch = Stretch { anchor: first + row, n_views: rows.n_views, columns: columns.clone() };
                        weigh(&stretch, weights);
                    }
                    add_product(Matrix::dense(tile, n_anchors, columns.len()), rows.matrix(columns), gradient);
                }
                for (row, gradient) in gradient.chunks_exact_mut(width).enumerate() {
                    self.through_normalization(first + row, gradient, scale);
                }
            },
        );
        self.tiles = tiles;
    }

    fn through_normalization(&self, anchor: usize, gradient: &mut [f32], scale: f64) {
        if self.is_normalized {
            let unit = &self.vectors[anchor * self.width..][..self.width];
            through_normalization(gradient, unit, self.norms[anchor], scale);
        } else {
            gradient.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
        }
    }
}
