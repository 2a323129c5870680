//! A convolution as nodes: an engine's call, or products where the maps are small.
//!
//! Maps are images × height × width × channels of one element. The image's channels are padded with zeros to a multiple
//! of 8, which `Layer::shape.inputs` counts; outputs are stored as they are. Weights are what `ops::compute_weights`
//! spreads for the layer's way; a gradient of the weight goes where it says (`Layout::gradient_target`).

use crate::device::gpu::{Address, Convolution, ConvolutionCall, Element, Matrix, Node, Pass, Product, Source};
use crate::model::plan::{Shape, Window};
use crate::ops::conv2d::small_maps::{Pairs, Way, way};
use crate::ops::kernels::{Delivery, launch, long, pointer};

pub const SOURCE: Source = Source { name: "conv2d", text: include_str!("kernel.cu") };

/// Channels, of an image or the inputs of a weight, are padded to a multiple of this: 16 bytes of bf16.
pub const CHANNEL_MULTIPLE: usize = 8;

/// Threads a block of `conv2d_add`, each with one group of channels.
const ADD_THREADS: u32 = 256;

/// One convolution and the way it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Sizes as stored: `inputs` with its padding.
    pub shape: Convolution,
    /// Input channels that are not padding.
    pub channels: usize,
    pub way: Way,
}

/// Sizes as stored of a layer that reads `input` of `images` images.
pub fn sizes(input: Shape, window: Window, outputs: usize, images: usize, element: Element) -> Convolution {
    let (height, width) = match input {
        Shape::Map { height, width, .. } => (height, width),
        Shape::Vector { .. } => (1, 1),
    };
    let inputs = input.channels().next_multiple_of(CHANNEL_MULTIPLE);
    let Window { kernel, stride, padding } = window;
    Convolution { images, height, width, inputs, outputs, kernel, stride, padding, element }
}

impl Layer {
    /// The layer, computed as its sizes say.
    pub fn new(input: Shape, window: Window, outputs: usize, images: usize, element: Element) -> Layer {
        let shape = sizes(input, window, outputs, images, element);
        Layer { shape, channels: input.channels(), way: way(&shape) }
    }

    /// Which taps its weights hold.
    pub fn pairs(&self) -> Pairs {
        Pairs::of(&self.shape, self.way)
    }

    /// Whether the backward pass leaves the weight's gradient at a place of its own, from which it is gathered:
    /// `Centre` writes straight into the flat buffer of gradients.
    pub fn is_gathered(&self) -> bool {
        match self.way {
            Way::Engine | Way::Dense => true,
            Way::Centre => false,
        }
    }

    /// How the gradient to be gathered is stored: as the maps where an engine writes it, in full where it is a product.
    pub fn gradient_element(&self) -> Element {
        match self.way {
            Way::Engine => self.shape.element,
            Way::Centre | Way::Dense => Element::F32,
        }
    }

    fn x_len(&self) -> usize {
        self.shape.images * self.shape.height * self.shape.width * self.shape.inputs
    }

    /// The tap that `Centre` reads, as its place in the window.
    fn centre_tap(&self) -> usize {
        let pairs = self.pairs();
        pairs.row_padding * pairs.kernel + pairs.column_padding
    }

    /// x or its gradient as images × inputs of the product. The pixel that `Centre` reads is the image's first: the first
    /// tap of the only output that touches the input touches row 0 and column 0.
    fn inputs(&self, address: Address) -> Matrix {
        let Convolution { height, width, inputs, element, .. } = self.shape;
        Matrix { address, element, stride: height * width * inputs }
    }

    /// y or its gradient as images × outputs of the product.
    fn outputs(&self, address: Address) -> Matrix {
        Matrix { address, element: self.shape.element, stride: self.n_outputs() }
    }

    /// The weights as outputs × inputs of the product.
    fn weights(&self, address: Address) -> Matrix {
        Matrix { address, element: self.shape.element, stride: self.n_inputs() }
    }

    fn n_inputs(&self) -> usize {
        self.pairs().pixels() * self.shape.inputs
    }

    fn n_outputs(&self) -> usize {
        self.pairs().out_pixels() * self.shape.outputs
    }

    fn call(&self, pass: Pass, x: Address, weight: Address, y: Address) -> Node {
        Node::Convolution(ConvolutionCall { shape: self.shape, pass, x, weight, y })
    }
}

/// y from x.
pub fn forward(layer: &Layer, x: Address, weight: Address, y: Address) -> Vec<Node> {
    match layer.way {
        Way::Engine => vec![layer.call(Pass::Forward, x, weight, y)],
        Way::Centre | Way::Dense => vec![Node::Product(Product {
            m: layer.shape.images,
            n: layer.n_outputs(),
            k: layer.n_inputs(),
            a: layer.inputs(x),
            a_transposed: false,
            b: layer.weights(weight),
            b_transposed: true,
            c: layer.outputs(y),
            accumulate: false,
        })],
    }
}

/// Bytes of scratch that `input_gradient` needs when it accumulates.
pub fn scratch_bytes(layer: &Layer) -> usize {
    match layer.way {
        Way::Engine => layer.x_len() * layer.shape.element.bytes(),
        Way::Centre | Way::Dense => 0,
    }
}

/// The gradient of x from that of y, padded channels included. `scratch` holds `scratch_bytes` where `dx` accumulates and
/// is not read otherwise.
pub fn input_gradient(layer: &Layer, dy: Address, weight: Address, scratch: Address, dx: Delivery) -> Vec<Node> {
    let to = match dx {
        Delivery::Skip => return Vec::new(),
        Delivery::Write(address) | Delivery::Accumulate(address) => address,
    };
    let product = || {
        Node::Product(Product {
            m: layer.shape.images,
            n: layer.n_inputs(),
            k: layer.n_outputs(),
            a: layer.outputs(dy),
            a_transposed: false,
            b: layer.weights(weight),
            b_transposed: false,
            c: layer.inputs(to),
            accumulate: dx.accumulates(),
        })
    };
    match (layer.way, dx.accumulates()) {
        (Way::Engine, false) => vec![layer.call(Pass::InputGradient, to, weight, dy)],
        (Way::Engine, true) => {
            let groups = layer.x_len() / CHANNEL_MULTIPLE;
            let arguments = vec![pointer(to), pointer(scratch), long(groups)];
            let blocks = groups.div_ceil(ADD_THREADS as usize);
            let add = launch("conv2d_add", [blocks, 1, 1], [ADD_THREADS, 1, 1], arguments);
            vec![layer.call(Pass::InputGradient, scratch, weight, dy), add]
        }
        // The pixels that no tap touches get no gradient.
        (Way::Centre, false) if layer.shape.height * layer.shape.width > 1 => {
            vec![Node::Zero { address: to, bytes: layer.x_len() * layer.shape.element.bytes() }, product()]
        }
        (Way::Centre | Way::Dense, _) => vec![product()],
    }
}

/// The gradient of the weight, to `target`: for `Engine` and `Dense` the place from which it is gathered, outputs × K × K ×
/// inputs or the matrix; for `Centre` the weight's range of the flat f32 gradients, outputs × K × K × channels, of which
/// the one tap is written. The others stay as `clear` left them: their gradient is 0.
pub fn weight_gradient(layer: &Layer, x: Address, dy: Address, target: Address) -> Vec<Node> {
    let window = layer.shape.kernel * layer.shape.kernel;
    let (n, c) = match layer.way {
        Way::Engine => return vec![layer.call(Pass::WeightGradient, x, target, dy)],
        Way::Dense => (layer.n_inputs(), Matrix { address: target, element: Element::F32, stride: layer.n_inputs() }),
        Way::Centre => {
            let address = target.offset(layer.centre_tap() * layer.channels * Element::F32.bytes());
            (layer.channels, Matrix { address, element: Element::F32, stride: window * layer.channels })
        }
    };
    vec![Node::Product(Product {
        m: layer.n_outputs(),
        n,
        k: layer.shape.images,
        a: layer.outputs(dy),
        a_transposed: true,
        b: layer.inputs(x),
        b_transposed: false,
        c,
        accumulate: false,
    })]
}

/// Zeroes the weight's range of the flat gradients, once, where `weight_gradient` writes but a part of it.
pub fn clear(layer: &Layer, gradient: Address) -> Vec<Node> {
    let window = layer.shape.kernel * layer.shape.kernel;
    match layer.way {
        Way::Engine | Way::Dense => Vec::new(),
        Way::Centre if window == 1 => Vec::new(),
        Way::Centre => {
            let bytes = layer.shape.outputs * window * layer.channels * Element::F32.bytes();
            vec![Node::Zero { address: gradient, bytes }]
        }
    }
}
