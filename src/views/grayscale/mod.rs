//! Luminance and the grey image (torchvision's `RandomGrayscale`). Draws: chance.

mod cpu;

pub use cpu::{grayscale, luminance, mean_luminance};
