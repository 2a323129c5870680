//! What the embeddings of a batch look like: alignment and uniformity (Wang and Isola 2020) and contrastive accuracy.

use rayon::prelude::*;

use crate::device::Pool;
use crate::ops::gemm::{Matrix, product};
use crate::ops::nt_xent::cpu::{BLOCK_ANCHORS, TILE_VIEWS, column_ranges};
use crate::ops::nt_xent::normalize::{dot, normalize, squared_distance};
use crate::ops::nt_xent::positive_of;

/// Of the normalised projections of one batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metrics {
    /// Mean of ‖z − z′‖² over positive pairs: 0 when both views always agree, at most 4.
    pub alignment: f64,
    /// log of the mean of exp(−2‖z_i − z_j‖²) over pairs i < j: 0 when all are equal, lower when spread out.
    pub uniformity: f64,
    /// Share of anchors whose positive is nearer than every other view. A tie counts as wrong, so collapse gives 0.
    pub contrastive_top1: f64,
}

/// Partial results of a block of anchors.
#[derive(Debug, Clone, Copy)]
struct Partial {
    /// Σ exp(−2‖z_i − z_j‖²) over j ≠ i.
    kernel_sum: f64,
    n_right: usize,
}

/// Measures `projections`: 2N × width, the first views before the second, not normalised.
///
/// # Panics
/// When the projections are not an even number of rows, at least two.
pub fn measure(projections: &[f32], width: usize, pool: &Pool) -> Metrics {
    let n_views = projections.len() / width;
    assert!(n_views >= 2 && n_views.is_multiple_of(2) && n_views * width == projections.len(), "2N × {width} values");
    let mut unit = vec![0.0f32; projections.len()];
    for (row, unit) in projections.chunks_exact(width).zip(unit.chunks_exact_mut(width)) {
        normalize(row, unit);
    }
    let squares: Vec<f64> = unit.chunks_exact(width).map(|row| dot(row, row)).collect();
    let partials: Vec<Partial> = pool.install(|| {
        let blocks = (0..n_views.div_ceil(BLOCK_ANCHORS)).into_par_iter();
        blocks.map(|block| measure_block(&unit, width, &squares, block * BLOCK_ANCHORS)).collect()
    });
    let (first, second) = unit.split_at(unit.len() / 2);
    let kernel_sum: f64 = partials.iter().map(|partial| partial.kernel_sum).sum();
    let n_right: usize = partials.iter().map(|partial| partial.n_right).sum();
    Metrics {
        alignment: squared_distance(first, second) / (n_views / 2) as f64,
        uniformity: libm::log(kernel_sum / (n_views * (n_views - 1)) as f64),
        contrastive_top1: n_right as f64 / n_views as f64,
    }
}

fn measure_block(unit: &[f32], width: usize, squares: &[f64], first: usize) -> Partial {
    let n_views = squares.len();
    let n_anchors = BLOCK_ANCHORS.min(n_views - first);
    let rows = |start: usize, n: usize| Matrix::dense(&unit[start * width..(start + n) * width], n, width);
    let mut tile = vec![0.0f32; n_anchors * TILE_VIEWS];
    let mut kernel_sums = vec![0.0f64; n_anchors];
    let mut positives = vec![f32::NAN; n_anchors];
    let mut nearest = vec![f32::NEG_INFINITY; n_anchors];
    for columns in column_ranges(n_views) {
        let tile = &mut tile[..n_anchors * columns.len()];
        product(rows(first, n_anchors), rows(columns.start, columns.len()).transposed(), tile);
        for (row, similarities) in tile.chunks_exact(columns.len()).enumerate() {
            let anchor = first + row;
            let positive = positive_of(anchor, n_views);
            for (other, &similarity) in columns.clone().zip(similarities) {
                if other == anchor {
                    continue;
                }
                let squared = squares[anchor] + squares[other] - 2.0 * f64::from(similarity);
                kernel_sums[row] += libm::exp(-2.0 * squared);
                if other == positive {
                    positives[row] = similarity;
                } else {
                    nearest[row] = nearest[row].max(similarity);
                }
            }
        }
    }
    let n_right = positives.iter().zip(&nearest).filter(|(positive, other)| positive > other).count();
    Partial { kernel_sum: kernel_sums.iter().sum(), n_right }
}
