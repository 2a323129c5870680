//! The grey image, and the mean that contrast blends with.

use crate::views::map::Map;

/// 0.2989 R + 0.587 G + 0.114 B (torchvision).
#[inline]
pub fn luminance([red, green, blue]: [f32; 3]) -> f32 {
    0.2989 * red + 0.587 * green + 0.114 * blue
}

/// Every channel becomes the luminance.
pub fn grayscale(map: &mut Map) {
    map.for_each_pixel(|pixel| [luminance(pixel); 3]);
}

/// Partial sums of [`mean_luminance`]; pixel i goes to sum i modulo this.
const LANES: usize = 16;

/// Mean luminance of all pixels, added up in a fixed order.
pub fn mean_luminance(map: &Map) -> f32 {
    let [red, green, blue] = map.planes();
    let mut sums = [0.0; LANES];
    let (red_chunks, red_rest) = red.as_chunks::<LANES>();
    let (green_chunks, green_rest) = green.as_chunks::<LANES>();
    let (blue_chunks, blue_rest) = blue.as_chunks::<LANES>();
    for ((red, green), blue) in red_chunks.iter().zip(green_chunks).zip(blue_chunks) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += luminance([red[lane], green[lane], blue[lane]]);
        }
    }
    for (sum, ((&red, &green), &blue)) in sums.iter_mut().zip(red_rest.iter().zip(green_rest).zip(blue_rest)) {
        *sum += luminance([red, green, blue]);
    }
    sums.iter().sum::<f32>() / red.len() as f32
}
