//! NT-Xent with a memory bank as nodes. The bank lies on the device, its rows padded to whole tiles; the last node of a step puts
//! the second views in.

use crate::device::gpu::{Address, Argument, Node};
use crate::ops::contrastive::cuda::Places;
use crate::ops::kernels::{float, int, launch, pointer};
use crate::ops::nt_xent::cuda::{Loss, mean, normalize, products};
use crate::ops::nt_xent::tiles::{Scratch, Sides, TILE_COLUMNS, Tiling};

/// Numbers of a part of a panel's gradient, at most (32 MiB).
const PANEL_NUMBERS: usize = 1 << 23;

/// First views × bank.
pub fn sides(loss: &Loss, size: usize) -> Sides {
    Sides::new(loss.n_views / 2, size, loss.width)
}

/// As that of views, but that the gradient's parts stay bounded where a small bank leaves room for the weights of many rows.
pub fn tiling(loss: &Loss, size: usize) -> Tiling {
    let sides = sides(loss, size);
    let tiling = Tiling::of(&sides);
    let rows = (PANEL_NUMBERS / sides.stride / TILE_COLUMNS * TILE_COLUMNS).max(TILE_COLUMNS);
    Tiling { panel_rows: tiling.panel_rows.min(rows), ..tiling }
}

fn scratch(loss: &Loss, size: usize, tiling: &Tiling, base: Address) -> Scratch {
    Scratch::of(loss.padded_views(), &sides(loss, size), tiling, base)
}

pub fn scratch_bytes(loss: &Loss, size: usize, tiling: &Tiling) -> usize {
    scratch(loss, size, tiling, Address::NONE).bytes
}

/// Of the bank as it lies on the device.
pub fn bytes(loss: &Loss, size: usize) -> usize {
    let Sides { columns, stride, .. } = sides(loss, size);
    4 * columns * stride
}

/// The rows of a bank as they lie on the device, zeros between them.
pub fn padded(loss: &Loss, size: usize, rows: &[f32]) -> Vec<f32> {
    let stride = loss.stride();
    let mut padded = vec![0.0; bytes(loss, size) / 4];
    for (to, row) in padded.chunks_exact_mut(stride).zip(rows.chunks_exact(loss.width)) {
        to[..loss.width].copy_from_slice(row);
    }
    padded
}

/// The reverse of [`padded`].
pub fn rows(loss: &Loss, size: usize, padded: &[f32]) -> Vec<f32> {
    padded.chunks_exact(loss.stride()).take(size).flat_map(|row| &row[..loss.width]).copied().collect()
}

/// What every node of a step reads.
struct Bank<'a> {
    loss: &'a Loss,
    size: usize,
    sides: Sides,
    tiling: &'a Tiling,
    scratch: Scratch,
    places: &'a Places,
}

pub fn nodes(loss: &Loss, size: usize, places: &Places, tiling: &Tiling) -> Vec<Node> {
    loss.check(4);
    let scratch = scratch(loss, size, tiling, places.shared.scratch);
    let bank = Bank { loss, size, sides: sides(loss, size), tiling, scratch, places };
    let mut nodes = vec![
        normalize(loss, true, places.shared.projections, &bank.scratch),
        bank.sums(),
        bank.anchors(),
        mean(&places.shared, bank.n_images(), 1.0),
    ];
    for (first_row, rows) in bank.sides.panels(tiling) {
        let products = products(&bank.sides, tiling, &bank.scratch, rows, places.bank);
        nodes.extend([bank.weights(first_row, rows), products, bank.gradient(first_row, rows)]);
    }
    nodes.push(bank.enqueue());
    nodes
}

impl Bank<'_> {
    fn n_images(&self) -> usize {
        self.loss.n_views / 2
    }

    fn sums(&self) -> Node {
        let scratch = &self.scratch;
        let places = [scratch.maxima, scratch.sums, scratch.unit, self.places.bank].map(pointer);
        let Sides { rows, columns, stride } = self.sides;
        let sizes = [self.size, stride, rows, columns, self.tiling.sum_tiles].map(int);
        let arguments = places.into_iter().chain(sizes).chain([float(self.loss.inverse_temperature)]).collect();
        launch("bank_sums", self.sides.sums_grid(self.tiling), self.tiling.block(), arguments)
    }

    fn anchors(&self) -> Node {
        let scratch = &self.scratch;
        let places = [
            self.places.shared.anchor_losses,
            scratch.log_sums,
            scratch.log_sum_rests,
            scratch.rest_shares,
            scratch.maxima,
            scratch.sums,
            scratch.unit,
        ];
        let sizes = [self.n_images(), self.sides.stride, self.sides.rows, self.sides.sum_splits(self.tiling)].map(int);
        let last = float(self.loss.inverse_temperature);
        let arguments = places.map(pointer).into_iter().chain(sizes).chain([last]).collect();
        launch("bank_anchors", [self.sides.rows / 8, 1, 1], [256, 1, 1], arguments)
    }

    fn weights(&self, first_row: usize, rows: usize) -> Node {
        let scratch = &self.scratch;
        let places = [scratch.weights, scratch.unit, self.places.bank, scratch.log_sums, scratch.log_sum_rests];
        let sizes = [self.n_images(), self.size, self.sides.stride, self.sides.columns, first_row].map(int);
        let last = float(self.loss.inverse_temperature);
        let arguments = places.map(pointer).into_iter().chain(sizes).chain([last]).collect();
        let grid = [self.sides.column_tiles(), rows / self.tiling.tile_rows, 1];
        launch("bank_weights", grid, self.tiling.block(), arguments)
    }

    /// Of the panel's first views, and of their second ones.
    fn gradient(&self, first_row: usize, rows: usize) -> Node {
        let scratch = &self.scratch;
        let places = [self.places.shared.gradient, scratch.partials, scratch.unit, scratch.norms, scratch.rest_shares];
        let splits = self.sides.gradient_splits(self.tiling);
        let sizes = [self.n_images(), self.loss.width, self.sides.stride, rows, first_row, splits].map(int);
        let slope = f64::from(self.loss.inverse_temperature) / self.n_images() as f64;
        let arguments = places.map(pointer).into_iter().chain(sizes).chain([Argument::F64(slope)]).collect();
        launch("bank_gradient", [rows / 4, 1, 1], [128, 1, 1], arguments)
    }

    fn enqueue(&self) -> Node {
        let places = [self.places.bank, self.scratch.unit, self.places.shared.step].map(pointer);
        let sizes = [self.n_images(), self.size, self.sides.stride].map(int);
        let grid = [self.n_images().div_ceil(8), 1, 1];
        launch("bank_enqueue", grid, [256, 1, 1], places.into_iter().chain(sizes).collect())
    }
}
