//! Cross entropy of logits and labels: the loss of supervised learning.
//!
//! n views of C logits x, y the class of a view's image, p = softmax(x), ε the label smoothing. The target q has 1 − ε at y, and
//! ε/C more at every class (Szegedy et al. 2016, section 7; PyTorch's `cross_entropy`):
//!
//! - loss = mean over all views of −Σ_c q_c · log p_c = mean of log Σ_c exp(x_c) − (1 − ε)·x_y − ε · mean of x
//! - ∂loss/∂x_c = (p_c − q_c) / n
//!
//! Views come as everywhere: first those of all N images, then their second ones; view i has the label of image i mod N.

pub mod cuda;
#[cfg(test)]
mod cuda_tests;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::ops::nt_xent::exponential;

/// The loss of `logits` (views × `n_classes`) and its gradient with respect to them in `gradient`. `labels`: a class an image; `terms`: what every view adds, in nats.
/// What is not finite in `logits` makes the loss NaN. Runs on the current thread pool; the number of threads changes no bit.
///
/// # Panics
/// When a length does not fit, or a label is no class.
pub fn forward_backward(
    logits: &[f32],
    labels: &[u32],
    n_classes: usize,
    label_smoothing: f64,
    gradient: &mut [f32],
    terms: &mut [f64],
) -> f32 {
    assert_eq!(logits.len(), gradient.len(), "logits and their gradient");
    let n_views = logits.len() / n_classes;
    assert_eq!(terms.len(), n_views, "a term a view");
    assert!(!labels.is_empty() && n_views.is_multiple_of(labels.len()), "{n_views} views of {} images", labels.len());
    let rows = logits.par_chunks_exact(n_classes).zip(gradient.par_chunks_exact_mut(n_classes)).zip(&mut *terms);
    rows.enumerate().for_each(|(view, ((logits, gradient), term))| {
        let label = labels[view % labels.len()] as usize;
        *term = of_view(logits, label, label_smoothing, n_views as f64, gradient);
    });
    // In the order of the views.
    (terms.iter().sum::<f64>() / n_views as f64) as f32
}

/// Share of the views whose highest logit is their label's; of equal logits that of the lower class counts as the higher, as
/// evaluations have it. `logits` and `labels`: as in [`forward_backward`].
pub fn top1(logits: &[f32], labels: &[u32], n_classes: usize) -> f64 {
    let highest =
        |logits: &[f32]| (1..n_classes).fold(0, |best, class| if logits[class] > logits[best] { class } else { best });
    let views = logits.chunks_exact(n_classes);
    let n_views = views.len();
    let is_right = |(view, logits): &(usize, &[f32])| highest(logits) == labels[view % labels.len()] as usize;
    views.enumerate().filter(is_right).count() as f64 / n_views as f64
}

/// One view's term, and its part of the gradient of the mean over all.
fn of_view(logits: &[f32], label: usize, smoothing: f64, n_views: f64, gradient: &mut [f32]) -> f64 {
    if !logits.iter().all(|logit| logit.is_finite()) {
        gradient.fill(f32::NAN);
        return f64::NAN;
    }
    let maximum = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (share, logit) in gradient.iter_mut().zip(logits) {
        *share = exponential(logit - maximum);
        sum += f64::from(*share);
    }
    let smooth = smoothing / logits.len() as f64;
    for (class, share) in gradient.iter_mut().enumerate() {
        let target = if class == label { 1.0 - smoothing + smooth } else { smooth };
        *share = ((f64::from(*share) / sum - target) / n_views) as f32;
    }
    let above = |logit: f32| f64::from(maximum) - f64::from(logit);
    let mean_above = logits.iter().map(|&logit| above(logit)).sum::<f64>() / logits.len() as f64;
    libm::log(sum) + (1.0 - smoothing) * above(logits[label]) + smoothing * mean_above
}
