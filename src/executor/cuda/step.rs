//! Gradients and updates as nodes: what a step is made of once its views are there.

use crate::device::gpu::{Address, Node};
use crate::executor::cuda::CudaExecutor;
use crate::executor::cuda::memory::{LOSSES, loss, view_bytes};
use crate::executor::cuda::network::Pass;
use crate::ops::contrastive::cuda as contrastive;
use crate::ops::nt_xent::cuda as nt_xent;
use crate::ops::optimizer::cuda::{self as update, Places, Update};
use crate::ops::{compute_weights, precision};

impl CudaExecutor {
    pub(super) fn update_rule(&self) -> Update {
        Update::new(&self.network.setting.optimizer, &self.network.plan.parameters)
    }

    /// Weights, forward, loss, backward: from the views to the gradients of all parameters and the step's loss.
    pub(super) fn gradient_nodes(&self) -> Vec<Node> {
        let mut nodes = self.spread_weights();
        if self.network.setting.piece() == self.network.setting.batch {
            nodes.extend(self.placed().forward(Pass::Training));
            nodes.extend(self.projections_of_piece(0));
            nodes.extend(self.loss_nodes());
            nodes.extend(self.backward_of_piece(0));
        } else {
            nodes.extend(self.in_pieces());
        }
        nodes
    }

    /// The loss of the whole batch though the network sees a piece of it at a time: all embeddings first, then the loss and its
    /// gradient, then each piece once more, forward and backward (gradient caching, Gao et al. 2021).
    fn in_pieces(&self) -> Vec<Node> {
        let n = self.network.plan.n_parameters();
        let total = self.memory.gradient_total;
        let pieces = self.network.setting.batch / self.network.setting.piece();
        let mut nodes = Vec::new();
        for piece in 0..pieces {
            nodes.extend(self.views_of_piece(piece));
            nodes.extend(self.placed().forward(Pass::Training));
            nodes.extend(self.projections_of_piece(piece));
        }
        nodes.extend(self.loss_nodes());
        nodes.push(Node::Zero { address: total, bytes: 4 * n });
        for piece in 0..pieces {
            nodes.extend(self.views_of_piece(piece));
            nodes.extend(self.placed().forward(Pass::Again));
            nodes.extend(self.backward_of_piece(piece));
            nodes.push(precision::cuda::add(total, self.memory.gradients, n));
        }
        nodes.push(Node::Copy { from: total, to: self.memory.gradients, bytes: 4 * n });
        nodes
    }

    /// For each view the rows of the whole batch that a piece holds: (row in the piece, row in the batch).
    fn rows_of_piece(&self, piece: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (batch, images) = (self.network.setting.batch, self.network.setting.piece());
        (0..self.network.setting.n_views).map(move |view| (view * images, view * batch + piece * images))
    }

    fn views_of_piece(&self, piece: usize) -> Vec<Node> {
        let bytes = view_bytes(&self.network.plan, self.network.element);
        let copy = |(own, whole)| Node::Copy {
            from: self.memory.views.offset(whole * bytes),
            to: self.memory.input.offset(own * bytes),
            bytes: self.network.setting.piece() * bytes,
        };
        self.rows_of_piece(piece).map(copy).collect()
    }

    fn projections_of_piece(&self, piece: usize) -> Vec<Node> {
        let (plan, element) = (&self.network.plan, self.network.element);
        let width = plan.projection_width();
        let place = self.network.training.value(plan.projection).start * element.bytes();
        let stored = self.memory.arena.offset(place);
        let widen = |(own, whole)| {
            let to = self.memory.projections.offset(4 * whole * width);
            let from = stored.offset(own * width * element.bytes());
            precision::cuda::widen(to, from, self.network.setting.piece() * width)
        };
        self.rows_of_piece(piece).map(widen).collect()
    }

    fn loss_nodes(&self) -> Vec<Node> {
        let memory = &self.memory;
        let shared = nt_xent::Places {
            projections: memory.projections,
            gradient: memory.projection_gradients,
            anchor_losses: memory.anchors,
            losses: memory.losses,
            losses_len: LOSSES,
            step: memory.step,
            scratch: memory.loss_scratch,
        };
        let (bank, labels, n_images) = (memory.bank, memory.labels, self.network.setting.batch);
        contrastive::nodes(&loss(&self.network), &contrastive::Places { shared, bank, labels, n_images })
    }

    fn backward_of_piece(&self, piece: usize) -> Vec<Node> {
        let (plan, element) = (&self.network.plan, self.network.element);
        let width = plan.projection_width();
        let place = self.network.training.gradient(plan.projection).start * element.bytes();
        let stored = self.memory.arena.offset(place);
        let narrow = |(own, whole)| {
            let from = self.memory.projection_gradients.offset(4 * whole * width);
            let to = stored.offset(own * width * element.bytes());
            precision::cuda::narrow(to, from, self.network.setting.piece() * width)
        };
        let mut nodes: Vec<Node> = self.rows_of_piece(piece).map(narrow).collect();
        nodes.extend(self.placed().backward());
        let memory = &self.memory;
        let (table, from, to) = (memory.weight_table, memory.weight_gradients, memory.gradients);
        nodes.extend(compute_weights::cuda::gather(&self.network.weights, table, from, to));
        nodes
    }

    /// An update with the rate that the counter at `step` finds in `rates`; `measured` leaves its norms behind.
    pub(super) fn update_nodes(&self, rates: Address, step: Address, measured: bool) -> Vec<Node> {
        let memory = &self.memory;
        let places = Places {
            parameters: memory.parameters,
            gradients: memory.gradients,
            slots: memory.slots,
            copies: Address::NONE,
            rates,
            step,
            table: memory.update_table,
            scratch: memory.update_scratch,
        };
        if measured {
            update::measured_nodes(&self.update_rule(), &places, memory.norms)
        } else {
            update::nodes(&self.update_rule(), &places)
        }
    }
}
