//! The adjustments, plane by plane.

use crate::experiment::recipe::HueKind;
use crate::views::color_jitter::{Adjustment, Jitter, hue};
use crate::views::grayscale::{luminance, mean_luminance};
use crate::views::map::Map;

/// The four adjustments in the order drawn.
pub(super) fn apply(jitter: &Jitter, hue_kind: HueKind, map: &mut Map) {
    for adjustment in jitter.order {
        match adjustment {
            Adjustment::Brightness => brightness(map, jitter.brightness),
            Adjustment::Contrast => contrast(map, jitter.contrast),
            Adjustment::Saturation => saturation(map, jitter.saturation),
            Adjustment::Hue => hue::shift(map, jitter.hue, hue_kind),
        }
    }
}

/// f v + (1 − f) reference, clipped to [0, 1].
#[inline]
fn blend(value: f32, factor: f32, reference: f32) -> f32 {
    (factor * value + (1.0 - factor) * reference).clamp(0.0, 1.0)
}

/// Blends with black.
pub fn brightness(map: &mut Map, factor: f32) {
    if factor != 1.0 {
        map.values.iter_mut().for_each(|value| *value = (factor * *value).clamp(0.0, 1.0));
    }
}

/// Blends with the mean luminance of the image.
pub fn contrast(map: &mut Map, factor: f32) {
    if factor != 1.0 {
        let mean = mean_luminance(map);
        map.values.iter_mut().for_each(|value| *value = blend(*value, factor, mean));
    }
}

/// Blends with the luminance of the pixel.
pub fn saturation(map: &mut Map, factor: f32) {
    if factor != 1.0 {
        map.for_each_pixel(|pixel| {
            let grey = luminance(pixel);
            pixel.map(|value| blend(value, factor, grey))
        });
    }
}
