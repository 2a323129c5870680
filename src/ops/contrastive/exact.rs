//! The losses as they are written, in f64 over all pairs at once: what `reference` trains by, and what the fast ones are
//! held to.

use crate::experiment::recipe::Loss;
use crate::ops::nt_xent::positive_of;

/// A loss with what it knows beside the projections.
#[derive(Debug, Clone, PartialEq)]
pub struct Exact {
    pub loss: Loss,
    pub temperature: f64,
    /// Numbers of a projection.
    pub width: usize,
    /// The memory bank, a unit vector a row; else empty.
    pub bank: Vec<f64>,
    /// The weights of DCLW, an image each; worked out where there are none. No gradient goes through them.
    pub weights: Option<Vec<f64>>,
}

/// A term and its derivatives with respect to the similarities of its anchor.
type Term = (f64, Vec<(usize, f64)>);

/// One anchor's row of similarities, the bank behind the views.
struct Row<'a> {
    similarities: &'a [f64],
    positive: usize,
    negatives: Vec<usize>,
}

impl Exact {
    pub fn new(loss: Loss, temperature: f64, width: usize, bank: &[f32]) -> Exact {
        let bank = bank.iter().map(|&value| f64::from(value)).collect();
        Exact { loss, temperature, width, bank, weights: None }
    }

    /// The loss of `projections`, 2N × width, and its gradient with respect to them.
    pub fn forward_backward(&self, projections: &[f64]) -> (f64, Vec<f64>) {
        let width = self.width;
        let norms: Vec<f64> =
            projections.chunks(width).map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt()).collect();
        let divisors: Vec<f64> =
            norms.iter().map(|norm| if self.is_normalized() { norm.max(1e-12) } else { 1.0 }).collect();
        let n_views = norms.len();
        let mut vectors: Vec<f64> = projections.iter().enumerate().map(|(i, x)| x / divisors[i / width]).collect();
        vectors.extend(&self.bank);
        let vector = |i: usize| &vectors[i * width..(i + 1) * width];
        let n_others = vectors.len() / width;
        let similarities: Vec<Vec<f64>> = (0..n_views)
            .map(|i| (0..n_others).map(|j| vector(i).iter().zip(vector(j)).map(|(x, y)| x * y).sum()).collect())
            .collect();
        let (loss, slopes) = self.terms(&similarities);
        let mut of_vectors = vec![0.0; n_views * width];
        for (i, j, slope) in slopes {
            for d in 0..width {
                of_vectors[i * width + d] += slope * vector(j)[d];
                if j < n_views {
                    of_vectors[j * width + d] += slope * vector(i)[d];
                }
            }
        }
        let mut gradient = Vec::with_capacity(of_vectors.len());
        for (i, own) in of_vectors.chunks(width).enumerate() {
            let is_projected = self.is_normalized() && norms[i] >= 1e-12;
            let along: f64 = if is_projected { own.iter().zip(vector(i)).map(|(g, z)| g * z).sum() } else { 0.0 };
            gradient.extend(own.iter().zip(vector(i)).map(|(g, z)| (g - along * z) / divisors[i]));
        }
        (loss, gradient)
    }

    fn is_normalized(&self) -> bool {
        match self.loss {
            Loss::NtXent { normalize, .. } => normalize,
            Loss::NtXentMemoryBank { .. }
            | Loss::Dcl
            | Loss::Dclw { .. }
            | Loss::NtLogistic { .. }
            | Loss::MarginTriplet { .. } => true,
            Loss::CrossEntropy { .. } => false,
        }
    }

    /// Of DCLW; 1 for every other loss.
    fn weights(&self, similarities: &[Vec<f64>]) -> Vec<f64> {
        match (&self.weights, self.loss) {
            (Some(given), _) => given.clone(),
            (None, Loss::Dclw { sigma }) => weights(similarities, sigma),
            (
                None,
                Loss::NtXent { .. }
                | Loss::NtXentMemoryBank { .. }
                | Loss::Dcl
                | Loss::NtLogistic { .. }
                | Loss::MarginTriplet { .. }
                | Loss::CrossEntropy { .. },
            ) => vec![1.0; similarities.len() / 2],
        }
    }

    /// The mean term and every (i, j, ∂loss/∂s(i,j)).
    fn terms(&self, similarities: &[Vec<f64>]) -> (f64, Vec<(usize, usize, f64)>) {
        let n_views = similarities.len();
        let (n_images, temperature) = (n_views / 2, self.temperature);
        let n_anchors = if self.bank.is_empty() { n_views } else { n_images };
        let weights = self.weights(similarities);
        let (mut sum, mut slopes) = (0.0, Vec::new());
        for i in 0..n_anchors {
            let positive = positive_of(i, n_views);
            let is_first = |view: usize| view < n_images;
            let all = (0..n_views).filter(|j| *j != i && *j != positive);
            let in_other_view = all.clone().filter(|j| is_first(*j) != is_first(i));
            let row = |negatives| Row { similarities: &similarities[i], positive, negatives };
            let (term, of_row) = match self.loss {
                Loss::NtXent { scale, .. } => {
                    let (term, of_row) = row(all.collect()).cross_entropy(temperature);
                    (scale * term, of_row.into_iter().map(|(j, slope)| (j, scale * slope)).collect())
                }
                Loss::NtXentMemoryBank { .. } => {
                    row((n_views..similarities[i].len()).collect()).cross_entropy(temperature)
                }
                Loss::Dcl | Loss::Dclw { .. } => row(all.collect()).decoupled(temperature, weights[i % n_images]),
                Loss::NtLogistic { semi_hard } => row(in_other_view.collect()).logistic(temperature, semi_hard),
                Loss::MarginTriplet { margin, semi_hard } => row(in_other_view.collect()).margin(margin, semi_hard),
                Loss::CrossEntropy { .. } => unreachable!("a loss of labels knows no similarities"),
            };
            sum += term;
            slopes.extend(of_row.into_iter().map(|(j, slope)| (i, j, slope / n_anchors as f64)));
        }
        (sum / n_anchors as f64, slopes)
    }
}

/// Of DCLW, an image each.
pub fn weights(similarities: &[Vec<f64>], sigma: f64) -> Vec<f64> {
    let n_images = similarities.len() / 2;
    let logits: Vec<f64> = (0..n_images).map(|i| similarities[i][i + n_images] / sigma).collect();
    let total = log_sum_exp(&logits);
    logits.iter().map(|logit| 2.0 - n_images as f64 * libm::exp(logit - total)).collect()
}

fn log_sum_exp(logits: &[f64]) -> f64 {
    let maximum = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    maximum + libm::log(logits.iter().map(|logit| libm::exp(logit - maximum)).sum())
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// −log σ(x).
fn minus_log_sigmoid(x: f64) -> f64 {
    libm::log1p(libm::exp(-x.abs())) + (-x).max(0.0)
}

impl Row<'_> {
    fn logits(&self, temperature: f64) -> Vec<f64> {
        self.negatives.iter().map(|j| self.similarities[*j] / temperature).collect()
    }

    fn cross_entropy(&self, temperature: f64) -> Term {
        let positive = self.similarities[self.positive] / temperature;
        let logits = self.logits(temperature);
        let of_negatives = log_sum_exp(&logits);
        // −log(e^p/(e^p + e^n)) = −log σ(p − n).
        let term = minus_log_sigmoid(positive - of_negatives);
        let total = positive + term;
        let shares = self.negatives.iter().zip(&logits).map(|(j, logit)| (*j, libm::exp(logit - total) / temperature));
        let of_positive = (self.positive, -sigmoid(of_negatives - positive) / temperature);
        (term, shares.chain([of_positive]).collect())
    }

    fn decoupled(&self, temperature: f64, weight: f64) -> Term {
        let logits = self.logits(temperature);
        let total = log_sum_exp(&logits);
        let shares = self.negatives.iter().zip(&logits).map(|(j, logit)| (*j, libm::exp(logit - total) / temperature));
        let of_positive = (self.positive, -weight / temperature);
        (total - weight * self.similarities[self.positive] / temperature, shares.chain([of_positive]).collect())
    }

    /// The negatives that count, and how many share the mean.
    fn counted(&self, semi_hard: bool, lowest: f64) -> (Vec<usize>, f64) {
        if !semi_hard {
            return (self.negatives.clone(), self.negatives.len() as f64);
        }
        let candidates = self.negatives.iter().copied().filter(|j| {
            let similarity = self.similarities[*j];
            similarity < self.similarities[self.positive] && similarity > lowest
        });
        // Of equals `min_by` takes the first.
        let nearest = candidates.min_by(|a, b| self.similarities[*b].total_cmp(&self.similarities[*a]));
        (nearest.into_iter().collect(), 1.0)
    }

    fn logistic(&self, temperature: f64, semi_hard: bool) -> Term {
        let positive = self.similarities[self.positive] / temperature;
        let (negatives, n) = self.counted(semi_hard, f64::NEG_INFINITY);
        let mut slopes = vec![(self.positive, -sigmoid(-positive) / temperature)];
        let mut term = minus_log_sigmoid(positive);
        for j in negatives {
            let logit = self.similarities[j] / temperature;
            term += minus_log_sigmoid(-logit) / n;
            slopes.push((j, sigmoid(logit) / temperature / n));
        }
        (term, slopes)
    }

    fn margin(&self, margin: f64, semi_hard: bool) -> Term {
        let positive = self.similarities[self.positive];
        let (negatives, n) = self.counted(semi_hard, positive - margin);
        let (mut term, mut slopes) = (0.0, Vec::new());
        for j in negatives {
            let within = self.similarities[j] - positive + margin;
            if within > 0.0 {
                term += within / n;
                slopes.extend([(j, 1.0 / n), (self.positive, -1.0 / n)]);
            }
        }
        (term, slopes)
    }
}
