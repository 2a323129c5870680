//! Mean over all positions on a GPU, a thread for eight channels.

use crate::device::gpu::{Address, Argument, Element, Node, Source};
use crate::ops::kernels::{Delivery, flag, int, launch, long, pointer};

pub const SOURCE: Source = Source { name: "global_average_pool", text: include_str!("kernel.cu") };

/// Channels a thread.
const WIDTH: usize = 8;
const THREADS: u32 = 256;

/// x is images × positions × channels of `element`, y images × channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub images: usize,
    /// Height × width.
    pub positions: usize,
    pub channels: usize,
    pub element: Element,
}

/// y[c] = the mean of x over the positions of an image.
pub fn forward(sizes: &Sizes, x: Address, y: Address) -> Vec<Node> {
    over_octets("global_average_pool_forward", sizes, sizes.images, [y, x], vec![])
}

/// dx = dy/positions everywhere.
pub fn backward(sizes: &Sizes, dy: Address, dx: Delivery) -> Vec<Node> {
    if dx == Delivery::Skip {
        return Vec::new();
    }
    let last = vec![flag(dx.accumulates())];
    over_octets("global_average_pool_backward", sizes, sizes.images * sizes.positions, [dx.address(), dy], last)
}

fn over_octets(
    kernel: &'static str,
    sizes: &Sizes,
    rows: usize,
    places: [Address; 2],
    last: Vec<Argument>,
) -> Vec<Node> {
    if sizes.images * sizes.positions * sizes.channels == 0 {
        return Vec::new();
    }
    let vector = sizes.channels.is_multiple_of(WIDTH) && places.iter().all(|place| place.0.is_multiple_of(16));
    let mut arguments =
        vec![pointer(places[0]), pointer(places[1]), long(sizes.images), int(sizes.positions), int(sizes.channels)];
    arguments.extend(last);
    arguments.push(flag(vector));
    let blocks = (rows * sizes.channels.div_ceil(WIDTH)).div_ceil(THREADS as usize);
    vec![launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], arguments)]
}
