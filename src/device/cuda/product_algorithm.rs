//! What cublasLt tells of an algorithm, and which algorithms may compute a product.

use cudarc::cublaslt::sys::cublasLtReductionScheme_t as Scheme;
use serde::Serialize;

use crate::device::gpu::Element;

/// Partial sums of a split inner size are kept in f32 in the workspace and added by a kernel of their own, in order.
/// The other schemes add into the result as blocks come (1), or round partial sums to the result's element (4).
pub const REDUCTION_IN_WORKSPACE: u32 = Scheme::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
const NO_REDUCTION: u32 = Scheme::CUBLASLT_REDUCTION_SCHEME_NONE as u32;

/// `CUBLASLT_NUMERICAL_IMPL_FLAGS_*`: sums in f16, and inputs rounded to f16, bf16 or tf32.
const SUMS_F16: u64 = 1 << 8;
const INPUT_F16: u64 = 1 << 16;
const INPUT_BF16: u64 = 2 << 16;
const INPUT_TF32: u64 = 4 << 16;

/// An algorithm by the library's numbers; they mean the same only to the same version of the library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Configuration {
    pub algorithm: u32,
    pub tile: u32,
    pub stages: u32,
    pub split_k: u32,
    pub reduction: u32,
    pub swizzling: u32,
    pub option: u32,
    pub inner_shape: u32,
    pub cluster_shape: u32,
    /// `CUBLASLT_NUMERICAL_IMPL_FLAGS_*`; 0 where the library does not tell.
    pub numerics: u64,
    pub workspace_bytes: usize,
}

impl Configuration {
    /// Whether the result is the same every time, sums are kept in f32, and of f32 numbers every bit is read.
    pub fn is_acceptable(&self, element: Element) -> bool {
        let rounded = match element {
            Element::F32 => SUMS_F16 | INPUT_F16 | INPUT_BF16 | INPUT_TF32,
            Element::Bf16 => SUMS_F16,
        };
        let ordered = self.split_k <= 1 || self.reduction == REDUCTION_IN_WORKSPACE;
        ordered && [NO_REDUCTION, REDUCTION_IN_WORKSPACE].contains(&self.reduction) && self.numerics & rounded == 0
    }
}
