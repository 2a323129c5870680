//! Launches of the conversions.

use crate::device::gpu::{Address, Node, Source};
use crate::ops::kernels::{int, launch, long, pointer};

pub const SOURCE: Source = Source { name: "precision", text: include_str!("kernel.cu") };

const THREADS: usize = 256;

fn elementwise(kernel: &'static str, out: Address, input: Address, n: usize) -> Node {
    launch(kernel, [n.div_ceil(THREADS), 1, 1], [THREADS as u32, 1, 1], vec![pointer(out), pointer(input), long(n)])
}

/// f32 of `n` stored numbers.
pub fn widen(out: Address, input: Address, n: usize) -> Node {
    elementwise("precision_widen", out, input, n)
}

/// `n` f32 as they are stored.
pub fn narrow(out: Address, input: Address, n: usize) -> Node {
    elementwise("precision_narrow", out, input, n)
}

/// pixels × channels f32 to pixels × padded stored numbers, zeros behind the channels.
pub fn pad(out: Address, input: Address, pixels: usize, channels: usize, padded: usize) -> Node {
    let arguments = vec![pointer(out), pointer(input), long(pixels), int(channels), int(padded)];
    launch("precision_pad", [pixels.div_ceil(THREADS), 1, 1], [THREADS as u32, 1, 1], arguments)
}

/// total += part, f32.
pub fn add(total: Address, part: Address, n: usize) -> Node {
    elementwise("precision_add", total, part, n)
}
