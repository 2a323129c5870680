//! The losses of projections on a GPU: one door to all of them, as [`super::Objective`] is on the processor.
//!
//! All share NT-Xent's tiles ([`crate::ops::nt_xent::cuda`]): similarities are made tile by tile, once for the terms and again for
//! the weights of a panel of rows, whose product with the unit vectors is the gradient. How the work is cut depends on the
//! sizes alone, and parts are added in the order of their index.

mod decoupled;
mod triples;

use crate::device::gpu::{Node, Source};
use crate::experiment::recipe;
use crate::ops::nt_xent::cuda as nt_xent;
pub use crate::ops::nt_xent::cuda::{MetricsPlaces, Places};
use crate::ops::nt_xent::tiles::Tiling;

/// The kernels but NT-Xent's own, which the losses take too.
pub const SOURCE: Source = Source {
    name: "contrastive",
    text: concat!(include_str!("../../nt_xent/tiles.cuh"), include_str!("decoupled.cu"), include_str!("triples.cu")),
};

/// A loss, its sizes and temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    pub recipe: recipe::Loss,
    /// 2N.
    pub n_views: usize,
    /// Numbers of a projection.
    pub width: usize,
    pub temperature: f32,
}

/// How a loss is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    NtXent,
    Decoupled(Option<f64>),
    Triples(triples::Rule),
}

/// Whether there are kernels for a loss.
pub fn has_kernels(loss: recipe::Loss) -> bool {
    kind(loss).is_some()
}

fn kind(loss: recipe::Loss) -> Option<Kind> {
    match loss {
        recipe::Loss::NtXent { .. } => Some(Kind::NtXent),
        recipe::Loss::Dcl => Some(Kind::Decoupled(None)),
        recipe::Loss::Dclw { sigma } => Some(Kind::Decoupled(Some(sigma))),
        recipe::Loss::NtLogistic { semi_hard } => Some(Kind::Triples(triples::Rule { margin: None, semi_hard })),
        recipe::Loss::MarginTriplet { margin, semi_hard } => {
            Some(Kind::Triples(triples::Rule { margin: Some(margin), semi_hard }))
        }
        recipe::Loss::NtXentMemoryBank { .. } | recipe::Loss::CrossEntropy { .. } => None,
    }
}

impl Loss {
    /// # Panics
    /// For a loss without kernels: the executor refuses it before it lays anything out.
    fn kind(&self) -> Kind {
        kind(self.recipe).expect("a loss that has kernels")
    }

    /// As NT-Xent's kernels take it.
    fn tiled(&self) -> nt_xent::Loss {
        let (normalize, scale) = match self.recipe {
            recipe::Loss::NtXent { normalize, scale } => (normalize, scale),
            recipe::Loss::NtXentMemoryBank { .. }
            | recipe::Loss::Dcl
            | recipe::Loss::Dclw { .. }
            | recipe::Loss::NtLogistic { .. }
            | recipe::Loss::MarginTriplet { .. }
            | recipe::Loss::CrossEntropy { .. } => (true, 1.0),
        };
        let Loss { n_views, width, temperature, .. } = *self;
        nt_xent::Loss { n_views, width, inverse_temperature: 1.0 / temperature, normalize, scale }
    }
}

/// Working memory of a loss or its metrics, never views × views: that of NT-Xent, and for every row some numbers for each 1,024
/// views.
pub fn scratch_bytes(loss: &Loss) -> usize {
    let tiled = loss.tiled();
    scratch_bytes_cut(loss, &tiled.tiling())
}

pub(super) fn scratch_bytes_cut(loss: &Loss, tiling: &Tiling) -> usize {
    let tiled = loss.tiled();
    match loss.kind() {
        Kind::NtXent => nt_xent::scratch_bytes(&tiled),
        Kind::Decoupled(_) => decoupled::scratch_bytes(&tiled, tiling),
        Kind::Triples(_) => triples::scratch_bytes(&tiled, tiling),
    }
}

/// The mean loss and its gradient. A norm below 1e-12 is taken for 1e-12, as on the processor. What is not finite in the
/// projections makes the loss NaN.
///
/// # Panics
/// When the number of views is odd or below 4, or the width is 0.
pub fn nodes(loss: &Loss, places: &Places) -> Vec<Node> {
    nodes_cut(loss, places, &loss.tiled().tiling())
}

pub(super) fn nodes_cut(loss: &Loss, places: &Places, tiling: &Tiling) -> Vec<Node> {
    let tiled = loss.tiled();
    match loss.kind() {
        Kind::NtXent => nt_xent::nodes_cut(&tiled, places, tiling),
        Kind::Decoupled(sigma) => decoupled::nodes(&tiled, sigma, places, tiling),
        Kind::Triples(rule) => triples::nodes(&tiled, rule, places, tiling),
    }
}

/// Alignment, uniformity and contrastive top-1 of the projections, whatever the loss.
///
/// # Panics
/// When the number of views is odd or below 2, or the width is 0.
pub fn metrics_nodes(loss: &Loss, places: &MetricsPlaces) -> Vec<Node> {
    nt_xent::metrics_nodes(&loss.tiled(), places)
}
