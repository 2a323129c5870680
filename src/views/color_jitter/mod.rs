//! Brightness, contrast, saturation and hue, in random order (torchvision's `ColorJitter` on float tensors).

mod cpu;
pub mod hue;

use crate::experiment::recipe::HueKind;
use crate::random::Stream;
use crate::views::map::Map;
use crate::views::packed::{Kind, Packed};

pub use cpu::{brightness, contrast, saturation};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Adjustment {
    Brightness,
    Contrast,
    Saturation,
    Hue,
}

/// How far each adjustment may go.
#[derive(Debug, Clone, PartialEq)]
pub struct ColorJitter {
    p: f32,
    brightness: (f32, f32),
    contrast: (f32, f32),
    saturation: (f32, f32),
    /// Largest shift either way, in turns.
    hue: f32,
    hue_kind: HueKind,
}

/// The amounts of [`ColorJitter`] as a recipe gives them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Amounts {
    pub brightness: f64,
    pub contrast: f64,
    pub saturation: f64,
    pub hue: f64,
}

/// One draw of [`ColorJitter`]. A factor of 1 and a shift of 0 change nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter {
    pub order: [Adjustment; 4],
    pub brightness: f32,
    pub contrast: f32,
    pub saturation: f32,
    /// In turns, within ±½.
    pub hue: f32,
}

impl ColorJitter {
    pub fn new(p: f64, amounts: Amounts, hue_kind: HueKind) -> ColorJitter {
        let factors = |amount: f64| ((1.0 - amount).max(0.0) as f32, (1.0 + amount) as f32);
        ColorJitter {
            p: p as f32,
            brightness: factors(amounts.brightness),
            contrast: factors(amounts.contrast),
            saturation: factors(amounts.saturation),
            hue: amounts.hue as f32,
            hue_kind,
        }
    }

    /// `None` when the view is left alone. Draws: chance, order (three, Fisher and Yates from the end), then the factors of
    /// brightness, contrast, saturation and the hue shift, drawn even where they can only be 1 or 0.
    pub fn draw(&self, stream: &mut Stream) -> Option<Jitter> {
        if !stream.chance(self.p) {
            return None;
        }
        let mut order = [Adjustment::Brightness, Adjustment::Contrast, Adjustment::Saturation, Adjustment::Hue];
        for last in (1..4).rev() {
            order.swap(last, stream.below(last as u32 + 1) as usize);
        }
        let brightness = stream.uniform(self.brightness.0, self.brightness.1);
        let contrast = stream.uniform(self.contrast.0, self.contrast.1);
        let saturation = stream.uniform(self.saturation.0, self.saturation.1);
        let turns = stream.uniform(-self.hue, self.hue);
        Some(Jitter { order, brightness, contrast, saturation, hue: turns - turns.round_ties_even() })
    }

    pub(super) fn packed(&self) -> Packed {
        let pairs = [self.brightness, self.contrast, self.saturation].map(|(low, high)| [low, high]).concat();
        let variant = match self.hue_kind {
            HueKind::Float => 0,
            HueKind::Pillow => 1,
        };
        Packed { variant, ..Packed::new(Kind::ColorJitter, self.p).with(&[pairs, vec![self.hue]].concat()) }
    }

    pub fn apply(&self, jitter: &Jitter, map: &mut Map) {
        cpu::apply(jitter, self.hue_kind, map);
    }
}
