//! Rotations counter-clockwise: by a quarter turn, and by any angle about the centre. Draws of the quarter turn: chance.

mod cpu;

use crate::random::Stream;
use crate::views::packed::{Kind, Packed};

pub use cpu::{by_angle, quarter_turn, sine_cosine};

/// A rotation by an angle uniform in `degrees`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotate {
    p: f32,
    degrees: (f32, f32),
}

impl Rotate {
    pub fn new(p: f64, degrees: (f64, f64)) -> Rotate {
        Rotate { p: p as f32, degrees: (degrees.0 as f32, degrees.1 as f32) }
    }

    /// The angle in degrees, or `None` when the view is left alone. Draws: chance, angle.
    pub fn draw(&self, stream: &mut Stream) -> Option<f32> {
        stream.chance(self.p).then(|| stream.uniform(self.degrees.0, self.degrees.1))
    }

    pub(super) fn packed(&self) -> Packed {
        Packed::new(Kind::Rotate, self.p).with(&[self.degrees.0, self.degrees.1])
    }
}
