//! The section `views`: the list of augmentations. Defaults are those of Lightly's `SimCLRTransform`.

use crate::experiment::problem::Found;
use crate::experiment::read::scalar::{interval, not_negative, numbers, probability, real};
use crate::experiment::read::{At, Fields, Placed, list, unit, variant};
use crate::experiment::recipe::{Augmentation, BlurKind, Filter, HueKind};

/// Mean and standard deviation of the red, green and blue channel.
type Normalisation = ([f64; 3], [f64; 3]);

/// ImageNet's, as in torchvision and Lightly.
const IMAGENET: Normalisation = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
/// CIFAR-10's training set, as in solo-learn.
const CIFAR10: Normalisation = ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]);
/// CIFAR-100's training set, as in solo-learn.
const CIFAR100: Normalisation = ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]);

const SCALE: (f64, f64) = (0.08, 1.0);
const RATIO: (f64, f64) = (0.75, 4.0 / 3.0);
const SIGMA: (f64, f64) = (0.1, 2.0);

/// Lightly's `SimCLRTransform`: crop, flip, jitter of strength 1, grayscale, blur, ImageNet's normalisation.
pub fn default() -> Vec<Augmentation> {
    vec![
        Augmentation::RandomResizedCrop { scale: SCALE, ratio: RATIO, filter: Filter::Bilinear },
        Augmentation::HorizontalFlip { p: 0.5 },
        jitter_of_strength(0.8, 1.0, HueKind::Pillow),
        Augmentation::Grayscale { p: 0.2 },
        Augmentation::GaussianBlur { p: 0.5, sigma: SIGMA, kind: BlurKind::PillowBoxes },
        Augmentation::Normalize { mean: IMAGENET.0, std: IMAGENET.1 },
    ]
}

pub fn views(at: &At, found: &mut Found) -> Option<Vec<Augmentation>> {
    let placed = list(at, found, "a list of augmentations, `[RandomResizedCrop, ...]`", |at, found| {
        augmentation(at, found).map(|value| Placed { value, span: at.node.span })
    })?;
    for (index, view) in placed.iter().enumerate() {
        if matches!(view.value, Augmentation::Normalize { .. }) && index + 1 < placed.len() {
            let mut problem = at.problem("`Normalize` is followed by another augmentation");
            problem.span = view.span;
            found.add(problem.expected("`Normalize` at most once and last: augmentations work on values in [0, 1]"));
        }
    }
    if placed.len() > usize::from(u8::MAX) {
        found.add(at.problem(format!("{} augmentations are too many", placed.len())).expected("at most 255"));
        return None;
    }
    Some(placed.into_iter().map(|view| view.value).collect())
}

fn augmentation(at: &At, found: &mut Found) -> Option<Augmentation> {
    variant(
        at,
        found,
        &[
            ("RandomResizedCrop", random_resized_crop),
            ("HorizontalFlip", |fields| Some(Augmentation::HorizontalFlip { p: chance(fields, 0.5)? })),
            ("VerticalFlip", |fields| Some(Augmentation::VerticalFlip { p: chance(fields, 0.5)? })),
            ("Rotate90", |fields| Some(Augmentation::Rotate90 { p: chance(fields, 0.5)? })),
            ("Rotate", rotate),
            ("ColorJitter", color_jitter),
            ("Grayscale", |fields| Some(Augmentation::Grayscale { p: chance(fields, 0.2)? })),
            ("GaussianBlur", gaussian_blur),
            ("Solarize", solarize),
            ("Normalize", normalize),
        ],
    )
}

fn chance(fields: &mut Fields, default: f64) -> Option<f64> {
    fields.optional("p", default, probability)
}

fn random_resized_crop(fields: &mut Fields) -> Option<Augmentation> {
    let scale = fields.optional("scale", SCALE, |at, found| {
        interval(at, found, "`(low, high)` with 0 < low <= high <= 1", |area| area > 0.0 && area <= 1.0)
    });
    let ratio = fields.optional("ratio", RATIO, |at, found| {
        interval(at, found, "`(low, high)` with 0 < low <= high", |ratio| ratio > 0.0)
    });
    let filter = fields.optional("filter", Filter::Bilinear, |at, found| {
        unit(at, found, &[("Bilinear", Filter::Bilinear), ("Bicubic", Filter::Bicubic)])
    });
    Some(Augmentation::RandomResizedCrop { scale: scale?, ratio: ratio?, filter: filter? })
}

/// Default angles: within 30° either way.
fn rotate(fields: &mut Fields) -> Option<Augmentation> {
    let p = chance(fields, 0.5);
    let degrees = fields.optional("degrees", (-30.0, 30.0), |at, found| {
        interval(at, found, "`(low, high)` with -360 <= low <= high <= 360", |angle| (-360.0..=360.0).contains(&angle))
    });
    Some(Augmentation::Rotate { p: p?, degrees: degrees? })
}

fn jitter_of_strength(p: f64, strength: f64, hue_kind: HueKind) -> Augmentation {
    let factor = 0.8 * strength;
    Augmentation::ColorJitter {
        p,
        brightness: factor,
        contrast: factor,
        saturation: factor,
        hue: 0.2 * strength,
        hue_kind,
    }
}

/// Either `strength` s for factors of 0.8 s and a hue of 0.2 s (default s = 1), or the four of them, of which those
/// left out are 0. The default kind of hue is Pillow's, which is what Lightly's transform runs on.
fn color_jitter(fields: &mut Fields) -> Option<Augmentation> {
    let hue_range = "a hue shift from 0 to 0.5 turns";
    let p = chance(fields, 0.8);
    let is_detailed = ["brightness", "contrast", "saturation", "hue"].iter().any(|name| fields.has(name));
    let strength = fields.given("strength", |at, found| {
        if is_detailed {
            let problem = at.problem("`strength` is mixed with `brightness`, `contrast`, `saturation` or `hue`");
            found.add(problem.expected("either `strength` or the single factors"));
            return None;
        }
        real(at, found, "a strength from 0 to 2.5", |strength| (0.0..=2.5).contains(&strength))
    });
    let brightness = fields.optional("brightness", 0.0, not_negative);
    let contrast = fields.optional("contrast", 0.0, not_negative);
    let saturation = fields.optional("saturation", 0.0, not_negative);
    let hue = fields.optional("hue", 0.0, |at, found| real(at, found, hue_range, |turns| (0.0..=0.5).contains(&turns)));
    let hue_kind = fields.optional("hue_kind", HueKind::Pillow, |at, found| {
        unit(at, found, &[("Pillow", HueKind::Pillow), ("Float", HueKind::Float)])
    });
    let (p, strength, hue_kind) = (p?, strength?, hue_kind?);
    let (brightness, contrast, saturation, hue) = (brightness?, contrast?, saturation?, hue?);
    if is_detailed {
        return Some(Augmentation::ColorJitter { p, brightness, contrast, saturation, hue, hue_kind });
    }
    Some(jitter_of_strength(p, strength.unwrap_or(1.0), hue_kind))
}

fn gaussian_blur(fields: &mut Fields) -> Option<Augmentation> {
    let p = chance(fields, 0.5);
    let sigma = fields.optional("sigma", SIGMA, |at, found| {
        interval(at, found, "`(low, high)` with 0 < low <= high <= 100, in pixels", |sigma| {
            sigma > 0.0 && sigma <= 100.0
        })
    });
    let kind = fields.optional("kind", BlurKind::PillowBoxes, |at, found| {
        unit(at, found, &[("PillowBoxes", BlurKind::PillowBoxes), ("Gaussian", BlurKind::Gaussian)])
    });
    Some(Augmentation::GaussianBlur { p: p?, sigma: sigma?, kind: kind? })
}

/// Default threshold: Pillow's 128 of 255.
fn solarize(fields: &mut Fields) -> Option<Augmentation> {
    let p = chance(fields, 0.2);
    let threshold = fields.optional("threshold", 128.0 / 255.0, |at, found| {
        real(at, found, "a threshold from 0 to 1", |threshold| (0.0..=1.0).contains(&threshold))
    });
    Some(Augmentation::Solarize { p: p?, threshold: threshold? })
}

/// `Normalize(ImageNet)`, or `Normalize(mean: (r, g, b), std: (r, g, b))`.
fn normalize(fields: &mut Fields) -> Option<Augmentation> {
    if !fields.has("mean") && !fields.has("std") {
        let (mean, std) = fields.item("one of `ImageNet`, `Cifar10`, `Cifar100`", |at, found| {
            unit(at, found, &[("ImageNet", IMAGENET), ("Cifar10", CIFAR10), ("Cifar100", CIFAR100)])
        })?;
        return Some(Augmentation::Normalize { mean, std });
    }
    let mean = fields.required("mean", "three numbers, `(red, green, blue)`", |at, found| {
        numbers::<3>(at, found, "three finite numbers, `(red, green, blue)`", |_| true)
    });
    let std = fields.required("std", "three numbers, `(red, green, blue)`", |at, found| {
        numbers::<3>(at, found, "three numbers above 0, `(red, green, blue)`", |value| value > 0.0)
    });
    Some(Augmentation::Normalize { mean: mean?, std: std? })
}
