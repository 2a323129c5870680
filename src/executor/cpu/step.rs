//! One training step: from the views to the loss and the gradients of all parameters, the batch in one piece or in several.

use std::time::Instant;

use rayon::prelude::*;

use crate::executor::Setting;
use crate::executor::cpu::memory::parts;
use crate::executor::cpu::{CpuExecutor, Pass};
use crate::model::plan::Plan;

/// Numbers that one thread adds at a time.
const ADDED_AT_ONCE: usize = 1 << 14;

/// What a step in several pieces keeps beyond one piece; empty where there is one.
pub struct Pieces {
    /// Views of a batch × projection width.
    projection_gradients: Vec<f32>,
    /// Sums over the pieces so far, as long as the parameters.
    gradient_total: Vec<f32>,
}

impl Pieces {
    pub fn new(plan: &Plan, setting: &Setting) -> Pieces {
        let [projections, parameters] = Pieces::lengths(plan, setting);
        Pieces { projection_gradients: vec![0.0; projections], gradient_total: vec![0.0; parameters] }
    }

    /// Numbers that `new` allocates.
    pub fn n_numbers(plan: &Plan, setting: &Setting) -> usize {
        Pieces::lengths(plan, setting).iter().sum()
    }

    fn lengths(plan: &Plan, setting: &Setting) -> [usize; 2] {
        if setting.piece() == setting.batch {
            return [0; 2];
        }
        [setting.n_views * setting.batch * plan.projection_width(), plan.n_parameters()]
    }
}

impl CpuExecutor {
    /// Fills the gradients, moves the running statistics, returns the loss. `views`: those of a batch, first views first.
    pub(super) fn train(&mut self, views: &[f32], labels: &[u32]) -> f32 {
        if self.setting.piece() == self.setting.batch {
            self.in_one_piece(views, labels)
        } else {
            self.in_pieces(views, labels)
        }
    }

    fn in_one_piece(&mut self, views: &[f32], labels: &[u32]) -> f32 {
        let began = Instant::now();
        let input = self.training.batch(self.plan.input);
        input.from_images(views, &mut self.arena[self.training.value(self.plan.input)]);
        self.forward(Pass::Training);
        self.phases.forward += began.elapsed();
        let began = Instant::now();
        let (value, gradient) =
            (self.training.value(self.plan.projection), self.training.gradient(self.plan.projection));
        let [projections, gradient] = parts(&mut self.arena, [value, gradient]);
        self.projections.copy_from_slice(projections);
        let loss = self.objective.forward_backward((self.step, labels), projections, gradient, &self.pool);
        self.phases.loss += began.elapsed();
        self.timed_backward();
        loss
    }

    /// The loss of the whole batch though the network sees a piece of it at a time: all embeddings first, then the loss and its
    /// gradient, then each piece once more, forward and backward (gradient caching, Gao et al. 2021).
    fn in_pieces(&mut self, views: &[f32], labels: &[u32]) -> f32 {
        let n_pieces = self.setting.batch / self.setting.piece();
        for piece in 0..n_pieces {
            self.forward_piece(views, piece, Pass::Training);
            self.keep_projections(piece);
        }
        let began = Instant::now();
        let gradients = &mut self.pieces.projection_gradients;
        let loss = self.objective.forward_backward((self.step, labels), &self.projections, gradients, &self.pool);
        self.phases.loss += began.elapsed();
        self.pieces.gradient_total.fill(0.0);
        for piece in 0..n_pieces {
            self.forward_piece(views, piece, Pass::Again);
            self.take_projection_gradients(piece);
            self.timed_backward();
            add(&mut self.pieces.gradient_total, &self.gradients);
        }
        self.gradients.copy_from_slice(&self.pieces.gradient_total);
        loss
    }

    fn forward_piece(&mut self, views: &[f32], piece: usize, pass: Pass) {
        let began = Instant::now();
        self.take_views(views, piece);
        self.forward(pass);
        self.phases.forward += began.elapsed();
    }

    fn timed_backward(&mut self) {
        let began = Instant::now();
        self.backward();
        self.phases.backward += began.elapsed();
    }

    /// For each view where the rows of a piece start: (in the piece, in the whole batch).
    fn rows_of_piece(&self, piece: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (batch, images) = (self.setting.batch, self.setting.piece());
        (0..self.setting.n_views).map(move |view| (view * images, view * batch + piece * images))
    }

    fn take_views(&mut self, views: &[f32], piece: usize) {
        let (batch, images) = (self.setting.batch, self.setting.piece());
        let in_batch = |row: usize| row / images * batch + piece * images + row % images;
        let input = self.training.batch(self.plan.input);
        input.from_images_at(views, in_batch, &mut self.arena[self.training.value(self.plan.input)]);
    }

    fn keep_projections(&mut self, piece: usize) {
        let width = self.plan.projection_width();
        let len = self.setting.piece() * width;
        let place = self.training.value(self.plan.projection).start;
        for (own, whole) in self.rows_of_piece(piece) {
            let from = &self.arena[place + own * width..][..len];
            self.projections[whole * width..][..len].copy_from_slice(from);
        }
    }

    fn take_projection_gradients(&mut self, piece: usize) {
        let width = self.plan.projection_width();
        let len = self.setting.piece() * width;
        let place = self.training.gradient(self.plan.projection).start;
        for (own, whole) in self.rows_of_piece(piece) {
            let from = &self.pieces.projection_gradients[whole * width..][..len];
            self.arena[place + own * width..][..len].copy_from_slice(from);
        }
    }
}

/// Number by number, so that threads change no bit.
fn add(total: &mut [f32], gradients: &[f32]) {
    total.par_chunks_mut(ADDED_AT_ONCE).zip(gradients.par_chunks(ADDED_AT_ONCE)).for_each(|(total, gradients)| {
        for (total, gradient) in total.iter_mut().zip(gradients) {
            *total += gradient;
        }
    });
}
