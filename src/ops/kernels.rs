//! What the operations' CUDA parts share: how a result is delivered, and short names for a launch.

use crate::device::gpu::{Address, Argument, Launch, Node};

/// What becomes of a gradient an operation computes for one of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Nobody needs it.
    Skip,
    Write(Address),
    /// Added to what is there.
    Accumulate(Address),
}

impl Delivery {
    /// The place, none for `Skip`.
    pub fn address(self) -> Address {
        match self {
            Delivery::Skip => Address::NONE,
            Delivery::Write(address) | Delivery::Accumulate(address) => address,
        }
    }

    pub fn accumulates(self) -> bool {
        matches!(self, Delivery::Accumulate(_))
    }
}

/// A launch without dynamic shared memory.
pub fn launch(kernel: &'static str, grid: [usize; 3], block: [u32; 3], arguments: Vec<Argument>) -> Node {
    launch_shared(kernel, grid, block, 0, arguments)
}

/// # Panics
/// When a grid has more blocks than a device can count.
pub fn launch_shared(
    kernel: &'static str,
    grid: [usize; 3],
    block: [u32; 3],
    shared_bytes: u32,
    arguments: Vec<Argument>,
) -> Node {
    let grid = grid.map(|blocks| u32::try_from(blocks).expect("fewer than 2³² blocks"));
    Node::Launch(Launch { kernel, grid, block, shared_bytes, arguments })
}

pub fn pointer(address: Address) -> Argument {
    Argument::Address(address)
}

/// A size as the kernels' `int`.
///
/// # Panics
/// From 2³¹ on.
pub fn int(size: usize) -> Argument {
    Argument::I32(i32::try_from(size).expect("a size below 2³¹"))
}

/// A size as the kernels' `unsigned long long`.
pub fn long(size: usize) -> Argument {
    Argument::U64(size as u64)
}

pub fn float(value: f32) -> Argument {
    Argument::F32(value)
}

pub fn flag(value: bool) -> Argument {
    Argument::I32(i32::from(value))
}
