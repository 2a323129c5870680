//! Runs plain loops with 256-bit registers where the machine has them. Which registers are used never changes a bit:
//! the compiler neither fuses nor reorders floating-point arithmetic, and `mul_add` is exact with and without the
//! instruction.
#![allow(unsafe_code)]

/// Runs `work`, compiled for AVX2 where the machine has it. `work` must be small enough to be inlined: a closure that
/// calls one `#[inline(always)]` loop.
#[inline(always)]
pub fn wide<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the two features that `with_avx2` is compiled for were just found on this machine.
        return unsafe { with_avx2(work) };
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}
