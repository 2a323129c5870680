//! The kernels on the emulated device against the processor.

use super::cuda::{Places, SOURCE, StepLabels, labels_of_step, views};
use super::forward_backward;
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Element, Gpu};
use crate::ops::nt_xent::golden::values_f32;

/// Terms and gradient.
fn emulated(order: Order, logits: &[f32], labels: &[u32], n_classes: usize, smoothing: f64) -> (Vec<f64>, Vec<f32>) {
    let mut emulator = Emulator::with(order, &[SOURCE], Element::F32);
    let n_views = logits.len() / n_classes;
    let places = Places {
        logits: emulator.place_f32(logits),
        gradient: emulator.place_f32(&vec![7.0; logits.len()]),
        terms: emulator.place(&vec![0xff; 8 * n_views]),
        labels: emulator.place(&bytes(labels)),
    };
    emulator.run(&[views(&places, n_views, labels.len(), n_classes, smoothing)]).expect("a kernel of this source");
    let mut terms = vec![0; 8 * n_views];
    emulator.download(places.terms, &mut terms).expect("a place of that size");
    let terms = terms.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    (terms, emulator.read_f32(places.gradient, logits.len()))
}

fn bytes(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn labels(n_images: usize, n_classes: usize) -> Vec<u32> {
    (0..n_images).map(|image| ((3 * image + 1) % n_classes) as u32).collect()
}

#[test]
fn agrees_with_the_processor_in_any_order() {
    for (n_images, n_views, n_classes) in [(2, 1, 2), (7, 2, 5), (5, 2, 10), (9, 1, 100), (3, 2, 1000)] {
        for (smoothing, scale) in [(0.0, 1.0), (0.1, 8.0), (0.9, 100.0)] {
            let logits = values_f32(7, n_views * n_images * n_classes, scale);
            let labels = labels(n_images, n_classes);
            let (mut wanted, mut wanted_terms) = (vec![7.0; logits.len()], vec![0.0; n_views * n_images]);
            forward_backward(&logits, &labels, n_classes, smoothing, &mut wanted, &mut wanted_terms);
            let (terms, gradient) = emulated(Order::FORWARD, &logits, &labels, n_classes, smoothing);
            let name = format!("{n_images} images, {n_views} views, {n_classes} classes, {smoothing}, {scale}");
            for (found, wanted) in terms.iter().zip(&wanted_terms) {
                assert!((found - wanted).abs() <= 1e-6 * wanted.max(0.1), "{name}: {found}, {wanted} wanted");
            }
            for (found, wanted) in gradient.iter().zip(&wanted) {
                assert!((found - wanted).abs() <= 1e-6 * wanted.abs() + 1e-9, "{name}: {found}, {wanted} wanted");
            }
            for order in Order::SEVERAL {
                let again = emulated(order, &logits, &labels, n_classes, smoothing);
                assert_eq!(again, (terms.clone(), gradient.clone()), "{name} {order:?}");
            }
        }
    }
}

#[test]
fn extremes() {
    let of = |logits: &[f32], labels: &[u32], n_classes| emulated(Order::FORWARD, logits, labels, n_classes, 0.0);
    assert_eq!(of(&[1e4, 0.0, 0.0], &[0], 3), (vec![0.0], vec![0.0; 3]));
    assert_eq!(of(&[1e4, 0.0, 0.0], &[1], 3), (vec![1e4], vec![1.0, -1.0, 0.0]));
    assert_eq!(of(&[f32::MAX, f32::MIN], &[0], 2), (vec![0.0], vec![0.0; 2]));
    let (terms, gradient) = of(&[3.0; 10], &[4, 0], 5);
    assert!(terms.iter().all(|term| (term - 5f64.ln()).abs() < 1e-7), "{terms:?}");
    assert!(gradient.iter().sum::<f32>().abs() < 1e-6 && gradient[0] > 0.0 && gradient[4] < 0.0, "{gradient:?}");
    for wrong in [f32::NAN, f32::from_bits(0x7fff_ffff), f32::INFINITY, f32::NEG_INFINITY] {
        let (terms, gradient) = of(&[0.0, wrong, 1.0, 2.0], &[0, 1], 2);
        assert!(terms[0].is_nan() && terms[1].is_finite() && gradient[..2].iter().all(|value| value.is_nan()));
        assert!(gradient[2..].iter().all(|value| value.is_finite()), "the other view keeps its own");
    }
}

/// Of the fourth step: the second of the second epoch of two steps.
#[test]
fn labels_are_those_of_the_examples_of_the_step() {
    let mut emulator = Emulator::with(Order::FORWARD, &[SOURCE], Element::F32);
    let (of_examples, order) = ([5, 3, 8, 1, 9, 2, 7], [6, 2, 0, 4, 1, 3, 5]);
    let from = StepLabels {
        labels: emulator.place(&bytes(&of_examples)),
        order: emulator.place(&bytes(&order)),
        step: emulator.place(&3u64.to_le_bytes()),
        steps_per_epoch: 2,
        batch: 3,
    };
    let of_batch = emulator.place(&[0; 12]);
    emulator.run(&[labels_of_step(of_batch, &from)]).expect("a kernel of this source");
    let mut found = [0; 12];
    emulator.download(of_batch, &mut found).expect("a place of that size");
    assert_eq!(found.to_vec(), bytes(&[9, 3, 1]));
}
