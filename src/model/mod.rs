//! The models: dfdx types whose shapes the compiler checks, and the Plan they are lowered to.

pub mod batch_norm;
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

#[cfg(test)]
pub mod twin;
