//! Pooling on a GPU: a thread for eight channels of one place; gradients are gathered, so nothing is added out of order.

use crate::device::gpu::{Address, Argument, Element, Node, Source};
use crate::ops::kernels::{Delivery, flag, int, launch, long, pointer};

pub const SOURCE: Source = Source { name: "pool2d", text: include_str!("kernel.cu") };

/// Channels a thread.
const WIDTH: usize = 8;
const THREADS: usize = 256;

/// x is images × in_height × in_width × channels of `element`, y images × out_height × out_width × channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    pub images: usize,
    pub in_height: usize,
    pub in_width: usize,
    pub channels: usize,
    pub out_height: usize,
    pub out_width: usize,
    /// Side of the square window.
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub element: Element,
}

/// y and, for each of its numbers, a byte: which tap of the window won.
///
/// # Panics
/// When the window has more than 255 taps: they are counted in a byte.
pub fn max_forward(pooling: &Pooling, x: Address, y: Address, winners: Address) -> Vec<Node> {
    assert!(pooling.kernel < 16, "a max-pool window of at most 15 × 15, got {}", pooling.kernel);
    let places = [y, winners, x];
    over_map("pool2d_max_forward", pooling, [pooling.out_height, pooling.out_width], &places, None)
}

/// The gradient of x, with the winners that `max_forward` left.
pub fn max_backward(pooling: &Pooling, dy: Address, winners: Address, dx: Delivery) -> Vec<Node> {
    over_input("pool2d_max_backward", pooling, &[dx.address(), dy, winners], dx)
}

/// y: the sum of a window's taps over kernel², padding counted as zeros.
pub fn average_forward(pooling: &Pooling, x: Address, y: Address) -> Vec<Node> {
    over_map("pool2d_average_forward", pooling, [pooling.out_height, pooling.out_width], &[y, x], None)
}

pub fn average_backward(pooling: &Pooling, dy: Address, dx: Delivery) -> Vec<Node> {
    over_input("pool2d_average_backward", pooling, &[dx.address(), dy], dx)
}

fn over_input(kernel: &'static str, pooling: &Pooling, places: &[Address], dx: Delivery) -> Vec<Node> {
    if dx == Delivery::Skip {
        return Vec::new();
    }
    over_map(kernel, pooling, [pooling.in_height, pooling.in_width], places, Some(flag(dx.accumulates())))
}

/// One launch over a map of that height and width: the places, the sizes, what the kernel wants besides.
fn over_map(
    kernel: &'static str,
    pooling: &Pooling,
    [height, width]: [usize; 2],
    places: &[Address],
    last: Option<Argument>,
) -> Vec<Node> {
    let (rows, along) = (pooling.images * height, width * pooling.channels.div_ceil(WIDTH));
    if rows * along == 0 {
        return Vec::new();
    }
    let vector = pooling.channels.is_multiple_of(WIDTH) && places.iter().all(|place| place.0.is_multiple_of(16));
    let mut arguments: Vec<Argument> = places.iter().map(|place| pointer(*place)).collect();
    arguments.push(long(pooling.images));
    let Pooling { in_height, in_width, channels, out_height, out_width, kernel: side, stride, padding, .. } = *pooling;
    arguments.extend([in_height, in_width, channels, out_height, out_width, side, stride, padding].map(int));
    arguments.extend(last);
    arguments.push(flag(vector));
    let x = along.next_power_of_two().min(THREADS);
    let y = THREADS / x;
    vec![launch(kernel, [rows.div_ceil(y), along.div_ceil(x), 1], [x as u32, y as u32, 1], arguments)]
}
