//! Normalisation plane by plane, its inverse pixel by pixel.

use crate::views::map::Map;

/// (v − mean) / std
pub(super) fn normalize(map: &mut Map, mean: [f32; 3], std: [f32; 3]) {
    for ((plane, mean), std) in map.planes_mut().into_iter().zip(mean).zip(std) {
        plane.iter_mut().for_each(|value| *value = (*value - mean) / std);
    }
}

/// v · std + mean
pub(super) fn undo(interleaved: &mut [f32], mean: [f32; 3], std: [f32; 3]) {
    for pixel in interleaved.chunks_exact_mut(3) {
        for ((value, mean), std) in pixel.iter_mut().zip(mean).zip(std) {
            *value = *value * std + mean;
        }
    }
}
