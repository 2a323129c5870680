//! NT-Xent on a GPU: sizes and addresses in, nodes out.
//!
//! Similarities are made tile by tile, once for the log-sums and again for the gradient, where a panel of rows keeps its
//! weights P(i,j) + P(j,i) for a product with the unit vectors. How the work is cut depends on the sizes alone, and parts
//! are added in the order of their index.

use crate::device::gpu::{Address, Argument, Node, Source};
use crate::ops::kernels::{float, int, launch, pointer};

pub const SOURCE: Source = Source { name: "nt_xent", text: include_str!("kernel.cu") };

/// Columns of a tile; rows are padded to it, so that tiles are whole.
const TILE_COLUMNS: usize = 64;
/// Numbers of a slice of the width.
const SLICE: usize = 16;
/// Weights that are kept at once, at most (64 MiB), as long as that makes 64 rows: up to 262,144 views.
const PANEL_WEIGHTS: usize = 1 << 24;
/// Blocks that fill any device of today twice over.
const BLOCKS_ENOUGH: usize = 256;
/// Column tiles that one running sum goes through: the fewer, the less its f32 loses.
const SUM_TILES_MAX: usize = 16;
/// Parts of a gradient that are added up.
const GRADIENT_SPLITS_MAX: usize = 16;

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

/// How the work is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiling {
    /// Rows of a tile: 32 or 64.
    pub tile_rows: usize,
    /// Column tiles of one split of the sums.
    pub sum_tiles: usize,
    /// Rows that keep their weights at once: a multiple of 64.
    pub panel_rows: usize,
    /// Column tiles of one split of the gradient.
    pub gradient_tiles: usize,
}

impl Tiling {
    pub(super) fn of(loss: &Loss) -> Tiling {
        let tiles = loss.column_tiles();
        let tile_rows = if tiles * tiles < BLOCKS_ENOUGH { 32 } else { 64 };
        let row_blocks = loss.padded_views() / tile_rows;
        let panel_rows = (PANEL_WEIGHTS / loss.padded_views() / TILE_COLUMNS * TILE_COLUMNS).max(TILE_COLUMNS);
        let panel_rows = panel_rows.min(loss.padded_views());
        let gradient_blocks = panel_rows / tile_rows * loss.stride().div_ceil(TILE_COLUMNS);
        let splits = BLOCKS_ENOUGH.div_ceil(gradient_blocks).min(GRADIENT_SPLITS_MAX).min(tiles);
        Tiling {
            tile_rows,
            sum_tiles: (row_blocks * tiles / (2 * BLOCKS_ENOUGH)).clamp(1, SUM_TILES_MAX),
            panel_rows,
            gradient_tiles: tiles.div_ceil(splits),
        }
    }

    /// 8 × 4 numbers a thread.
    fn block(&self) -> [u32; 3] {
        [16, self.tile_rows as u32 / 8, 1]
    }
}

impl Loss {
    fn padded_views(&self) -> usize {
        self.n_views.next_multiple_of(TILE_COLUMNS)
    }

    fn column_tiles(&self) -> usize {
        self.padded_views() / TILE_COLUMNS
    }

    /// Numbers from one unit vector to the next.
    fn stride(&self) -> usize {
        self.width.next_multiple_of(SLICE)
    }

    /// # Panics
    /// When the number of views is odd or below `least`, or the width is none.
    fn check(&self, least: usize) {
        assert!(
            self.n_views >= least && self.n_views.is_multiple_of(2),
            "an even number of views from {least} on, found {}",
            self.n_views
        );
        assert!(self.width > 0, "projections of at least one number");
    }
}

/// The parts of the scratch.
struct Scratch {
    unit: Address,
    norms: Address,
    maxima: Address,
    sums: Address,
    positives: Address,
    /// Log-sums; for the metrics ‖z‖².
    log_sums: Address,
    /// What the log-sums' f32 leave out; for the metrics the distances of pairs.
    log_sum_rests: Address,
    rest_shares: Address,
    weights: Address,
    partials: Address,
    bytes: usize,
}

impl Scratch {
    fn of(loss: &Loss, tiling: &Tiling, base: Address) -> Scratch {
        let (views, stride, tiles) = (loss.padded_views(), loss.stride(), loss.column_tiles());
        let mut bytes = 0;
        let mut part = |n_numbers: usize, number_bytes: usize| {
            let start = bytes;
            bytes += (n_numbers * number_bytes).next_multiple_of(256);
            base.offset(start)
        };
        let sums = tiles.div_ceil(tiling.sum_tiles) * views;
        let splits = tiles.div_ceil(tiling.gradient_tiles);
        Scratch {
            unit: part(views * stride, 4),
            norms: part(views, 8),
            maxima: part(sums, 4),
            sums: part(sums, 4),
            positives: part(views, 4),
            log_sums: part(views, 4),
            log_sum_rests: part(views, 4),
            rest_shares: part(views, 4),
            weights: part(tiling.panel_rows * views, 4),
            partials: part(splits * tiling.panel_rows * stride, 4),
            bytes,
        }
    }
}

/// Working memory of a loss or its metrics, never views × views: the unit vectors, at most 64 MiB of weights, for widths up
/// to 2,048 at most 32 MiB of partial gradients, and for every row two f32 for each 1,024 views.
pub fn scratch_bytes(loss: &Loss) -> usize {
    Scratch::of(loss, &Tiling::of(loss), Address::NONE).bytes
}

/// The mean loss and its gradient. A norm below 1e-12 is taken for 1e-12, as on the processor. What is not finite in the
/// projections makes the loss NaN.
///
/// # Panics
/// When the number of views is odd or below 4, or the width is 0.
pub fn nodes(loss: &Loss, places: &Places) -> Vec<Node> {
    nodes_cut(loss, places, &Tiling::of(loss))
}

pub(super) fn nodes_cut(loss: &Loss, places: &Places, tiling: &Tiling) -> Vec<Node> {
    loss.check(4);
    let scratch = Scratch::of(loss, tiling, places.scratch);
    let mut nodes = vec![
        normalize(loss, loss.normalize, places.projections, &scratch),
        sums(loss, tiling, &scratch),
        anchors(loss, tiling, places.anchor_losses, &scratch),
        mean(loss, places),
    ];
    for first_row in (0..loss.padded_views()).step_by(tiling.panel_rows) {
        let rows = tiling.panel_rows.min(loss.padded_views() - first_row);
        let panel = Panel { loss, tiling, scratch: &scratch, first_row, rows };
        nodes.extend([panel.weights(), panel.products(), panel.gradient(places.gradient)]);
    }
    nodes
}

fn normalize(loss: &Loss, is_normalized: bool, projections: Address, scratch: &Scratch) -> Node {
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

/// Row blocks × splits.
fn sums_grid(loss: &Loss, tiling: &Tiling) -> [usize; 3] {
    [loss.padded_views() / tiling.tile_rows, loss.column_tiles().div_ceil(tiling.sum_tiles), 1]
}

fn sums(loss: &Loss, tiling: &Tiling, scratch: &Scratch) -> Node {
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
    launch("nt_xent_sums", sums_grid(loss, tiling), tiling.block(), arguments)
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
        int(loss.column_tiles().div_ceil(tiling.sum_tiles)),
        float(loss.inverse_temperature),
    ];
    launch("nt_xent_anchors", [loss.padded_views().div_ceil(128), 1, 1], [128, 1, 1], arguments)
}

fn mean(loss: &Loss, places: &Places) -> Node {
    let arguments = vec![
        pointer(places.losses),
        int(places.losses_len),
        pointer(places.step),
        pointer(places.anchor_losses),
        int(loss.n_views),
        Argument::F64(loss.scale),
    ];
    launch("nt_xent_mean", [1, 1, 1], [256, 1, 1], arguments)
}

/// Rows whose weights are kept at once.
struct Panel<'a> {
    loss: &'a Loss,
    tiling: &'a Tiling,
    scratch: &'a Scratch,
    first_row: usize,
    rows: usize,
}

impl Panel<'_> {
    fn weights(&self) -> Node {
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
        let grid = [loss.column_tiles(), self.rows / self.tiling.tile_rows, 1];
        launch("nt_xent_weights", grid, self.tiling.block(), arguments)
    }

    fn splits(&self) -> usize {
        self.loss.column_tiles().div_ceil(self.tiling.gradient_tiles)
    }

    fn products(&self) -> Node {
        let (loss, scratch) = (self.loss, self.scratch);
        let arguments = vec![
            pointer(scratch.partials),
            pointer(scratch.weights),
            pointer(scratch.unit),
            int(loss.stride()),
            int(loss.padded_views()),
            int(self.rows),
            int(self.tiling.gradient_tiles),
        ];
        let grid = [loss.stride().div_ceil(TILE_COLUMNS), self.rows / self.tiling.tile_rows, self.splits()];
        launch("nt_xent_products", grid, self.tiling.block(), arguments)
    }

    fn gradient(&self, gradient: Address) -> Node {
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
            int(self.splits()),
            Argument::F64(f64::from(loss.inverse_temperature) / loss.n_views as f64 * loss.scale),
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
    metrics_nodes_cut(loss, places, &Tiling::of(loss))
}

pub(super) fn metrics_nodes_cut(loss: &Loss, places: &MetricsPlaces, tiling: &Tiling) -> Vec<Node> {
    loss.check(2);
    let scratch = Scratch::of(loss, tiling, places.scratch);
    let (squares, distances) = (scratch.log_sums, scratch.log_sum_rests);
    let rows = [loss.padded_views() / 8, 1, 1];
    let of_squares = [squares, distances, scratch.unit].map(pointer).into_iter();
    let of_neighbours =
        [scratch.maxima, scratch.sums, scratch.positives, scratch.unit, squares].map(pointer).into_iter();
    let of_all = [places.metrics, scratch.maxima, scratch.sums, scratch.positives, distances].map(pointer).into_iter();
    let splits = loss.column_tiles().div_ceil(tiling.sum_tiles);
    let (views, stride, padded) = (int(loss.n_views), int(loss.stride()), int(loss.padded_views()));
    vec![
        normalize(loss, true, places.projections, &scratch),
        launch("nt_xent_squares", rows, [256, 1, 1], of_squares.chain([views, stride]).collect()),
        launch(
            "nt_xent_neighbours",
            sums_grid(loss, tiling),
            tiling.block(),
            of_neighbours.chain([views, stride, padded, int(tiling.sum_tiles)]).collect(),
        ),
        launch("nt_xent_metrics", [1, 1, 1], [256, 1, 1], of_all.chain([views, padded, int(splits)]).collect()),
    ]
}
