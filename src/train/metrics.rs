//! Which numbers are measured at which step, and the update between them.

use std::time::Instant;

use crate::device::Pool;
use crate::executor::{Executor, UpdateNorms};
use crate::history::Detail;
use crate::ops::nt_xent::{Metrics, measure};

/// Updates the parameters; with `measured` (the number of images a step) also measures norms and embeddings around the update.
/// Returns the seconds of the update, its norms included.
pub fn update(
    executor: &mut dyn Executor,
    learning_rate: f64,
    measured: Option<usize>,
    pool: &Pool,
) -> (Option<Detail>, f64) {
    let Some(batch) = measured else {
        let began = Instant::now();
        executor.update(learning_rate);
        return (None, began.elapsed().as_secs_f64());
    };
    let began = Instant::now();
    let norms = executor.update_measured(learning_rate);
    let seconds = began.elapsed().as_secs_f64();
    let projections = executor.projections();
    let embeddings = measure(&projections, projections.len() / (2 * batch), pool);
    (Some(detail(norms, embeddings)), seconds)
}

/// What a history keeps of a measured step.
pub fn detail(norms: UpdateNorms, embeddings: Metrics) -> Detail {
    Detail {
        gradient_norm: norms.gradient,
        parameter_norm: norms.parameter,
        update_norm: norms.update,
        alignment: embeddings.alignment,
        uniformity: embeddings.uniformity,
        contrastive_top1: embeddings.contrastive_top1,
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
    ];
    named.into_iter().find(|(value, _)| !value.is_finite()).map(|(_, name)| name)
}
