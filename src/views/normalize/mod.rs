//! Normalisation, and its inverse for looking at views.

mod cpu;

use crate::views::map::Map;
use crate::views::packed::{Kind, Packed};

/// Mean and standard deviation of every channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalize {
    mean: [f32; 3],
    std: [f32; 3],
}

impl Normalize {
    pub fn new(mean: [f64; 3], std: [f64; 3]) -> Normalize {
        Normalize { mean: mean.map(|value| value as f32), std: std.map(|value| value as f32) }
    }

    /// (v − mean) / std
    pub fn apply(&self, map: &mut Map) {
        cpu::normalize(map, self.mean, self.std);
    }

    pub(super) fn packed(&self) -> Packed {
        Packed::always(Kind::Normalize).with(&[self.mean, self.std].concat())
    }

    /// v · std + mean, on height × width × 3.
    pub fn undo(&self, interleaved: &mut [f32]) {
        cpu::undo(interleaved, self.mean, self.std);
    }
}
