//! Two classifiers on the same test images: McNemar's test of the images that only one of them told right.

/// What the images say of two classifiers of the same seed. It speaks of these two trained encoders, not of the settings
/// they were trained with: other seeds may say otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct McNemar {
    pub n_images: usize,
    pub only_first_right: u64,
    pub only_second_right: u64,
    /// Exact, two-sided.
    pub p: f64,
}

/// Why two lists of predictions cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PredictionsError {
    #[error("{first} predictions beside {second}; expected as many, of the same test images")]
    Length { first: usize, second: usize },
    #[error("{labels} labels for {predictions} predictions; expected as many, of the same test images")]
    Labels { labels: usize, predictions: usize },
}

/// McNemar's exact test (McNemar 1947): of the images that only one is right about, each is as likely to be the first's as
/// the second's where the two are equally good, so their number is binomial with 1/2.
///
/// # Errors
/// On lists of different lengths.
pub fn mcnemar(first: &[u16], second: &[u16], labels: &[u16]) -> Result<McNemar, PredictionsError> {
    if first.len() != second.len() {
        return Err(PredictionsError::Length { first: first.len(), second: second.len() });
    }
    if labels.len() != first.len() {
        return Err(PredictionsError::Labels { labels: labels.len(), predictions: first.len() });
    }
    let (mut only_first_right, mut only_second_right) = (0, 0);
    for ((first, second), label) in first.iter().zip(second).zip(labels) {
        match (first == label, second == label) {
            (true, false) => only_first_right += 1,
            (false, true) => only_second_right += 1,
            (true, true) | (false, false) => {}
        }
    }
    let p = binomial_p(only_first_right, only_second_right);
    Ok(McNemar { n_images: labels.len(), only_first_right, only_second_right, p })
}

/// Two-sided p of `a` heads and `b` tails of a fair coin: twice the chance of no more than min(a, b), at most 1. Chances are
/// taken relative to that of the middle, n! / (k! (n − k)!) by ratios of neighbours, so nothing overflows.
fn binomial_p(a: u64, b: u64) -> f64 {
    let (n, fewer) = (a + b, a.min(b));
    let (mut chance, mut all, mut tail) = (1.0, 0.0, 0.0);
    // From the middle down to 0 heads; the upper half mirrors the lower one.
    for heads in (0..=n / 2).rev() {
        let mirrored = if 2 * heads == n { 1.0 } else { 2.0 };
        all += mirrored * chance;
        if heads <= fewer {
            tail += chance;
        }
        chance *= heads as f64 / (n - heads + 1) as f64;
    }
    (2.0 * tail / all).min(1.0)
}
