//! Tests of the whole: against Pillow and torchvision, of the distributions of the draws, of the pipeline's promises.

mod cuda;
mod draws;
mod oracle;
mod promises;
mod tensors;

use crate::data::{ImageRef, Images};
use crate::experiment::recipe::{Augmentation, BlurKind, Filter, HueKind};
use crate::random::{Address, Purpose, Stream};
use crate::views::map::{Map, Window};

/// An image of noise over ramps; any size.
fn image(width: usize, height: usize, seed: u64) -> Images {
    let mut stream = Stream::new(seed, Address::of(Purpose::BuiltinData));
    let mut pixels = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        for x in 0..width {
            let base = [x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)];
            pixels.extend(base.map(|level| (level as u32 + stream.below(61)).saturating_sub(30).min(255) as u8));
        }
    }
    let mut images = Images::default();
    images.push(width as u32, height as u32, &pixels);
    images
}

fn images(n: usize, side: usize) -> Images {
    let mut all = Images::default();
    for seed in 0..n {
        all.push(side as u32, side as u32, image(side, side, seed as u64).get(0).pixels);
    }
    all
}

fn map_of(image: ImageRef<'_>) -> Map {
    let mut map = Map::default();
    map.load(image, Window::whole(image.width, image.height));
    map
}

const IMAGENET: Augmentation = Augmentation::Normalize { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

fn crop() -> Augmentation {
    Augmentation::RandomResizedCrop { scale: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), filter: Filter::Bilinear }
}

fn jitter(p: f64, hue_kind: HueKind) -> Augmentation {
    Augmentation::ColorJitter { p, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2, hue_kind }
}

fn blur(p: f64, kind: BlurKind) -> Augmentation {
    Augmentation::GaussianBlur { p, sigma: (0.1, 2.0), kind }
}

/// Lightly's `SimCLRTransform` without blur.
fn simclr() -> Vec<Augmentation> {
    vec![
        crop(),
        Augmentation::HorizontalFlip { p: 0.5 },
        jitter(0.8, HueKind::Float),
        Augmentation::Grayscale { p: 0.2 },
        IMAGENET,
    ]
}

/// Every operation in every kind, each with probability `p`.
fn everything(p: f64) -> Vec<Augmentation> {
    vec![
        Augmentation::VerticalFlip { p },
        crop(),
        Augmentation::HorizontalFlip { p },
        Augmentation::Rotate90 { p },
        Augmentation::Rotate { p, degrees: (-30.0, 30.0) },
        jitter(p, HueKind::Float),
        jitter(p, HueKind::Pillow),
        blur(p, BlurKind::Gaussian),
        blur(p, BlurKind::PillowBoxes),
        Augmentation::Solarize { p, threshold: 128.0 / 255.0 },
        Augmentation::Grayscale { p: p / 4.0 },
        IMAGENET,
    ]
}
