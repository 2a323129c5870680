//! Against torchvision's float tensors (torchvision 0.29, PyTorch 2.15, f64): what 8-bit images cannot show.
//!
//! Value i of every input is level (37 i + 11 ⌊i / 7⌋) mod 256 over 255; outputs are every second or fifth value, in pixel order.

use super::map_of;
use crate::data::{ImageRef, Images};
use crate::experiment::recipe::HueKind;
use crate::views::color_jitter::hue;
use crate::views::map::Map;
use crate::views::{Pipeline, Scratch, color_jitter, grayscale, rotate, solarize};

fn levels(width: usize, height: usize) -> Vec<u8> {
    (0..3 * width * height).map(|index| ((37 * index + 11 * (index / 7)) % 256) as u8).collect()
}

fn check(name: &str, out: &[f32], step: usize, expected: &[f64]) {
    let out: Vec<f64> = out.iter().step_by(step).copied().map(f64::from).collect();
    assert_eq!(out.len(), expected.len(), "{name}");
    for (index, (value, expected)) in out.iter().zip(expected).enumerate() {
        assert!((value - expected).abs() < 2e-6, "{name}, index {index}: {value} instead of {expected}");
    }
}

fn changed(name: &str, change: fn(&mut Map), expected: &[f64]) {
    let mut map = map_of(ImageRef { width: 5, height: 3, pixels: &levels(5, 3) });
    change(&mut map);
    let mut out = vec![0.0; 45];
    map.write_interleaved(&mut out);
    check(name, &out, 2, expected);
}

#[test]
fn blends_agree_with_torchvision_in_float() {
    changed(
        "brightness",
        |map| color_jitter::brightness(map, 1.4),
        &[
            0.0, 0.4062745, 0.812549, 1.0, 0.28, 0.6862745, 1.0, 0.1537255, 0.56, 0.9662745, 1.0, 0.4337255, 0.84, 1.0,
            0.307451, 0.7137255, 1.0, 0.1207843, 0.587451, 0.9937255, 1.0, 0.4611765, 0.867451,
        ],
    );
    changed(
        "contrast",
        |map| color_jitter::contrast(map, 1.6),
        &[
            0.0, 0.1667779, 0.6310917, 1.0, 0.0224642, 0.4867779, 0.9510917, 0.0, 0.3424642, 0.8067779, 1.0, 0.1981505,
            0.6624642, 1.0, 0.0538368, 0.5181505, 0.9824642, 0.0, 0.3738368, 0.8381505, 1.0, 0.229523, 0.6938368,
        ],
    );
    changed(
        "contrast",
        |map| color_jitter::contrast(map, 0.3),
        &[
            0.3471251, 0.4341839, 0.5212427, 0.6083015, 0.4071251, 0.4941839, 0.5812427, 0.3800663, 0.4671251,
            0.5541839, 0.6412427, 0.4400663, 0.5271251, 0.6141839, 0.4130074, 0.5000663, 0.5871251, 0.3730074,
            0.4730074, 0.5600663, 0.6471251, 0.4459486, 0.5330074,
        ],
    );
    changed(
        "saturation",
        |map| color_jitter::saturation(map, 1.7),
        &[
            0.0, 0.4105549, 0.5992128, 1.0, 0.1193276, 0.5090104, 0.7743389, 0.0, 0.418808, 0.607466, 1.0, 0.3286056,
            0.5172636, 1.0, 0.2474289, 0.4270612, 0.9203945, 0.0, 0.3368588, 0.8301921, 1.0, 0.2466564, 0.7399897,
        ],
    );
}

#[test]
fn other_colours_agree_with_torchvision_in_float() {
    changed(
        "hue",
        |map| hue::shift(map, 0.17, HueKind::Float),
        &[
            0.1509018, 0.2901961, 0.4352942, 0.8705882, 0.054902, 0.3450981, 0.1098039, 0.2712156, 0.254902, 0.8410979,
            0.9803922, 0.1647059, 0.7509019, 0.8901961, 0.0313725, 0.6607057, 0.8, 0.7740391, 0.5705097, 0.7098039,
            1.0, 0.4803136, 0.6196079,
        ],
    );
    changed(
        "hue",
        |map| hue::shift(map, -0.45, HueKind::Float),
        &[
            0.2901961, 0.0, 0.6674509, 0.054902, 0.8705882, 0.5772548, 0.499608, 0.9254902, 0.4870587, 0.9803922,
            0.6901961, 0.3968626, 0.8901961, 0.6, 0.2764708, 0.8, 0.509804, 0.8756862, 0.7098039, 0.4196078, 0.1411765,
            0.6196079, 0.3294117,
        ],
    );
    changed(
        "gray",
        grayscale::grayscale,
        &[
            0.1182549, 0.1182549, 0.5535055, 0.3152463, 0.3152463, 0.4633184, 0.7890396, 0.7890396, 0.3731314,
            0.808382, 0.808382, 0.2829443, 0.7181949, 0.7181949, 0.1798635, 0.6280078, 0.6280078, 0.3644271, 0.5378208,
            0.5378208, 0.8586243, 0.4476337, 0.4476337,
        ],
    );
    changed(
        "solarize",
        |map| solarize::solarize(map, 0.5),
        &[
            0.0, 0.2901961, 0.4196078, 0.1294118, 0.2, 0.4901961, 0.2196078, 0.1098039, 0.4, 0.3098039, 0.0196078,
            0.3098039, 0.4, 0.1098039, 0.2196078, 0.4901961, 0.2, 0.0862745, 0.4196078, 0.2901961, 0.0, 0.3294118,
            0.3803922,
        ],
    );
}

#[test]
fn an_evaluation_agrees_with_resize_and_centre_crop() {
    let mut images = Images::default();
    images.push(21, 13, &levels(21, 13));
    let pipeline = Pipeline::new(&[], 8, 0);
    let mut out = vec![0.0; pipeline.view_len()];
    pipeline.evaluation(images.get(0), &mut Scratch::default(), &mut out);
    check(
        "21×13 to 8×8",
        &out,
        5,
        &[
            0.5417778, 0.5724946, 0.4516863, 0.6264706, 0.3395425, 0.6742484, 0.3727342, 0.5852723, 0.5689397,
            0.4373508, 0.3258039, 0.506732, 0.6798431, 0.3915359, 0.593098, 0.4247226, 0.6397553, 0.311606, 0.5124677,
            0.6334337, 0.5563231, 0.6291546, 0.4656379, 0.6458656, 0.4774902, 0.6702288, 0.3907451, 0.5638562,
            0.4860784, 0.6108061, 0.3325309, 0.5218301, 0.6728177, 0.3739085, 0.3451765, 0.4441176, 0.618902,
            0.3289216, 0.5288105,
        ],
    );
}

/// The source of every pixel of a 9 × 7 map, −1 where none is.
#[test]
fn rotations_pick_the_pixels_that_torchvision_picks() {
    let check = |degrees: f32, expected: [i32; 63]| {
        let plane: Vec<f32> = (1..=63u8).map(f32::from).collect();
        let source = Map { width: 9, height: 7, values: plane.repeat(3) };
        let mut out = Map::default();
        rotate::by_angle(&source, &mut out, degrees);
        for plane in out.planes() {
            assert_eq!(plane.iter().map(|&value| value as i32 - 1).collect::<Vec<i32>>(), expected, "{degrees}°");
        }
    };
    check(
        31.0,
        [
            -1, -1, -1, 5, 6, 15, 16, 26, -1, -1, 2, 3, 13, 14, 24, 25, 35, 35, 1, 11, 12, 22, 23, 32, 33, 43, 44, 10,
            10, 20, 21, 31, 41, 42, 52, 52, 18, 19, 29, 30, 39, 40, 50, 51, 61, 27, 27, 37, 38, 48, 49, 59, 60, -1, -1,
            36, 46, 47, 56, 57, -1, -1, -1,
        ],
    );
    check(
        -77.5,
        [
            54, 45, 37, 28, 19, 10, 2, -1, -1, 55, 46, 47, 38, 29, 20, 11, 3, -1, -1, 56, 48, 39, 30, 21, 12, 4, -1,
            -1, 57, 49, 40, 31, 22, 13, 5, -1, -1, 58, 50, 41, 32, 23, 14, 6, -1, -1, 59, 51, 42, 33, 24, 15, 16, 7,
            -1, -1, 60, 52, 43, 34, 25, 17, 8,
        ],
    );
    check(
        135.0,
        [
            -1, 35, 44, 43, 51, 59, -1, -1, -1, 26, 26, 34, 42, 41, 50, 58, -1, -1, 17, 25, 24, 32, 41, 40, 48, 57, -1,
            7, 15, 23, 23, 31, 39, 39, 47, 55, -1, 5, 14, 22, 21, 30, 38, 37, 45, -1, -1, 4, 12, 21, 20, 28, 36, 36,
            -1, -1, -1, 3, 11, 19, 18, 27, -1,
        ],
    );
}
