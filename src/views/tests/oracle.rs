//! Against Pillow and torchvision 0.29 (PyTorch 2.15) on 8-bit images: `tests/golden/augmentations.json`, made with fixed parameters.

use serde::Deserialize;

use crate::experiment::recipe::{Filter, HueKind};
use crate::views::color_jitter::hue;
use crate::views::gaussian_blur::{Blurring, extended_box, gaussian};
use crate::views::map::{Map, Window};
use crate::views::random_resized_crop::{Resampled, Resampling, resize};
use crate::views::solarize::solarize;
use crate::views::{color_jitter, flip, grayscale, rotate};

#[derive(Deserialize)]
struct Golden {
    images: std::collections::BTreeMap<String, Made>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Made {
    width: usize,
    height: usize,
    seed: u64,
}

#[derive(Deserialize)]
struct Case {
    image: String,
    op: String,
    args: Args,
    shape: [usize; 3],
    mean: [f64; 3],
    index: Vec<usize>,
    value: Vec<i32>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Args {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
    size: usize,
    factor: f32,
    sigma: f32,
    threshold: f32,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../tests/golden/augmentations.json")).expect("the golden file is valid")
}

/// Crops by `tests/golden/presets.py`: Pillow's bicubic filter, which no other case has.
fn bicubic() -> Golden {
    #[derive(Deserialize)]
    struct Presets {
        images: std::collections::BTreeMap<String, Made>,
        crops: Vec<Case>,
    }
    let text = include_str!("../../../tests/golden/presets.json");
    let Presets { images, crops } = serde_json::from_str(text).expect("the golden file is valid");
    Golden { images, cases: crops }
}

/// splitmix64 of seed·2³² + index, the top 24 bits as a value in [−1, 1).
fn noise(seed: u64, index: usize) -> f64 {
    let mut z = ((seed << 32) + index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f64 / f64::from(1 << 23) - 1.0
}

/// Ramps x·255/(w−1), y·255/(h−1), (x+y)·255/(w+h−2) in integers, plus 60·noise, clipped, truncated.
fn made(recipe: &Made) -> Vec<u8> {
    let (width, height) = (recipe.width, recipe.height);
    let value = |index: usize| {
        let (x, y) = (index / 3 % width, index / 3 / width);
        let ramp = [x * 255 / (width - 1), y * 255 / (height - 1), (x + y) * 255 / (width + height - 2)][index % 3];
        (ramp as f64 + 60.0 * noise(recipe.seed, index)).clamp(0.0, 255.0) as u8
    };
    (0..3 * width * height).map(value).collect()
}

/// What this crate makes of a case; `None` for an operation that has no counterpart here.
fn apply(case: &Case, image: &Map) -> Option<Map> {
    let (args, mut map, mut blurring) = (&case.args, image.clone(), Blurring::default());
    match case.op.as_str() {
        "resized_crop" | "resized_crop_bicubic" => {
            let window = Window { top: args.top, left: args.left, height: args.height, width: args.width };
            let mut cut = Map::default();
            cut.cut(image, window);
            let filter = if case.op == "resized_crop" { Filter::Bilinear } else { Filter::Bicubic };
            resize(&cut, &mut map, Resampled::to_square(args.size, filter), &mut Resampling::default());
        }
        "horizontal_flip" => flip::horizontal(&mut map),
        "vertical_flip" => flip::vertical(&mut map),
        "grayscale" => grayscale::grayscale(&mut map),
        "brightness" => color_jitter::brightness(&mut map, args.factor),
        "contrast" => color_jitter::contrast(&mut map, args.factor),
        "saturation" => color_jitter::saturation(&mut map, args.factor),
        "hue" => hue::shift(&mut map, args.factor, HueKind::Float),
        "hue_pil" => hue::shift(&mut map, args.factor, HueKind::Pillow),
        "gaussian_blur" => extended_box::blur(&mut map, args.sigma, &mut blurring),
        "gaussian" => gaussian(&mut map, args.sigma, &mut blurring),
        "rotate90" => rotate::quarter_turn(image, &mut map),
        "solarize" => solarize(&mut map, args.threshold / 255.0),
        _ => return None,
    }
    Some(map)
}

#[derive(Default)]
struct Differences {
    n: usize,
    above_one: usize,
    worst: i32,
    worst_mean: f64,
}

impl Differences {
    fn add(&mut self, case: &Case, map: &Map) {
        assert_eq!([map.height, map.width, 3], case.shape, "{} {}", case.image, case.op);
        let mut out = vec![0.0; map.values.len()];
        map.write_interleaved(&mut out);
        let levels: Vec<i32> = out.iter().map(|value| (value * 255.0).round() as i32).collect();
        for (&index, expected) in case.index.iter().zip(&case.value) {
            let difference = (levels[index] - expected).abs();
            self.n += 1;
            self.above_one += usize::from(difference > 1);
            self.worst = self.worst.max(difference);
        }
        for (channel, expected) in case.mean.iter().enumerate() {
            let sum: i32 = levels.iter().skip(channel).step_by(3).sum();
            let mean = f64::from(sum) / (map.width * map.height) as f64;
            self.worst_mean = self.worst_mean.max((mean - expected).abs());
        }
    }
}

fn differences(golden: &Golden, op: &str, as_op: &str) -> Differences {
    let mut found = Differences::default();
    for case in golden.cases.iter().filter(|case| case.op == op) {
        let recipe = &golden.images[&case.image];
        let pixels = made(recipe);
        let image =
            super::map_of(crate::data::ImageRef { width: recipe.width, height: recipe.height, pixels: &pixels });
        let renamed = Case {
            op: as_op.to_owned(),
            image: String::new(),
            args: Args { ..case.args },
            mean: case.mean,
            index: Vec::new(),
            value: Vec::new(),
            shape: case.shape,
        };
        let map = apply(&renamed, &image).unwrap_or_else(|| panic!("no counterpart of {as_op}"));
        found.add(case, &map);
    }
    found
}

#[test]
fn operations_agree_with_pillow_and_torchvision() {
    let golden = golden();
    // Operation, largest difference of a value, largest difference of a channel's mean, in levels. Pillow truncates where it
    // blends, which costs half a level on average, and rounds the mean that contrast blends with. Hue differs where f32 breaks a tie that f64 keeps.
    let table = [
        ("resized_crop", 1, 0.1),
        ("horizontal_flip", 0, 0.0),
        ("vertical_flip", 0, 0.0),
        ("grayscale", 1, 0.05),
        ("brightness", 1, 0.6),
        ("contrast", 1, 0.95),
        ("saturation", 1, 0.6),
        ("hue", 1, 0.02),
        ("hue_pil", 0, 0.0),
        ("gaussian_blur", 0, 0.0),
        ("rotate90", 0, 0.0),
        ("solarize", 0, 0.0),
    ];
    for (op, worst, worst_mean) in table {
        let found = differences(&golden, op, op);
        assert!(found.n > 0, "{op} has cases");
        assert!(found.worst <= worst, "{op}: {} levels", found.worst);
        assert!(found.above_one * 100 <= found.n, "{op}: {} of {} beyond one level", found.above_one, found.n);
        assert!(found.worst_mean <= worst_mean + 1e-9, "{op}: mean {}", found.worst_mean);
    }
    assert!(golden.cases.iter().all(|case| table.iter().any(|(op, ..)| *op == case.op)), "every operation is listed");
}

/// Pillow rounds to 8 bits between the two directions and behind them: a level at most, and no bias.
#[test]
fn the_bicubic_filter_is_pillows() {
    let (golden, op) = (bicubic(), "resized_crop_bicubic");
    let found = differences(&golden, op, op);
    assert_eq!(found.n, 10 * 64);
    assert!(found.worst <= 1, "{} levels", found.worst);
    assert!(found.worst_mean <= 0.1, "mean {}", found.worst_mean);
    let bilinear = differences(&golden, op, "resized_crop");
    assert!(bilinear.worst > 10, "the filters are far apart: {} levels", bilinear.worst);
}

/// Pillow's boxes have the variance of the Gaussian but not its tails: on images with noise of ±60 levels, 41 of 768 values lie
/// beyond one level, the worst 5 away. Its fixed point rounds ties down, which costs up to half a level on average.
#[test]
fn the_true_gaussian_resembles_the_boxes() {
    let found = differences(&golden(), "gaussian_blur", "gaussian");
    assert!(found.above_one * 100 <= 6 * found.n, "{} of {} beyond one level", found.above_one, found.n);
    assert!(found.worst <= 5, "{} levels", found.worst);
    assert!(found.worst_mean < 0.6, "{}", found.worst_mean);
}

/// The definition, as one sum over the square neighbourhood in f64.
#[test]
fn the_true_gaussian_is_its_definition() {
    let check = |width: usize, height: usize, sigma: f32| {
        let original = super::map_of(super::image(width, height, 8).get(0));
        let mut blurred = original.clone();
        gaussian(&mut blurred, sigma, &mut Blurring::default());
        let radius = (4.0 * f64::from(sigma)).ceil().max(1.0) as i64;
        let weight = |distance: i64| libm::exp(-(distance * distance) as f64 / (2.0 * f64::from(sigma).powi(2)));
        let total = (-radius..=radius).map(weight).sum::<f64>();
        for (index, &value) in blurred.values.iter().enumerate() {
            let (plane, y, x) = (index / (width * height), index / width % height, index % width);
            let mut expected = 0.0;
            for dy in -radius..=radius {
                for dx in -radius..=radius {
                    let row = (y as i64 + dy).clamp(0, height as i64 - 1) as usize;
                    let column = (x as i64 + dx).clamp(0, width as i64 - 1) as usize;
                    let from = original.values[(plane * height + row) * width + column];
                    expected += weight(dy) * weight(dx) * f64::from(from);
                }
            }
            expected /= total * total;
            assert!((f64::from(value) - expected).abs() < 1e-6, "{width}×{height}, σ {sigma}, index {index}");
        }
    };
    check(32, 32, 0.1);
    check(32, 32, 1.3);
    check(19, 7, 2.0);
    check(3, 40, 0.6);
    check(1, 1, 1.0);
}
