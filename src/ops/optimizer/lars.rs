//! LARS (You et al. 2017) in the four forms that SimCLR code bases use: a trust ratio q a tensor, then momentum.
//!
//! | flavour   | q                                            | where ‖w‖ or the other norm is 0 | buffer       |
//! |-----------|----------------------------------------------|----------------------------------|--------------|
//! | Google    | η‖w‖/‖g + λw‖                                | q = 1, decay stays               | b ← mb + lr·q(g + λw); w ← w − b |
//! | Popular   | η‖w‖/‖g + λw‖                                | q = 1, decay stays               | b ← mb + q(g + λw); w ← w − lr·b |
//! | Lightly   | η‖w‖/(‖g‖ + λ‖w‖ + 1e-8); 1 where λ = 0      | q = 1, no decay                  | as Popular   |
//! | SoloLearn | η‖w‖/(‖g‖ + λ‖w‖ + 1e-8)                    | q = 1, no decay                  | as Popular   |
//! | SoloLearnClipped | min(η‖w‖/(‖g‖ + λ‖w‖ + 1e-8)/lr, 1)          | q = 1, no decay                  | as Popular   |
//!
//! Tensors outside the decay scope get q = 1 and no decay in all of them.

use rayon::prelude::*;

use crate::experiment::recipe::LarsFlavour;
use crate::ops::optimizer::Cut;
use crate::ops::optimizer::sgd::Descent;

/// Added to the denominator by Lightly and solo-learn.
const EPSILON: f64 = 1e-8;
/// Interleaved sums.
const LANES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lars {
    pub flavour: LarsFlavour,
    pub momentum: f64,
    pub weight_decay: f64,
    pub trust_coefficient: f64,
}

/// Squared norms of the parameters and of what the flavour compares them with.
#[derive(Debug, Clone, Copy, Default)]
struct Squares {
    parameters: f64,
    gradients: f64,
}

/// What an update leaves for the next one to overwrite.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// By piece.
    partials: Vec<Squares>,
    /// By tensor.
    squares: Vec<Squares>,
    rules: Vec<Descent>,
}

impl Workspace {
    pub fn new(n_pieces: usize, n_tensors: usize) -> Workspace {
        let rules = Vec::with_capacity(n_tensors);
        Workspace { partials: vec![Squares::default(); n_pieces], squares: vec![Squares::default(); n_tensors], rules }
    }
}

impl Lars {
    /// What each tensor does with its gradient. `is_adapted` says of every one whether it lies in the decay scope.
    pub fn rules<'w>(
        &self,
        cuts: &[Cut],
        (parameters, gradients): (&[f32], &[f32]),
        is_adapted: &[bool],
        learning_rate: f64,
        workspace: &'w mut Workspace,
    ) -> &'w [Descent] {
        let Workspace { partials, squares, rules } = workspace;
        partials.par_iter_mut().zip(cuts).for_each(|(partial, cut)| {
            let range = cut.start..cut.start + cut.len;
            let is_adapted = is_adapted[cut.tensor];
            *partial = if is_adapted {
                self.squares(&parameters[range.clone()], &gradients[range])
            } else {
                Squares::default()
            };
        });
        squares.fill(Squares::default());
        for (cut, partial) in cuts.iter().zip(partials) {
            squares[cut.tensor].parameters += partial.parameters;
            squares[cut.tensor].gradients += partial.gradients;
        }
        let plain = self.descent(1.0, 0.0, learning_rate);
        let rule = |(&squares, &is_adapted): (&Squares, &bool)| {
            if is_adapted { self.adapted(squares, learning_rate) } else { plain }
        };
        rules.clear();
        rules.extend(squares.iter().zip(is_adapted).map(rule));
        rules
    }

    fn descent(&self, ratio: f64, weight_decay: f64, learning_rate: f64) -> Descent {
        let (inner, outer) = match self.flavour {
            LarsFlavour::Google => (ratio * learning_rate, 1.0),
            LarsFlavour::Popular | LarsFlavour::Lightly | LarsFlavour::SoloLearn | LarsFlavour::SoloLearnClipped => {
                (ratio, learning_rate)
            }
        };
        Descent { weight_decay: weight_decay as f32, inner_rate: inner as f32, ..Descent::new(outer, self.momentum) }
    }

    fn adapted(&self, squares: Squares, learning_rate: f64) -> Descent {
        let (weight_norm, gradient_norm) = (squares.parameters.sqrt(), squares.gradients.sqrt());
        let has_ratio = weight_norm > 0.0 && gradient_norm > 0.0;
        let raw = || self.trust_coefficient * weight_norm / (gradient_norm + self.weight_decay * weight_norm + EPSILON);
        let (ratio, weight_decay) = match self.flavour {
            LarsFlavour::Google | LarsFlavour::Popular if has_ratio => {
                (self.trust_coefficient * weight_norm / gradient_norm, self.weight_decay)
            }
            LarsFlavour::Google | LarsFlavour::Popular => (1.0, self.weight_decay),
            LarsFlavour::Lightly if has_ratio && self.weight_decay != 0.0 => (raw(), self.weight_decay),
            LarsFlavour::SoloLearn if has_ratio => (raw(), self.weight_decay),
            LarsFlavour::SoloLearnClipped if has_ratio => ((raw() / learning_rate).min(1.0), self.weight_decay),
            LarsFlavour::Lightly | LarsFlavour::SoloLearn | LarsFlavour::SoloLearnClipped => (1.0, 0.0),
        };
        self.descent(ratio, weight_decay, learning_rate)
    }

    /// Of a piece, with the gradient decayed where the flavour's ratio takes it so.
    fn squares(&self, parameters: &[f32], gradients: &[f32]) -> Squares {
        let decay = match self.flavour {
            LarsFlavour::Google | LarsFlavour::Popular => self.weight_decay,
            LarsFlavour::Lightly | LarsFlavour::SoloLearn | LarsFlavour::SoloLearnClipped => 0.0,
        };
        let lanes = parameters.chunks(LANES).zip(gradients.chunks(LANES));
        let (mut parameters, mut gradients) = ([0.0f64; LANES], [0.0f64; LANES]);
        for (ws, gs) in lanes {
            for (lane, (&w, &g)) in ws.iter().zip(gs).enumerate() {
                let (w, g) = (f64::from(w), f64::from(g));
                let decayed = g + decay * w;
                parameters[lane] += w * w;
                gradients[lane] += decayed * decayed;
            }
        }
        Squares { parameters: parameters.iter().sum(), gradients: gradients.iter().sum() }
    }
}
