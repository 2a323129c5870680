//! The probe on images that look different every epoch (SimCLR paper, appendix B.6): features are made anew before each.
//!
//! What is learned is the same as without augmentation, and features are standardised by the images without it, so that the
//! scale does not move from epoch to epoch. The processor computes the steps, whatever made the features.

use crate::device::Pool;
use crate::evaluate::linear_probe::{Standardization, Training};
use crate::evaluate::{EvaluateError, Features, Part, Ranking, check, check_widths};
use crate::experiment::recipe::LinearProbe;

/// Trains on what `of_epoch` gives for every epoch, rows of the same images as `plain`, and ranks the classes of every query,
/// in order; none when `of_epoch` gives none.
///
/// # Errors
/// Those of `of_epoch`, features that are not finite or do not fit `plain`, and weights that did not stay finite.
pub fn classify<E: From<EvaluateError>>(
    plain: &Features,
    queries: &Features,
    n_classes: u32,
    probe: &LinearProbe,
    pool: &Pool,
    of_epoch: &mut dyn FnMut(u32) -> Result<Option<Features>, E>,
) -> Result<Option<Vec<Ranking>>, E> {
    let scale = pool.install(|| Standardization::of(plain));
    let mut training = Training::new(plain, n_classes as usize, probe);
    for epoch in 0..probe.epochs {
        let Some(features) = of_epoch(epoch)? else { return Ok(None) };
        check(Part::Bank, &features, n_classes)?;
        check_widths(plain, &features)?;
        pool.install(|| training.epoch(epoch, &scale.apply(&features)));
    }
    if !training.classifier.is_finite() {
        return Err(EvaluateError::Diverged { learning_rate: probe.learning_rate }.into());
    }
    Ok(Some(pool.install(|| training.classifier.rank(&scale.apply(queries)))))
}
