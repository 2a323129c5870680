//! One batch in both layouts, and a typed layer's passes over it.

use dfdx::nn::ModuleMut;
use dfdx::shapes::{Const, HasShape};
use dfdx::tensor::{Cpu, NoneTape, Tensor, TensorFromVec, Trace};
use dfdx::tensor_ops::{Backward, SumTo, TryMul};

use super::draws;
use crate::experiment::recipe::BatchNormScope;
use crate::model::plan::{self, Window};
use crate::model::tape::Recording;
use crate::model::tensors::{Role, Tensors};
use crate::model::window::output_side;
use crate::ops::batch::Batch;

pub type Maps<const C: usize, T> = Tensor<(usize, Const<C>, usize, usize), f32, Cpu, T>;
pub type Vectors<const C: usize, T> = Tensor<(usize, Const<C>), f32, Cpu, T>;

/// Two views of maps, `images` in all.
pub fn maps(images: usize, channels: usize, side: usize) -> Batch {
    Batch::new(plan::Shape::Map { channels, height: side, width: side }, images, 2)
}

pub fn vectors(images: usize, width: usize) -> Batch {
    Batch::new(plan::Shape::Vector { width }, images, 2)
}

/// What a window makes of `input`.
pub fn windowed(input: &Batch, channels: usize, window: Window) -> Batch {
    maps(input.images, channels, output_side(input.height, window.kernel, window.stride, window.padding))
}

/// Where number `index` of images × channels × height × width lies in the layout of `ops`.
fn place(batch: &Batch, index: usize) -> usize {
    let Batch { height, width, channels, .. } = *batch;
    let (x, y) = (index % width, index / width % height);
    let (channel, image) = (index / (width * height) % channels, index / (width * height * channels));
    batch.offset(y, image) + x * channels + channel
}

pub fn to_ops(batch: &Batch, values: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; batch.len()];
    values.iter().enumerate().for_each(|(index, value)| out[place(batch, index)] = *value);
    out
}

pub fn from_ops(batch: &Batch, values: &[f32]) -> Vec<f32> {
    (0..batch.len()).map(|index| values[place(batch, index)]).collect()
}

/// A batch through a layer and back, maps as images × channels × height × width, parameters as in torchvision.
#[derive(Debug, Default)]
pub struct Passes {
    pub output: Vec<f32>,
    pub of_input: Vec<f32>,
    pub of_parameters: Vec<Vec<f32>>,
    pub buffers: Vec<Vec<f32>>,
}

impl Passes {
    /// Behind the passes over other images.
    fn append(&mut self, other: Passes) {
        self.output.extend(other.output);
        self.of_input.extend(other.of_input);
        if self.of_parameters.is_empty() {
            self.of_parameters = other.of_parameters;
        } else {
            let sums = self.of_parameters.iter_mut().flatten().zip(other.of_parameters.iter().flatten());
            sums.for_each(|(sum, term)| *sum += term);
        }
        self.buffers = other.buffers;
    }
}

/// Fills the layer's tensors and gives them: parameters, running means and variances in the layer's order, all above 0.
pub fn fill(layer: &mut impl Tensors) -> Vec<Vec<f32>> {
    let mut filled = Vec::new();
    layer.visit_mut(&mut |role, tensor| {
        let drawn = draws(200 + filled.len() as u32, tensor.values().len());
        let values: Vec<f32> = match role {
            Role::Parameter => drawn,
            Role::Buffer => drawn.iter().map(|x| 1.5 + x).collect(),
        };
        tensor.take(&mut &values[..]);
        filled.push(values);
    });
    filled
}

fn pass<M, In, Out>(layer: &mut M, input: Tensor<In, f32, Cpu>, cotangent: &[f32]) -> Passes
where
    In: dfdx::shapes::Shape,
    Out: dfdx::shapes::Shape,
    M: Tensors + ModuleMut<Tensor<In, f32, Cpu, Recording>, Output = Tensor<Out, f32, Cpu, Recording>>,
{
    let output = layer.forward_mut(input.leaky_trace());
    let values = output.as_vec();
    let weights = Cpu::default().tensor_from_vec(cotangent.to_vec(), *output.shape());
    let gradients = output.try_mul(weights).expect("one shape").sum().backward();
    let mut passes = Passes { output: values, of_input: gradients.get(&input).as_vec(), ..Passes::default() };
    layer.visit(&mut |role, tensor| match role {
        Role::Parameter => passes.of_parameters.push(tensor.gradient(&gradients)),
        Role::Buffer => passes.buffers.push(tensor.values()),
    });
    passes
}

/// The passes of Σ output · cotangent, a view at a time or both at once.
pub fn typed<M, In, Out>(
    layer: &mut M,
    scope: BatchNormScope,
    [input, cotangent]: [&[f32]; 2],
    tensor: impl Fn(Vec<f32>) -> Tensor<In, f32, Cpu>,
) -> Passes
where
    In: dfdx::shapes::Shape,
    Out: dfdx::shapes::Shape,
    M: Tensors + ModuleMut<Tensor<In, f32, Cpu, Recording>, Output = Tensor<Out, f32, Cpu, Recording>>,
{
    let n_calls = match scope {
        BatchNormScope::View | BatchNormScope::MicroBatchView => 2,
        BatchNormScope::Joint | BatchNormScope::MicroBatchJoint => 1,
    };
    let mut all = Passes::default();
    for (input, cotangent) in input.chunks(input.len() / n_calls).zip(cotangent.chunks(cotangent.len() / n_calls)) {
        all.append(pass(layer, tensor(input.to_vec()), cotangent));
    }
    all
}

/// Maps of C channels and a given side.
pub fn as_maps<const C: usize>(side: usize) -> impl Fn(Vec<f32>) -> Maps<C, NoneTape> {
    move |values| {
        let images = values.len() / (C * side * side);
        Cpu::default().tensor_from_vec(values, (images, Const, side, side))
    }
}

pub fn as_vectors<const C: usize>(values: Vec<f32>) -> Vectors<C, NoneTape> {
    let images = values.len() / C;
    Cpu::default().tensor_from_vec(values, (images, Const))
}
