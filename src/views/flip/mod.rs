//! Mirror images (torchvision's `RandomHorizontalFlip` and `RandomVerticalFlip`). Draws: chance.

mod cpu;

pub use cpu::{horizontal, vertical};
