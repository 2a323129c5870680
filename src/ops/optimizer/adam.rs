//! Adam (Kingma and Ba 2015) as PyTorch computes it: bias-corrected moments, L2 decay inside the gradient.

use crate::ops::optimizer::{Piece, Step};

/// g′ = g + weight_decay·w; m ← m + (1 − β₁)(g′ − m); v ← β₂v + (1 − β₂)g′²; w ← w − rate·m/(√v·root_scale + ε).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Adam {
    pub weight_decay: f32,
    pub first_share: f32,
    pub beta2: f32,
    pub second_share: f32,
    pub epsilon: f32,
    /// Learning rate over 1 − β₁ᵗ.
    pub rate: f32,
    /// 1/√(1 − β₂ᵗ).
    pub root_scale: f32,
}

impl Adam {
    pub fn new(beta1: f64, beta2: f64, epsilon: f64, step: Step) -> Adam {
        let updates = step.number as f64 + 1.0;
        Adam {
            weight_decay: 0.0,
            first_share: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            second_share: (1.0 - beta2) as f32,
            epsilon: epsilon as f32,
            rate: (step.learning_rate / (1.0 - libm::pow(beta1, updates))) as f32,
            root_scale: (1.0 / (1.0 - libm::pow(beta2, updates)).sqrt()) as f32,
        }
    }

    pub fn with_decay(self, weight_decay: f64) -> Adam {
        Adam { weight_decay: weight_decay as f32, ..self }
    }
}

impl Piece<'_> {
    pub fn adapt(&mut self, rule: &Adam) {
        let moments = self.first.iter_mut().zip(self.second.iter_mut());
        for ((w, &g), (first, second)) in self.parameters.iter_mut().zip(self.gradients).zip(moments) {
            let gradient = g + rule.weight_decay * *w;
            *first += rule.first_share * (gradient - *first);
            *second = rule.beta2 * *second + rule.second_share * gradient * gradient;
            *w -= rule.rate * *first / (second.sqrt() * rule.root_scale + rule.epsilon);
        }
    }
}
