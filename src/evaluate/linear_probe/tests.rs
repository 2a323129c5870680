//! The probe against the same training in f64, its standardisation, and its bits.

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
                let row: Vec<f64> =
                    bank.values[index as usize * width..][..width].iter().map(|&x| f64::from(x)).chain([1.0]).collect();
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
        let probe = LinearProbe {
            epochs: 3,
            batch,
            learning_rate: 0.5,
            momentum: 0.9,
            weight_decay: 1e-2,
            seed: 3,
            ..LinearProbe::DEFAULT
        };
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
    let probe = LinearProbe {
        epochs: 2,
        batch: 80,
        learning_rate: 0.3,
        momentum: 0.9,
        weight_decay: 1e-3,
        seed: 7,
        ..LinearProbe::DEFAULT
    };
    let digest = |threads: usize| {
        let classifier = Pool::new(threads).install(|| train(&bank, 5, &probe));
        let bytes = classifier.weights.iter().chain(&classifier.bias).flat_map(|value| value.to_le_bytes());
        blake3::hash(&bytes.collect::<Vec<u8>>()).to_hex()[..16].to_owned()
    };
    assert_eq!(digest(1), "4870b450a3d1c750");
    assert_eq!(digest(2), digest(1));
    assert_eq!(digest(3), digest(1));
}
