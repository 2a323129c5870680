//! One folder an operation: `mod.rs` holds formula, shapes and tests, `cpu.rs` the loops.

pub mod activation;
pub mod batch;
pub mod batch_norm;
pub mod compute_weights;
pub mod contrastive;
pub mod conv2d;
pub mod cross_entropy;
pub mod gemm;
pub mod global_average_pool;
pub mod kernels;
pub mod linear;
pub mod microkernel;
pub mod nt_xent;
pub mod optimizer;
pub mod pool2d;
pub mod precision;
pub mod registers;
pub mod schedule;
