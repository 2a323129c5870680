//! One update of all parameters: SGD, four kinds of LARS, Adam.
//!
//! Tensors are cut into pieces of 4096 numbers, counted from the tensor's own start. Pieces are independent but for
//! LARS's norms, whose partial sums are added in order, so neither threads nor neighbours change a bit.

mod adam;
pub mod cuda;
mod lars;
mod sgd;

#[cfg(test)]
mod cuda_tests;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::device::Pool;
use crate::experiment::recipe::{DecayScope, Optimizer};
use crate::model::plan::Parameter;
use crate::ops::optimizer::adam::Adam;
use crate::ops::optimizer::lars::Lars;
use crate::ops::optimizer::sgd::Descent;

/// Numbers a piece.
const PIECE_LEN: usize = 4096;

/// Which update this is and how far it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Updates done before this one.
    pub number: u64,
    pub learning_rate: f64,
}

/// The state an optimizer keeps for `n` parameters, before the first update.
pub fn slots(optimizer: &Optimizer, n: usize) -> Vec<(&'static str, Vec<f32>)> {
    let names: &[&'static str] = match *optimizer {
        Optimizer::Sgd { momentum, .. } | Optimizer::Lars { momentum, .. } if momentum == 0.0 => &[],
        Optimizer::Sgd { .. } | Optimizer::Lars { .. } => &["momentum"],
        Optimizer::Adam { .. } => &["first_moment", "second_moment"],
    };
    names.iter().map(|&name| (name, vec![0.0; n])).collect()
}

/// Changes `parameters` and `slots` in place by one step along `gradients`; all are laid out by `layout`.
///
/// # Panics
/// When the tensors of `layout` do not lie one after another, or a length or the number of slots is not theirs.
pub fn update(
    optimizer: &Optimizer,
    layout: &[Parameter],
    parameters: &mut [f32],
    gradients: &[f32],
    slots: &mut [(&'static str, Vec<f32>)],
    step: Step,
    pool: &Pool,
) {
    check(optimizer, layout, parameters, gradients, slots);
    let mut pieces = cut(layout, parameters, gradients, slots);
    let decays = |decay: DecayScope, tensor: usize| match decay {
        DecayScope::All => true,
        DecayScope::Weights => !layout[tensor].kind.is_norm_or_bias(),
    };
    pool.install(|| match *optimizer {
        Optimizer::Sgd { momentum, nesterov, weight_decay, decay } => {
            let plain = Descent { nesterov, ..Descent::new(step.learning_rate, momentum) };
            let decayed = plain.with_decay(weight_decay);
            pieces.par_iter_mut().for_each(|piece| {
                piece.descend(if decays(decay, piece.tensor) { &decayed } else { &plain });
            });
        }
        Optimizer::Lars { flavour, momentum, weight_decay, trust_coefficient, decay } => {
            let lars = Lars { flavour, momentum, weight_decay, trust_coefficient };
            let is_adapted: Vec<bool> = (0..layout.len()).map(|tensor| decays(decay, tensor)).collect();
            lars.update(&mut pieces, &is_adapted, step.learning_rate);
        }
        Optimizer::Adam { beta1, beta2, epsilon, weight_decay, decay } => {
            let plain = Adam::new(beta1, beta2, epsilon, step);
            let decayed = plain.with_decay(weight_decay);
            pieces.par_iter_mut().for_each(|piece| {
                piece.adapt(if decays(decay, piece.tensor) { &decayed } else { &plain });
            });
        }
    });
}

fn check(
    optimizer: &Optimizer,
    layout: &[Parameter],
    parameters: &[f32],
    gradients: &[f32],
    given: &[(&'static str, Vec<f32>)],
) {
    let mut end = 0;
    for parameter in layout {
        assert_eq!(parameter.offset, end, "`{}` follows the tensor before it", parameter.name);
        end += parameter.len();
    }
    assert_eq!((parameters.len(), gradients.len()), (end, end), "as many parameters and gradients as the layout says");
    let wanted = slots(optimizer, 0);
    type Slot = (&'static str, Vec<f32>);
    let is_slot = |(wanted, given): (&Slot, &Slot)| wanted.0 == given.0 && given.1.len() == end;
    assert!(wanted.len() == given.len() && wanted.iter().zip(given).all(is_slot), "the slots of {optimizer:?}");
}

/// A stretch of one tensor and of the optimizer's state for it.
struct Piece<'a> {
    /// Index in the layout.
    tensor: usize,
    parameters: &'a mut [f32],
    gradients: &'a [f32],
    /// Momentum or the first moment; empty where the optimizer keeps none.
    first: &'a mut [f32],
    /// The second moment; empty where the optimizer keeps none.
    second: &'a mut [f32],
}

fn cut<'a>(
    layout: &[Parameter],
    mut parameters: &'a mut [f32],
    mut gradients: &'a [f32],
    slots: &'a mut [(&'static str, Vec<f32>)],
) -> Vec<Piece<'a>> {
    let mut slots = slots.iter_mut().map(|(_, values)| values.as_mut_slice());
    let (mut first, mut second) = (slots.next().unwrap_or_default(), slots.next().unwrap_or_default());
    let mut pieces = Vec::with_capacity(parameters.len() / PIECE_LEN + layout.len());
    for (tensor, parameter) in layout.iter().enumerate() {
        let mut left = parameter.len();
        while left > 0 {
            let n = left.min(PIECE_LEN);
            left -= n;
            let gradients = gradients.split_off(..n).unwrap_or_default();
            let [parameters, first, second] = [&mut parameters, &mut first, &mut second].map(|values| {
                let n = n.min(values.len());
                values.split_off_mut(..n).unwrap_or_default()
            });
            pieces.push(Piece { tensor, parameters, gradients, first, second });
        }
    }
    pieces
}
