//! Gradient descent with momentum, as PyTorch's `SGD` without dampening; the step LARS takes too.

use crate::ops::optimizer::Piece;

/// d = inner_rate·(g + weight_decay·w); b ← momentum·b + d; w ← w − outer_rate·(b, or d + momentum·b with Nesterov).
///
/// A buffer of zeros makes the first b equal d, as PyTorch starts it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Descent {
    pub weight_decay: f32,
    /// Inside the buffer: LARS's trust ratio.
    pub inner_rate: f32,
    pub outer_rate: f32,
    pub momentum: f32,
    pub nesterov: bool,
}

impl Descent {
    pub fn new(learning_rate: f64, momentum: f64) -> Descent {
        Descent {
            weight_decay: 0.0,
            inner_rate: 1.0,
            outer_rate: learning_rate as f32,
            momentum: momentum as f32,
            nesterov: false,
        }
    }

    pub fn with_decay(self, weight_decay: f64) -> Descent {
        Descent { weight_decay: weight_decay as f32, ..self }
    }

    fn direction(&self, parameter: f32, gradient: f32) -> f32 {
        self.inner_rate * (gradient + self.weight_decay * parameter)
    }
}

impl Piece<'_> {
    pub fn descend(&mut self, rule: &Descent) {
        let tensors = self.parameters.iter_mut().zip(self.gradients);
        if self.first.is_empty() {
            tensors.for_each(|(w, &g)| *w -= rule.outer_rate * rule.direction(*w, g));
            return;
        }
        let tensors = tensors.zip(self.first.iter_mut());
        if rule.nesterov {
            tensors.for_each(|((w, &g), buffer)| {
                let direction = rule.direction(*w, g);
                *buffer = rule.momentum * *buffer + direction;
                *w -= rule.outer_rate * (direction + rule.momentum * *buffer);
            });
        } else {
            tensors.for_each(|((w, &g), buffer)| {
                *buffer = rule.momentum * *buffer + rule.direction(*w, g);
                *w -= rule.outer_rate * *buffer;
            });
        }
    }
}
