//! The crop of a random area and aspect ratio (torchvision's `RandomResizedCrop.get_params`).

mod cpu;

use crate::experiment::recipe::Filter;
use crate::random::Stream;
use crate::views::exponential::exp;
use crate::views::map::Window;
use crate::views::packed::{Kind, Packed};

pub use cpu::{Resampled, Resampling, fit, resize};

const TRIES: usize = 10;

/// The variant of a packed crop whose filter reaches over two inputs either way.
pub(super) const BICUBIC: i32 = 1;

#[derive(Debug, Clone, PartialEq)]
pub struct RandomResizedCrop {
    scale: (f32, f32),
    ratio: (f32, f32),
    /// Natural logarithms of `ratio`.
    log_ratio: (f32, f32),
    filter: Filter,
}

impl RandomResizedCrop {
    /// `scale`: area of the crop over that of the image; `ratio`: width over height of the crop.
    pub fn new(scale: (f64, f64), ratio: (f64, f64), filter: Filter) -> RandomResizedCrop {
        RandomResizedCrop {
            scale: (scale.0 as f32, scale.1 as f32),
            ratio: (ratio.0 as f32, ratio.1 as f32),
            log_ratio: (libm::log(ratio.0) as f32, libm::log(ratio.1) as f32),
            filter,
        }
    }

    /// Up to ten tries of: area uniform in `scale`, ratio log-uniform in `ratio`, sides rounded half to even; the first that
    /// fits is placed uniformly. Otherwise the largest centred crop whose ratio lies in `ratio`.
    ///
    /// Draws: (area, ratio) a try, then top, left.
    pub fn draw(&self, stream: &mut Stream, width: usize, height: usize) -> Window {
        let image_area = (width * height) as f32;
        for _ in 0..TRIES {
            let area = image_area * stream.uniform(self.scale.0, self.scale.1);
            let ratio = exp(stream.uniform(self.log_ratio.0, self.log_ratio.1));
            let crop_width = (area * ratio).sqrt().round_ties_even() as usize;
            let crop_height = (area / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
                let top = stream.below((height - crop_height + 1) as u32) as usize;
                let left = stream.below((width - crop_width + 1) as u32) as usize;
                return Window { top, left, height: crop_height, width: crop_width };
            }
        }
        self.centre(width, height)
    }

    pub(super) fn packed(&self) -> Packed {
        let pairs = [self.scale, self.ratio, self.log_ratio];
        let variant = match self.filter {
            Filter::Bilinear => 0,
            Filter::Bicubic => BICUBIC,
        };
        let packed = Packed::always(Kind::RandomResizedCrop).with(&pairs.map(|(low, high)| [low, high]).concat());
        Packed { variant, ..packed }
    }

    /// What becomes of the window drawn.
    pub(super) fn resampled(&self, side: usize) -> Resampled {
        Resampled::to_square(side, self.filter)
    }

    fn centre(&self, width: usize, height: usize) -> Window {
        let image_ratio = width as f32 / height as f32;
        let (mut crop_width, mut crop_height) = (width, height);
        if image_ratio < self.ratio.0 {
            crop_height = ((width as f32 / self.ratio.0).round_ties_even() as usize).clamp(1, height);
        } else if image_ratio > self.ratio.1 {
            crop_width = ((height as f32 * self.ratio.1).round_ties_even() as usize).clamp(1, width);
        }
        Window {
            top: (height - crop_height) / 2,
            left: (width - crop_width) / 2,
            height: crop_height,
            width: crop_width,
        }
    }
}
