//! Which numbers are measured at which step, and the update between them.

use std::time::Instant;

use crate::device::Pool;
use crate::executor::{Executor, UpdateNorms};
use crate::history::Detail;
use crate::ops::cross_entropy::top1;
use crate::ops::nt_xent::{Metrics, measure};

/// The batch of a step that is measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    pub n_images: usize,
    /// The class of every image for a loss of labels, else empty.
    pub labels: &'a [u32],
}

/// Updates the parameters; with `measured` also measures norms, embeddings and accuracy around the update.
/// Returns the seconds of the update, its norms included.
pub fn update(
    executor: &mut dyn Executor,
    learning_rate: f64,
    measured: Option<Measured>,
    pool: &Pool,
) -> (Option<Detail>, f64) {
    let Some(Measured { n_images, labels }) = measured else {
        let began = Instant::now();
        executor.update(learning_rate);
        return (None, began.elapsed().as_secs_f64());
    };
    let began = Instant::now();
    let norms = executor.update_measured(learning_rate);
    let seconds = began.elapsed().as_secs_f64();
    let projections = executor.projections();
    let width = projections.len() / (2 * n_images);
    let train_top1 = (!labels.is_empty()).then(|| top1(&projections, labels, width));
    (Some(detail(norms, measure(&projections, width, pool), train_top1)), seconds)
}

/// What a history keeps of a measured step.
pub fn detail(norms: UpdateNorms, embeddings: Metrics, train_top1: Option<f64>) -> Detail {
    Detail {
        gradient_norm: norms.gradient,
        parameter_norm: norms.parameter,
        update_norm: norms.update,
        alignment: embeddings.alignment,
        uniformity: embeddings.uniformity,
        contrastive_top1: embeddings.contrastive_top1,
        train_top1,
    }
}

/// The first measurement that is not finite, by name.
pub fn not_finite(detail: &Detail) -> Option<&'static str> {
    let named = [
        (detail.gradient_norm, "the gradient's norm"),
        (detail.parameter_norm, "the parameters' norm"),
        (detail.update_norm, "the update's norm"),
        (detail.alignment, "the alignment of the embeddings"),
        (detail.uniformity, "the uniformity of the embeddings"),
        (detail.contrastive_top1, "the contrastive accuracy"),
        (detail.train_top1.unwrap_or_default(), "the accuracy on the training views"),
    ];
    named.into_iter().find(|(value, _)| !value.is_finite()).map(|(_, name)| name)
}
