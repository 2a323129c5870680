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
    slot_names(optimizer).iter().map(|&name| (name, vec![0.0; n])).collect()
}

fn slot_names(optimizer: &Optimizer) -> &'static [&'static str] {
    match *optimizer {
        Optimizer::Sgd { momentum, .. } | Optimizer::Lars { momentum, .. } if momentum == 0.0 => &[],
        Optimizer::Sgd { .. } | Optimizer::Lars { .. } => &["momentum"],
        Optimizer::Adam { .. } => &["first_moment", "second_moment"],
    }
}

/// An optimizer for tensors of one layout, with all the memory that an update needs.
#[derive(Debug)]
pub struct Updater {
    optimizer: Optimizer,
    cuts: Vec<Cut>,
    /// By tensor: whether it lies in the decay scope.
    is_decayed: Vec<bool>,
    lars: lars::Workspace,
}

/// Where a piece lies.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Index in the layout.
    tensor: usize,
    start: usize,
    len: usize,
}

impl Updater {
    /// # Panics
    /// When the tensors of `layout` do not lie one after another.
    pub fn new(optimizer: &Optimizer, layout: &[Parameter]) -> Updater {
        let decays = |parameter: &Parameter| match decay_scope(optimizer) {
            DecayScope::All => true,
            DecayScope::Weights => !parameter.kind.is_norm_or_bias(),
        };
        let cuts = cut(layout);
        let lars = match optimizer {
            Optimizer::Lars { .. } => lars::Workspace::new(cuts.len(), layout.len()),
            Optimizer::Sgd { .. } | Optimizer::Adam { .. } => lars::Workspace::default(),
        };
        Updater { optimizer: *optimizer, cuts, is_decayed: layout.iter().map(decays).collect(), lars }
    }

    /// Changes `parameters` and `slots` in place by one step along `gradients`.
    ///
    /// # Panics
    /// When a length or the number of slots is not the layout's.
    pub fn update(
        &mut self,
        parameters: &mut [f32],
        gradients: &[f32],
        slots: &mut [(&'static str, Vec<f32>)],
        step: Step,
        pool: &Pool,
    ) {
        self.check(parameters, gradients, slots);
        let Updater { optimizer, cuts, is_decayed, lars } = self;
        pool.install(|| match *optimizer {
            Optimizer::Sgd { momentum, nesterov, weight_decay, .. } => {
                let plain = Descent { nesterov, ..Descent::new(step.learning_rate, momentum) };
                let decayed = plain.with_decay(weight_decay);
                let rule = |tensor: usize| if is_decayed[tensor] { &decayed } else { &plain };
                Pieces::new(cuts, parameters, gradients, slots)
                    .for_each(&|mut piece| piece.descend(rule(piece.tensor)));
            }
            Optimizer::Lars { flavour, momentum, weight_decay, trust_coefficient, .. } => {
                let rule = Lars { flavour, momentum, weight_decay, trust_coefficient };
                let rules = rule.rules(cuts, (parameters, gradients), is_decayed, step.learning_rate, lars);
                Pieces::new(cuts, parameters, gradients, slots)
                    .for_each(&|mut piece| piece.descend(&rules[piece.tensor]));
            }
            Optimizer::Adam { beta1, beta2, epsilon, weight_decay, .. } => {
                let plain = Adam::new(beta1, beta2, epsilon, step);
                let decayed = plain.with_decay(weight_decay);
                let rule = |tensor: usize| if is_decayed[tensor] { &decayed } else { &plain };
                Pieces::new(cuts, parameters, gradients, slots).for_each(&|mut piece| piece.adapt(rule(piece.tensor)));
            }
        });
    }

    fn check(&self, parameters: &[f32], gradients: &[f32], given: &[(&'static str, Vec<f32>)]) {
        let end = self.cuts.last().map_or(0, |cut| cut.start + cut.len);
        let found = (parameters.len(), gradients.len());
        assert_eq!(found, (end, end), "as many parameters and gradients as the layout says");
        let names = slot_names(&self.optimizer);
        let is_slot = |(&wanted, given): (&&str, &(&'static str, Vec<f32>))| wanted == given.0 && given.1.len() == end;
        assert!(
            names.len() == given.len() && names.iter().zip(given).all(is_slot),
            "the slots of {:?}",
            self.optimizer
        );
    }
}

fn decay_scope(optimizer: &Optimizer) -> DecayScope {
    match *optimizer {
        Optimizer::Sgd { decay, .. } | Optimizer::Lars { decay, .. } | Optimizer::Adam { decay, .. } => decay,
    }
}

fn cut(layout: &[Parameter]) -> Vec<Cut> {
    let (mut cuts, mut end) = (Vec::new(), 0);
    for (tensor, parameter) in layout.iter().enumerate() {
        assert_eq!(parameter.offset, end, "`{}` follows the tensor before it", parameter.name);
        let start = end;
        end += parameter.len();
        let starts = (start..end).step_by(PIECE_LEN);
        cuts.extend(starts.map(|start| Cut { tensor, start, len: PIECE_LEN.min(end - start) }));
    }
    cuts
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

/// Pieces that lie one behind another.
struct Pieces<'a> {
    cuts: &'a [Cut],
    parameters: &'a mut [f32],
    gradients: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl<'a> Pieces<'a> {
    fn new(
        cuts: &'a [Cut],
        parameters: &'a mut [f32],
        gradients: &'a [f32],
        slots: &'a mut [(&'static str, Vec<f32>)],
    ) -> Pieces<'a> {
        let mut slots = slots.iter_mut().map(|(_, values)| values.as_mut_slice());
        let (first, second) = (slots.next().unwrap_or_default(), slots.next().unwrap_or_default());
        Pieces { cuts, parameters, gradients, first, second }
    }

    /// Halves until one is left.
    fn for_each(self, work: &(impl Fn(Piece<'a>) + Sync)) {
        match self.cuts {
            [] => {}
            [cut] => {
                let Pieces { parameters, gradients, first, second, .. } = self;
                work(Piece { tensor: cut.tensor, parameters, gradients, first, second });
            }
            cuts => {
                let middle = cuts.len() / 2;
                let (front, back) = self.split(middle);
                rayon::join(|| front.for_each(work), || back.for_each(work));
            }
        }
    }

    fn split(self, middle: usize) -> (Pieces<'a>, Pieces<'a>) {
        let n = self.cuts[middle].start - self.cuts[0].start;
        let (cuts, cuts_behind) = self.cuts.split_at(middle);
        let (parameters, parameters_behind) = self.parameters.split_at_mut(n);
        let (gradients, gradients_behind) = self.gradients.split_at(n);
        let (first, first_behind) = self.first.split_at_mut(n.min(self.first.len()));
        let (second, second_behind) = self.second.split_at_mut(n.min(self.second.len()));
        let front = Pieces { cuts, parameters, gradients, first, second };
        let back = Pieces {
            cuts: cuts_behind,
            parameters: parameters_behind,
            gradients: gradients_behind,
            first: first_behind,
            second: second_behind,
        };
        (front, back)
    }
}
