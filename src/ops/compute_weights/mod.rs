//! Between the flat parameters and the copies of weights that a GPU's products and convolutions read.
//!
//! Parameters, their gradients and what the optimizer keeps lie in flat f32 buffers in the Plan's order, convolution
//! weights as outputs × K × K × inputs. Before a step the weights of all layers are spread in one launch: each becomes the
//! matrix that its layer's way reads (`conv2d::small_maps`), in the element of the maps, its input channels padded with
//! zeros to a multiple of 8. After a step's backward pass one launch gathers the gradients of those matrices into the flat
//! gradients; layers whose gradient is one product in the flat order write there themselves.

pub mod cuda;
#[cfg(test)]
mod cuda_tests;
mod order;

pub use order::{to_device_order, to_torch_order};

use crate::device::gpu::{Address, Convolution, Element};
use crate::model::plan::{Op, ParameterId, Plan};
use crate::ops::conv2d::cuda::{CHANNEL_MULTIPLE, Layer};
use crate::ops::conv2d::small_maps::{Pairs, Way, way};

/// Every place starts at a multiple of it, as the product library likes best.
const ALIGNMENT_BYTES: usize = 256;

/// One layer's weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tensor {
    parameter: ParameterId,
    /// Numbers before it in the flat buffers.
    flat: usize,
    outputs: usize,
    /// Inputs that are not padding.
    channels: usize,
    pairs: Pairs,
    /// Bytes before it in the weights.
    place: usize,
    gathered: Option<Gathered>,
}

/// A gradient that is not written where it belongs at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gathered {
    /// Bytes before it in the weight gradients.
    place: usize,
    element: Element,
}

impl Tensor {
    fn padded(&self) -> usize {
        self.channels.next_multiple_of(CHANNEL_MULTIPLE)
    }

    /// Numbers in its matrix.
    fn matrix_len(&self) -> usize {
        self.pairs.out_pixels() * self.outputs * self.pairs.pixels() * self.padded()
    }

    /// Numbers in the window, padding included.
    fn window_len(&self) -> usize {
        self.outputs * self.pairs.kernel * self.pairs.kernel * self.padded()
    }
}

/// Where every weight and every gradient to be gathered lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<Tensor>,
    bytes: usize,
    gradient_bytes: usize,
}

impl Layout {
    /// The weights of all convolutions and linear layers of a plan, for maps stored as `element`. A parameter is one
    /// layer's, as in every plan that is lowered from a typed model.
    pub fn new(plan: &Plan, element: Element) -> Layout {
        Layout::with_ways(plan, element, way)
    }

    /// As `new`, convolutions computed as `way` says.
    pub fn with_ways(plan: &Plan, element: Element, way: impl Fn(&Convolution) -> Way) -> Layout {
        let mut layout = Layout { tensors: Vec::new(), bytes: 0, gradient_bytes: 0 };
        for op in &plan.ops {
            match *op {
                Op::Conv2d { input, weight, window, .. } => {
                    let Some(outputs) = outputs_of(plan, weight) else { continue };
                    let mut layer = Layer::new(plan.shape(input), window, outputs, 1, element);
                    layer.way = way(&layer.shape);
                    let gradient = layer.is_gathered().then(|| layer.gradient_element());
                    layout.add(plan, weight, (outputs, layer.channels), layer.pairs(), element, gradient);
                }
                Op::Linear { input, weight, .. } => {
                    let Some(outputs) = outputs_of(plan, weight) else { continue };
                    layout.add(plan, weight, (outputs, plan.shape(input).len()), Pairs::window(1), element, None);
                }
                Op::BatchNorm { .. }
                | Op::Activate { .. }
                | Op::Add { .. }
                | Op::Pool2d { .. }
                | Op::GlobalAveragePool { .. } => {}
            }
        }
        layout
    }

    fn add(
        &mut self,
        plan: &Plan,
        parameter: ParameterId,
        (outputs, channels): (usize, usize),
        pairs: Pairs,
        element: Element,
        gradient: Option<Element>,
    ) {
        let flat = plan.parameters[parameter.0].offset;
        let mut tensor = Tensor { parameter, flat, outputs, channels, pairs, place: self.bytes, gathered: None };
        self.bytes += (tensor.matrix_len() * element.bytes()).next_multiple_of(ALIGNMENT_BYTES);
        if let Some(element) = gradient {
            tensor.gathered = Some(Gathered { place: self.gradient_bytes, element });
            self.gradient_bytes += (tensor.matrix_len() * element.bytes()).next_multiple_of(ALIGNMENT_BYTES);
        }
        self.tensors.push(tensor);
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the gradients to be gathered.
    pub fn gradient_bytes(&self) -> usize {
        self.gradient_bytes
    }

    /// Bytes before a layer's weight in the weights; none for what is no layer's weight.
    pub fn place(&self, parameter: ParameterId) -> Option<usize> {
        self.tensor(parameter).map(|tensor| tensor.place)
    }

    /// Where a layer's backward pass writes the gradient of its weight: a place among the gradients to be gathered, or its
    /// range of the flat gradients.
    pub fn gradient_target(
        &self,
        parameter: ParameterId,
        weight_gradients: Address,
        gradients: Address,
    ) -> Option<Address> {
        let tensor = self.tensor(parameter)?;
        Some(match tensor.gathered {
            Some(gathered) => weight_gradients.offset(gathered.place),
            None => gradients.offset(tensor.flat * Element::F32.bytes()),
        })
    }

    fn tensor(&self, parameter: ParameterId) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.parameter == parameter)
    }
}

fn outputs_of(plan: &Plan, weight: ParameterId) -> Option<usize> {
    plan.parameters.get(weight.0)?.shape.first().copied()
}
