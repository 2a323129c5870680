//! Pooling over a square window.
//!
//! Max: y[oh, ow, c] = max over the taps inside the map, and the first of equal ones (row by row) gets the gradient, as
//! in PyTorch; padding never wins; a value that is not a number wins over all. Average: the sum of the taps over K²,
//! padding counted as zeros. The gradient is gathered: dx at a pixel is summed over the windows that hold it, in order.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod cuda_tests;
#[cfg(test)]
mod tests;

use crate::model::plan::Window;
use crate::ops::batch::Batch;

/// Taps of a window along one axis, at most: all of them are counted in a byte.
pub const POOLING_KERNEL_MAX: usize = 15;

/// Shapes of one pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    pub input: Batch,
    pub output: Batch,
    pub window: Window,
}
