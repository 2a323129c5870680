//! Evaluations from end to end: outcomes, refusals, threads.

use super::*;
use crate::experiment::recipe::{Knn, LinearProbe, Metric};
use crate::ops::nt_xent::golden::values_f32;

/// Noise around one centre a class.
pub(super) fn clusters(seed: u64, n: usize, width: usize, n_classes: usize, noise: f64) -> Features {
    let centres = values_f32(77, n_classes * width, 1.0);
    let mut values = values_f32(seed, n * width, noise);
    for (row, values) in values.chunks_exact_mut(width).enumerate() {
        let centre = &centres[row % n_classes * width..][..width];
        values.iter_mut().zip(centre).for_each(|(value, centre)| *value += centre);
    }
    Features { values, width, labels: (0..n).map(|row| (row % n_classes) as u32).collect() }
}

pub(super) fn knn(metric: Metric) -> Classification {
    Classification::Knn(Knn { k: 20, temperature: 0.1, metric, ..Knn::DEFAULT })
}

pub(super) fn probe() -> LinearProbe {
    LinearProbe {
        epochs: 20,
        batch: 64,
        learning_rate: 0.4,
        momentum: 0.9,
        weight_decay: 0.0,
        seed: 1,
        ..LinearProbe::DEFAULT
    }
}

fn every_evaluation() -> [Classification; 3] {
    [knn(Metric::Cosine), knn(Metric::Euclidean), Classification::LinearProbe(probe())]
}

#[test]
fn separable_classes_are_told_apart_and_noise_is_not() {
    for evaluation in every_evaluation() {
        let run = |noise: f64| {
            let (bank, queries) = (clusters(1, 600, 24, 10, noise), clusters(2, 300, 24, 10, noise));
            evaluate(&evaluation, &bank, &queries, 10, &Pool::new(1), None).unwrap()
        };
        let (clear, noisy) = (run(0.2), run(1e4));
        assert_eq!((clear.top1, clear.top5), (1.0, 1.0), "{evaluation:?}");
        assert_eq!(clear.per_class_top1, [1.0; 10]);
        assert!(noisy.top1 < 0.25 && noisy.top5 > noisy.top1 && noisy.top5 < 0.75, "{evaluation:?}: {noisy:?}");
    }
}

#[test]
fn threads_do_not_change_an_outcome() {
    let (bank, queries) = (clusters(1, 700, 24, 10, 2.0), clusters(2, 300, 24, 10, 2.0));
    for evaluation in every_evaluation() {
        let run = |threads: usize| evaluate(&evaluation, &bank, &queries, 10, &Pool::new(threads), None).unwrap();
        let single = run(1);
        assert!(single.top1 > 0.1 && single.top1 < 1.0);
        assert_eq!(single, run(2), "{evaluation:?}");
        assert_eq!(single, run(3), "{evaluation:?}");
    }
}

#[test]
fn outcomes_count_what_they_say() {
    let rankings = [[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.5, 0.4, 0.1]].map(|scores| Ranking::of_scores(&scores));
    let found = outcome(&rankings, &[0, 0, 1], 3);
    assert_eq!((found.predictions, found.labels), (vec![0, 1, 0], vec![0, 0, 1]));
    assert_eq!((found.top1, found.top5), (1.0 / 3.0, 1.0));
    assert_eq!(found.per_class_top1, [0.5, 0.0, 0.0]);
    let six = Ranking::of_scores(&[6, 5, 4, 3, 2, 1]);
    assert_eq!(outcome(&[six, six], &[4, 5], 6).top5, 0.5);
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    let good = || clusters(1, 40, 4, 3, 0.5);
    let check = |bank: Features, queries: Features, n_classes: u32, expected: &str| {
        let found = evaluate(&knn(Metric::Cosine), &bank, &queries, n_classes, &Pool::new(1), None);
        let message = found.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    let with = |index: usize, value: f32| {
        let mut features = good();
        features.values[index] = value;
        features
    };
    check(with(9, f32::NAN), good(), 3, "feature 1 of image 2 of the bank is NaN");
    check(good(), with(0, f32::INFINITY), 3, "feature 0 of image 0 of the queries is inf");
    check(good(), clusters(1, 40, 5, 3, 0.5), 3, "4 wide and the queries' 5");
    check(Features { values: vec![], width: 4, labels: vec![] }, good(), 3, "no features in the bank");
    check(Features { values: vec![0.0; 7], ..good() }, good(), 3, "7 numbers in the bank, 160 expected");
    check(good(), good(), 2, "image 2 of the bank has label 2, but there are only 2 classes");
    check(good(), good(), 0, "0 classes");
    check(good(), good(), 70_000, "70000 classes");
    let wild = Classification::LinearProbe(LinearProbe { learning_rate: 1e300, ..probe() });
    let diverged = evaluate(&wild, &good(), &good(), 3, &Pool::new(1), None);
    assert_eq!(diverged, Err(EvaluateError::Diverged { learning_rate: 1e300 }));
}
