//! Two views of an image, each a function of (image, pipeline, seed, epoch, example, view) and of nothing else.
//!
//! Values between operations are f32 in [0, 1]; kinds named after Pillow round to 8 bits inside themselves only. Every operation
//! draws from a stream of its own, addressed by its position in the list. What turns a draw into a parameter uses only +, −, ×, ÷,
//! square root, fused multiply-add and [`exponential::exp`], so that another device can redo it bit by bit.
//!
//! An augmentation is a folder: `mod.rs` says what it is and what it draws, `cpu.rs` and `kernel.cuh` compute it. [`cuda`] makes
//! the views of a whole step on a GPU.

pub mod color_jitter;
pub mod contact_sheet;
pub mod cuda;
pub mod exponential;
pub mod flip;
pub mod gaussian_blur;
pub mod grayscale;
pub mod map;
pub mod normalize;
pub mod operation;
mod packed;
pub mod pipeline;
pub mod random_resized_crop;
pub mod rotate;
pub mod scratch;
pub mod solarize;
#[cfg(test)]
mod tests;

pub use contact_sheet::contact_sheet;
pub use pipeline::{Pipeline, Place, view};
pub use scratch::Scratch;
