//! Losses of a softmax over the other views: NT-Xent of dot products, DCL and DCLW.

use crate::ops::contrastive::mean;
use crate::ops::contrastive::pairs::Pairs;
use crate::ops::nt_xent::{RunningSum, exponential, softplus};

/// How the positive enters.
#[derive(Debug, Clone, Copy)]
enum Attraction {
    /// It stands in the denominator too.
    CrossEntropy,
    /// It does not.
    Decoupled,
    /// The same, weighted.
    Weighted { sigma: f64 },
}

#[derive(Debug, Clone, Copy, Default)]
struct Anchor {
    /// log Σ exp(s(i,j)/T) over the denominator.
    log_sum: f32,
    /// −∂term/∂(s(i,p(i))/T).
    pull: f32,
    term: f64,
}

#[derive(Debug)]
pub struct Softmax {
    attraction: Attraction,
    inverse_temperature: f32,
    pairs: Pairs,
    sums: Vec<RunningSum>,
    anchors: Vec<Anchor>,
    /// Of every image's pair; read where the positive does not stand in the denominator.
    weights: Vec<f64>,
}

impl Softmax {
    fn new(attraction: Attraction, temperature: f32, pairs: Pairs, n_views: usize) -> Softmax {
        let (sums, anchors) = (vec![RunningSum::EMPTY; n_views], vec![Anchor::default(); n_views]);
        let (inverse_temperature, weights) = (1.0 / temperature, vec![1.0; n_views / 2]);
        Softmax { attraction, inverse_temperature, pairs, sums, anchors, weights }
    }

    /// NT-Xent of dot products.
    pub fn of_products(temperature: f32, n_views: usize, width: usize) -> Softmax {
        Softmax::new(Attraction::CrossEntropy, temperature, Pairs::new(false, n_views, width), n_views)
    }

    /// DCL, or with a `sigma` DCLW.
    pub fn decoupled(sigma: Option<f64>, temperature: f32, n_views: usize, width: usize) -> Softmax {
        let attraction = sigma.map_or(Attraction::Decoupled, |sigma| Attraction::Weighted { sigma });
        Softmax::new(attraction, temperature, Pairs::new(true, n_views, width), n_views)
    }

    pub fn forward_backward(&mut self, projections: &[f32], gradient: &mut [f32]) -> f32 {
        let inverse_temperature = self.inverse_temperature;
        self.pairs.take(projections);
        self.sums.fill(RunningSum::EMPTY);
        self.pairs.visit(&mut self.sums, |stretch, logits, sum| {
            logits.iter_mut().for_each(|logit| *logit *= inverse_temperature);
            for place in [stretch.anchor, stretch.positive()].into_iter().filter_map(|view| stretch.place(view)) {
                logits[place] = f32::NEG_INFINITY;
            }
            sum.add(logits);
        });
        self.weigh();
        let (attraction, weights) = (self.attraction, &self.weights);
        let rows = self.sums.iter().zip(self.pairs.positives()).enumerate();
        for (anchor, (index, (sum, &positive))) in self.anchors.iter_mut().zip(rows) {
            let positive = f64::from(positive * inverse_temperature);
            *anchor = match attraction {
                Attraction::CrossEntropy => of_cross_entropy(sum.logarithm(), positive),
                Attraction::Decoupled | Attraction::Weighted { .. } => {
                    of_decoupled(sum.logarithm(), positive, weights[index % weights.len()])
                }
            };
        }
        let anchors = &self.anchors;
        let scale = f64::from(inverse_temperature) / anchors.len() as f64;
        self.pairs.gradient(gradient, scale, |stretch, weights| {
            let own = &anchors[stretch.anchor];
            for (weight, other) in weights.iter_mut().zip(&anchors[stretch.columns.clone()]) {
                let logit = *weight * inverse_temperature;
                *weight = exponential(logit - own.log_sum) + exponential(logit - other.log_sum);
            }
            if let Some(place) = stretch.place(stretch.anchor) {
                weights[place] = 0.0;
            }
            let positive = stretch.positive();
            if let Some(place) = stretch.place(positive) {
                weights[place] = -(own.pull + anchors[positive].pull);
            }
        });
        mean(self.anchors.iter().map(|anchor| anchor.term))
    }

    /// The weight of every image's pair where they differ: 2 less the share of its likelihood in the mean.
    fn weigh(&mut self) {
        let Attraction::Weighted { sigma } = self.attraction else { return };
        let logit = |positive: f32| f64::from(positive) / sigma;
        let positives = &self.pairs.positives()[..self.weights.len()];
        let maximum = positives.iter().copied().map(logit).fold(f64::NEG_INFINITY, f64::max);
        for (weight, &positive) in self.weights.iter_mut().zip(positives) {
            *weight = libm::exp(logit(positive) - maximum);
        }
        let per_image = self.weights.len() as f64 / self.weights.iter().sum::<f64>();
        self.weights.iter_mut().for_each(|weight| *weight = 2.0 - per_image * *weight);
    }
}

fn of_cross_entropy(log_sum_of_others: f64, positive: f64) -> Anchor {
    let excess = log_sum_of_others - positive;
    let term = softplus(excess);
    Anchor { log_sum: (positive + term) as f32, pull: (1.0 / (1.0 + libm::exp(-excess))) as f32, term }
}

fn of_decoupled(log_sum: f64, positive: f64, weight: f64) -> Anchor {
    Anchor { log_sum: log_sum as f32, pull: weight as f32, term: log_sum - weight * positive }
}
