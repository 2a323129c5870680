//! Distributions of the drawn parameters.

use serde::Deserialize;

use super::{blur, jitter};
use crate::experiment::recipe::{BlurKind, Filter, HueKind};
use crate::random::{Address, Purpose, Stream};
use crate::views::color_jitter::Jitter;
use crate::views::map::Window;
use crate::views::operation::Operation;
use crate::views::random_resized_crop::RandomResizedCrop;
use crate::views::rotate::{Rotate, sine_cosine};

/// Streams of `n` examples, as the views of one epoch get them.
fn streams(n: u32) -> impl Iterator<Item = Stream> {
    (0..n).map(|example| Stream::new(17, Address { example, ..Address::of(Purpose::View) }))
}

/// torchvision 0.29: quantiles 1 … 99 % of 200,000 draws.
#[derive(Deserialize)]
struct CropQuantiles {
    n: u32,
    image: [usize; 2],
    scale: (f64, f64),
    ratio: (f64, f64),
    area_fraction: Vec<f64>,
    aspect: Vec<f64>,
    top: Vec<f64>,
    left: Vec<f64>,
    height_mean: f64,
    width_mean: f64,
    whole_image_share: f64,
}

/// Largest difference of the quantiles 1 … 99 %, interpolated between order statistics.
fn quantile_difference(mut values: Vec<f64>, expected: &[f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let quantile = |percent: usize| {
        let position = (values.len() - 1) as f64 * percent as f64 / 100.0;
        let below = position as usize;
        values[below] + (values[below + 1] - values[below]) * position.fract()
    };
    expected.iter().enumerate().map(|(index, expected)| (quantile(index + 1) - expected).abs()).fold(0.0, f64::max)
}

/// How far the share of values ≤ t lies outside what the quantiles allow, over all whole t.
fn cumulative_difference(values: &[f64], expected: &[f64]) -> f64 {
    let excess = |t: usize| {
        let share = values.iter().filter(|&&value| value <= t as f64).count() as f64 / values.len() as f64;
        let low = expected.iter().filter(|&&value| value <= t as f64).count() as f64 / 100.0;
        (low - share).max(share - low - 0.01)
    };
    (0..31).map(excess).fold(0.0, f64::max)
}

#[test]
fn crops_are_drawn_as_torchvision_draws_them() {
    let expected: CropQuantiles =
        serde_json::from_str(include_str!("../../../tests/golden/crop_draws.json")).expect("the golden file is valid");
    let [width, height] = expected.image;
    let crop = RandomResizedCrop::new(expected.scale, expected.ratio, Filter::Bilinear);
    let windows: Vec<Window> = streams(expected.n).map(|mut stream| crop.draw(&mut stream, width, height)).collect();
    let column = |value: &dyn Fn(&Window) -> f64| windows.iter().map(value).collect::<Vec<f64>>();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let area = column(&|window| (window.width * window.height) as f64 / (width * height) as f64);
    let aspect = column(&|window| window.width as f64 / window.height as f64);
    let (top, left) = (column(&|window| window.top as f64), column(&|window| window.left as f64));
    let whole = area.iter().filter(|&&fraction| fraction == 1.0).count() as f64 / area.len() as f64;
    let height_mean = mean(&column(&|window| window.height as f64));
    let width_mean = mean(&column(&|window| window.width as f64));
    let table = [
        ("area", quantile_difference(area, &expected.area_fraction), 0.03),
        ("aspect", quantile_difference(aspect, &expected.aspect), 0.01),
        ("top", cumulative_difference(&top, &expected.top), 0.01),
        ("left", cumulative_difference(&left, &expected.left), 0.01),
        ("mean height", (height_mean - expected.height_mean).abs(), 0.05),
        ("mean width", (width_mean - expected.width_mean).abs(), 0.05),
        ("whole images", (whole - expected.whole_image_share).abs(), 0.002),
    ];
    for (name, difference, bound) in table {
        assert!(difference <= bound, "{name}: {difference} > {bound}");
    }
}

#[test]
fn a_crop_that_never_fits_is_the_largest_centred_one() {
    let crop = RandomResizedCrop::new((4.0, 4.0), (3.0 / 4.0, 4.0 / 3.0), Filter::Bilinear);
    let check = |width, height, expected| {
        let drawn = streams(1).map(|mut stream| crop.draw(&mut stream, width, height)).next();
        assert_eq!(drawn, Some(expected), "{width}×{height}");
    };
    check(32, 32, Window { top: 0, left: 0, height: 32, width: 32 });
    check(100, 30, Window { top: 0, left: 30, height: 30, width: 40 });
    check(30, 100, Window { top: 30, left: 0, height: 40, width: 30 });
    check(1, 1, Window { top: 0, left: 0, height: 1, width: 1 });
    check(1, 50, Window { top: 24, left: 0, height: 1, width: 1 });
}

/// χ² of equally likely cells; `bound` is its mean plus 5 standard deviations.
fn check_uniform(name: &str, counts: &[u32]) {
    let n: u32 = counts.iter().sum();
    let expected = f64::from(n) / counts.len() as f64;
    let chi2: f64 = counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
    let freedom = counts.len() as f64 - 1.0;
    assert!(chi2 < freedom + 5.0 * (2.0 * freedom).sqrt(), "{name}: χ² = {chi2} with {freedom} degrees of freedom");
}

/// Counts of values uniform in [low, high) in ten cells; a value outside fails.
fn cells(values: impl Iterator<Item = f32>, low: f32, high: f32) -> Vec<u32> {
    let mut counts = vec![0; 10];
    for value in values {
        assert!((low..=high).contains(&value), "{value} outside {low} … {high}");
        counts[(((value - low) / (high - low) * 10.0) as usize).min(9)] += 1;
    }
    counts
}

/// Whether the share of applied draws is p, within 5 standard deviations.
fn check_share(name: &str, applied: usize, n: u32, p: f64) {
    let share = applied as f64 / f64::from(n);
    let bound = 5.0 * (p * (1.0 - p) / f64::from(n)).sqrt();
    assert!((share - p).abs() <= bound, "{name}: share {share} instead of {p}");
}

const N: u32 = 48_000;

#[test]
fn jitter_is_drawn_uniformly_in_every_order() {
    let Operation::ColorJitter(operation) = Operation::new(&jitter(0.8, HueKind::Float)) else {
        panic!("a jitter became another operation");
    };
    let drawn: Vec<Jitter> = streams(N).filter_map(|mut stream| operation.draw(&mut stream)).collect();
    check_share("jitter", drawn.len(), N, 0.8);
    let mut orders = std::collections::BTreeMap::new();
    drawn.iter().for_each(|jitter| *orders.entry(jitter.order).or_insert(0) += 1);
    assert_eq!(orders.len(), 24);
    check_uniform("order", &orders.into_values().collect::<Vec<u32>>());
    check_uniform("brightness", &cells(drawn.iter().map(|jitter| jitter.brightness), 0.2, 1.8));
    check_uniform("contrast", &cells(drawn.iter().map(|jitter| jitter.contrast), 0.2, 1.8));
    check_uniform("saturation", &cells(drawn.iter().map(|jitter| jitter.saturation), 0.2, 1.8));
    check_uniform("hue", &cells(drawn.iter().map(|jitter| jitter.hue), -0.2, 0.2));
}

#[test]
fn an_amount_above_one_never_gives_a_negative_factor() {
    let amounts = crate::views::color_jitter::Amounts { brightness: 1.6, contrast: 0.0, saturation: 0.0, hue: 0.0 };
    let operation = crate::views::color_jitter::ColorJitter::new(1.0, amounts, HueKind::Float);
    let drawn: Vec<Jitter> = streams(N).filter_map(|mut stream| operation.draw(&mut stream)).collect();
    check_uniform("brightness", &cells(drawn.iter().map(|jitter| jitter.brightness), 0.0, 2.6));
    assert!(drawn.iter().all(|jitter| (jitter.contrast, jitter.saturation, jitter.hue) == (1.0, 1.0, 0.0)));
}

#[test]
fn blur_and_rotation_are_drawn_uniformly() {
    for kind in [BlurKind::Gaussian, BlurKind::PillowBoxes] {
        let Operation::GaussianBlur(operation) = Operation::new(&blur(0.5, kind)) else {
            panic!("a blur became another operation");
        };
        let sigmas: Vec<f32> = streams(N).filter_map(|mut stream| operation.draw(&mut stream)).collect();
        check_share("blur", sigmas.len(), N, 0.5);
        check_uniform("sigma", &cells(sigmas.into_iter(), 0.1, 2.0));
    }
    let rotation = Rotate::new(0.3, (-45.0, 10.0));
    let angles: Vec<f32> = streams(N).filter_map(|mut stream| rotation.draw(&mut stream)).collect();
    check_share("rotation", angles.len(), N, 0.3);
    check_uniform("angle", &cells(angles.into_iter(), -45.0, 10.0));
}

#[test]
fn sine_and_cosine_agree_with_libm() {
    for step in -40_000..=40_000 {
        let degrees = step as f32 * 0.0125;
        let radians = f64::from(degrees).to_radians();
        let (sine, cosine) = sine_cosine(degrees);
        assert!((f64::from(sine) - libm::sin(radians)).abs() < 1.5e-7, "sin {degrees}°");
        assert!((f64::from(cosine) - libm::cos(radians)).abs() < 1.5e-7, "cos {degrees}°");
    }
    assert_eq!([0.0, 90.0, 180.0, 270.0].map(sine_cosine), [(0.0, 1.0), (1.0, -0.0), (-0.0, -1.0), (-1.0, 0.0)]);
}
