//! Solarisation (torchvision's `RandomSolarize`). Draws: chance.

mod cpu;

pub use cpu::solarize;
