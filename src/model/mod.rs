//! The models: dfdx types whose shapes the compiler checks, and the Plan they are lowered to.

pub mod batch_norm;
pub mod classifier;
pub mod conv2d;
mod convolution;
pub mod fuse;
pub mod initialize;
pub mod lower;
pub mod lowering;
pub mod named;
pub mod plan;
pub mod pooling;
pub mod projection_head;
pub mod registry;
pub mod resnet18;
pub mod silu;
pub mod tape;
pub mod tensors;
pub mod typed;
mod unfold;
pub mod window;

/// The layers and sizes that are taken from dfdx as they are, for writing a model without naming dfdx.
pub mod layers {
    pub use dfdx::nn::builders::{AvgPoolGlobal, GeneralizedResidual, Linear, ReLU, Residual, UnbiasedLinear};
    pub use dfdx::shapes::Const;
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub mod twin;
