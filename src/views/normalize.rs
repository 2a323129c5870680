//! Normalisation, and its inverse for looking at views.

use crate::views::map::Map;

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
        for ((plane, mean), std) in map.planes_mut().into_iter().zip(self.mean).zip(self.std) {
            plane.iter_mut().for_each(|value| *value = (*value - mean) / std);
        }
    }

    /// v · std + mean, on height × width × 3.
    pub fn undo(&self, interleaved: &mut [f32]) {
        for pixel in interleaved.chunks_exact_mut(3) {
            for ((value, mean), std) in pixel.iter_mut().zip(self.mean).zip(self.std) {
                *value = *value * std + mean;
            }
        }
    }
}
