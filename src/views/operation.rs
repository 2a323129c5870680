//! One augmentation made ready to run: its parameters as f32, and what it does to the map.

use crate::experiment::recipe::Augmentation;
use crate::random::Stream;
use crate::views::color_jitter::{Amounts, ColorJitter};
use crate::views::flip;
use crate::views::gaussian_blur::GaussianBlur;
use crate::views::grayscale::grayscale;
use crate::views::normalize::Normalize;
use crate::views::packed::{Kind, Packed};
use crate::views::random_resized_crop::RandomResizedCrop;
use crate::views::rotate::{self, Rotate};
use crate::views::scratch::Scratch;
use crate::views::solarize::solarize;

/// Every kind with a probability draws its chance first, then its parameters.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    RandomResizedCrop(RandomResizedCrop),
    HorizontalFlip { p: f32 },
    VerticalFlip { p: f32 },
    Rotate90 { p: f32 },
    Rotate(Rotate),
    ColorJitter(ColorJitter),
    Grayscale { p: f32 },
    GaussianBlur(GaussianBlur),
    Solarize { p: f32, threshold: f32 },
    Normalize(Normalize),
}

impl Operation {
    pub fn new(augmentation: &Augmentation) -> Operation {
        match *augmentation {
            Augmentation::RandomResizedCrop { scale, ratio, filter } => {
                Operation::RandomResizedCrop(RandomResizedCrop::new(scale, ratio, filter))
            }
            Augmentation::HorizontalFlip { p } => Operation::HorizontalFlip { p: p as f32 },
            Augmentation::VerticalFlip { p } => Operation::VerticalFlip { p: p as f32 },
            Augmentation::Rotate90 { p } => Operation::Rotate90 { p: p as f32 },
            Augmentation::Rotate { p, degrees } => Operation::Rotate(Rotate::new(p, degrees)),
            Augmentation::ColorJitter { p, brightness, contrast, saturation, hue, hue_kind } => {
                let amounts = Amounts { brightness, contrast, saturation, hue };
                Operation::ColorJitter(ColorJitter::new(p, amounts, hue_kind))
            }
            Augmentation::Grayscale { p } => Operation::Grayscale { p: p as f32 },
            Augmentation::GaussianBlur { p, sigma, kind } => Operation::GaussianBlur(GaussianBlur::new(p, sigma, kind)),
            Augmentation::Solarize { p, threshold } => Operation::Solarize { p: p as f32, threshold: threshold as f32 },
            Augmentation::Normalize { mean, std } => Operation::Normalize(Normalize::new(mean, std)),
        }
    }

    /// Draws from `stream` and changes the map accordingly; a crop makes it side × side.
    pub(super) fn apply(&self, stream: &mut Stream, side: usize, scratch: &mut Scratch) {
        match self {
            Operation::RandomResizedCrop(crop) => {
                let window = crop.draw(stream, scratch.map.width, scratch.map.height);
                scratch.crop(window, crop.resampled(side));
            }
            Operation::HorizontalFlip { p } => {
                if stream.chance(*p) {
                    flip::horizontal(&mut scratch.map);
                }
            }
            Operation::VerticalFlip { p } => {
                if stream.chance(*p) {
                    flip::vertical(&mut scratch.map);
                }
            }
            Operation::Rotate90 { p } => {
                if stream.chance(*p) {
                    std::mem::swap(&mut scratch.map, &mut scratch.spare);
                    rotate::quarter_turn(&scratch.spare, &mut scratch.map);
                }
            }
            Operation::Rotate(rotation) => {
                if let Some(degrees) = rotation.draw(stream) {
                    std::mem::swap(&mut scratch.map, &mut scratch.spare);
                    rotate::by_angle(&scratch.spare, &mut scratch.map, degrees);
                }
            }
            Operation::ColorJitter(jitter) => {
                if let Some(drawn) = jitter.draw(stream) {
                    jitter.apply(&drawn, &mut scratch.map);
                }
            }
            Operation::Grayscale { p } => {
                if stream.chance(*p) {
                    grayscale(&mut scratch.map);
                }
            }
            Operation::GaussianBlur(blur) => {
                if let Some(sigma) = blur.draw(stream) {
                    blur.apply(sigma, &mut scratch.map, &mut scratch.blurring);
                }
            }
            Operation::Solarize { p, threshold } => {
                if stream.chance(*p) {
                    solarize(&mut scratch.map, *threshold);
                }
            }
            Operation::Normalize(normalize) => normalize.apply(&mut scratch.map),
        }
    }

    /// The same for the device.
    pub(super) fn packed(&self) -> Packed {
        match self {
            Operation::RandomResizedCrop(crop) => crop.packed(),
            Operation::HorizontalFlip { p } => Packed::new(Kind::HorizontalFlip, *p),
            Operation::VerticalFlip { p } => Packed::new(Kind::VerticalFlip, *p),
            Operation::Rotate90 { p } => Packed::new(Kind::Rotate90, *p),
            Operation::Rotate(rotation) => rotation.packed(),
            Operation::ColorJitter(jitter) => jitter.packed(),
            Operation::Grayscale { p } => Packed::new(Kind::Grayscale, *p),
            Operation::GaussianBlur(blur) => blur.packed(),
            Operation::Solarize { p, threshold } => Packed::new(Kind::Solarize, *p).with(&[*threshold]),
            Operation::Normalize(normalize) => normalize.packed(),
        }
    }
}
