//! NT-Xent on a GPU: sizes and addresses in, nodes out.
//!
//! Similarities are made tile by tile, once for the log-sums and again for the gradient, where a panel of rows keeps its
//! weights P(i,j) + P(j,i) for a product with the unit vectors. How the work is cut depends on the sizes alone, and parts
//! are added in the order of their index.

use crate::device::gpu::{Address, Argument, Node, Source};
use crate::ops::kernels::{float, int, launch, pointer};
use crate::ops::nt_xent::tiles::{Scratch, Sides, TILE_COLUMNS, Tiling};

pub const SOURCE: Source =
    Source { name: "nt_xent", text: concat!(include_str!("tiles.cuh"), include_str!("kernel.cu")) };

/// One loss: its sizes and temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// 2N, even and at least 4 (2 suffice for the metrics).
    pub n_views: usize,
    /// Numbers of a projection.
    pub width: usize,
    /// 1/T.
    pub inverse_temperature: f32,
    /// Cosines, else dot products. The metrics are of cosines either way.
    pub normalize: bool,
    /// Of the loss and its gradient.
    pub scale: f64,
}

/// Where the loss reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// `n_views` × `width` f32, the first views before the second, not normalised.
    pub projections: Address,
    /// Of the mean loss with respect to `projections`: the same shape, f32, written.
    pub gradient: Address,
    /// `n_views` f64, written: the term of every anchor, in nats.
    pub anchor_losses: Address,
    /// `losses_len` f32: the mean loss is written at the step modulo `losses_len`.
    pub losses: Address,
    pub losses_len: usize,
    /// One u64, read: the step.
    pub step: Address,
    /// [`scratch_bytes`] bytes at a multiple of 16, whatever is in them.
    pub scratch: Address,
}

/// Where the metrics of a batch are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsPlaces {
    /// As [`Places::projections`].
    pub projections: Address,
    /// Three f64, written: alignment, uniformity, contrastive top-1.
    pub metrics: Address,
    /// As [`Places::scratch`]; nothing of it is kept between the loss and the metrics.
    pub scratch: Address,
}

impl Loss {
    pub(in crate::ops) fn sides(&self) -> Sides {
        Sides::new(self.n_views, self.n_views, self.width)
    }

    pub(in crate::ops) fn padded_views(&self) -> usize {
        self.sides().rows
    }

    /// Numbers from one unit vector to the next.
    pub(in crate::ops) fn stride(&self) -> usize {
        self.sides().stride
    }

    pub(in crate::ops) fn tiling(&self) -> Tiling {
        Tiling::of(&self.sides())
    }

    pub(in crate::ops) fn scratch(&self, tiling: &Tiling, base: Address) -> Scratch {
        Scratch::of(self.padded_views(), &self.sides(), tiling, base)
    }

    /// # Panics
    /// When the number of views is odd or below `least`, or the width is none.
    pub(in crate::ops) fn check(&self, least: usize) {
        assert!(
            self.n_views >= least && self.n_views.is_multiple_of(2),
            "an even number of views from {least} on, found {}",
            self.n_views
        );
        assert!(self.width > 0, "projections of at least one number");
    }
}

/// Working memory of a loss or its metrics, never views × views: the unit vectors, at most 64 MiB of weights, for widths up
/// to 2,048 at most 32 MiB of partial gradients, and for every row two f32 for each 1,024 views.
pub fn scratch_bytes(loss: &Loss) -> usize {
    loss.scratch(&loss.tiling(), Address::NONE).bytes
}

/// The mean loss and its gradient. A norm below 1e-12 is taken for 1e-12, as on the processor. What is not finite in the
/// projections makes the loss NaN.
///
/// # Panics
/// When the number of views is odd or below 4, or the width is 0.
pub fn nodes(loss: &Loss, places: &Places) -> Vec<Node> {
    nodes_cut(loss, places, &loss.tiling())
}

pub(in crate::ops) fn nodes_cut(loss: &Loss, places: &Places, tiling: &Tiling) -> Vec<Node> {
    loss.check(4);
    let scratch = loss.scratch(tiling, places.scratch);
    let mut nodes = vec![
        normalize(loss, loss.normalize, places.projections, &scratch),
        sums(loss, tiling, &scratch),
        anchors(loss, tiling, places.anchor_losses, &scratch),
        mean(places, loss.n_views, loss.scale),
    ];
    let slope = f64::from(loss.inverse_temperature) / loss.n_views as f64 * loss.scale;
    nodes.extend(gradients(loss, tiling, &scratch, (places.gradient, slope), |panel: &Panel| panel.weights()));
    nodes
}

/// Every panel's weights, as `weigh` makes them, and the gradient that follows: dL/dz_i = `slope` · Σ_j weight(i,j) z_j, brought
/// through the normalisation.
pub(in crate::ops) fn gradients(
    loss: &Loss,
    tiling: &Tiling,
    scratch: &Scratch,
    (gradient, slope): (Address, f64),
    weigh: impl Fn(&Panel) -> Node,
) -> Vec<Node> {
    let sides = loss.sides();
    let of_panel = |(first_row, rows)| {
        let panel = Panel { loss, tiling, scratch, first_row, rows };
        [weigh(&panel), products(&sides, tiling, scratch, rows, scratch.unit), panel.gradient(gradient, slope)]
    };
    sides.panels(tiling).into_iter().flat_map(of_panel).collect()
}

pub(in crate::ops) fn normalize(loss: &Loss, is_normalized: bool, projections: Address, scratch: &Scratch) -> Node {
    let arguments = vec![
        pointer(scratch.unit),
        pointer(scratch.norms),
        pointer(projections),
        int(loss.n_views),
        int(loss.width),
        int(loss.stride()),
        int(usize::from(is_normalized)),
    ];
    launch("nt_xent_normalize", [loss.padded_views() / 8, 1, 1], [256, 1, 1], arguments)
}

/// Of all views but an anchor and its positive.
pub(in crate::ops) fn sums(loss: &Loss, tiling: &Tiling, scratch: &Scratch) -> Node {
    let arguments = vec![
        pointer(scratch.maxima),
        pointer(scratch.sums),
        pointer(scratch.positives),
        pointer(scratch.unit),
        int(loss.n_views),
        int(loss.stride()),
        int(loss.padded_views()),
        int(tiling.sum_tiles),
        float(loss.inverse_temperature),
    ];
    launch("nt_xent_sums", loss.sides().sums_grid(tiling), tiling.block(), arguments)
}

fn anchors(loss: &Loss, tiling: &Tiling, anchor_losses: Address, scratch: &Scratch) -> Node {
    let arguments = vec![
        pointer(anchor_losses),
        pointer(scratch.log_sums),
        pointer(scratch.log_sum_rests),
        pointer(scratch.rest_shares),
        pointer(scratch.maxima),
        pointer(scratch.sums),
        pointer(scratch.positives),
        int(loss.n_views),
        int(loss.padded_views()),
        int(loss.sides().sum_splits(tiling)),
        float(loss.inverse_temperature),
    ];
    launch("nt_xent_anchors", [loss.padded_views().div_ceil(128), 1, 1], [128, 1, 1], arguments)
}

/// The mean of `n` terms times `scale`, at the step's place among the losses.
pub(in crate::ops) fn mean(places: &Places, n: usize, scale: f64) -> Node {
    let arguments = vec![
        pointer(places.losses),
        int(places.losses_len),
        pointer(places.step),
        pointer(places.anchor_losses),
        int(n),
        Argument::F64(scale),
    ];
    launch("nt_xent_mean", [1, 1, 1], [256, 1, 1], arguments)
}

/// Σ_j weight(i,j) · right_j of a panel's rows, in parts.
pub(in crate::ops) fn products(sides: &Sides, tiling: &Tiling, scratch: &Scratch, rows: usize, right: Address) -> Node {
    let arguments = vec![
        pointer(scratch.partials),
        pointer(scratch.weights),
        pointer(right),
        int(sides.stride),
        int(sides.columns),
        int(rows),
        int(tiling.gradient_tiles),
    ];
    let grid = [sides.stride.div_ceil(TILE_COLUMNS), rows / tiling.tile_rows, sides.gradient_splits(tiling)];
    launch("nt_xent_products", grid, tiling.block(), arguments)
}

/// Rows whose weights are kept at once.
pub(in crate::ops) struct Panel<'a> {
    pub loss: &'a Loss,
    pub tiling: &'a Tiling,
    pub scratch: &'a Scratch,
    pub first_row: usize,
    pub rows: usize,
}

impl Panel<'_> {
    /// A kernel of tiles over the panel, column tiles × row blocks.
    pub fn launch(&self, kernel: &'static str, arguments: Vec<Argument>) -> Node {
        let grid = [self.loss.sides().column_tiles(), self.rows / self.tiling.tile_rows, 1];
        launch(kernel, grid, self.tiling.block(), arguments)
    }

    /// P(i,j) + P(j,i), less what pulls the positives.
    pub fn weights(&self) -> Node {
        let (loss, scratch) = (self.loss, self.scratch);
        let arguments = vec![
            pointer(scratch.weights),
            pointer(scratch.unit),
            pointer(scratch.log_sums),
            pointer(scratch.log_sum_rests),
            pointer(scratch.rest_shares),
            int(loss.n_views),
            int(loss.stride()),
            int(loss.padded_views()),
            int(self.first_row),
            float(loss.inverse_temperature),
        ];
        self.launch("nt_xent_weights", arguments)
    }

    fn gradient(&self, gradient: Address, slope: f64) -> Node {
        let (loss, scratch) = (self.loss, self.scratch);
        let arguments = vec![
            pointer(gradient),
            pointer(scratch.partials),
            pointer(scratch.unit),
            pointer(scratch.norms),
            int(loss.n_views),
            int(loss.width),
            int(loss.stride()),
            int(self.rows),
            int(self.first_row),
            int(loss.sides().gradient_splits(self.tiling)),
            Argument::F64(slope),
        ];
        launch("nt_xent_gradient", [self.rows / 4, 1, 1], [128, 1, 1], arguments)
    }
}

/// Alignment, uniformity and contrastive top-1 of the projections, as [`super::measure`] gives them. The temperature
/// plays no part.
///
/// # Panics
/// When the number of views is odd or below 2, or the width is 0.
pub fn metrics_nodes(loss: &Loss, places: &MetricsPlaces) -> Vec<Node> {
    metrics_nodes_cut(loss, places, &loss.tiling())
}

pub(super) fn metrics_nodes_cut(loss: &Loss, places: &MetricsPlaces, tiling: &Tiling) -> Vec<Node> {
    loss.check(2);
    let scratch = loss.scratch(tiling, places.scratch);
    let (squares, distances) = (scratch.log_sums, scratch.log_sum_rests);
    let rows = [loss.padded_views() / 8, 1, 1];
    let of_squares = [squares, distances, scratch.unit].map(pointer).into_iter();
    let of_neighbours =
        [scratch.maxima, scratch.sums, scratch.positives, scratch.unit, squares].map(pointer).into_iter();
    let of_all = [places.metrics, scratch.maxima, scratch.sums, scratch.positives, distances].map(pointer).into_iter();
    let splits = loss.sides().sum_splits(tiling);
    let (views, stride, padded) = (int(loss.n_views), int(loss.stride()), int(loss.padded_views()));
    vec![
        normalize(loss, true, places.projections, &scratch),
        launch("nt_xent_squares", rows, [256, 1, 1], of_squares.chain([views, stride]).collect()),
        launch(
            "nt_xent_neighbours",
            loss.sides().sums_grid(tiling),
            tiling.block(),
            of_neighbours.chain([views, stride, padded, int(tiling.sum_tiles)]).collect(),
        ),
        launch("nt_xent_metrics", [1, 1, 1], [256, 1, 1], of_all.chain([views, padded, int(splits)]).collect()),
    ]
}
