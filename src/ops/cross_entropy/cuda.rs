//! Cross entropy on a GPU: sizes and addresses in, nodes out.

use crate::device::gpu::{Address, Argument, Node, Source};
use crate::ops::kernels::{int, launch, long, pointer};

pub const SOURCE: Source = Source { name: "cross_entropy", text: include_str!("kernel.cu") };

/// Where the terms of all views are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Views × classes f32.
    pub logits: Address,
    /// Of the mean loss with respect to `logits`: the same shape, f32, written.
    pub gradient: Address,
    /// An f64 a view, written.
    pub terms: Address,
    /// A u32 an image: its class, below the number of classes.
    pub labels: Address,
}

/// The term of every view and the gradient of their mean, as [`super::forward_backward`] gives them. Views come as
/// everywhere: first those of all `n_images`, then their second ones.
pub fn views(places: &Places, n_views: usize, n_images: usize, n_classes: usize, label_smoothing: f64) -> Node {
    let Places { logits, gradient, terms, labels } = *places;
    let sizes = [n_views, n_images, n_classes].map(int);
    let arguments = [terms, gradient, logits, labels].map(pointer).into_iter().chain(sizes);
    let arguments = arguments.chain([Argument::F64(label_smoothing)]).collect();
    launch("cross_entropy_views", [n_views.div_ceil(4), 1, 1], [128, 1, 1], arguments)
}

/// Where the labels of a step come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepLabels {
    /// A u32 an example.
    pub labels: Address,
    /// u32: the examples of one epoch in order.
    pub order: Address,
    /// u64: steps done so far.
    pub step: Address,
    pub steps_per_epoch: u64,
    /// Images a step.
    pub batch: usize,
}

/// Writes the class of every image of the step to `of_batch`, a u32 each.
pub fn labels_of_step(of_batch: Address, from: &StepLabels) -> Node {
    let places = [of_batch, from.labels, from.order, from.step].map(pointer);
    let arguments = places.into_iter().chain([long(from.steps_per_epoch as usize), int(from.batch)]).collect();
    launch("cross_entropy_labels", [from.batch.div_ceil(256), 1, 1], [256, 1, 1], arguments)
}
