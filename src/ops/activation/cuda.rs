//! Activations and sums on a GPU, element by element; any result may be written over what it is made of.

use crate::device::gpu::{Address, Argument, Element, Node, Source};
use crate::model::plan::Activation;
use crate::ops::kernels::{Delivery, flag, int, launch, long, pointer};

pub const SOURCE: Source = Source { name: "activation", text: include_str!("kernel.cu") };

/// Numbers a thread.
const WIDTH: usize = 8;
const THREADS: u32 = 256;

/// y = activation(x), n numbers each.
pub fn forward(n: usize, element: Element, activation: Activation, x: Address, y: Address) -> Vec<Node> {
    match activation {
        Activation::Identity => copy(n, element, x, y),
        Activation::Relu | Activation::Silu => {
            let last = vec![int(activation_number(activation))];
            each("activation_forward", n, &[y, x], last)
        }
    }
}

/// The gradient of x from that of y. ReLU reads `y`, SiLU reads `x`; the other may be none.
pub fn backward(
    n: usize,
    element: Element,
    activation: Activation,
    x: Address,
    y: Address,
    dy: Address,
    dx: Delivery,
) -> Vec<Node> {
    let at = match activation {
        Activation::Identity => {
            return match dx {
                Delivery::Skip => Vec::new(),
                Delivery::Write(dx) => copy(n, element, dy, dx),
                Delivery::Accumulate(dx) => accumulate(n, element, dy, dx),
            };
        }
        Activation::Relu => y,
        Activation::Silu => x,
    };
    if dx == Delivery::Skip {
        return Vec::new();
    }
    let last = vec![int(activation_number(activation)), flag(dx.accumulates())];
    each("activation_backward", n, &[dx.address(), dy, at], last)
}

/// out = left + right, n numbers each.
pub fn add(n: usize, _element: Element, left: Address, right: Address, out: Address) -> Vec<Node> {
    each("activation_add", n, &[out, left, right], Vec::new())
}

/// to += from, n numbers each.
pub fn accumulate(n: usize, element: Element, from: Address, to: Address) -> Vec<Node> {
    add(n, element, to, from, to)
}

fn copy(n: usize, element: Element, from: Address, to: Address) -> Vec<Node> {
    if from == to || n == 0 {
        return Vec::new();
    }
    vec![Node::Copy { from, to, bytes: n * element.bytes() }]
}

/// One launch over n numbers: the places, n, what the kernel wants besides, whether 16 bytes may be read at once.
fn each(kernel: &'static str, n: usize, places: &[Address], last: Vec<Argument>) -> Vec<Node> {
    if n == 0 {
        return Vec::new();
    }
    let vector = places.iter().all(|place| place.0.is_multiple_of(16));
    let mut arguments: Vec<Argument> = places.iter().map(|place| pointer(*place)).collect();
    arguments.push(long(n));
    arguments.extend(last);
    arguments.push(flag(vector));
    vec![launch(kernel, [n.div_ceil(WIDTH * THREADS as usize), 1, 1], [THREADS, 1, 1], arguments)]
}

fn activation_number(activation: Activation) -> usize {
    match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::Silu => 2,
    }
}
