//! The blur: a true Gaussian, or Pillow's approximation of one by boxes.

mod cpu;
mod edges;
pub mod extended_box;

use crate::experiment::recipe::BlurKind;
use crate::random::Stream;
use crate::views::map::Map;
use crate::views::packed::{Kind, Packed};

pub use cpu::gaussian;

#[derive(Debug, Clone, PartialEq)]
pub struct GaussianBlur {
    p: f32,
    /// Range of the standard deviation, in pixels.
    sigma: (f32, f32),
    kind: BlurKind,
}

/// Working memory.
#[derive(Debug, Default)]
pub struct Blurring {
    weights: Vec<f32>,
    padded: Vec<f32>,
    pub(super) levels: Vec<u32>,
    pub(super) padded_levels: Vec<u32>,
}

impl GaussianBlur {
    pub fn new(p: f64, sigma: (f64, f64), kind: BlurKind) -> GaussianBlur {
        GaussianBlur { p: p as f32, sigma: (sigma.0 as f32, sigma.1 as f32), kind }
    }

    /// The standard deviation in pixels, or `None` when the view is left alone. Draws: chance, standard deviation.
    pub fn draw(&self, stream: &mut Stream) -> Option<f32> {
        stream.chance(self.p).then(|| stream.uniform(self.sigma.0, self.sigma.1))
    }

    pub(super) fn packed(&self) -> Packed {
        let (variant, weights) = match self.kind {
            // One more than ⌈4 σ⌉ + 1, should the draw round upwards.
            BlurKind::Gaussian => (0, (4.0 * self.sigma.1.max(0.0)).ceil() as usize + 3),
            BlurKind::PillowBoxes => (1, 0),
        };
        Packed { variant, weights, ..Packed::new(Kind::GaussianBlur, self.p).with(&[self.sigma.0, self.sigma.1]) }
    }

    pub fn apply(&self, sigma: f32, map: &mut Map, memory: &mut Blurring) {
        match self.kind {
            BlurKind::Gaussian => gaussian(map, sigma, memory),
            BlurKind::PillowBoxes => extended_box::blur(map, sigma, memory),
        }
    }
}
