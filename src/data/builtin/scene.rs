//! Everything about an image that is not its class: where, how large and how turned the form is, colours, light and
//! noise.

use crate::data::builtin::SIDE;
use crate::data::builtin::form::Form;
use crate::random::Stream;

/// Red, green and blue in [0, 1].
type Rgb = [f32; 3];

/// Lengths are in units of half an image; (0, 0) is its centre.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    center: (f32, f32),
    /// The axes of the form: rotation, mirroring and 1 / size in one.
    across: (f32, f32),
    along: (f32, f32),
    size: f32,
    ink: Rgb,
    ground: [Rgb; 2],
    /// Direction and strength of the blend between the two grounds.
    slope: (f32, f32),
    /// Frequencies, phase and strength of the cloud over the ground.
    cloud: (f32, f32, f32, f32),
    /// Direction and strength of the light over everything.
    light: (f32, f32),
    noise: f32,
}

impl Scene {
    /// The order of the draws is part of the data set.
    pub fn draw(stream: &mut Stream) -> Scene {
        let center = (stream.uniform(-0.4, 0.4), stream.uniform(-0.4, 0.4));
        let angle = stream.uniform(-0.8, 0.8);
        let size = stream.uniform(0.6, 1.3);
        let mirror = if stream.chance(0.5) { -1.0 } else { 1.0 };
        let (sine, cosine) = (libm::sinf(angle) / size, libm::cosf(angle) / size);
        let direction = |stream: &mut Stream, strength: f32| {
            let turn = stream.uniform(0.0, std::f32::consts::TAU);
            (strength * libm::cosf(turn), strength * libm::sinf(turn))
        };
        // Mostly bright on dark, so that pixels alone say a little of the class.
        let (bright, dark) = ((0.6, 1.0), (0.05, 0.5));
        let (ink_value, ground_value) = if stream.chance(0.7) { (bright, dark) } else { (dark, bright) };
        let ink = color(stream, ink_value);
        let ground = [color(stream, ground_value), color(stream, ground_value)];
        let slope_strength = stream.uniform(0.1, 0.6);
        let slope = direction(stream, slope_strength);
        let cloud = (
            stream.uniform(-4.0, 4.0),
            stream.uniform(-4.0, 4.0),
            stream.uniform(0.0, std::f32::consts::TAU),
            stream.uniform(0.0, 0.12),
        );
        let light_strength = stream.uniform(0.0, 0.3);
        let light = direction(stream, light_strength);
        let noise = stream.uniform(0.01, 0.1);
        let (across, along) = ((mirror * cosine, mirror * sine), (-sine, cosine));
        Scene { center, across, along, size, ink, ground, slope, cloud, light, noise }
    }

    /// Fills `pixels`, height × width × 3.
    pub fn paint(&self, form: Form, stream: &mut Stream, pixels: &mut [u8]) {
        let half_side = SIDE as f32 / 2.0;
        for (index, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            let (column, row) = (index % SIDE, index / SIDE);
            let x = (column as f32 + 0.5) / half_side - 1.0;
            let y = (row as f32 + 0.5) / half_side - 1.0;
            let (dx, dy) = (x - self.center.0, y - self.center.1);
            let distance =
                form.distance(dx * self.across.0 + dy * self.across.1, dx * self.along.0 + dy * self.along.1);
            // The edge is one pixel soft.
            let covered = (0.5 - distance * self.size * half_side).clamp(0.0, 1.0);
            let blend = (0.5 + x * self.slope.0 + y * self.slope.1).clamp(0.0, 1.0);
            let cloud = self.cloud.3 * libm::sinf(self.cloud.0 * x + self.cloud.1 * y + self.cloud.2);
            let light = 1.0 + x * self.light.0 + y * self.light.1;
            let grain = stream.next_u32().to_le_bytes();
            for (channel, out) in pixel.iter_mut().enumerate() {
                let ground = mix(self.ground[0][channel], self.ground[1][channel], blend) + cloud;
                let value = light * mix(ground, self.ink[channel], covered) + self.noise * speckle(grain, channel);
                *out = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
            }
        }
    }
}

fn mix(a: f32, b: f32, share: f32) -> f32 {
    a + (b - a) * share
}

/// Triangular in [−1, 1]: half is common to the channels, half their own.
fn speckle(grain: [u8; 4], channel: usize) -> f32 {
    (f32::from(grain[3]) + f32::from(grain[channel]) - 255.0) / 255.0
}

/// Any hue, nearly any saturation, and a value (of hue, saturation, value) in the given range.
fn color(stream: &mut Stream, value: (f32, f32)) -> Rgb {
    let hue = stream.uniform(0.0, 6.0);
    let saturation = stream.uniform(0.0, 0.9);
    let value = stream.uniform(value.0, value.1);
    [5.0, 3.0, 1.0].map(|offset: f32| {
        let place = (offset + hue) % 6.0;
        value - value * saturation * place.min(4.0 - place).clamp(0.0, 1.0)
    })
}
