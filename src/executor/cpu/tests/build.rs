//! Plans written by hand: ResNet-18 with both stems and Lightly's head, and whatever a test needs.

use crate::experiment::recipe::Stem;
use crate::model::plan::{
    Activation, Buffer, BufferId, Op, Parameter, ParameterId, ParameterKind, Plan, PoolKind, Shape, ValueId, Window,
};

pub const fn window(kernel: usize, stride: usize, padding: usize) -> Window {
    Window { kernel, stride, padding }
}

/// Scale, shift and running statistics of one batch norm.
#[derive(Clone, Copy)]
pub struct Norm {
    scale: ParameterId,
    shift: ParameterId,
    running_mean: BufferId,
    running_var: BufferId,
}

pub struct Builder {
    pub plan: Plan,
}

impl Builder {
    pub fn new(side: usize) -> Builder {
        let input = Shape::Map { channels: 3, height: side, width: side };
        let (input_id, none) = (ValueId(0), Vec::new());
        let plan = Plan {
            values: vec![input],
            ops: Vec::new(),
            parameters: none,
            buffers: Vec::new(),
            input: input_id,
            features: input_id,
            projection: input_id,
        };
        Builder { plan }
    }

    pub fn parameter(&mut self, name: &str, shape: &[usize], kind: ParameterKind) -> ParameterId {
        let offset = self.plan.n_parameters();
        self.plan.parameters.push(Parameter { name: name.to_owned(), shape: shape.to_vec(), offset, kind });
        ParameterId(self.plan.parameters.len() - 1)
    }

    pub fn filter(&mut self, name: &str, outputs: usize, inputs: usize, kernel: usize) -> ParameterId {
        let shape = [outputs, inputs, kernel, kernel];
        self.parameter(&format!("{name}.weight"), &shape, ParameterKind::ConvWeight)
    }

    fn buffer(&mut self, name: String, len: usize, initial: f32) -> BufferId {
        let offset = self.plan.n_buffers();
        self.plan.buffers.push(Buffer { name, len, offset, initial });
        BufferId(self.plan.buffers.len() - 1)
    }

    pub fn norm(&mut self, name: &str, channels: usize) -> Norm {
        Norm {
            scale: self.parameter(&format!("{name}.weight"), &[channels], ParameterKind::NormScale),
            shift: self.parameter(&format!("{name}.bias"), &[channels], ParameterKind::NormShift),
            running_mean: self.buffer(format!("{name}.running_mean"), channels, 0.0),
            running_var: self.buffer(format!("{name}.running_var"), channels, 1.0),
        }
    }

    fn value(&mut self, shape: Shape) -> ValueId {
        self.plan.values.push(shape);
        ValueId(self.plan.values.len() - 1)
    }

    fn windowed(&mut self, input: ValueId, channels: usize, window: Window) -> ValueId {
        let Shape::Map { height, width, .. } = self.plan.shape(input) else { panic!("a map") };
        let out = |size: usize| (size + 2 * window.padding - window.kernel) / window.stride + 1;
        self.value(Shape::Map { channels, height: out(height), width: out(width) })
    }

    pub fn convolve(&mut self, input: ValueId, weight: ParameterId, window: Window) -> ValueId {
        let output = self.windowed(input, self.plan.parameters[weight.0].shape[0], window);
        self.plan.ops.push(Op::Conv2d { input, output, weight, window });
        output
    }

    pub fn normalize(
        &mut self,
        input: ValueId,
        norm: Norm,
        residual: Option<ValueId>,
        activation: Activation,
    ) -> ValueId {
        let output = self.value(self.plan.shape(input));
        let Norm { scale, shift, running_mean, running_var } = norm;
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
        output
    }

    pub fn pool(&mut self, input: ValueId, window: Window, kind: PoolKind) -> ValueId {
        let output = self.windowed(input, self.plan.shape(input).channels(), window);
        self.plan.ops.push(Op::Pool2d { input, output, window, kind });
        output
    }

    pub fn average(&mut self, input: ValueId) -> ValueId {
        let output = self.value(Shape::Vector { width: self.plan.shape(input).channels() });
        self.plan.ops.push(Op::GlobalAveragePool { input, output });
        output
    }

    pub fn linear(&mut self, name: &str, input: ValueId, outputs: usize, with_bias: bool) -> ValueId {
        let inputs = self.plan.shape(input).len();
        let weight = self.parameter(&format!("{name}.weight"), &[outputs, inputs], ParameterKind::LinearWeight);
        let kind = ParameterKind::LinearBias { fan_in: inputs };
        let bias = with_bias.then(|| self.parameter(&format!("{name}.bias"), &[outputs], kind));
        let output = self.value(Shape::Vector { width: outputs });
        self.plan.ops.push(Op::Linear { input, output, weight, bias });
        output
    }

    pub fn activate(&mut self, input: ValueId, activation: Activation) -> ValueId {
        let output = self.value(self.plan.shape(input));
        self.plan.ops.push(Op::Activate { input, output, activation });
        output
    }

    pub fn add(&mut self, left: ValueId, right: ValueId) -> ValueId {
        let output = self.value(self.plan.shape(left));
        self.plan.ops.push(Op::Add { left, right, output });
        output
    }

    /// torchvision's `BasicBlock`, parameters in its order.
    fn basic_block(&mut self, name: &str, x: ValueId, channels: usize, stride: usize) -> ValueId {
        let inputs = self.plan.shape(x).channels();
        let conv1 = self.filter(&format!("{name}.conv1"), channels, inputs, 3);
        let bn1 = self.norm(&format!("{name}.bn1"), channels);
        let conv2 = self.filter(&format!("{name}.conv2"), channels, channels, 3);
        let bn2 = self.norm(&format!("{name}.bn2"), channels);
        let y = self.convolve(x, conv1, window(3, stride, 1));
        let y = self.normalize(y, bn1, None, Activation::Relu);
        let y = self.convolve(y, conv2, window(3, 1, 1));
        let mut residual = x;
        if stride != 1 {
            let conv = self.filter(&format!("{name}.downsample.0"), channels, inputs, 1);
            let norm = self.norm(&format!("{name}.downsample.1"), channels);
            residual = self.convolve(x, conv, window(1, stride, 0));
            residual = self.normalize(residual, norm, None, Activation::Identity);
        }
        self.normalize(y, bn2, Some(residual), Activation::Relu)
    }
}

/// torchvision's ResNet-18 of `width` first channels (64), and Lightly's `SimCLRProjectionHead` of two layers.
pub fn resnet18(stem: Stem, side: usize, width: usize, hidden: usize, output: usize) -> Plan {
    let mut builder = Builder::new(side);
    let (kernel, stem_window) = match stem {
        Stem::ImageNet => (7, window(7, 2, 3)),
        Stem::Cifar => (3, window(3, 1, 1)),
        Stem::CifarPadded => (3, window(3, 1, 2)),
    };
    let conv1 = builder.filter("backbone.conv1", width, 3, kernel);
    let bn1 = builder.norm("backbone.bn1", width);
    let mut x = builder.convolve(ValueId(0), conv1, stem_window);
    x = builder.normalize(x, bn1, None, Activation::Relu);
    if stem == Stem::ImageNet {
        x = builder.pool(x, window(3, 2, 1), PoolKind::Max);
    }
    for layer in 0..4 {
        for block in 0..2 {
            let stride = if layer > 0 && block == 0 { 2 } else { 1 };
            x = builder.basic_block(&format!("backbone.layer{}.{block}", layer + 1), x, width << layer, stride);
        }
    }
    x = builder.average(x);
    builder.plan.features = x;
    x = builder.linear("projection_head.layers.0", x, hidden, false);
    let norm = builder.norm("projection_head.layers.1", hidden);
    x = builder.normalize(x, norm, None, Activation::Relu);
    x = builder.linear("projection_head.layers.3", x, output, false);
    let norm = builder.norm("projection_head.layers.4", output);
    builder.plan.projection = builder.normalize(x, norm, None, Activation::Identity);
    builder.plan
}
