//! The losses of projections on a GPU: one door to all of them, as [`super::Objective`] is on the processor.
//!
//! All share NT-Xent's tiles ([`crate::ops::nt_xent::cuda`]): similarities are made tile by tile, once for the terms and again for
//! the weights of a panel of rows, whose product with the unit vectors is the gradient. How the work is cut depends on the
//! sizes alone, and parts are added in the order of their index.

mod bank;
mod decoupled;
mod triples;

use crate::device::gpu::{Address, Node, Source};
use crate::experiment::recipe;
use crate::ops::cross_entropy;
use crate::ops::nt_xent::cuda as nt_xent;
pub use crate::ops::nt_xent::cuda::MetricsPlaces;
use crate::ops::nt_xent::tiles::Tiling;

/// The kernels but NT-Xent's own, which the losses take too.
pub const SOURCE: Source = Source {
    name: "contrastive",
    text: concat!(
        include_str!("../../nt_xent/tiles.cuh"),
        include_str!("bank.cu"),
        include_str!("decoupled.cu"),
        include_str!("triples.cu")
    ),
};

/// A loss, its sizes and temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    pub recipe: recipe::Loss,
    /// 2N; for a loss of labels any number of views an image.
    pub n_views: usize,
    /// Numbers of a projection.
    pub width: usize,
    pub temperature: f32,
}

/// Where the loss reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// As NT-Xent; a loss of labels has a term of every view.
    pub shared: nt_xent::Places,
    /// [`bank_bytes`] bytes as [`bank_on_device`] lays them out, read and then moved on.
    pub bank: Address,
    /// For a loss of labels the class of every image, a u32 each.
    pub labels: Address,
    /// Images a step, which a loss of labels has a label of each.
    pub n_images: usize,
}

/// How a loss is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    NtXent,
    Decoupled(Option<f64>),
    Triples(triples::Rule),
    MemoryBank { size: usize },
    CrossEntropy { label_smoothing: f64 },
}

impl Loss {
    fn kind(&self) -> Kind {
        match self.recipe {
            recipe::Loss::NtXent { .. } => Kind::NtXent,
            recipe::Loss::Dcl => Kind::Decoupled(None),
            recipe::Loss::Dclw { sigma } => Kind::Decoupled(Some(sigma)),
            recipe::Loss::NtLogistic { semi_hard } => Kind::Triples(triples::Rule { margin: None, semi_hard }),
            recipe::Loss::MarginTriplet { margin, semi_hard } => {
                Kind::Triples(triples::Rule { margin: Some(margin), semi_hard })
            }
            recipe::Loss::NtXentMemoryBank { size } => Kind::MemoryBank { size: size as usize },
            recipe::Loss::CrossEntropy { label_smoothing } => Kind::CrossEntropy { label_smoothing },
        }
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

/// How the work of a loss is cut.
fn tiling(loss: &Loss) -> Tiling {
    match loss.kind() {
        Kind::MemoryBank { size } => bank::tiling(&loss.tiled(), size),
        Kind::NtXent | Kind::Decoupled(_) | Kind::Triples(_) | Kind::CrossEntropy { .. } => loss.tiled().tiling(),
    }
}

/// Working memory of a loss or its metrics, never views × views: that of NT-Xent, and for every row some numbers for each 1,024
/// views; with a bank the same for the rows of the bank in place of views.
pub fn scratch_bytes(loss: &Loss) -> usize {
    scratch_bytes_cut(loss, &tiling(loss)).max(nt_xent::scratch_bytes(&loss.tiled()))
}

pub(super) fn scratch_bytes_cut(loss: &Loss, tiling: &Tiling) -> usize {
    let tiled = loss.tiled();
    match loss.kind() {
        Kind::NtXent => nt_xent::scratch_bytes(&tiled),
        Kind::Decoupled(_) => decoupled::scratch_bytes(&tiled, tiling),
        Kind::Triples(_) => triples::scratch_bytes(&tiled, tiling),
        Kind::MemoryBank { size } => bank::scratch_bytes(&tiled, size, tiling),
        Kind::CrossEntropy { .. } => 0,
    }
}

/// The mean loss and its gradient. A norm below 1e-12 is taken for 1e-12, as on the processor. What is not finite in the
/// projections makes the loss NaN. A memory bank then takes in the second views, at the place of the step.
///
/// # Panics
/// When the number of views is odd or below 4, but for a loss of labels, or the width is 0.
pub fn nodes(loss: &Loss, places: &Places) -> Vec<Node> {
    nodes_cut(loss, places, &tiling(loss))
}

pub(super) fn nodes_cut(loss: &Loss, places: &Places, tiling: &Tiling) -> Vec<Node> {
    let tiled = loss.tiled();
    match loss.kind() {
        Kind::NtXent => nt_xent::nodes_cut(&tiled, &places.shared, tiling),
        Kind::Decoupled(sigma) => decoupled::nodes(&tiled, sigma, &places.shared, tiling),
        Kind::Triples(rule) => triples::nodes(&tiled, rule, &places.shared, tiling),
        Kind::MemoryBank { size } => bank::nodes(&tiled, size, places, tiling),
        Kind::CrossEntropy { label_smoothing } => of_labels(loss, label_smoothing, places),
    }
}

fn of_labels(loss: &Loss, label_smoothing: f64, places: &Places) -> Vec<Node> {
    let nt_xent::Places { projections, gradient, anchor_losses, .. } = places.shared;
    let of_views =
        cross_entropy::cuda::Places { logits: projections, gradient, terms: anchor_losses, labels: places.labels };
    vec![
        cross_entropy::cuda::views(&of_views, loss.n_views, places.n_images, loss.width, label_smoothing),
        nt_xent::mean(&places.shared, loss.n_views, 1.0),
    ]
}

/// Bytes of the memory bank on the device; 0 for a loss without one.
pub fn bank_bytes(loss: &Loss) -> usize {
    bank_size(loss).map_or(0, |size| bank::bytes(&loss.tiled(), size))
}

/// The rows of a bank, [`super::bank_len`] numbers, as they lie on the device.
pub fn bank_on_device(loss: &Loss, rows: &[f32]) -> Vec<f32> {
    bank_size(loss).map_or_else(Vec::new, |size| bank::padded(&loss.tiled(), size, rows))
}

/// The reverse of [`bank_on_device`].
pub fn bank_from_device(loss: &Loss, padded: &[f32]) -> Vec<f32> {
    bank_size(loss).map_or_else(Vec::new, |size| bank::rows(&loss.tiled(), size, padded))
}

fn bank_size(loss: &Loss) -> Option<usize> {
    match loss.kind() {
        Kind::MemoryBank { size } => Some(size),
        Kind::NtXent | Kind::Decoupled(_) | Kind::Triples(_) | Kind::CrossEntropy { .. } => None,
    }
}

/// Alignment, uniformity and contrastive top-1 of the projections, whatever the loss.
///
/// # Panics
/// When the number of views is odd or below 2, or the width is 0.
pub fn metrics_nodes(loss: &Loss, places: &MetricsPlaces) -> Vec<Node> {
    nt_xent::metrics_nodes(&loss.tiled(), places)
}
