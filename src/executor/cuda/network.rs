//! A Plan as nodes: forward in training and in evaluation, and backward. Pure: places in, nodes out.

use crate::device::gpu::{Address, Element, Node};
use crate::executor::cuda::memory::Memory;
use crate::executor::schedule::{Flow, Schedule, read_by_backward};
use crate::executor::{N_VIEWS, Setting};
use crate::experiment::recipe::{BatchNormScope, Numerics};
use crate::model::plan::{Op, ParameterId, ParameterKind, Plan, PoolKind, ValueId};
use crate::ops::batch_norm::cuda::{Backward, Norm, Parts};
use crate::ops::compute_weights::Layout;
use crate::ops::conv2d::cuda::Layer;
use crate::ops::kernels::Delivery;
use crate::ops::pool2d::cuda::Pooling;
use crate::ops::{activation, batch_norm, conv2d, global_average_pool, linear, pool2d};

/// Images evaluated at once, at most.
const EVALUATION_IMAGES_MAX: usize = 512;

/// Images evaluated at once: as many as a step has views, so that an evaluation takes no more memory than training.
pub fn evaluation_images(setting: &Setting) -> usize {
    (N_VIEWS * setting.piece()).min(EVALUATION_IMAGES_MAX)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    Training,
    /// As `Training`, for a piece of a batch that was seen before: running statistics stay as they are.
    Again,
    Evaluation,
}

/// What is known of a Plan before there is any memory.
pub struct Network {
    pub plan: Plan,
    pub setting: Setting,
    pub element: Element,
    pub training: Schedule,
    pub evaluation: Schedule,
    pub weights: Layout,
}

impl Network {
    pub fn new(plan: Plan, setting: &Setting) -> Network {
        let element = match setting.numerics {
            Numerics::F32 => Element::F32,
            Numerics::Bf16 => Element::Bf16,
        };
        let training = Schedule::training(&plan, N_VIEWS * setting.piece(), N_VIEWS);
        let evaluation = Schedule::evaluation(&plan, evaluation_images(setting));
        let weights = Layout::new(&plan, element);
        Network { plan, setting: setting.clone(), element, training, evaluation, weights }
    }

    /// Groups of images with batch-norm statistics of their own.
    fn groups(&self) -> usize {
        match self.setting.batch_norm_scope {
            BatchNormScope::View | BatchNormScope::MicroBatchView => N_VIEWS,
            BatchNormScope::Joint | BatchNormScope::MicroBatchJoint => 1,
        }
    }

    pub fn schedule(&self, pass: Pass) -> &Schedule {
        match pass {
            Pass::Training | Pass::Again => &self.training,
            Pass::Evaluation => &self.evaluation,
        }
    }

    /// The norm of operation `index`, which is one.
    pub fn norm(&self, index: usize, pass: Pass) -> Option<Norm> {
        let Op::BatchNorm { input, activation, .. } = self.plan.ops[index] else { return None };
        let (shape, images) = (self.plan.shape(input), self.schedule(pass).batch(input).images);
        Some(Norm {
            images,
            positions: shape.positions(),
            channels: shape.channels(),
            groups: self.groups(),
            element: self.element,
            activation,
        })
    }

    pub fn layer(&self, index: usize, pass: Pass) -> Option<Layer> {
        let Op::Conv2d { input, output, window, .. } = self.plan.ops[index] else { return None };
        let images = self.schedule(pass).batch(input).images;
        Some(Layer::new(self.plan.shape(input), window, self.plan.shape(output).channels(), images, self.element))
    }

    pub fn linear(&self, index: usize, pass: Pass) -> Option<linear::cuda::Layer> {
        let Op::Linear { input, output, .. } = self.plan.ops[index] else { return None };
        let images = self.schedule(pass).batch(input).images;
        let (inputs, outputs) = (self.plan.shape(input).len(), self.plan.shape(output).len());
        let sizes = linear::Layer { images, inputs, outputs };
        Some(linear::cuda::Layer { sizes, element: self.element, y_in_f32: false })
    }

    pub fn pooling(&self, index: usize, pass: Pass) -> Option<Pooling> {
        let Op::Pool2d { input, output, window, .. } = self.plan.ops[index] else { return None };
        let (batch, out) = (self.schedule(pass).batch(input), self.schedule(pass).batch(output));
        Some(Pooling {
            images: batch.images,
            in_height: batch.height,
            in_width: batch.width,
            channels: batch.channels,
            out_height: out.height,
            out_width: out.width,
            kernel: window.kernel,
            stride: window.stride,
            padding: window.padding,
            element: self.element,
        })
    }
}

/// A network with its memory.
pub struct Placed<'a> {
    pub network: &'a Network,
    pub memory: &'a Memory,
}

impl Placed<'_> {
    fn value(&self, value: ValueId, pass: Pass) -> Address {
        if value == self.network.plan.input {
            return self.memory.input;
        }
        let place = self.network.schedule(pass).value(value);
        self.memory.arena.offset(place.start * self.network.element.bytes())
    }

    fn gradient(&self, value: ValueId) -> Address {
        self.memory.arena.offset(self.network.training.gradient(value).start * self.network.element.bytes())
    }

    fn parameter(&self, parameter: ParameterId) -> Address {
        self.memory.parameters.offset(4 * self.network.plan.parameters[parameter.0].offset)
    }

    fn parameter_gradient(&self, parameter: ParameterId) -> Address {
        self.memory.gradients.offset(4 * self.network.plan.parameters[parameter.0].offset)
    }

    fn weight(&self, parameter: ParameterId) -> Address {
        self.memory.weights.offset(self.network.weights.place(parameter).expect("a layer's weight has a place"))
    }

    fn delivery(&self, flow: Flow, value: ValueId) -> Delivery {
        match flow {
            Flow::Skip => Delivery::Skip,
            Flow::InPlace | Flow::Write => Delivery::Write(self.gradient(value)),
            Flow::Accumulate => Delivery::Accumulate(self.gradient(value)),
        }
    }

    fn parts(&self, index: usize) -> Parts {
        let Op::BatchNorm { scale, shift, .. } = self.network.plan.ops[index] else {
            unreachable!("asked for batch norms only")
        };
        let [mean, inverse_deviation] = self.memory.saved[index];
        let (scale, shift) = (self.parameter(scale), self.parameter(shift));
        Parts { scale, shift, mean, inverse_deviation, scratch: self.memory.scratch }
    }

    fn n(&self, value: ValueId, pass: Pass) -> usize {
        self.network.schedule(pass).batch(value).len()
    }

    /// Every operation that takes part, from the network's input to the projection, or to the features in evaluation.
    pub fn forward(&self, pass: Pass) -> Vec<Node> {
        let schedule = self.network.schedule(pass);
        let takes_part = |index: &usize| pass != Pass::Evaluation || schedule.flows[*index].is_some();
        (0..self.network.plan.ops.len()).filter(takes_part).flat_map(|index| self.forward_op(index, pass)).collect()
    }

    fn forward_op(&self, index: usize, pass: Pass) -> Vec<Node> {
        let network = self.network;
        let place = |value| self.value(value, pass);
        match network.plan.ops[index] {
            Op::Conv2d { input, output, weight, .. } => {
                let layer = network.layer(index, pass).expect("a convolution");
                conv2d::cuda::forward(&layer, place(input), self.weight(weight), place(output))
            }
            Op::BatchNorm { .. } => self.forward_norm(index, pass),
            Op::Activate { input, output, activation } => activation::cuda::forward(
                self.n(output, pass),
                network.element,
                activation,
                place(input),
                place(output),
            ),
            Op::Add { left, right, output } => {
                activation::cuda::add(self.n(output, pass), network.element, place(left), place(right), place(output))
            }
            Op::Pool2d { input, output, kind, .. } => {
                let pooling = network.pooling(index, pass).expect("a pooling");
                match kind {
                    PoolKind::Max => {
                        pool2d::cuda::max_forward(&pooling, place(input), place(output), self.memory.winners[index])
                    }
                    PoolKind::Average => pool2d::cuda::average_forward(&pooling, place(input), place(output)),
                }
            }
            Op::GlobalAveragePool { input, output } => {
                global_average_pool::cuda::forward(&self.map(input, pass), place(input), place(output))
            }
            Op::Linear { input, output, weight, bias } => {
                let layer = network.linear(index, pass).expect("a linear layer");
                let bias = bias.map(|bias| self.parameter(bias));
                linear::cuda::forward(&layer, place(input), self.weight(weight), bias, place(output))
            }
        }
    }

    fn map(&self, value: ValueId, pass: Pass) -> global_average_pool::cuda::Sizes {
        let (shape, images) = (self.network.plan.shape(value), self.network.schedule(pass).batch(value).images);
        global_average_pool::cuda::Sizes {
            images,
            positions: shape.positions(),
            channels: shape.channels(),
            element: self.network.element,
        }
    }

    fn forward_norm(&self, index: usize, pass: Pass) -> Vec<Node> {
        let Op::BatchNorm { input, residual, output, running_mean, running_var, .. } = self.network.plan.ops[index]
        else {
            return Vec::new();
        };
        let norm = self.network.norm(index, pass).expect("a batch norm");
        let buffers = &self.network.plan.buffers;
        let running = [running_mean, running_var].map(|id| self.memory.running.offset(4 * buffers[id.0].offset));
        let residual = residual.map(|residual| self.value(residual, pass));
        let (x, y, parts) = (self.value(input, pass), self.value(output, pass), self.parts(index));
        match pass {
            Pass::Training => batch_norm::cuda::forward(&norm, &parts, x, residual, Some(running), y),
            Pass::Again => batch_norm::cuda::forward(&norm, &parts, x, residual, None, y),
            Pass::Evaluation => batch_norm::cuda::evaluate(&norm, &parts, x, residual, running, y),
        }
    }

    /// From the gradient of the projection to those of all parameters.
    pub fn backward(&self) -> Vec<Node> {
        let flows = &self.network.training.flows;
        let backward = |index: usize| flows[index].map_or_else(Vec::new, |flows| self.backward_op(index, flows));
        (0..self.network.plan.ops.len()).rev().flat_map(backward).collect()
    }

    fn backward_op(&self, index: usize, flows: [Flow; 2]) -> Vec<Node> {
        let network = self.network;
        match network.plan.ops[index] {
            Op::Conv2d { .. } => self.backward_convolution(index, flows[0]),
            Op::BatchNorm { .. } => self.backward_norm(index, flows),
            Op::Activate { input, output, activation } => {
                let (x, y) = (self.value(input, Pass::Training), self.value(output, Pass::Training));
                let (dy, dx) = (self.gradient(output), self.delivery(flows[0], input));
                let n = self.n(output, Pass::Training);
                activation::cuda::backward(n, network.element, activation, x, y, dy, dx)
            }
            Op::Add { left, right, output } => {
                let mut nodes = self.pass_on(output, left, flows[0]);
                nodes.extend(self.pass_on(output, right, flows[1]));
                nodes
            }
            Op::Pool2d { input, output, kind, .. } => {
                let pooling = network.pooling(index, Pass::Training).expect("a pooling");
                let (dy, dx) = (self.gradient(output), self.delivery(flows[0], input));
                match kind {
                    PoolKind::Max => pool2d::cuda::max_backward(&pooling, dy, self.memory.winners[index], dx),
                    PoolKind::Average => pool2d::cuda::average_backward(&pooling, dy, dx),
                }
            }
            Op::GlobalAveragePool { input, output } => {
                let dx = self.delivery(flows[0], input);
                global_average_pool::cuda::backward(&self.map(input, Pass::Training), self.gradient(output), dx)
            }
            Op::Linear { .. } => self.backward_linear(index, flows[0]),
        }
    }

    fn backward_convolution(&self, index: usize, flow: Flow) -> Vec<Node> {
        let Op::Conv2d { input, output, weight, .. } = self.network.plan.ops[index] else { return Vec::new() };
        let layer = self.network.layer(index, Pass::Training).expect("a convolution");
        let (x, dy) = (self.value(input, Pass::Training), self.gradient(output));
        let (gathered, flat) = (self.memory.weight_gradients, self.memory.gradients);
        let target =
            self.network.weights.gradient_target(weight, gathered, flat).expect("a layer's weight has a place");
        let mut nodes = conv2d::cuda::weight_gradient(&layer, x, dy, target);
        let dx = self.delivery(flow, input);
        nodes.extend(conv2d::cuda::input_gradient(&layer, dy, self.weight(weight), self.memory.scratch, dx));
        nodes
    }

    fn backward_norm(&self, index: usize, flows: [Flow; 2]) -> Vec<Node> {
        let Op::BatchNorm { input, residual, output, scale, shift, .. } = self.network.plan.ops[index] else {
            return Vec::new();
        };
        let norm = self.network.norm(index, Pass::Training).expect("a batch norm");
        let keeps = |value| read_by_backward(&self.network.plan.ops[index]).any(|read| read == value);
        let kept = |value: ValueId| if keeps(value) { self.value(value, Pass::Training) } else { Address::NONE };
        let backward = Backward {
            x: self.value(input, Pass::Training),
            y: kept(output),
            residual: residual.map_or(Address::NONE, kept),
            has_residual: residual.is_some(),
            dy: self.gradient(output),
            dx: self.delivery(flows[0], input),
            d_residual: residual.map_or(Delivery::Skip, |residual| self.delivery(flows[1], residual)),
            d_scale: self.parameter_gradient(scale),
            d_shift: self.parameter_gradient(shift),
        };
        let mut nodes = batch_norm::cuda::backward(&norm, &self.parts(index), &backward);
        let parameter = &self.network.plan.parameters[shift.0];
        if parameter.kind == ParameterKind::HeldNormShift {
            nodes.push(Node::Zero { address: backward.d_shift, bytes: 4 * parameter.len() });
        }
        nodes
    }

    fn backward_linear(&self, index: usize, flow: Flow) -> Vec<Node> {
        let Op::Linear { input, output, weight, bias } = self.network.plan.ops[index] else { return Vec::new() };
        let layer = self.network.linear(index, Pass::Training).expect("a linear layer");
        let (x, dy) = (self.value(input, Pass::Training), self.gradient(output));
        let mut nodes = linear::cuda::weight_gradient(&layer, x, dy, self.parameter_gradient(weight));
        if let Some(bias) = bias {
            nodes.extend(linear::cuda::bias_gradient(&layer, dy, self.parameter_gradient(bias)));
        }
        let dx = self.delivery(flow, input);
        nodes.extend(linear::cuda::input_gradient(&layer, dy, self.weight(weight), dx));
        nodes
    }

    /// The gradient of `from` is that of `to`, or a part of it.
    fn pass_on(&self, from: ValueId, to: ValueId, flow: Flow) -> Vec<Node> {
        let (n, element) = (self.n(from, Pass::Training), self.network.element);
        let (source, target) = (self.gradient(from), self.gradient(to));
        match flow {
            Flow::Skip | Flow::InPlace => Vec::new(),
            Flow::Write => vec![Node::Copy { from: source, to: target, bytes: n * element.bytes() }],
            Flow::Accumulate => activation::cuda::accumulate(n, element, source, target),
        }
    }
}
