//! Solarisation value by value.

use crate::views::map::Map;

/// Values at or above `threshold` become 1 − value.
pub fn solarize(map: &mut Map, threshold: f32) {
    map.values.iter_mut().for_each(|value| *value = if *value >= threshold { 1.0 - *value } else { *value });
}
