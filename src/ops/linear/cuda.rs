//! A fully connected layer as products on a GPU.
//!
//! x and dy are images × width of one element without padding; the weight is what `ops::compute_weights` spreads,
//! outputs × inputs with every row padded to a multiple of 8 numbers, which the products step over. Gradients of the
//! weight and the bias go straight into their ranges of the flat f32 gradients.
//!
//! Any width works. Widths that are multiples of 8 let a product library use 16-byte accesses, as all rows then begin at
//! multiples of 16 bytes; with others x, y and their gradients are rows at odd addresses, read by slower kernels.

use crate::device::gpu::{Address, Element, Matrix, Node, Product, Source};
use crate::ops::conv2d::cuda::CHANNEL_MULTIPLE;
use crate::ops::kernels::{Delivery, int, launch, pointer};
use crate::ops::linear;

pub const SOURCE: Source = Source { name: "linear", text: include_str!("kernel.cu") };

/// Outputs of one row a block of `linear_bias`.
const BIAS_OUTPUTS: u32 = 256;
/// Outputs a block of `linear_bias_gradient`.
const GRADIENT_OUTPUTS: usize = 32;

/// Sizes of a layer and how its numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    pub sizes: linear::Layer,
    /// Of x, the weight and the gradients of x and y.
    pub element: Element,
    /// Whether y is f32 all the same.
    pub y_in_f32: bool,
}

impl Layer {
    pub fn y_element(&self) -> Element {
        if self.y_in_f32 { Element::F32 } else { self.element }
    }

    fn x(&self, address: Address) -> Matrix {
        Matrix { address, element: self.element, stride: self.sizes.inputs }
    }

    fn dy(&self, address: Address) -> Matrix {
        Matrix { address, element: self.element, stride: self.sizes.outputs }
    }

    fn weight(&self, address: Address) -> Matrix {
        let stride = self.sizes.inputs.next_multiple_of(CHANNEL_MULTIPLE);
        Matrix { address, element: self.element, stride }
    }
}

/// y = x · wᵀ [+ bias]. The bias is what y begins with, in y's element; the sum is rounded once.
pub fn forward(layer: &Layer, x: Address, weight: Address, bias: Option<Address>, y: Address) -> Vec<Node> {
    let linear::Layer { images, inputs, outputs } = layer.sizes;
    let product = Node::Product(Product {
        m: images,
        n: outputs,
        k: inputs,
        a: layer.x(x),
        a_transposed: false,
        b: layer.weight(weight),
        b_transposed: true,
        c: Matrix { address: y, element: layer.y_element(), stride: outputs },
        accumulate: bias.is_some(),
    });
    let begin = bias.map(|bias| {
        let kernel = if layer.y_in_f32 { "linear_bias_f32" } else { "linear_bias" };
        let grid = [images, outputs.div_ceil(BIAS_OUTPUTS as usize), 1];
        launch(kernel, grid, [BIAS_OUTPUTS, 1, 1], vec![pointer(y), pointer(bias), int(outputs)])
    });
    begin.into_iter().chain([product]).collect()
}

/// dx = dy · w, written or added.
pub fn input_gradient(layer: &Layer, dy: Address, weight: Address, dx: Delivery) -> Vec<Node> {
    let linear::Layer { images, inputs, outputs } = layer.sizes;
    let to = match dx {
        Delivery::Skip => return Vec::new(),
        Delivery::Write(address) | Delivery::Accumulate(address) => address,
    };
    vec![Node::Product(Product {
        m: images,
        n: inputs,
        k: outputs,
        a: layer.dy(dy),
        a_transposed: false,
        b: layer.weight(weight),
        b_transposed: false,
        c: layer.x(to),
        accumulate: dx.accumulates(),
    })]
}

/// dw = dyᵀ · x, to the weight's range of the flat gradients.
pub fn weight_gradient(layer: &Layer, x: Address, dy: Address, gradient: Address) -> Vec<Node> {
    let linear::Layer { images, inputs, outputs } = layer.sizes;
    vec![Node::Product(Product {
        m: outputs,
        n: inputs,
        k: images,
        a: layer.dy(dy),
        a_transposed: true,
        b: layer.x(x),
        b_transposed: false,
        c: Matrix { address: gradient, element: Element::F32, stride: inputs },
        accumulate: false,
    })]
}

/// dbias = Σ over images of dy, in a fixed tree of compensated sums, to the bias's range of the flat gradients.
pub fn bias_gradient(layer: &Layer, dy: Address, gradient: Address) -> Vec<Node> {
    let linear::Layer { images, outputs, .. } = layer.sizes;
    let arguments = vec![pointer(dy), pointer(gradient), int(images), int(outputs)];
    vec![launch("linear_bias_gradient", [outputs.div_ceil(GRADIENT_OUTPUTS), 1, 1], [256, 1, 1], arguments)]
}
