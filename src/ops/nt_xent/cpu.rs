//! NT-Xent on the processor in O(N·D) memory: similarities are made tile by tile, once for the log-sums and again for
//! the gradient. Blocks of anchors are cut by shape alone, so threads never change a bit.

use rayon::prelude::*;

use crate::device::Pool;
use crate::ops::gemm::{Matrix, add_product, product};
use crate::ops::nt_xent::exponential::exponential;
use crate::ops::nt_xent::normalize::{NORM_MIN, dot, normalize};
use crate::ops::nt_xent::positive_of;

/// Anchors a block: the rows of a tile.
pub(in crate::ops) const BLOCK_ANCHORS: usize = 64;
/// Views an anchor is compared with at a time: the columns of a tile.
pub(in crate::ops) const TILE_VIEWS: usize = 256;
/// Interleaved sums of a row.
const LANES: usize = 16;

/// What the forward pass leaves for the backward one.
#[derive(Debug, Clone, Copy, Default)]
struct Anchor {
    /// ‖x_i‖.
    norm: f64,
    /// log Σ_{j≠i} exp(s(i,j)/T).
    log_sum: f64,
    /// The share of the denominator that is not the positive's: 1 − P(i, p(i)).
    rest_share: f64,
    loss: f64,
}

/// Working memory for one number of views and one width.
#[derive(Debug)]
pub struct Workspace {
    width: usize,
    /// z: n_views × width.
    unit: Vec<f32>,
    anchors: Vec<Anchor>,
    /// `Anchor::log_sum` of all, side by side.
    log_sums: Vec<f32>,
    /// One tile a block.
    tiles: Vec<f32>,
}

impl Workspace {
    pub fn new(n_views: usize, width: usize) -> Workspace {
        Workspace {
            width,
            unit: vec![0.0; n_views * width],
            anchors: vec![Anchor::default(); n_views],
            log_sums: vec![0.0; n_views],
            tiles: vec![0.0; n_views.div_ceil(BLOCK_ANCHORS) * BLOCK_ANCHORS * TILE_VIEWS],
        }
    }

    /// The term of every anchor of the last loss, in nats.
    pub fn anchor_losses(&self) -> impl Iterator<Item = f64> {
        self.anchors.iter().map(|anchor| anchor.loss)
    }
}

/// The loss of `projections` (2N × width, the first views before the second, not normalised), and its gradient with
/// respect to them in `gradient`. A norm below 1e-12 is taken for 1e-12, as PyTorch's `F.normalize` does.
/// What is not finite in `projections` makes the loss NaN.
///
/// # Panics
/// When a length differs from the workspace's, or the number of views is odd or below 4.
pub fn forward_backward(
    projections: &[f32],
    width: usize,
    temperature: f32,
    gradient: &mut [f32],
    workspace: &mut Workspace,
    pool: &Pool,
) -> f32 {
    let n_views = workspace.anchors.len();
    assert!(n_views >= 4 && n_views.is_multiple_of(2), "2N views of N ≥ 2 images, found {n_views}");
    assert_eq!(width, workspace.width, "the width of a projection");
    assert_eq!(projections.len(), n_views * width, "projections of {n_views} × {width}");
    assert_eq!(gradient.len(), projections.len(), "a gradient as long as the projections");
    let Workspace { unit, anchors, log_sums, tiles, .. } = workspace;
    pool.install(|| {
        let rows = projections.par_chunks_exact(width).zip(unit.par_chunks_exact_mut(width));
        let normalized = rows.zip(anchors.par_iter_mut()).with_min_len(16);
        normalized.for_each(|((row, unit), anchor)| anchor.norm = normalize(row, unit));
        let similarities = Similarities { unit, width, n_views, inverse_temperature: 1.0 / temperature };
        let blocks = anchors.par_chunks_mut(BLOCK_ANCHORS).zip(tiles.par_chunks_mut(BLOCK_ANCHORS * TILE_VIEWS));
        blocks.enumerate().for_each(|(block, (anchors, tile))| {
            similarities.forward(block * BLOCK_ANCHORS, anchors, tile);
        });
        for (log_sum, anchor) in log_sums.iter_mut().zip(anchors.iter()) {
            *log_sum = anchor.log_sum as f32;
        }
        let blocks =
            gradient.par_chunks_mut(BLOCK_ANCHORS * width).zip(tiles.par_chunks_mut(BLOCK_ANCHORS * TILE_VIEWS));
        blocks.enumerate().for_each(|(block, (gradient, tile))| {
            similarities.backward(block * BLOCK_ANCHORS, anchors, log_sums, tile, gradient);
        });
    });
    (anchors.iter().map(|anchor| anchor.loss).sum::<f64>() / n_views as f64) as f32
}

/// s(i,j)/T of any tile.
struct Similarities<'a> {
    unit: &'a [f32],
    width: usize,
    n_views: usize,
    inverse_temperature: f32,
}

impl Similarities<'_> {
    /// The columns of every tile, in order.
    fn tile_columns(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        column_ranges(self.n_views)
    }

    fn rows(&self, range: std::ops::Range<usize>) -> Matrix<'_> {
        Matrix::dense(&self.unit[range.start * self.width..range.end * self.width], range.len(), self.width)
    }

    /// z_i·z_j for `n_anchors` anchors from `first` and the views in `columns`, row after row.
    fn products<'t>(
        &self,
        first: usize,
        n_anchors: usize,
        columns: std::ops::Range<usize>,
        tile: &'t mut [f32],
    ) -> &'t mut [f32] {
        let tile = &mut tile[..n_anchors * columns.len()];
        product(self.rows(first..first + n_anchors), self.rows(columns).transposed(), tile);
        tile
    }

    /// Loss and log-sum of the anchors from `first`.
    fn forward(&self, first: usize, anchors: &mut [Anchor], tile: &mut [f32]) {
        let mut sums = [RunningSum::EMPTY; BLOCK_ANCHORS];
        let mut positives = [0.0f32; BLOCK_ANCHORS];
        for columns in self.tile_columns() {
            let tile = self.products(first, anchors.len(), columns.clone(), tile);
            for (row, logits) in tile.chunks_exact_mut(columns.len()).enumerate() {
                logits.iter_mut().for_each(|logit| *logit *= self.inverse_temperature);
                let anchor = first + row;
                let positive = positive_of(anchor, self.n_views);
                if columns.contains(&anchor) {
                    logits[anchor - columns.start] = f32::NEG_INFINITY;
                }
                if columns.contains(&positive) {
                    positives[row] = std::mem::replace(&mut logits[positive - columns.start], f32::NEG_INFINITY);
                }
                sums[row].add(logits);
            }
        }
        for (anchor, (sum, &positive)) in anchors.iter_mut().zip(sums.iter().zip(&positives)) {
            let positive = f64::from(positive);
            let excess = sum.logarithm() - positive;
            anchor.loss = softplus(excess);
            anchor.log_sum = positive + anchor.loss;
            anchor.rest_share = 1.0 / (1.0 + libm::exp(-excess));
        }
    }

    /// The gradient of the anchors from `first`: Σ_j (P(i,j) + P(j,i)) z_j / (2N·T) with P(i,p(i)) − 1 for the
    /// positive, then through the normalisation.
    fn backward(&self, first: usize, anchors: &[Anchor], log_sums: &[f32], tile: &mut [f32], gradient: &mut [f32]) {
        let n_anchors = gradient.len() / self.width;
        gradient.fill(0.0);
        for columns in self.tile_columns() {
            let tile = self.products(first, n_anchors, columns.clone(), tile);
            for (row, weights) in tile.chunks_exact_mut(columns.len()).enumerate() {
                let anchor = first + row;
                let own = log_sums[anchor];
                for (weight, &other) in weights.iter_mut().zip(&log_sums[columns.clone()]) {
                    let logit = *weight * self.inverse_temperature;
                    *weight = exponential(logit - own) + exponential(logit - other);
                }
                if columns.contains(&anchor) {
                    weights[anchor - columns.start] = 0.0;
                }
                let positive = positive_of(anchor, self.n_views);
                if columns.contains(&positive) {
                    let missing = anchors[anchor].rest_share + anchors[positive].rest_share;
                    weights[positive - columns.start] = -missing as f32;
                }
            }
            add_product(Matrix::dense(tile, n_anchors, columns.len()), self.rows(columns), gradient);
        }
        let scale = f64::from(self.inverse_temperature) / self.n_views as f64;
        for (row, gradient) in gradient.chunks_exact_mut(self.width).enumerate() {
            let anchor = first + row;
            let unit = &self.unit[anchor * self.width..][..self.width];
            through_normalization(gradient, unit, anchors[anchor].norm, scale);
        }
    }
}

/// Turns Σ_j weight·z_j, of which `scale` makes dL/dz, into dL/dx: (g − (g·z) z)/‖x‖, or g/1e-12 where the norm was
/// raised to that constant.
pub(in crate::ops) fn through_normalization(gradient: &mut [f32], unit: &[f32], norm: f64, scale: f64) {
    let along = if norm < NORM_MIN { 0.0 } else { dot(gradient, unit) };
    let factor = scale / norm.max(NORM_MIN);
    for (value, &z) in gradient.iter_mut().zip(unit) {
        *value = ((f64::from(*value) - along * f64::from(z)) * factor) as f32;
    }
}

/// The ranges of columns of the tiles, in order.
pub(in crate::ops) fn column_ranges(n_views: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..n_views).step_by(TILE_VIEWS).map(move |start| start..n_views.min(start + TILE_VIEWS))
}

/// log Σ exp of a row that comes in pieces: the sum is kept relative to the largest logit so far.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct RunningSum {
    maximum: f32,
    sum: f64,
}

impl RunningSum {
    pub const EMPTY: RunningSum = RunningSum { maximum: f32::NEG_INFINITY, sum: 0.0 };

    pub fn add(&mut self, logits: &[f32]) {
        let maximum = maximum(logits).max(self.maximum);
        if maximum == f32::NEG_INFINITY {
            return;
        }
        if maximum > self.maximum {
            self.sum *= libm::exp(f64::from(self.maximum) - f64::from(maximum));
            self.maximum = maximum;
        }
        self.sum += sum_of_exponentials(logits, maximum);
    }

    pub fn logarithm(&self) -> f64 {
        f64::from(self.maximum) + libm::log(self.sum)
    }
}

fn maximum(logits: &[f32]) -> f32 {
    let pieces = logits.chunks_exact(LANES);
    let rest = pieces.remainder().iter().copied().fold(f32::NEG_INFINITY, larger);
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for piece in pieces {
        for (lane, &logit) in lanes.iter_mut().zip(piece) {
            *lane = larger(*lane, logit);
        }
    }
    lanes.into_iter().fold(rest, larger)
}

/// One instruction, where `f32::max` also has to order NaN; a NaN is never larger.
fn larger(left: f32, right: f32) -> f32 {
    if right > left { right } else { left }
}

fn sum_of_exponentials(logits: &[f32], maximum: f32) -> f64 {
    let pieces = logits.chunks_exact(LANES);
    let rest: f32 = pieces.remainder().iter().map(|&logit| exponential(logit - maximum)).sum();
    let mut lanes = [0.0f32; LANES];
    for piece in pieces {
        for (lane, &logit) in lanes.iter_mut().zip(piece) {
            *lane += exponential(logit - maximum);
        }
    }
    lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() + f64::from(rest)
}

/// ln(1 + eˣ), exact at both ends.
pub(in crate::ops) fn softplus(x: f64) -> f64 {
    if x > 0.0 { x + libm::log1p(libm::exp(-x)) } else { libm::log1p(libm::exp(x)) }
}
