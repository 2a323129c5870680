//! The hue shift: in float as torchvision's tensors do it, or through Pillow's 8-bit HSV.

use crate::experiment::recipe::HueKind;
use crate::views::map::Map;

/// Shifts the hue by `turns` in [−½, ½]; 0 leaves the map as it is.
pub fn shift(map: &mut Map, turns: f32, kind: HueKind) {
    if turns == 0.0 {
        return;
    }
    match kind {
        HueKind::Float => map.for_each_pixel(|pixel| shift_float(pixel, 6.0 * turns)),
        HueKind::Pillow => {
            let levels = pillow_levels(turns);
            map.for_each_pixel(|pixel| shift_levels(pixel.map(to_level), levels).map(|level| f32::from(level) / 255.0));
        }
    }
}

/// Hue in sixths of a turn, value V and chroma C from the pixel; then, for the channels red, green, blue with n = 5, 3, 1 and
/// k = (n + hue) mod 6, V − C · clip(min(k, 4 − k), 0, 1). It is torchvision's RGB → HSV → RGB with C = V·S kept as it is, so that
/// one division remains. Selections instead of branches, so that it runs in lanes.
#[inline]
fn shift_float([red, green, blue]: [f32; 3], sixths: f32) -> [f32; 3] {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let smaller = |a: f32, b: f32| if a < b { a } else { b };
    let value = larger(red, larger(green, blue));
    let chroma = value - smaller(red, smaller(green, blue));
    let divisor = if chroma == 0.0 { 1.0 } else { chroma };
    let (difference, sector) = if value == green { (blue - red, 2.0) } else { (red - green, 4.0) };
    let (difference, sector) = if value == red { (green - blue, 0.0) } else { (difference, sector) };
    let hue = difference / divisor + sector + sixths;
    let hue = if hue < 0.0 { hue + 6.0 } else { hue };
    let hue = if hue >= 6.0 { hue - 6.0 } else { hue };
    [5.0, 3.0, 1.0].map(|n| {
        let k = n + hue;
        let k = if k >= 6.0 { k - 6.0 } else { k };
        value - chroma * larger(0.0, smaller(1.0, smaller(k, 4.0 - k)))
    })
}

fn to_level(value: f32) -> u8 {
    (value * 255.0 + 0.5) as u8
}

/// The shift in 255ths of a turn, towards zero, as torchvision hands it to Pillow.
fn pillow_levels(turns: f32) -> u8 {
    (turns * 255.0) as i32 as u8
}

/// Pillow's conversions mix float and double; every step here has the width it has there.
fn shift_levels(pixel: [u8; 3], levels: u8) -> [u8; 3] {
    let [hue, saturation, value] = levels_to_hsv(pixel);
    hsv_to_levels([hue.wrapping_add(levels), saturation, value])
}

fn levels_to_hsv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let (largest, smallest) = (red.max(green).max(blue), red.min(green).min(blue));
    if largest == smallest {
        return [0, 0, largest];
    }
    let chroma = f32::from(largest - smallest);
    let saturation = chroma / f32::from(largest);
    let [below_red, below_green, below_blue] = [red, green, blue].map(|channel| f32::from(largest - channel) / chroma);
    let sixths = if red == largest {
        below_blue - below_green
    } else if green == largest {
        (2.0 + f64::from(below_red) - f64::from(below_blue)) as f32
    } else {
        (4.0 + f64::from(below_green) - f64::from(below_red)) as f32
    };
    let turns = f64::from(sixths) / 6.0 + 1.0;
    let turns = (if turns >= 1.0 { turns - 1.0 } else { turns }) as f32;
    [(f64::from(turns) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, largest]
}

fn hsv_to_levels([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixths = f64::from(hue) * 6.0 / 255.0;
    let sector = sixths as u8;
    let fraction = (sixths - f64::from(sector)) as f32;
    let saturation = (f64::from(saturation) / 255.0) as f32;
    let scaled = |share: f64| round_half_up(f64::from(value) * share);
    let low = scaled(1.0 - f64::from(saturation));
    let falling = scaled(1.0 - f64::from(saturation * fraction));
    let rising = scaled(1.0 - f64::from(saturation) * (1.0 - f64::from(fraction)));
    match sector % 6 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}

/// C's `round` for what fits a level.
fn round_half_up(x: f64) -> u8 {
    let whole = x as u8;
    if x - f64::from(whole) >= 0.5 { whole.saturating_add(1) } else { whole }
}
