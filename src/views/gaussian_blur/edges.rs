//! Replicated edges, along rows and along columns alike.

/// `padded` = the first unit `radius` times, the values, the last unit `radius` times. A unit is a pixel (1) to pad a row, or a row
/// (its width) to pad a plane at top and bottom.
pub fn replicate<T: Copy>(values: &[T], unit: usize, radius: usize, padded: &mut Vec<T>) {
    padded.clear();
    for _ in 0..radius {
        padded.extend_from_slice(&values[..unit]);
    }
    padded.extend_from_slice(values);
    for _ in 0..radius {
        padded.extend_from_slice(&values[values.len() - unit..]);
    }
}
