//! NT-Xent, SimCLR's loss (Chen et al. 2020, section 2.1), and its gradient.
//!
//! 2N projections x, the N first views before the N second ones; z = x/‖x‖, s(i,j) = z_i·z_j, p(i) the other view of i:
//!
//! L = 1/2N · Σ_i −log( exp(s(i,p(i))/T) / Σ_{j≠i} exp(s(i,j)/T) )
//!
//! The positive stands in the denominator too, so embeddings that are all equal give ln(2N − 1).
//! With u_i = log Σ_{j≠i,p(i)} exp(s(i,j)/T) − s(i,p(i))/T the i-th term is softplus(u_i), exact for the smallest losses.

mod cpu;
pub mod cuda;
mod exponential;
mod metrics;
mod normalize;
pub(in crate::ops) mod tiles;

#[cfg(test)]
mod cuda_tests;
#[cfg(test)]
pub mod golden;
#[cfg(test)]
mod tests;

pub(in crate::ops) use cpu::{BLOCK_ANCHORS, RunningSum, TILE_VIEWS, column_ranges, softplus, through_normalization};
pub use cpu::{Workspace, forward_backward};
pub use exponential::exponential;
pub use metrics::{Metrics, measure};
pub use normalize::{dot, normalize, squared_distance};

/// A loss as a share of ln(2N − 1), the loss of embeddings that are all equal.
pub fn loss_ratio(loss: f64, n_views: usize) -> f64 {
    loss / libm::log(n_views.saturating_sub(1) as f64)
}

/// The index of the other view of the same image.
pub fn positive_of(anchor: usize, n_views: usize) -> usize {
    (anchor + n_views / 2) % n_views
}
