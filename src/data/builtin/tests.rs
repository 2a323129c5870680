use super::{MAX_CLASSES, SIDE, read};
use crate::data::intake::Keep;
use crate::data::{Dataset, LabelledImages};
use crate::experiment::recipe::Builtin;

fn dataset(n_classes: u32, train_per_class: u32, test_per_class: u32, seed: u64) -> Dataset {
    let builtin = Builtin { n_classes, train_per_class, test_per_class, seed };
    read(&builtin, Keep::Pixels).unwrap().into_dataset()
}

/// Bump `VERSION` when these change.
#[test]
fn pixels_are_pinned() {
    let check =
        |n_classes, seed, expected: &str| assert_eq!(dataset(n_classes, 3, 2, seed).digest.to_string(), expected);
    check(10, 0, "43b4b48696f73ab78ce5017d8f794887b5c6c198d3fbbbeed7dc9571ccfbdd14");
    check(100, 7, "459d32c415618d9a9f7dd992ba80c2185481eb09df0829f4266c60cb90fe5bd1");
}

#[test]
fn labels_cycle_and_parts_differ() {
    let dataset = dataset(4, 3, 2, 1);
    assert_eq!(dataset.train.labels, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
    assert_eq!(dataset.test.labels, [0, 1, 2, 3, 0, 1, 2, 3]);
    assert_eq!(dataset.class_names, ["stripes", "checkers", "rings", "disc"]);
    assert_ne!(dataset.train.images.get(0), dataset.test.images.get(0));
    assert_ne!(dataset.train.images.get(0), dataset.train.images.get(4));
}

/// An image depends on its own index: more of them change nothing of the first ones. The blocks do not show either.
#[test]
fn a_larger_set_begins_with_the_smaller_one() {
    let (small, large) = (dataset(10, 5, 1, 3), dataset(10, 250, 1, 3));
    for index in 0..50 {
        assert_eq!(small.train.images.get(index), large.train.images.get(index));
    }
    assert_ne!(dataset(10, 5, 1, 4).digest, small.digest);
}

#[test]
fn impossible_sizes_are_refused() {
    let check = |n_classes, train_per_class, test_per_class, expected: &str| {
        let builtin = Builtin { n_classes, train_per_class, test_per_class, seed: 0 };
        let Err(error) = read(&builtin, Keep::Nothing) else { panic!("{builtin:?} was accepted") };
        assert_eq!(error.to_string(), format!("the built-in data set was asked for {expected}"));
    };
    check(0, 1, 1, "`n_classes` = `0`: expected 1 to 100");
    check(MAX_CLASSES + 1, 1, 1, "`n_classes` = `101`: expected 1 to 100");
    check(10, 0, 1, "`train_per_class` = `0`: expected at least 1");
    let most = (64u64 << 30) / (3072 * 10);
    let expected = format!("`train_per_class + test_per_class` = `8589934590`: expected at most {most} for 10 classes");
    check(10, u32::MAX, u32::MAX, &expected);
}

/// Share of test images whose nearest training image has their label.
fn nearest_neighbour_top1(train: &[Vec<f32>], train_labels: &[u32], test: &[Vec<f32>], test_labels: &[u32]) -> f64 {
    let squared = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    let nearest = |image: &[f32]| {
        let distances = train.iter().map(|other| squared(image, other));
        let best = distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        train_labels[best.unwrap().0]
    };
    let n_right = test.iter().zip(test_labels).filter(|(image, label)| nearest(image) == **label).count();
    n_right as f64 / test.len() as f64
}

fn vectors(part: &LabelledImages, of: impl Fn(&[u8]) -> Vec<f32>) -> Vec<Vec<f32>> {
    (0..part.images.len()).map(|index| of(part.images.get(index).pixels)).collect()
}

fn mean_color(pixels: &[u8]) -> Vec<f32> {
    let n = (SIDE * SIDE) as f32;
    (0..3)
        .map(|channel| pixels.iter().skip(channel).step_by(3).map(|&value| f32::from(value)).sum::<f32>() / n)
        .collect()
}

/// Pixels know something of the class, colours next to nothing: chance is 0.1.
#[test]
fn classes_differ_in_form_and_not_in_colour() {
    let dataset = dataset(10, 100, 30, 0);
    let top1 = |of: &dyn Fn(&[u8]) -> Vec<f32>| {
        let (train, test) = (vectors(&dataset.train, of), vectors(&dataset.test, of));
        nearest_neighbour_top1(&train, &dataset.train.labels, &test, &dataset.test.labels)
    };
    let pixels = top1(&|pixels| pixels.iter().map(|&value| f32::from(value)).collect());
    let colors = top1(&mean_color);
    assert!((0.2..0.6).contains(&pixels), "{pixels}");
    assert!(colors < 0.2, "{colors}");
}
