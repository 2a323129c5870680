//! Which images train and which are asked about.
//!
//! A held-out split takes, of every class, `round(fraction · n)` training images (halves away from zero) as the new
//! test part and drops the official one. The choice is the head of a seeded permutation of the class's images; both
//! parts keep the order of the data set.

use crate::data::intake::Summary;
use crate::data::{DataError, Dataset, Images, LabelledImages};
use crate::experiment::recipe::Split;
use crate::experiment::run::DataFacts;
use crate::random::{Address, Purpose, Stream};

/// Refuses a split before anything is read for it.
pub(super) fn check(split: Split) -> Result<(), DataError> {
    match split {
        Split::HeldOut { fraction, .. } if !(fraction > 0.0 && fraction < 1.0) => {
            Err(DataError::HeldOutFraction { fraction })
        }
        Split::Official | Split::HeldOut { .. } => Ok(()),
    }
}

/// Sizes after the split.
pub(super) fn facts(whole: &Summary, split: Split) -> Result<DataFacts, DataError> {
    let total = |counts: &[u32]| counts.iter().sum::<u32>();
    let n_whole_train = total(&whole.train_per_class);
    let (n_train, n_test) = match split {
        Split::Official => (n_whole_train, total(&whole.test_per_class)),
        Split::HeldOut { fraction, .. } => {
            let n_held = whole.train_per_class.iter().map(|&n| n_held_out(n, fraction)).sum();
            (n_whole_train - n_held, n_held)
        }
    };
    check_parts(n_train as usize, n_test as usize, split)?;
    let n_classes = whole.train_per_class.len() as u32;
    Ok(DataFacts { n_train, n_test, n_classes, digest: whole.digest })
}

/// The data set after the split; its digest stays that of the whole.
pub(super) fn apply(mut whole: Dataset, split: Split) -> Result<Dataset, DataError> {
    match split {
        Split::Official => {}
        Split::HeldOut { fraction, seed } => {
            let held = held_out(&whole.train.labels, whole.class_names.len(), fraction, seed);
            whole.test = LabelledImages::default();
            whole.test = take(&mut whole.train, &held);
        }
    }
    check_parts(whole.train.labels.len(), whole.test.labels.len(), split)?;
    Ok(whole)
}

fn check_parts(n_train: usize, n_test: usize, split: Split) -> Result<(), DataError> {
    let (train_remedy, test_remedy) = match split {
        Split::Official => ("add training images", "add test images, or hold a part of the training images out"),
        Split::HeldOut { .. } => ("hold a smaller fraction out", "hold a larger fraction out"),
    };
    if n_train == 0 {
        return Err(DataError::EmptyPart { part: "the training part", remedy: train_remedy });
    }
    if n_test == 0 {
        return Err(DataError::EmptyPart { part: "the test part", remedy: test_remedy });
    }
    Ok(())
}

fn n_held_out(n_in_class: u32, fraction: f64) -> u32 {
    (fraction * f64::from(n_in_class)).round() as u32
}

/// For every training image, whether it is held out.
fn held_out(labels: &[u32], n_classes: usize, fraction: f64, seed: u64) -> Vec<bool> {
    let mut of_class = vec![Vec::new(); n_classes];
    for (index, &label) in labels.iter().enumerate() {
        of_class[label as usize].push(index);
    }
    let mut held = vec![false; labels.len()];
    for (class, indices) in of_class.iter().enumerate() {
        let n = indices.len() as u32;
        let address = Address { example: class as u32, ..Address::of(Purpose::HeldOutSplit) };
        let order = Stream::new(seed, address).permutation(n);
        for &chosen in &order[..n_held_out(n, fraction) as usize] {
            held[indices[chosen as usize]] = true;
        }
    }
    held
}

/// Moves the chosen images out; the rest stays, in order.
fn take(from: &mut LabelledImages, chosen: &[bool]) -> LabelledImages {
    let mut taken = LabelledImages::default();
    for (index, &label) in from.labels.iter().enumerate() {
        if chosen[index] {
            let image = from.images.get(index);
            taken.images.push(image.width as u32, image.height as u32, image.pixels);
            taken.labels.push(label);
        }
    }
    let mut index = 0;
    from.labels.retain(|_| {
        index += 1;
        !chosen[index - 1]
    });
    retain_others(&mut from.images, chosen);
    taken
}

/// Closes the gaps in place: a second copy of a large training set may not fit.
fn retain_others(images: &mut Images, chosen: &[bool]) {
    let mut end = 0;
    let mut places = Vec::with_capacity(images.places.len());
    for (&(offset, width, height), &gone) in images.places.iter().zip(chosen) {
        if gone {
            continue;
        }
        let length = width as usize * height as usize * 3;
        images.pixels.copy_within(offset..offset + length, end);
        places.push((end, width, height));
        end += length;
    }
    images.pixels.truncate(end);
    images.pixels.shrink_to_fit();
    images.places = places;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Key;

    /// Images of different sizes whose first byte is their index; labels cycle with unequal frequency.
    fn whole(n: u32) -> Dataset {
        let mut train = LabelledImages::default();
        for index in 0..n {
            let width = 1 + index % 3;
            train.images.push(width, 2, &vec![index as u8; width as usize * 6]);
            train.labels.push([0, 1, 2, 0, 1, 0][index as usize % 6]);
        }
        let mut test = LabelledImages::default();
        test.images.push(1, 1, &[255; 3]);
        test.labels.push(0);
        let class_names = ["a", "b", "c"].map(str::to_owned).to_vec();
        Dataset { train, test, class_names, digest: Key::of_bytes(b"whole") }
    }

    fn summary(whole: &Dataset) -> Summary {
        let count = |part: &LabelledImages| {
            (0..3).map(|class| part.labels.iter().filter(|&&label| label == class).count() as u32).collect()
        };
        Summary { train_per_class: count(&whole.train), test_per_class: count(&whole.test), digest: whole.digest }
    }

    fn tags(part: &LabelledImages) -> Vec<u8> {
        (0..part.images.len()).map(|index| part.images.get(index).pixels[0]).collect()
    }

    #[test]
    fn held_out_is_balanced_disjoint_and_complete() {
        for (n, fraction, per_class) in [(120, 0.1, [6, 4, 2]), (120, 0.5, [30, 20, 10]), (60, 0.25, [8, 5, 3])] {
            let before = whole(n);
            let split = Split::HeldOut { fraction, seed: 3 };
            let after = apply(before.clone(), split).unwrap();
            assert_eq!(summary(&after).test_per_class, per_class);
            assert_eq!(after.digest, before.digest);
            let (train, test) = (tags(&after.train), tags(&after.test));
            assert!(train.is_sorted() && test.is_sorted(), "the order of the data set is kept");
            let mut all = [train, test].concat();
            all.sort_unstable();
            assert_eq!(all, tags(&before.train));
            for part in [&after.train, &after.test] {
                for index in 0..part.labels.len() {
                    let image = part.images.get(index);
                    let original = usize::from(image.pixels[0]);
                    assert_eq!(image, before.train.images.get(original));
                    assert_eq!(part.labels[index], before.train.labels[original]);
                }
            }
            let facts = facts(&summary(&before), split).unwrap();
            assert_eq!(
                (facts.n_train as usize, facts.n_test as usize),
                (after.train.labels.len(), after.test.labels.len())
            );
            assert_eq!((facts.n_classes, facts.digest), (3, before.digest));
        }
    }

    #[test]
    fn the_seed_chooses() {
        let chosen = |seed| tags(&apply(whole(120), Split::HeldOut { fraction: 0.2, seed }).unwrap().test);
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
    }

    /// Every image is held out equally often: 400 seeds at 0.25 give 100 ± 8.7; the bound is 5 of them.
    #[test]
    fn every_image_has_the_same_chance() {
        let labels = vec![0; 40];
        let mut counts = [0u32; 40];
        for seed in 0..400 {
            let held = held_out(&labels, 1, 0.25, seed);
            counts.iter_mut().zip(held).for_each(|(count, held)| *count += u32::from(held));
        }
        assert!(counts.iter().all(|count| (57..=143).contains(count)), "{counts:?}");
    }

    #[test]
    fn official_changes_nothing() {
        let before = whole(10);
        assert_eq!(apply(before.clone(), Split::Official).unwrap(), before);
        let facts = facts(&summary(&before), Split::Official).unwrap();
        assert_eq!((facts.n_train, facts.n_test), (10, 1));
    }

    #[test]
    fn impossible_splits_are_refused() {
        let held = |fraction| Split::HeldOut { fraction, seed: 0 };
        for fraction in [0.0, 1.0, -0.5, f64::NAN, f64::INFINITY] {
            let text = check(held(fraction)).unwrap_err().to_string();
            assert!(text.starts_with(&format!("the held-out fraction is `{fraction}`")), "{text}");
        }
        let check_empty = |split, expected: &str| {
            assert_eq!(apply(whole(3), split).unwrap_err().to_string(), expected);
            assert_eq!(facts(&summary(&whole(3)), split).unwrap_err().to_string(), expected);
        };
        check_empty(held(0.1), "the test part has no image: hold a larger fraction out");
        check_empty(held(0.9), "the training part has no image: hold a smaller fraction out");
        let mut no_test = whole(3);
        no_test.test = LabelledImages::default();
        assert_eq!(
            apply(no_test, Split::Official).unwrap_err().to_string(),
            "the test part has no image: add test images, or hold a part of the training images out"
        );
    }
}
