//! What the pipeline promises: the same bits whatever surrounds a view, finite values for any image, plain views for evaluations.

use proptest::prelude::*;

use super::{IMAGENET, blur, crop, everything, image, images, jitter, map_of, simclr};
use crate::content::Key;
use crate::device::Pool;
use crate::experiment::recipe::{Augmentation, BlurKind, Filter, HueKind};
use crate::views::map::Map;
use crate::views::{Pipeline, Place, Scratch, contact_sheet, flip, rotate};

fn digest(values: &[f32]) -> String {
    Key::of_bytes(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()).short()
}

fn batch(pipeline: &Pipeline, images: &crate::data::Images, examples: &[u32], epoch: u32, threads: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; 2 * examples.len() * pipeline.view_len()];
    pipeline.batch(images, examples, epoch, &Pool::new(threads), &mut out);
    out
}

/// Changes only when a formula, a draw or an order of summation changes: then `PRETRAIN_VERSION` must, too.
#[test]
fn a_batch_through_every_operation_has_pinned_bits() {
    let check = |augmentations: &[Augmentation], side, expected: &str| {
        let pipeline = Pipeline::new(augmentations, side, 5);
        let out = batch(&pipeline, &images(24, 32), &(0..24).collect::<Vec<u32>>(), 3, 2);
        assert_eq!(digest(&out), expected);
    };
    check(&everything(1.0), 32, "52007f525576");
    check(&everything(0.5), 24, "f10de07b7c82");
    check(&simclr(), 32, "7dd33c6b577a");
}

#[test]
fn a_view_depends_on_its_place_alone() {
    let images = images(40, 20);
    let pipeline = Pipeline::new(&everything(0.5), 16, 9);
    let len = pipeline.view_len();
    let order: Vec<u32> = (0..40).collect();
    let whole = batch(&pipeline, &images, &order, 7, 1);
    assert_eq!(whole, batch(&pipeline, &images, &order, 7, 3), "threads");
    let few: Vec<u32> = (0..40).rev().step_by(7).collect();
    let part = batch(&pipeline, &images, &few, 7, 2);
    let mut scratch = Scratch::default();
    for (index, &example) in few.iter().enumerate() {
        for view in 0..2 {
            let expected = &whole[(view * 40 + example as usize) * len..][..len];
            assert_eq!(&part[(view * few.len() + index) * len..][..len], expected, "batch composition");
            let mut alone = vec![0.0; len];
            let place = Place { epoch: 7, example, view: view as u8 };
            pipeline.view(images.get(example as usize), place, &mut scratch, &mut alone);
            assert_eq!(alone, expected, "a view alone");
        }
    }
    assert_ne!(whole, batch(&pipeline, &images, &order, 8, 1), "another epoch");
    assert_ne!(whole, batch(&Pipeline::new(&everything(0.5), 16, 10), &images, &order, 7, 1), "another seed");
    assert_ne!(whole[..len], whole[40 * len..41 * len], "the two views");
}

/// Share of views that an operation of probability p changes, on an image it cannot leave alone by chance.
#[test]
fn operations_apply_with_their_probability() {
    let images = image(8, 8, 3);
    let n = 20_000;
    let check = |augmentation: Augmentation, p: f64| {
        let pipeline = Pipeline::new(std::slice::from_ref(&augmentation), 8, 1);
        let (mut plain, mut out, mut scratch) = (vec![0.0; 192], vec![0.0; 192], Scratch::default());
        pipeline.evaluation(images.get(0), &mut scratch, &mut plain);
        let changed = (0..n)
            .filter(|&example| {
                pipeline.view(images.get(0), Place { epoch: 0, example, view: 0 }, &mut scratch, &mut out);
                out != plain
            })
            .count();
        let (share, bound) = (changed as f64 / f64::from(n), 5.0 * (p * (1.0 - p) / f64::from(n)).sqrt());
        assert!((share - p).abs() <= bound, "{augmentation:?}: {share}");
    };
    for p in [0.0, 0.2, 0.5, 1.0] {
        check(Augmentation::HorizontalFlip { p }, p);
        check(Augmentation::VerticalFlip { p }, p);
        check(Augmentation::Rotate90 { p }, p);
        check(Augmentation::Rotate { p, degrees: (30.0, 60.0) }, p);
        check(Augmentation::Grayscale { p }, p);
        check(Augmentation::Solarize { p, threshold: 0.5 }, p);
        check(jitter(p, HueKind::Float), p);
        check(blur(p, BlurKind::Gaussian), p);
        check(Augmentation::GaussianBlur { p, sigma: (1.0, 2.0), kind: BlurKind::PillowBoxes }, p);
    }
}

#[test]
fn an_evaluation_of_a_fitting_image_is_plain_normalisation() {
    let images = images(1, 32);
    let pipeline = Pipeline::new(&simclr(), 32, 0);
    let mut out = vec![0.0; pipeline.view_len()];
    pipeline.evaluation_batch(&images, 0..1, &Pool::new(1), &mut out);
    let (mean, std) = ([0.485f64, 0.456, 0.406].map(|v| v as f32), [0.229f64, 0.224, 0.225].map(|v| v as f32));
    for (index, (value, level)) in out.iter().zip(images.get(0).pixels).enumerate() {
        assert_eq!(*value, (f32::from(*level) / 255.0 - mean[index % 3]) / std[index % 3]);
    }
}

/// A ramp along the longer side survives a reduction by whole factors: the centre of the view is the centre of the image.
#[test]
fn an_evaluation_of_another_size_is_the_centre() {
    let mut images = crate::data::Images::default();
    let ramp: Vec<u8> = (0..16 * 32).flat_map(|index| [(index % 32 * 8) as u8; 3]).collect();
    images.push(32, 16, &ramp);
    let pipeline = Pipeline::new(&[], 8, 0);
    let mut out = vec![0.0; pipeline.view_len()];
    pipeline.evaluation(images.get(0), &mut Scratch::default(), &mut out);
    for row in out.chunks_exact(24) {
        for (column, pixel) in row.chunks_exact(3).enumerate() {
            let centre = 8.0 + 2.0 * column as f32 + 0.5;
            assert!((pixel[0] * 255.0 - 8.0 * centre).abs() < 1e-3, "column {column}: {}", pixel[0] * 255.0);
        }
    }
}

#[test]
fn turns_and_flips_form_the_group_of_the_square() {
    let original = map_of(image(7, 5, 1).get(0));
    let turned = |times: usize| {
        (0..times).fold(original.clone(), |map, _| {
            let mut out = Map::default();
            rotate::quarter_turn(&map, &mut out);
            out
        })
    };
    assert_eq!(turned(4), original);
    let mut both = original.clone();
    flip::horizontal(&mut both);
    assert_ne!(both, original);
    flip::vertical(&mut both);
    assert_eq!(both, turned(2));

    for side in [6, 7] {
        let square = map_of(image(side, side, 2).get(0));
        let (mut turned, mut by_angle) = (Map::default(), Map::default());
        rotate::quarter_turn(&square, &mut turned);
        rotate::by_angle(&square, &mut by_angle, 90.0);
        assert_eq!(turned, by_angle, "side {side}");
        rotate::by_angle(&square, &mut by_angle, 360.0);
        assert_eq!(square, by_angle, "side {side}");
    }
}

#[test]
fn a_rotation_leaves_black_corners_and_the_centre() {
    let white = Map { width: 33, height: 33, values: vec![1.0; 3 * 33 * 33] };
    let mut out = Map::default();
    rotate::by_angle(&white, &mut out, 45.0);
    assert_eq!([out.values[0], out.values[32], out.values[16 * 33 + 16]], [0.0, 0.0, 1.0]);
    let share = out.values.iter().sum::<f32>() / out.values.len() as f32;
    assert!((share - 0.828).abs() < 0.02, "an octagon covers 2(√2 − 1) of its square, found {share}");
}

#[test]
fn a_contact_sheet_is_a_picture_of_known_size_and_bytes() {
    let images = images(10, 32);
    let pipeline = Pipeline::new(&simclr(), 32, 0);
    let sheet = contact_sheet(&pipeline, &images, 64).expect("ten images make a sheet");
    assert_eq!(sheet, contact_sheet(&pipeline, &images, 64).expect("ten images make a sheet"));
    let decoded = image::load_from_memory(&sheet).expect("the sheet is a PNG").to_rgb8();
    assert_eq!(decoded.dimensions(), (8 + 8 * (3 * 64 + 2 * 2 + 8), 8 + 2 * (64 + 8)));
    for (x, y) in [(0, 0), (31, 31), (5, 17)] {
        let pixel = &images.get(0).pixels[(y * 32 + x) * 3..][..3];
        assert_eq!(
            decoded.get_pixel(8 + 2 * x as u32 + 1, 8 + 2 * y as u32 + 1).0,
            pixel,
            "the original is shown as it is"
        );
    }
    assert!(contact_sheet(&pipeline, &crate::data::Images::default(), 64).is_err());
}

fn any_augmentation() -> impl Strategy<Value = Augmentation> {
    let p = 0.0..=1.0f64;
    prop_oneof![
        ((0.01..1.0f64), (0.2..1.0f64), any::<bool>()).prop_map(|(scale, ratio, cubic)| {
            let filter = if cubic { Filter::Bicubic } else { Filter::Bilinear };
            Augmentation::RandomResizedCrop { scale: (scale * 0.3, scale), ratio: (ratio, 1.0 / ratio), filter }
        }),
        p.clone().prop_map(|p| Augmentation::HorizontalFlip { p }),
        p.clone().prop_map(|p| Augmentation::VerticalFlip { p }),
        p.clone().prop_map(|p| Augmentation::Rotate90 { p }),
        (p.clone(), -360.0..360.0f64).prop_map(|(p, angle)| Augmentation::Rotate { p, degrees: (angle, angle + 90.0) }),
        (p.clone(), any::<bool>())
            .prop_map(|(p, float)| jitter(p, if float { HueKind::Float } else { HueKind::Pillow })),
        p.clone().prop_map(|p| Augmentation::Grayscale { p }),
        (p.clone(), any::<bool>(), 0.0..6.0f64).prop_map(|(p, boxes, sigma)| Augmentation::GaussianBlur {
            p,
            sigma: (0.0, sigma),
            kind: if boxes { BlurKind::PillowBoxes } else { BlurKind::Gaussian },
        }),
        (p, 0.0..1.0f64).prop_map(|(p, threshold)| Augmentation::Solarize { p, threshold }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_list_keeps_any_image_in_range(
        augmentations in prop::collection::vec(any_augmentation(), 0..6),
        width in 1usize..70,
        height in 1usize..70,
        side in 1usize..40,
        example in any::<u32>(),
    ) {
        let images = image(width, height, 1);
        let pipeline = Pipeline::new(&augmentations, side, 2);
        let mut scratch = Scratch::default();
        let mut out = vec![f32::NAN; pipeline.view_len()];
        for view in 0..2 {
            pipeline.view(images.get(0), Place { epoch: 1, example, view }, &mut scratch, &mut out);
            prop_assert!(out.iter().all(|value| (-1e-6..=1.0 + 1e-6).contains(value)));
        }
        out.fill(f32::NAN);
        pipeline.evaluation(images.get(0), &mut scratch, &mut out);
        prop_assert!(out.iter().all(|value| (-1e-6..=1.0 + 1e-6).contains(value)));
    }
}

#[test]
fn one_pixel_is_an_image() {
    let images = image(1, 1, 4);
    for side in [1, 2, 32] {
        let pipeline =
            Pipeline::new(&[crop(), blur(1.0, BlurKind::PillowBoxes), blur(1.0, BlurKind::Gaussian)], side, 0);
        let mut out = vec![f32::NAN; pipeline.view_len()];
        pipeline.view(images.get(0), Place { epoch: 0, example: 0, view: 0 }, &mut Scratch::default(), &mut out);
        for pixel in out.chunks_exact(3) {
            for (value, level) in pixel.iter().zip(images.get(0).pixels) {
                assert!((value * 255.0 - f32::from(*level)).abs() < 1e-3);
            }
        }
    }
    let pipeline = Pipeline::new(&everything(1.0), 4, 0);
    let mut out = vec![f32::NAN; pipeline.view_len()];
    pipeline.view(images.get(0), Place { epoch: 0, example: 0, view: 1 }, &mut Scratch::default(), &mut out);
    assert!(out.iter().all(|value| value.is_finite()));
    assert!(matches!(everything(1.0).last(), Some(last) if *last == IMAGENET));
}
