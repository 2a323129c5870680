//! NT-Xent of first views against their second ones and a bank of earlier ones, in O((N + K)·D) memory.

use rayon::prelude::*;

use crate::ops::contrastive::{bank, mean};
use crate::ops::gemm::{Matrix, add_product, product};
use crate::ops::nt_xent::{
    BLOCK_ANCHORS, RunningSum, TILE_VIEWS, column_ranges, dot, exponential, normalize, softplus, through_normalization,
};

#[derive(Debug, Clone, Copy, Default)]
struct Anchor {
    /// log of the denominator.
    log_sum: f32,
    /// The share of the denominator that is the bank's.
    bank_share: f64,
    term: f64,
}

#[derive(Debug)]
pub struct MemoryBank {
    width: usize,
    inverse_temperature: f32,
    /// b: size × width.
    rows: Vec<f32>,
    /// z: n_views × width.
    unit: Vec<f32>,
    norms: Vec<f64>,
    /// Of the first views.
    anchors: Vec<Anchor>,
    tiles: Vec<f32>,
}

impl MemoryBank {
    pub fn new(size: usize, temperature: f32, n_views: usize, width: usize) -> MemoryBank {
        let n_images = n_views / 2;
        MemoryBank {
            width,
            inverse_temperature: 1.0 / temperature,
            rows: vec![0.0; size * width],
            unit: vec![0.0; n_views * width],
            norms: vec![0.0; n_views],
            anchors: vec![Anchor::default(); n_images],
            tiles: vec![0.0; n_images.div_ceil(BLOCK_ANCHORS) * BLOCK_ANCHORS * TILE_VIEWS],
        }
    }

    pub fn rows(&self) -> &[f32] {
        &self.rows
    }

    pub fn load(&mut self, rows: &[f32]) {
        self.rows.copy_from_slice(rows);
    }

    /// Then takes the second views in.
    pub fn forward_backward(&mut self, step: u64, projections: &[f32], gradient: &mut [f32]) -> f32 {
        let (width, n_views) = (self.width, self.norms.len());
        assert!(n_views >= 4 && n_views.is_multiple_of(2), "2N views of N ≥ 2 images, found {n_views}");
        assert_eq!(projections.len(), n_views * width, "projections of {n_views} × {width}");
        assert_eq!(gradient.len(), projections.len(), "a gradient as long as the projections");
        let rows = projections.par_chunks_exact(width).zip(self.unit.par_chunks_exact_mut(width));
        let normalized = rows.zip(self.norms.par_iter_mut()).with_min_len(16);
        normalized.for_each(|((row, unit), norm)| *norm = normalize(row, unit));
        self.forward();
        self.backward(gradient);
        bank::enqueue(&mut self.rows, width, step, projections);
        mean(self.anchors.iter().map(|anchor| anchor.term))
    }

    fn forward(&mut self) {
        let MemoryBank { width, inverse_temperature, ref rows, ref unit, .. } = *self;
        let (first_views, second_views) = unit.split_at(unit.len() / 2);
        let blocks =
            self.anchors.par_chunks_mut(BLOCK_ANCHORS).zip(self.tiles.par_chunks_mut(BLOCK_ANCHORS * TILE_VIEWS));
        blocks.enumerate().for_each(|(block, (anchors, tile))| {
            let start = block * BLOCK_ANCHORS;
            let mut sums = [RunningSum::EMPTY; BLOCK_ANCHORS];
            for columns in column_ranges(rows.len() / width) {
                let own = &first_views[start * width..(start + anchors.len()) * width];
                let tile = similarities(own, &rows[columns.start * width..columns.end * width], width, tile);
                for (sum, logits) in sums.iter_mut().zip(tile.chunks_exact_mut(columns.len())) {
                    logits.iter_mut().for_each(|logit| *logit *= inverse_temperature);
                    sum.add(logits);
                }
            }
            for (row, (anchor, sum)) in anchors.iter_mut().zip(&sums).enumerate() {
                let pair = (start + row) * width..(start + row + 1) * width;
                let similarity = dot(&first_views[pair.clone()], &second_views[pair]);
                let positive = similarity * f64::from(inverse_temperature);
                let excess = sum.logarithm() - positive;
                let term = softplus(excess);
                let bank_share = 1.0 / (1.0 + libm::exp(-excess));
                *anchor = Anchor { log_sum: (positive + term) as f32, bank_share, term };
            }
        });
    }

    /// dL/dz of a first view is (Σ_k P(k) b_k − (1 − P(positive)) z′)/(N·T), of its second one −(1 − P(positive)) z/(N·T).
    fn backward(&mut self, gradient: &mut [f32]) {
        let MemoryBank { width, inverse_temperature, ref rows, ref unit, ref norms, ref anchors, .. } = *self;
        let (first_views, second_views) = unit.split_at(unit.len() / 2);
        let scale = f64::from(inverse_temperature) / anchors.len() as f64;
        let (of_first, of_second) = gradient.split_at_mut(unit.len() / 2);
        let blocks = of_first
            .par_chunks_mut(BLOCK_ANCHORS * width)
            .zip(of_second.par_chunks_mut(BLOCK_ANCHORS * width))
            .zip(self.tiles.par_chunks_mut(BLOCK_ANCHORS * TILE_VIEWS));
        blocks.enumerate().for_each(|(block, ((of_first, of_second), tile))| {
            let (start, n_anchors) = (block * BLOCK_ANCHORS, of_first.len() / width);
            of_first.fill(0.0);
            for columns in column_ranges(rows.len() / width) {
                let own = &first_views[start * width..(start + n_anchors) * width];
                let of_bank = &rows[columns.start * width..columns.end * width];
                let tile = similarities(own, of_bank, width, tile);
                for (weights, anchor) in tile.chunks_exact_mut(columns.len()).zip(&anchors[start..]) {
                    weights.iter_mut().for_each(|weight| {
                        *weight = exponential(*weight * inverse_temperature - anchor.log_sum);
                    });
                }
                let weights = Matrix::dense(tile, n_anchors, columns.len());
                add_product(weights, Matrix::dense(of_bank, columns.len(), width), of_first);
            }
            let pairs = of_first.chunks_exact_mut(width).zip(of_second.chunks_exact_mut(width));
            for (index, (of_first, of_second)) in (start..).zip(pairs) {
                let place = index * width..(index + 1) * width;
                let (first, second) = (&first_views[place.clone()], &second_views[place]);
                let share = anchors[index].bank_share;
                for d in 0..width {
                    of_first[d] = (f64::from(of_first[d]) - share * f64::from(second[d])) as f32;
                    of_second[d] = (-share * f64::from(first[d])) as f32;
                }
                through_normalization(of_first, first, norms[index], scale);
                through_normalization(of_second, second, norms[index + anchors.len()], scale);
            }
        });
    }
}

/// left · rightᵀ of rows of `width` numbers, in `tile`.
fn similarities<'t>(left: &[f32], right: &[f32], width: usize, tile: &'t mut [f32]) -> &'t mut [f32] {
    let (n_left, n_right) = (left.len() / width, right.len() / width);
    let tile = &mut tile[..n_left * n_right];
    product(Matrix::dense(left, n_left, width), Matrix::dense(right, n_right, width).transposed(), tile);
    tile
}
