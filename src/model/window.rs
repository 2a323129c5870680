//! What a square window leaves of an image's side, computed by the compiler.
//!
//! For a kernel K, stride S and padding P a side H becomes ⌊(H + 2P − K)/S⌋ + 1. Stable Rust cannot write that sum in a
//! type, so sides that are kept follow from a rule and sides that grow or halve from tables, which the compiler checks
//! against the formula.

use dfdx::shapes::{Const, ConstDim};

/// A side (`Const<H>`) that a K×K window of stride S and padding P can slide over.
#[diagnostic::on_unimplemented(
    message = "a side of `{Self}` pixels has no place in the table of {K}×{K} windows of stride {S} and padding {P}",
    label = "no model can be compiled for this side",
    note = "compiled sides of a view are 32, 64, 96, 128 and 224; further ones go into the table in `model/window.rs`"
)]
pub trait Window<const K: usize, const S: usize, const P: usize>: ConstDim {
    type Out: ConstDim;
}

/// Source: PyTorch, `torch.nn.Conv2d`, section Shape (dilation 1).
pub const fn output_side(side: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    (side + 2 * padding - kernel) / stride + 1
}

impl<const H: usize> Window<3, 1, 1> for Const<H> {
    type Out = Const<H>;
}

impl<const H: usize> Window<1, 1, 0> for Const<H> {
    type Out = Const<H>;
}

macro_rules! growing {
    ($($side:literal => $larger:literal),* $(,)?) => { $(
        impl Window<3, 1, 2> for Const<$side> {
            type Out = Const<$larger>;
        }
        const _: () = assert!(output_side($side, 3, 1, 2) == $larger);
    )* };
}

growing!(32 => 34, 64 => 66, 96 => 98, 128 => 130, 224 => 226);

macro_rules! halving {
    ($($side:literal => $half:literal),* $(,)?) => { $(
        halving!(@window $side => $half, 1, 2, 0);
        halving!(@window $side => $half, 3, 2, 1);
        halving!(@window $side => $half, 7, 2, 3);
    )* };
    (@behind_a_stem $($side:literal => $half:literal),* $(,)?) => { $(
        halving!(@window $side => $half, 1, 2, 0);
        halving!(@window $side => $half, 3, 2, 1);
    )* };
    (@window $side:literal => $half:literal, $kernel:literal, $stride:literal, $padding:literal) => {
        impl Window<$kernel, $stride, $padding> for Const<$side> {
            type Out = Const<$half>;
        }
        const _: () = assert!(output_side($side, $kernel, $stride, $padding) == $half);
    };
}

halving!(
    224 => 112, 112 => 56, 56 => 28, 28 => 14, 14 => 7,
    128 => 64, 64 => 32, 32 => 16, 16 => 8, 8 => 4, 4 => 2, 2 => 1,
    96 => 48, 48 => 24, 24 => 12, 12 => 6, 6 => 3,
);

// What a stem that pads by 2 leaves; of an odd side the larger half.
halving!(@behind_a_stem
    226 => 113, 113 => 57, 57 => 29,
    130 => 65, 66 => 33, 65 => 33, 34 => 17, 33 => 17, 17 => 9, 9 => 5,
    98 => 49, 49 => 25, 25 => 13,
);
