//! Linear probe: a linear classifier with bias on frozen features, by SGD with Nesterov momentum from zeros.
//!
//! Features are standardised by the bank's mean and standard deviation; a feature that is constant over the bank is
//! dropped. Cross entropy, mean over the batch; the last batch of an epoch may be smaller. The rate falls from
//! learning_rate · batch/256 to 0 by a cosine over all steps. Weight decay touches the weights, not the bias.

pub mod cuda;
#[cfg(test)]
mod cuda_tests;

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
    let (width, n) = (bank.width, bank.len());
    let batch = (probe.batch as usize).clamp(1, n);
    let block_rows = BLOCK_ROWS.max(batch.div_ceil(BLOCKS_MAX));
    let mut blocks: Vec<Block> =
        (0..batch.div_ceil(block_rows)).map(|_| Block::new(block_rows.min(batch), n_classes, width)).collect();
    let mut classifier = Classifier::zeros(n_classes, width);
    let mut momentum = Classifier::zeros(n_classes, width);
    let mut gradient = Classifier::zeros(n_classes, width);
    let peak = probe.learning_rate * f64::from(probe.batch) / RATE_BATCH;
    let n_steps = u64::from(probe.epochs) * n.div_ceil(batch) as u64;
    let mut step = 0;
    for epoch in 0..probe.epochs {
        let place = Address { epoch, ..Address::of(Purpose::LinearProbe) };
        let order = Stream::new(probe.seed, place).permutation(n as u32);
        for chosen in order.chunks(batch) {
            let used = chosen.len().div_ceil(block_rows);
            let parts = blocks.par_iter_mut().zip(chosen.par_chunks(block_rows));
            parts.for_each(|(block, rows)| block.accumulate(&classifier, bank, rows));
            let descent = Descent {
                rate: (peak * multiplier(&Schedule::Cosine, step, n_steps)) as f32,
                momentum: probe.momentum as f32,
                weight_decay: probe.weight_decay as f32,
                inverse_batch: 1.0 / chosen.len() as f32,
            };
            descent.move_all(&mut classifier, &mut momentum, &mut gradient, &blocks[..used]);
            step += 1;
        }
    }
    classifier
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::nt_xent::golden::values_f32;

    fn noise(seed: u64, n: usize, width: usize, n_classes: u32) -> Features {
        let labels = (0..n as u32).map(|row| row * row % n_classes).collect();
        Features { values: values_f32(seed, n * width, 1.0), width, labels }
    }

    /// The same training as it is written in textbooks, in f64.
    fn train_in_f64(bank: &Features, n_classes: usize, probe: &LinearProbe) -> (Vec<f64>, Vec<f64>) {
        let (width, n) = (bank.width, bank.len());
        let mut weights = vec![0.0; n_classes * (width + 1)];
        let mut momentum = weights.clone();
        let n_steps = u64::from(probe.epochs) * n.div_ceil(probe.batch as usize) as u64;
        let mut step = 0;
        for epoch in 0..probe.epochs {
            let place = Address { epoch, ..Address::of(Purpose::LinearProbe) };
            for chosen in Stream::new(probe.seed, place).permutation(n as u32).chunks(probe.batch as usize) {
                let mut gradient = vec![0.0; weights.len()];
                for &index in chosen {
                    let row: Vec<f64> = bank.values[index as usize * width..][..width]
                        .iter()
                        .map(|&x| f64::from(x))
                        .chain([1.0])
                        .collect();
                    let scores: Vec<f64> = weights
                        .chunks_exact(width + 1)
                        .map(|class| class.iter().zip(&row).map(|(w, x)| w * x).sum::<f64>().exp())
                        .collect();
                    let total: f64 = scores.iter().sum();
                    for (class, score) in scores.iter().enumerate() {
                        let is_label = class == bank.labels[index as usize] as usize;
                        let error = score / total - f64::from(u8::from(is_label));
                        let sums = &mut gradient[class * (width + 1)..][..width + 1];
                        sums.iter_mut().zip(&row).for_each(|(sum, x)| *sum += error * x / chosen.len() as f64);
                    }
                }
                let rate =
                    probe.learning_rate * f64::from(probe.batch) / 256.0 * multiplier(&Schedule::Cosine, step, n_steps);
                for (index, weight) in weights.iter_mut().enumerate() {
                    let decay = if index % (width + 1) == width { 0.0 } else { probe.weight_decay };
                    let direction = gradient[index] + decay * *weight;
                    momentum[index] = probe.momentum * momentum[index] + direction;
                    *weight -= rate * (direction + probe.momentum * momentum[index]);
                }
                step += 1;
            }
        }
        let is_bias = |index: &usize| index % (width + 1) == width;
        let part = |wanted: bool| (0..weights.len()).filter(|i| is_bias(i) == wanted).map(|i| weights[i]).collect();
        (part(false), part(true))
    }

    #[test]
    fn agrees_with_the_same_training_in_f64() {
        let check = |n: usize, width: usize, n_classes: u32, batch: u32| {
            let bank = noise(5, n, width, n_classes);
            let probe =
                LinearProbe { epochs: 3, batch, learning_rate: 0.5, momentum: 0.9, weight_decay: 1e-2, seed: 3 };
            let classifier = train(&bank, n_classes as usize, &probe);
            let (weights, bias) = train_in_f64(&bank, n_classes as usize, &probe);
            let found = classifier.weights.iter().chain(&classifier.bias);
            for (found, wanted) in found.zip(weights.iter().chain(&bias)) {
                assert!((f64::from(*found) - wanted).abs() < 1e-5, "batch {batch}: {found}, {wanted} wanted");
            }
            assert!(weights.iter().any(|weight| weight.abs() > 1e-3));
        };
        check(90, 7, 3, 32);
        check(150, 20, 10, 100);
        check(40, 5, 2, 16);
        check(70, 30, 9, 70);
    }

    #[test]
    fn standardized_features_have_mean_0_and_deviation_1() {
        let mut bank = noise(8, 600, 4, 3);
        for row in bank.values.chunks_exact_mut(4) {
            row[0] = row[0] * 1e-4 + 50.0;
            row[1] *= 1e6;
            row[2] = 0.1;
        }
        let applied = Standardization::of(&bank).apply(&bank);
        for column in 0..4 {
            let values = || applied.values.iter().skip(column).step_by(4).map(|&x| f64::from(x));
            let mean = values().sum::<f64>() / 600.0;
            let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / 600.0;
            let expected = if column == 2 { 0.0 } else { 1.0 };
            assert!(mean.abs() < 1e-5 && (variance - expected).abs() < 1e-5, "column {column}: {mean}, {variance}");
        }
    }

    /// The weights of a small training, bit for bit: a change here is a change of every probe's result.
    #[test]
    fn the_bits_are_pinned() {
        let bank = noise(1, 300, 33, 5);
        let probe =
            LinearProbe { epochs: 2, batch: 80, learning_rate: 0.3, momentum: 0.9, weight_decay: 1e-3, seed: 7 };
        let digest = |threads: usize| {
            let classifier = Pool::new(threads).install(|| train(&bank, 5, &probe));
            let bytes = classifier.weights.iter().chain(&classifier.bias).flat_map(|value| value.to_le_bytes());
            blake3::hash(&bytes.collect::<Vec<u8>>()).to_hex()[..16].to_owned()
        };
        assert_eq!(digest(1), "4870b450a3d1c750");
        assert_eq!(digest(2), digest(1));
        assert_eq!(digest(3), digest(1));
    }
}
