//! The losses beside NT-Xent, and one door to all of them, the one of labels ([`crate::ops::cross_entropy`]) among them.
//!
//! 2N projections x, the N first views before the N second ones; z = x/‖x‖, s(i,j) = z_i·z_j, p(i) the other view of i,
//! σ(x) = 1/(1 + e⁻ˣ). Every loss is the mean of a term of each anchor i, over all 2N anchors unless it says otherwise:
//!
//! - NT-Xent ([`crate::ops::nt_xent`]) times `scale`; without `normalize` z = x, so that s is the dot product.
//! - DCL (Yeh et al. 2022, equation 6): −w_i·s(i,p(i))/T + log Σ_{j≠i,p(i)} exp(s(i,j)/T), with w = 1. DCLW has
//!   w_i = 2 − N·softmax over the N pairs of s(i,p(i))/sigma, which no gradient goes through. Both as Lightly's.
//! - NT-Logistic (SimCLR paper, table 2): −log σ(s(i,p(i))/T) − mean over v of log σ(−s(i,v)/T).
//! - Margin triplet (the same): mean over v of max(s(i,v) − s(i,p(i)) + m, 0).
//! - NT-Xent with a memory bank b_1…b_K (Lightly's `NTXentLoss`), over the N first views alone:
//!   −log( exp(s(i,p(i))/T) / (exp(s(i,p(i))/T) + Σ_k exp(z_i·b_k/T)) ). See [`bank`].
//!
//! The negatives v of the two of table 2 are the N − 1 other images in the view that i is not of: "the negatives from one
//! augmentation view" (appendix B.10). So each is the mean of the paper's expression over all 2N·(N − 1) triples of an
//! anchor, its positive and a negative. Semi-hard, an anchor's one negative is the most similar of those that are less
//! similar than its positive, "within the loss margin and closest in distance, but farther than positive examples"
//! (section 5.1): for the triplet less than m less similar; the logistic loss has no margin. Of equals the first counts. An
//! anchor without such a negative has no negative term, and counts in the mean.

pub mod bank;
#[cfg(test)]
mod bank_tests;
pub mod exact;
mod memory_bank;
mod pairs;
mod softmax;
#[cfg(test)]
mod tests;
mod triples;

use crate::device::Pool;
use crate::experiment::recipe::Loss;
use crate::ops::contrastive::memory_bank::MemoryBank;
use crate::ops::contrastive::softmax::Softmax;
use crate::ops::contrastive::triples::Triples;
use crate::ops::{cross_entropy, nt_xent};

/// A loss and its working memory, for one number of views and one width.
#[derive(Debug)]
pub struct Objective {
    temperature: f32,
    width: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    NtXent { scale: f32, workspace: nt_xent::Workspace },
    Softmax { scale: f32, softmax: Softmax },
    Triples(Triples),
    MemoryBank(MemoryBank),
    CrossEntropy { label_smoothing: f64, terms: Vec<f64> },
}

impl Objective {
    /// A memory bank is all 0 until it is loaded.
    pub fn new(loss: Loss, temperature: f32, n_views: usize, width: usize) -> Objective {
        let kind = match loss {
            Loss::NtXent { normalize: true, scale } => {
                Kind::NtXent { scale: scale as f32, workspace: nt_xent::Workspace::new(n_views, width) }
            }
            Loss::NtXent { normalize: false, scale } => {
                let softmax = Softmax::of_products(temperature, n_views, width);
                Kind::Softmax { scale: scale as f32, softmax }
            }
            Loss::Dcl => Kind::Softmax { scale: 1.0, softmax: Softmax::decoupled(None, temperature, n_views, width) },
            Loss::Dclw { sigma } => {
                let softmax = Softmax::decoupled(Some(sigma), temperature, n_views, width);
                Kind::Softmax { scale: 1.0, softmax }
            }
            Loss::NtLogistic { semi_hard } => Kind::Triples(Triples::logistic(temperature, semi_hard, n_views, width)),
            Loss::MarginTriplet { margin, semi_hard } => {
                Kind::Triples(Triples::margin(margin, semi_hard, n_views, width))
            }
            Loss::NtXentMemoryBank { size } => {
                Kind::MemoryBank(MemoryBank::new(size as usize, temperature, n_views, width))
            }
            Loss::CrossEntropy { label_smoothing } => Kind::CrossEntropy { label_smoothing, terms: vec![0.0; n_views] },
        };
        Objective { temperature, width, kind }
    }

    /// The loss of `projections` (2N × width, the first views before the second, not normalised) and its gradient with
    /// respect to them in `gradient`. A norm below 1e-12 is taken for 1e-12. What is not finite in `projections` makes the
    /// loss NaN. A memory bank then takes in the second views, at the place of step `step`; a loss of labels learns `labels`, the
    /// class of every image.
    ///
    /// # Panics
    /// When a length is not that of the objective, or the number of views is odd or below 4.
    pub fn forward_backward(
        &mut self,
        (step, labels): (u64, &[u32]),
        projections: &[f32],
        gradient: &mut [f32],
        pool: &Pool,
    ) -> f32 {
        match &mut self.kind {
            Kind::NtXent { scale, workspace } => {
                let (width, temperature) = (self.width, self.temperature);
                let loss = nt_xent::forward_backward(projections, width, temperature, gradient, workspace, pool);
                scaled(*scale, loss, gradient)
            }
            Kind::Softmax { scale, softmax } => {
                let loss = pool.install(|| softmax.forward_backward(projections, gradient));
                scaled(*scale, loss, gradient)
            }
            Kind::Triples(triples) => pool.install(|| triples.forward_backward(projections, gradient)),
            Kind::MemoryBank(bank) => pool.install(|| bank.forward_backward(step, projections, gradient)),
            Kind::CrossEntropy { label_smoothing, terms } => {
                let (smoothing, n_classes) = (*label_smoothing, self.width);
                pool.install(|| {
                    cross_entropy::forward_backward(projections, labels, n_classes, smoothing, gradient, terms)
                })
            }
        }
    }

    /// The memory bank, a unit vector a row; empty for a loss without one.
    pub fn bank(&self) -> &[f32] {
        match &self.kind {
            Kind::MemoryBank(bank) => bank.rows(),
            Kind::NtXent { .. } | Kind::Softmax { .. } | Kind::Triples(_) | Kind::CrossEntropy { .. } => &[],
        }
    }

    /// # Panics
    /// When the bank is of another size.
    pub fn load_bank(&mut self, rows: &[f32]) {
        assert_eq!(rows.len(), self.bank().len(), "the memory bank of the state and of the setting");
        match &mut self.kind {
            Kind::MemoryBank(bank) => bank.load(rows),
            Kind::NtXent { .. } | Kind::Softmax { .. } | Kind::Triples(_) | Kind::CrossEntropy { .. } => {}
        }
    }
}

fn scaled(scale: f32, loss: f32, gradient: &mut [f32]) -> f32 {
    if scale != 1.0 {
        gradient.iter_mut().for_each(|value| *value *= scale);
    }
    loss * scale
}

/// Numbers that a loss keeps between steps.
pub fn bank_len(loss: Loss, width: usize) -> usize {
    match loss {
        Loss::NtXentMemoryBank { size } => size as usize * width,
        Loss::NtXent { .. }
        | Loss::Dcl
        | Loss::Dclw { .. }
        | Loss::NtLogistic { .. }
        | Loss::MarginTriplet { .. }
        | Loss::CrossEntropy { .. } => 0,
    }
}

/// A loss as a share of that of embeddings that are all equal, where this is one number above 0 whatever the recipe: for
/// NT-Xent scale · ln(2N − 1).
pub fn loss_ratio(loss: Loss, value: f64, n_views: usize) -> Option<f64> {
    match loss {
        Loss::NtXent { scale, .. } => Some(nt_xent::loss_ratio(value / scale, n_views)),
        Loss::NtXentMemoryBank { .. }
        | Loss::Dcl
        | Loss::Dclw { .. }
        | Loss::NtLogistic { .. }
        | Loss::MarginTriplet { .. }
        | Loss::CrossEntropy { .. } => None,
    }
}

/// The losses' mean, in the order of the anchors.
fn mean(terms: impl ExactSizeIterator<Item = f64>) -> f32 {
    let n = terms.len();
    (terms.sum::<f64>() / n as f64) as f32
}
