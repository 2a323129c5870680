//! Fully connected layer: y = x · wᵀ [+ bias], x N × I, w O × I (torch's layout), y N × O.
//!
//! Gradients: dx = dy · w, dw = dyᵀ · x, dbias = Σ over images of dy.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod cuda_tests;
#[cfg(test)]
mod tests;

/// Sizes of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    pub images: usize,
    pub inputs: usize,
    pub outputs: usize,
}
