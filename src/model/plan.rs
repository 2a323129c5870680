//! The Plan: a typed model flattened to ordered operations in SSA form. All an executor sees.
//!
//! Every operation names the values it reads and the one value it defines; a residual is an ordinary second input.
//! Shapes are per image; the batch is chosen when an executor is built. Parameters and buffers carry torchvision's
//! and Lightly's names and lie one after another in one flat buffer each, in torchvision's layout
//! (convolutions O×I×K×K, linear layers out×in).

use crate::experiment::recipe::Layer;

/// A value: the network's input or the result of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub usize);

/// A trained tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParameterId(pub usize);

/// A tensor that is kept but not trained: a running statistic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub usize);

/// What one image's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Stored height × width × channels.
    Map {
        channels: usize,
        height: usize,
        width: usize,
    },
    Vector {
        width: usize,
    },
}

impl Shape {
    /// Numbers an image.
    pub fn len(&self) -> usize {
        match *self {
            Shape::Map { channels, height, width } => channels * height * width,
            Shape::Vector { width } => width,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The fastest axis: channels of a map, width of a vector.
    pub fn channels(&self) -> usize {
        match *self {
            Shape::Map { channels, .. } => channels,
            Shape::Vector { width } => width,
        }
    }

    /// Positions an image: height × width, or 1.
    pub fn positions(&self) -> usize {
        match *self {
            Shape::Map { height, width, .. } => height * width,
            Shape::Vector { .. } => 1,
        }
    }
}

/// A square window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Identity,
    Relu,
    /// x · sigmoid(x): smooth, for well-conditioned gradient checks.
    Silu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The first maximum of a window wins; padding never does.
    Max,
    /// Mean over the kernel's area, padding counted as zeros (PyTorch's default).
    Average,
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Cross-correlation without bias.
    Conv2d {
        input: ValueId,
        output: ValueId,
        weight: ParameterId,
        window: Window,
    },
    /// activation(scale · (x − mean)/√(var + ε) + shift [+ residual]): per channel of a map or a vector.
    /// ε = 1e-5, running momentum 0.1, unbiased variance in the running estimate (PyTorch).
    BatchNorm {
        input: ValueId,
        residual: Option<ValueId>,
        output: ValueId,
        scale: ParameterId,
        shift: ParameterId,
        running_mean: BufferId,
        running_var: BufferId,
        activation: Activation,
    },
    /// What `fuse` found no batch norm for.
    Activate {
        input: ValueId,
        output: ValueId,
        activation: Activation,
    },
    Add {
        left: ValueId,
        right: ValueId,
        output: ValueId,
    },
    Pool2d {
        input: ValueId,
        output: ValueId,
        window: Window,
        kind: PoolKind,
    },
    GlobalAveragePool {
        input: ValueId,
        output: ValueId,
    },
    Linear {
        input: ValueId,
        output: ValueId,
        weight: ParameterId,
        bias: Option<ParameterId>,
    },
}

impl Op {
    /// The values read, in order.
    pub fn inputs(&self) -> Vec<ValueId> {
        match *self {
            Op::Conv2d { input, .. }
            | Op::Activate { input, .. }
            | Op::Pool2d { input, .. }
            | Op::GlobalAveragePool { input, .. }
            | Op::Linear { input, .. } => vec![input],
            Op::BatchNorm { input, residual, .. } => std::iter::once(input).chain(residual).collect(),
            Op::Add { left, right, .. } => vec![left, right],
        }
    }

    /// The value defined.
    pub fn output(&self) -> ValueId {
        match *self {
            Op::Conv2d { output, .. }
            | Op::BatchNorm { output, .. }
            | Op::Activate { output, .. }
            | Op::Add { output, .. }
            | Op::Pool2d { output, .. }
            | Op::GlobalAveragePool { output, .. }
            | Op::Linear { output, .. } => output,
        }
    }
}

/// What a parameter is, which decides its initial value and whether weight decay may exclude it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    ConvWeight,
    LinearWeight,
    LinearBias {
        fan_in: usize,
    },
    NormScale,
    NormShift,
    /// A shift that is not trained: it starts at 0, and with a gradient of 0 every optimizer leaves it there.
    HeldNormShift,
}

impl ParameterKind {
    /// Whether `DecayScope::Weights` leaves it alone.
    pub fn is_norm_or_bias(self) -> bool {
        match self {
            ParameterKind::ConvWeight | ParameterKind::LinearWeight => false,
            ParameterKind::LinearBias { .. }
            | ParameterKind::NormScale
            | ParameterKind::NormShift
            | ParameterKind::HeldNormShift => true,
        }
    }
}

/// A trained tensor's name, shape and place in the flat parameter buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// torchvision's or Lightly's: `backbone.layer1.0.conv1.weight`, `projection_head.layers.0.weight`.
    pub name: String,
    pub shape: Vec<usize>,
    pub offset: usize,
    pub kind: ParameterKind,
}

/// A running statistic's name, length and place in the flat buffer of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Buffer {
    pub name: String,
    pub len: usize,
    pub offset: usize,
    /// 0 for a mean, 1 for a variance.
    pub initial: f32,
}

impl Parameter {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// The flattened model.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Shape an image of every value, by `ValueId`.
    pub values: Vec<Shape>,
    /// In execution order.
    pub ops: Vec<Op>,
    pub parameters: Vec<Parameter>,
    pub buffers: Vec<Buffer>,
    /// The view: side × side × 3.
    pub input: ValueId,
    /// What evaluations see: the backbone's output.
    pub features: ValueId,
    /// What the loss sees: the head's output, or the features where there is none.
    pub projection: ValueId,
}

impl Plan {
    /// The same with the shift of the batch norm that gives the projection held at 0.
    pub fn with_held_output_shift(mut self) -> Plan {
        for op in self.ops.iter().filter(|op| op.output() == self.projection) {
            if let Op::BatchNorm { shift, .. } = op {
                self.parameters[shift.0].kind = ParameterKind::HeldNormShift;
            }
        }
        self
    }

    /// Numbers that training changes.
    pub fn n_trained(&self) -> usize {
        let trained = |parameter: &&Parameter| parameter.kind != ParameterKind::HeldNormShift;
        self.parameters.iter().filter(trained).map(Parameter::len).sum()
    }

    /// Numbers of the flat buffer of parameters.
    pub fn n_parameters(&self) -> usize {
        self.parameters.iter().map(Parameter::len).sum()
    }

    pub fn n_buffers(&self) -> usize {
        self.buffers.iter().map(|buffer| buffer.len).sum()
    }

    pub fn shape(&self, value: ValueId) -> Shape {
        self.values[value.0]
    }

    pub fn feature_width(&self) -> usize {
        self.shape(self.features).len()
    }

    pub fn projection_width(&self) -> usize {
        self.shape(self.projection).len()
    }

    /// The value that is a layer's features; none for a layer that the head does not have. A block of the head begins with a
    /// linear layer and ends before the next one, or in the projection.
    pub fn layer(&self, layer: Layer) -> Option<ValueId> {
        match layer {
            Layer::Backbone => Some(self.features),
            Layer::Projection => Some(self.projection),
            Layer::Head(number) => {
                let inputs = self.ops.iter().filter_map(|op| match op {
                    Op::Linear { input, .. } => Some(*input),
                    Op::Conv2d { .. }
                    | Op::BatchNorm { .. }
                    | Op::Activate { .. }
                    | Op::Add { .. }
                    | Op::Pool2d { .. }
                    | Op::GlobalAveragePool { .. } => None,
                });
                let mut ends: Vec<ValueId> = inputs.skip(1).collect();
                if self.projection != self.features {
                    ends.push(self.projection);
                }
                ends.get((number as usize).checked_sub(1)?).copied()
            }
        }
    }
}
