//! Against PyTorch 2.15 (`tests/golden/supervised.json`, made by `supervised.py` beside it), finite differences, closed forms.

use serde::Deserialize;

use super::{forward_backward, top1};
use crate::device::Pool;
use crate::ops::nt_xent::golden::values_f32;

#[derive(Deserialize)]
struct Case {
    views: usize,
    images: usize,
    classes: usize,
    scale: f64,
    label_smoothing: f64,
    seed: u64,
    loss: f64,
    norm: f64,
    index: Vec<usize>,
    value: Vec<f64>,
}

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

fn labels(n_images: usize, n_classes: usize) -> Vec<u32> {
    (0..n_images).map(|image| ((3 * image + 1) % n_classes) as u32).collect()
}

fn run(logits: &[f32], labels: &[u32], n_classes: usize, smoothing: f64) -> (f64, Vec<f32>) {
    let mut gradient = vec![7.0; logits.len()];
    let mut terms = vec![0.0; logits.len() / n_classes];
    let loss = forward_backward(logits, labels, n_classes, smoothing, &mut gradient, &mut terms);
    (f64::from(loss), gradient)
}

#[test]
fn values_and_gradients_are_pytorchs() {
    let text = include_str!("../../../tests/golden/supervised.json");
    let golden: Golden = serde_json::from_str(text).expect("golden values");
    assert_eq!(golden.cases.len(), 12);
    for case in golden.cases {
        let name = format!("{} × {} of {} by {}", case.views, case.images, case.classes, case.scale);
        let logits = values_f32(case.seed, case.views * case.images * case.classes, case.scale);
        let (loss, gradient) = run(&logits, &labels(case.images, case.classes), case.classes, case.label_smoothing);
        assert!((loss - case.loss).abs() <= 1e-6 * case.loss.max(0.1), "{name}: {loss}, {} wanted", case.loss);
        let norm = gradient.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!((norm - case.norm).abs() <= 1e-6 * case.norm + 1e-12, "{name}: norm {norm}, {} wanted", case.norm);
        for (&index, &value) in case.index.iter().zip(&case.value) {
            let found = f64::from(gradient[index]);
            assert!((found - value).abs() <= 2e-6 * case.norm + 1e-12, "{name}: {found} at {index}, {value} wanted");
        }
    }
}

#[test]
fn the_gradient_is_that_of_the_loss() {
    let (n_classes, labels) = (6, labels(4, 6));
    for smoothing in [0.0, 0.3] {
        let logits = values_f32(9, 2 * 4 * n_classes, 2.0);
        let (_, gradient) = run(&logits, &labels, n_classes, smoothing);
        for index in 0..logits.len() {
            let at = |by: f32| {
                let mut moved = logits.clone();
                moved[index] += by;
                (f64::from(moved[index]), run(&moved, &labels, n_classes, smoothing).0)
            };
            let ((high, above), (low, below)) = (at(0.02), at(-0.02));
            let slope = (above - below) / (high - low);
            let found = f64::from(gradient[index]);
            assert!(
                (slope - found).abs() < 1e-4,
                "smoothing {smoothing}, logit {index}: {found}, {slope} by differences"
            );
        }
    }
}

/// Equal logits: ln C whatever the smoothing, and a gradient of (1/C − q)/n.
#[test]
fn equal_logits_know_nothing() {
    for smoothing in [0.0, 0.2] {
        let (loss, gradient) = run(&[3.0; 2 * 2 * 5], &[4, 0], 5, smoothing);
        assert!((loss - 5f64.ln()).abs() < 1e-6, "{loss}");
        let wanted = |is_label: bool| (0.2 - if is_label { 1.0 - smoothing } else { 0.0 } - smoothing / 5.0) / 4.0;
        for (index, found) in gradient.iter().enumerate() {
            let is_label = index % 5 == [4, 0][index / 5 % 2];
            assert!((f64::from(*found) - wanted(is_label)).abs() < 1e-7, "{found} at {index}");
        }
    }
}

#[test]
fn a_sure_and_right_classifier_loses_nothing_and_a_wrong_one_its_margin() {
    let (loss, gradient) = run(&[1e4, 0.0, 0.0], &[0], 3, 0.0);
    assert_eq!((loss, gradient), (0.0, vec![0.0; 3]));
    let (loss, gradient) = run(&[1e4, 0.0, 0.0], &[1], 3, 0.0);
    assert_eq!((loss, gradient), (1e4, vec![1.0, -1.0, 0.0]));
}

#[test]
fn what_is_not_finite_makes_the_loss_nan() {
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (loss, gradient) = run(&[0.0, wrong, 1.0, 2.0], &[0, 1], 2, 0.0);
        assert!(loss.is_nan() && gradient[0].is_nan(), "{wrong}: {loss}");
        assert!(gradient[2].is_finite(), "the other view keeps its own");
    }
}

#[test]
fn threads_change_no_bit() {
    let (logits, labels) = (values_f32(5, 2 * 300 * 10, 4.0), labels(300, 10));
    let on = |threads: usize| Pool::new(threads).install(|| run(&logits, &labels, 10, 0.1));
    assert_eq!(on(1), on(3));
}

#[test]
fn the_highest_logit_is_the_answer_and_the_lower_class_wins_a_tie() {
    let check = |logits: &[f32], labels: &[u32], n_classes: usize, expected: f64| {
        assert_eq!(top1(logits, labels, n_classes), expected, "{logits:?} {labels:?}");
    };
    check(&[1.0, 3.0, 2.0, 5.0, -1.0, 4.0], &[1, 0], 3, 1.0);
    // Both views of two images: first those of all, then their second ones.
    check(&[0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0], &[1, 0], 2, 0.75);
    check(&[0.0; 6], &[0, 1], 3, 0.5);
    check(&[-2.0], &[0], 1, 1.0);
}
