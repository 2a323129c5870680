//! Mirroring in place.

use crate::views::map::Map;

/// Left becomes right.
pub fn horizontal(map: &mut Map) {
    map.values.chunks_exact_mut(map.width).for_each(<[f32]>::reverse);
}

/// Top becomes bottom.
pub fn vertical(map: &mut Map) {
    let (width, height) = (map.width, map.height);
    for plane in map.values.chunks_exact_mut(width * height) {
        let (upper, lower) = plane.split_at_mut(height.div_ceil(2) * width);
        for (top, bottom) in upper.chunks_exact_mut(width).zip(lower.chunks_exact_mut(width).rev()) {
            top.swap_with_slice(bottom);
        }
    }
}
