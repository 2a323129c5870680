//! Activation functions, element by element.
//!
//! ReLU: max(x, 0), derivative 0 at 0 (PyTorch). SiLU: x · σ(x), derivative σ(x) · (1 + x · (1 − σ(x))).
//! A value that is not a number stays one.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod cuda_tests;
#[cfg(test)]
mod tests;

/// max(x, 0); not a number stays not a number.
#[inline(always)]
pub fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// 1/(1 + e⁻ˣ).
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-x))
}

pub fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

pub fn silu_derivative(x: f32) -> f32 {
    let s = sigmoid(x);
    s * (1.0 + x * (1.0 - s))
}
