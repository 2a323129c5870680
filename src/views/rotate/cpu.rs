//! Both rotations, pixel by pixel from one map to another.

use crate::views::map::Map;

/// The top row becomes the left column; a w × h map becomes h × w.
pub fn quarter_turn(source: &Map, target: &mut Map) {
    let (width, height) = (source.width, source.height);
    target.reshape(height, width);
    for (plane, out) in source.planes().into_iter().zip(target.values.chunks_exact_mut(width * height)) {
        for (row, out) in out.chunks_exact_mut(height).enumerate() {
            for (out, line) in out.iter_mut().zip(plane.chunks_exact(width)) {
                *out = line[width - 1 - row];
            }
        }
    }
}

/// torchvision's `rotate` with nearest neighbour, `expand=False` and zero fill: the output at offset (x, y) from the centre
/// (y downwards) is the input at (x cos θ − y sin θ, x sin θ + y cos θ), rounded half to even. Multiples of 90° are exact.
pub fn by_angle(source: &Map, target: &mut Map, degrees: f32) {
    let (width, height) = (source.width, source.height);
    target.reshape(width, height);
    let (sine, cosine) = sine_cosine(degrees);
    let (centre_x, centre_y) = ((width as f32 - 1.0) * 0.5, (height as f32 - 1.0) * 0.5);
    let area = width * height;
    for row in 0..height {
        let y = row as f32 - centre_y;
        for column in 0..width {
            let x = column as f32 - centre_x;
            let source_x = (x * cosine - y * sine + centre_x).round_ties_even();
            let source_y = (x * sine + y * cosine + centre_y).round_ties_even();
            let inside = source_x >= 0.0 && source_x < width as f32 && source_y >= 0.0 && source_y < height as f32;
            let from = if inside { Some(source_y as usize * width + source_x as usize) } else { None };
            for plane in 0..3 {
                target.values[plane * area + row * width + column] =
                    from.map_or(0.0, |from| source.values[plane * area + from]);
            }
        }
    }
}

/// Sine and cosine from Taylor polynomials on ±45°, exact at multiples of 90°, elsewhere within 1e-7.
pub fn sine_cosine(degrees: f32) -> (f32, f32) {
    let quarters = (degrees / 90.0).round_ties_even();
    let x = quarters.mul_add(-90.0, degrees) * (std::f32::consts::PI / 180.0);
    let square = x * x;
    let sine_terms = [-1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0, 1.0];
    let cosine_terms = [1.0 / 40_320.0, -1.0 / 720.0, 1.0 / 24.0, -0.5, 1.0];
    let sine = x * sine_terms.iter().fold(1.0 / 362_880.0, |sum: f32, &term| sum.mul_add(square, term));
    let cosine = cosine_terms.iter().fold(0.0, |sum: f32, &term| sum.mul_add(square, term));
    match (quarters as i64).rem_euclid(4) {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}
