//! One small Plan for every operation, in the sizes that ResNet-18 has, to hold one executor's operation to another's.
//!
//! Each ends in a linear layer, so that the loss has something to see; what stands before it is what the name says.

use crate::model::plan::{
    Activation, Buffer, BufferId, Op, Parameter, ParameterId, ParameterKind, Plan, PoolKind, Shape, ValueId, Window,
};

/// A Plan under construction: the last value is what the next operation reads.
struct Chain {
    plan: Plan,
    last: ValueId,
}

impl Chain {
    fn new(side: usize) -> Chain {
        let input = ValueId(0);
        let plan = Plan {
            values: vec![Shape::Map { channels: 3, height: side, width: side }],
            ops: Vec::new(),
            parameters: Vec::new(),
            buffers: Vec::new(),
            input,
            features: input,
            projection: input,
        };
        Chain { plan, last: input }
    }

    fn parameter(&mut self, shape: &[usize], kind: ParameterKind) -> ParameterId {
        let (offset, index) = (self.plan.n_parameters(), self.plan.parameters.len());
        self.plan.parameters.push(Parameter { name: format!("parameter{index}"), shape: shape.to_vec(), offset, kind });
        ParameterId(index)
    }

    fn buffer(&mut self, len: usize, initial: f32) -> BufferId {
        let (offset, index) = (self.plan.n_buffers(), self.plan.buffers.len());
        self.plan.buffers.push(Buffer { name: format!("buffer{index}"), len, offset, initial });
        BufferId(index)
    }

    fn value(&mut self, shape: Shape) -> ValueId {
        self.plan.values.push(shape);
        ValueId(self.plan.values.len() - 1)
    }

    fn windowed(&mut self, channels: usize, window: Window) -> ValueId {
        let (height, width) = match self.plan.shape(self.last) {
            Shape::Map { height, width, .. } => (height, width),
            Shape::Vector { .. } => (1, 1),
        };
        let out = |size: usize| (size + 2 * window.padding - window.kernel) / window.stride + 1;
        self.value(Shape::Map { channels, height: out(height), width: out(width) })
    }

    fn convolve(mut self, channels: usize, kernel: usize, stride: usize) -> Chain {
        let window = Window { kernel, stride, padding: kernel / 2 };
        let inputs = self.plan.shape(self.last).channels();
        let weight = self.parameter(&[channels, inputs, kernel, kernel], ParameterKind::ConvWeight);
        let (input, output) = (self.last, self.windowed(channels, window));
        self.plan.ops.push(Op::Conv2d { input, output, weight, window });
        self.last = output;
        self
    }

    fn normalize(mut self, residual: Option<ValueId>, activation: Activation) -> Chain {
        let channels = self.plan.shape(self.last).channels();
        let scale = self.parameter(&[channels], ParameterKind::NormScale);
        let shift = self.parameter(&[channels], ParameterKind::NormShift);
        let (running_mean, running_var) = (self.buffer(channels, 0.0), self.buffer(channels, 1.0));
        let (input, output) = (self.last, self.value(self.plan.shape(self.last)));
        self.plan.ops.push(Op::BatchNorm {
            input,
            residual,
            output,
            scale,
            shift,
            running_mean,
            running_var,
            activation,
        });
        self.last = output;
        self
    }

    fn activate(mut self, activation: Activation) -> Chain {
        let (input, output) = (self.last, self.value(self.plan.shape(self.last)));
        self.plan.ops.push(Op::Activate { input, output, activation });
        self.last = output;
        self
    }

    fn add(mut self, left: ValueId) -> Chain {
        let (right, output) = (self.last, self.value(self.plan.shape(self.last)));
        self.plan.ops.push(Op::Add { left, right, output });
        self.last = output;
        self
    }

    fn pool(mut self, kernel: usize, stride: usize, padding: usize, kind: PoolKind) -> Chain {
        let window = Window { kernel, stride, padding };
        let (input, output) = (self.last, self.windowed(self.plan.shape(self.last).channels(), window));
        self.plan.ops.push(Op::Pool2d { input, output, window, kind });
        self.last = output;
        self
    }

    fn average(mut self) -> Chain {
        let (input, output) = (self.last, self.value(Shape::Vector { width: self.plan.shape(self.last).channels() }));
        self.plan.ops.push(Op::GlobalAveragePool { input, output });
        self.last = output;
        self
    }

    fn linear(mut self, outputs: usize, with_bias: bool) -> Chain {
        let inputs = self.plan.shape(self.last).len();
        let weight = self.parameter(&[outputs, inputs], ParameterKind::LinearWeight);
        let kind = ParameterKind::LinearBias { fan_in: inputs };
        let bias = with_bias.then(|| self.parameter(&[outputs], kind));
        let (input, output) = (self.last, self.value(Shape::Vector { width: outputs }));
        self.plan.ops.push(Op::Linear { input, output, weight, bias });
        self.last = output;
        self
    }

    fn finished(self) -> Plan {
        let mut chain = self.average();
        chain.plan.features = chain.last;
        chain = chain.linear(16, true);
        chain.plan.projection = chain.last;
        chain.plan
    }
}

/// Name and Plan of every check. `width`: channels of the first map, 64 as in ResNet-18 or fewer where time is short.
pub fn operations(width: usize) -> Vec<(String, Plan)> {
    let mut plans = Vec::new();
    let mut add = |name: &str, chain: Chain| plans.push((name.to_owned(), chain.finished()));
    add("convolution 7x7 s2, the ImageNet stem", Chain::new(32).convolve(width, 7, 2));
    add("convolution 3x3, the CIFAR stem", Chain::new(32).convolve(width, 3, 1));
    for (side, channels) in [(8, width), (4, 2 * width), (2, 4 * width), (1, 8 * width)] {
        let chain = || Chain::new(side).convolve(channels, 1, 1);
        add(&format!("convolution 3x3 on {side}x{side}"), chain().convolve(channels, 3, 1));
        if side > 1 {
            add(&format!("convolution 3x3 s2 on {side}x{side}"), chain().convolve(2 * channels, 3, 2));
            add(&format!("convolution 1x1 s2 on {side}x{side}"), chain().convolve(2 * channels, 1, 2));
        }
    }
    for activation in [Activation::Identity, Activation::Relu, Activation::Silu] {
        let chain = || Chain::new(8).convolve(width, 3, 1);
        add(&format!("batch norm, {activation:?}"), chain().normalize(None, activation));
        let chain = chain();
        let residual = chain.last;
        let chain = chain.convolve(width, 3, 1).normalize(Some(residual), activation);
        add(&format!("batch norm with a residual, {activation:?}"), chain);
        add(&format!("activation, {activation:?}"), Chain::new(8).convolve(width, 3, 1).activate(activation));
    }
    let chain = Chain::new(8).convolve(width, 3, 1);
    let left = chain.last;
    add("addition", chain.convolve(width, 3, 1).add(left));
    add("max-pool 3x3 s2", Chain::new(16).convolve(width, 3, 1).pool(3, 2, 1, PoolKind::Max));
    add("average pool 2x2", Chain::new(8).convolve(width, 3, 1).pool(2, 2, 0, PoolKind::Average));
    plans
}

/// A convolution, for a loss to see what comes of it.
pub fn for_a_loss(width: usize) -> Plan {
    Chain::new(8).convolve(width, 3, 1).finished()
}
