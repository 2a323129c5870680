//! Convolution (cross-correlation) without bias.
//!
//! y[oh, ow, o] = Σ over kh, kw, i of x[oh·s + kh − p, ow·s + kw − p, i] · w[kh, kw, i, o], padding read as 0.
//! Gradients: dx is the transposed sum, dw[kh, kw, i, o] = Σ over images, oh, ow of x[oh·s + kh − p, ow·s + kw − p, i] · dy[oh, ow, o].
//!
//! Weights are stored kh × kw × I × O: the in-bounds taps of one kernel row are one contiguous matrix, as are the inputs
//! under them, so every output pixel is one matrix product a kernel row and padding is never multiplied.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod cuda_tests;
mod patches;
pub mod small_maps;
mod taps;
#[cfg(test)]
mod tests;
pub mod weight_gradient;
mod winograd;

pub use taps::{Taps, order as kernel_order};

use crate::model::plan::Window;
use crate::ops::batch::Batch;

/// Shapes of one convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    pub input: Batch,
    pub output: Batch,
    pub window: Window,
}

impl Convolution {
    /// Numbers in the weight: K × K × I × O.
    pub fn weight_len(&self) -> usize {
        self.window.kernel * self.window.kernel * self.input.channels * self.output.channels
    }

    /// Multiply-adds of a forward pass, padding skipped.
    pub fn products(&self) -> u64 {
        let live = |outputs: usize, size: usize| -> usize {
            (0..outputs).map(|o| Taps::of_output(o, size, self.window).kernel.len()).sum()
        };
        let taps = live(self.output.height, self.input.height) * live(self.output.width, self.input.width);
        (taps * self.input.images * self.input.channels * self.output.channels) as u64
    }
}

/// From torchvision's O × I × K × K to kh × kw × I × O.
pub fn from_torch(kernel: usize, inputs: usize, outputs: usize, torch: &[f32], weight: &mut [f32]) {
    reorder(kernel, inputs, outputs, |own, foreign| weight[own] = torch[foreign]);
}

/// From kh × kw × I × O to torchvision's O × I × K × K.
pub fn to_torch(kernel: usize, inputs: usize, outputs: usize, weight: &[f32], torch: &mut [f32]) {
    reorder(kernel, inputs, outputs, |own, foreign| torch[foreign] = weight[own]);
}

/// Visits every number's two places, in tiles that keep both sides' cache lines in use.
fn reorder(kernel: usize, inputs: usize, outputs: usize, mut visit: impl FnMut(usize, usize)) {
    const TILE: usize = 16;
    let taps = kernel * kernel;
    for first in (0..outputs).step_by(TILE) {
        for i in 0..inputs {
            for tap in 0..taps {
                for o in first..outputs.min(first + TILE) {
                    visit((tap * inputs + i) * outputs + o, (o * inputs + i) * taps + tap);
                }
            }
        }
    }
}
