//! Between the way activations are stored and f32: the loss sees the projections in f32 and gives its gradient so; and
//! the channels of views that come from outside are padded.

pub mod cuda;
#[cfg(test)]
mod cuda_tests;
