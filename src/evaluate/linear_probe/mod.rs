//! Linear probe: a linear classifier with bias on frozen features, by SGD with Nesterov momentum from zeros.
//!
//! Features are standardised by the bank's mean and standard deviation; a feature that is constant over the bank is
//! dropped. Cross entropy, mean over the batch; the last batch of an epoch may be smaller. The rate falls from
//! learning_rate · batch/256 to 0 by a cosine over all steps. Weight decay touches the weights, not the bias.

pub mod augmented;
pub mod cuda;
#[cfg(test)]
mod cuda_tests;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::device::Pool;
use crate::evaluate::{EvaluateError, Features, Ranking};
use crate::experiment::recipe::{LinearProbe, Schedule};
use crate::ops::gemm::{Matrix, add_product, product};
use crate::ops::nt_xent::exponential;
use crate::ops::schedule::multiplier;
use crate::random::{Address, Purpose, Stream};

/// The learning rate is given for a batch of so many.
const RATE_BATCH: f64 = 256.0;
/// Rows a block, but that a batch has at most [`BLOCKS_MAX`].
const BLOCK_ROWS: usize = 64;
const BLOCKS_MAX: usize = 16;
/// A feature whose standard deviation is below this share of its mean is constant but for rounding.
const CONSTANT_SHARE: f64 = 1e-6;

/// Trains on `bank` and ranks the classes of every query, in order.
///
/// # Errors
/// When the weights did not stay finite.
pub fn classify(
    bank: &Features,
    queries: &Features,
    n_classes: usize,
    probe: &LinearProbe,
    pool: &Pool,
) -> Result<Vec<Ranking>, EvaluateError> {
    pool.install(|| {
        let scale = Standardization::of(bank);
        let classifier = train(&scale.apply(bank), n_classes, probe);
        if !classifier.is_finite() {
            return Err(EvaluateError::Diverged { learning_rate: probe.learning_rate });
        }
        Ok(classifier.rank(&scale.apply(queries)))
    })
}

/// Mean and inverse standard deviation of every feature.
struct Standardization {
    mean: Vec<f64>,
    /// 0 for a feature that is constant.
    inverse_deviation: Vec<f64>,
}

impl Standardization {
    fn of(bank: &Features) -> Standardization {
        let n = bank.len() as f64;
        let mean: Vec<f64> = column_sums(bank, |_, value| value).into_iter().map(|sum| sum / n).collect();
        let squares = column_sums(bank, |column, value| (value - mean[column]) * (value - mean[column]));
        let inverse = |(square, mean): (f64, &f64)| {
            let deviation = (square / n).sqrt();
            if deviation > CONSTANT_SHARE * mean.abs() { 1.0 / deviation } else { 0.0 }
        };
        let inverse_deviation = squares.into_iter().zip(&mean).map(inverse).collect();
        Standardization { mean, inverse_deviation }
    }

    fn apply(&self, features: &Features) -> Features {
        let mut values = features.values.clone();
        values.par_chunks_exact_mut(features.width).for_each(|row| {
            for ((value, mean), inverse) in row.iter_mut().zip(&self.mean).zip(&self.inverse_deviation) {
                *value = ((f64::from(*value) - mean) * inverse) as f32;
            }
        });
        Features { values, width: features.width, labels: features.labels.clone() }
    }
}

/// Σ over the rows of term(column, value): partial sums of 256 rows, then those in order.
fn column_sums(features: &Features, term: impl Fn(usize, f64) -> f64 + Sync) -> Vec<f64> {
    let of_block = |rows: &[f32]| {
        let mut sums = vec![0.0; features.width];
        for row in rows.chunks_exact(features.width) {
            for (column, (sum, &value)) in sums.iter_mut().zip(row).enumerate() {
                *sum += term(column, f64::from(value));
            }
        }
        sums
    };
    let partials: Vec<Vec<f64>> = features.values.par_chunks(256 * features.width).map(of_block).collect();
    let mut sums = vec![0.0; features.width];
    for partial in partials {
        sums.iter_mut().zip(partial).for_each(|(sum, part)| *sum += part);
    }
    sums
}

/// Weights, classes × width, and a bias a class.
struct Classifier {
    weights: Vec<f32>,
    bias: Vec<f32>,
    width: usize,
}

impl Classifier {
    fn zeros(n_classes: usize, width: usize) -> Classifier {
        Classifier { weights: vec![0.0; n_classes * width], bias: vec![0.0; n_classes], width }
    }

    fn is_finite(&self) -> bool {
        self.weights.iter().chain(&self.bias).all(|value| value.is_finite())
    }

    /// rows × classes.
    fn logits(&self, rows: &[f32], logits: &mut [f32]) {
        let n_classes = self.bias.len();
        let weights = Matrix::dense(&self.weights, n_classes, self.width);
        product(Matrix::dense(rows, rows.len() / self.width, self.width), weights.transposed(), logits);
        for row in logits.chunks_exact_mut(n_classes) {
            row.iter_mut().zip(&self.bias).for_each(|(logit, bias)| *logit += bias);
        }
    }

    fn rank(&self, queries: &Features) -> Vec<Ranking> {
        let rank_block = |rows: &[f32]| -> Vec<Ranking> {
            let mut logits = vec![0.0; rows.len() / self.width * self.bias.len()];
            self.logits(rows, &mut logits);
            logits.chunks_exact(self.bias.len()).map(Ranking::of_scores).collect()
        };
        let blocks: Vec<Vec<Ranking>> = queries.values.par_chunks(256 * self.width).map(rank_block).collect();
        blocks.concat()
    }
}

/// The gradient of a block's rows and what it takes to make it.
struct Block {
    rows: Vec<f32>,
    logits: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Block {
    fn new(n_rows: usize, n_classes: usize, width: usize) -> Block {
        Block {
            rows: vec![0.0; n_rows * width],
            logits: vec![0.0; n_rows * n_classes],
            weights: vec![0.0; n_classes * width],
            bias: vec![0.0; n_classes],
        }
    }

    /// Σ over `chosen` of the gradient of −log softmax(logits)[label].
    fn accumulate(&mut self, classifier: &Classifier, bank: &Features, chosen: &[u32]) {
        let (width, n_classes) = (classifier.width, classifier.bias.len());
        let rows = &mut self.rows[..chosen.len() * width];
        for (row, &index) in rows.chunks_exact_mut(width).zip(chosen) {
            row.copy_from_slice(&bank.values[index as usize * width..][..width]);
        }
        let errors = &mut self.logits[..chosen.len() * n_classes];
        classifier.logits(rows, errors);
        self.bias.fill(0.0);
        for (row, &index) in errors.chunks_exact_mut(n_classes).zip(chosen) {
            softmax(row);
            row[bank.labels[index as usize] as usize] -= 1.0;
            self.bias.iter_mut().zip(row.iter()).for_each(|(sum, error)| *sum += error);
        }
        self.weights.fill(0.0);
        let errors = Matrix::dense(errors, chosen.len(), n_classes);
        add_product(errors.transposed(), Matrix::dense(rows, chosen.len(), width), &mut self.weights);
    }
}

/// exp(x − log Σ exp x) in place.
fn softmax(logits: &mut [f32]) {
    let maximum = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter_mut().for_each(|logit| *logit = exponential(*logit - maximum));
    let sum: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|logit| *logit /= sum);
}

/// One step of SGD with Nesterov momentum.
struct Descent {
    rate: f32,
    momentum: f32,
    weight_decay: f32,
    inverse_batch: f32,
}

impl Descent {
    /// Moves `values` along the sum of `partials`, which are added in order.
    fn step<'a>(
        &self,
        values: &mut [f32],
        buffer: &mut [f32],
        decay: f32,
        partials: impl Iterator<Item = &'a [f32]>,
        gradient: &mut [f32],
    ) {
        gradient.fill(0.0);
        for partial in partials {
            gradient.iter_mut().zip(partial).for_each(|(sum, part)| *sum += part);
        }
        for ((value, buffer), &mut sum) in values.iter_mut().zip(buffer).zip(gradient) {
            let gradient = sum * self.inverse_batch + decay * *value;
            *buffer = self.momentum * *buffer + gradient;
            *value -= self.rate * (gradient + self.momentum * *buffer);
        }
    }
}

fn train(bank: &Features, n_classes: usize, probe: &LinearProbe) -> Classifier {
    let mut training = Training::new(bank, n_classes, probe);
    for epoch in 0..probe.epochs {
        training.epoch(epoch, bank);
    }
    training.classifier
}

/// A training between two epochs.
struct Training<'a> {
    probe: &'a LinearProbe,
    batch: usize,
    block_rows: usize,
    n_steps: u64,
    /// Done so far.
    step: u64,
    blocks: Vec<Block>,
    classifier: Classifier,
    momentum: Classifier,
    gradient: Classifier,
}

impl<'a> Training<'a> {
    /// On as many rows of the same width as `bank` has.
    fn new(bank: &Features, n_classes: usize, probe: &'a LinearProbe) -> Training<'a> {
        let (width, n) = (bank.width, bank.len());
        let batch = (probe.batch as usize).clamp(1, n);
        let block_rows = BLOCK_ROWS.max(batch.div_ceil(BLOCKS_MAX));
        let block = |_| Block::new(block_rows.min(batch), n_classes, width);
        Training {
            probe,
            batch,
            block_rows,
            n_steps: u64::from(probe.epochs) * n.div_ceil(batch) as u64,
            step: 0,
            blocks: (0..batch.div_ceil(block_rows)).map(block).collect(),
            classifier: Classifier::zeros(n_classes, width),
            momentum: Classifier::zeros(n_classes, width),
            gradient: Classifier::zeros(n_classes, width),
        }
    }

    /// One pass over all rows, in an order of its own.
    fn epoch(&mut self, epoch: u32, bank: &Features) {
        let probe = self.probe;
        let peak = probe.learning_rate * f64::from(probe.batch) / RATE_BATCH;
        let place = Address { epoch, ..Address::of(Purpose::LinearProbe) };
        let order = Stream::new(probe.seed, place).permutation(bank.len() as u32);
        for chosen in order.chunks(self.batch) {
            let used = chosen.len().div_ceil(self.block_rows);
            let classifier = &self.classifier;
            let parts = self.blocks.par_iter_mut().zip(chosen.par_chunks(self.block_rows));
            parts.for_each(|(block, rows)| block.accumulate(classifier, bank, rows));
            let descent = Descent {
                rate: (peak * multiplier(&Schedule::Cosine, self.step, self.n_steps)) as f32,
                momentum: probe.momentum as f32,
                weight_decay: probe.weight_decay as f32,
                inverse_batch: 1.0 / chosen.len() as f32,
            };
            descent.move_all(&mut self.classifier, &mut self.momentum, &mut self.gradient, &self.blocks[..used]);
            self.step += 1;
        }
    }
}

impl Descent {
    fn move_all(&self, to: &mut Classifier, momentum: &mut Classifier, gradient: &mut Classifier, blocks: &[Block]) {
        let width = to.width;
        let classes = to.weights.par_chunks_exact_mut(width).zip(momentum.weights.par_chunks_exact_mut(width));
        let classes = classes.zip(gradient.weights.par_chunks_exact_mut(width)).with_min_len(16).enumerate();
        classes.for_each(|(class, ((values, buffer), gradient))| {
            let partials = blocks.iter().map(|block| &block.weights[class * width..][..width]);
            self.step(values, buffer, self.weight_decay, partials, gradient);
        });
        let partials = blocks.iter().map(|block| block.bias.as_slice());
        self.step(&mut to.bias, &mut momentum.bias, 0.0, partials, &mut gradient.bias);
    }
}
