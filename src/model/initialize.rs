//! What a model's parameters and running statistics are before the first step.

use crate::experiment::recipe::Initialization;
use crate::model::plan::{Parameter, ParameterKind, Plan};
use crate::random::{Address, Purpose, Stream};

/// Parameters and buffers, laid out as `plan` says. Tensor number i draws from the stream of example i, so a tensor's
/// values depend on the seed and its place alone.
///
/// `Torchvision`: convolutions Kaiming normal, fan out, gain √2, so σ = √(2/(O·K·K)); batch-norm scale 1 and shift 0; linear
/// weights and biases uniform in ±1/√fan_in. Sources: torchvision, `ResNet.__init__`; PyTorch,
/// `torch.nn.Linear.reset_parameters`; He et al., "Delving Deep into Rectifiers", 2015.
pub fn initialize(plan: &Plan, initialization: Initialization, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let Initialization::Torchvision = initialization;
    let mut parameters = Vec::with_capacity(plan.n_parameters());
    for (index, parameter) in plan.parameters.iter().enumerate() {
        let address = Address { example: index as u32, ..Address::of(Purpose::Initialization) };
        draw(parameter, &mut Stream::new(seed, address), &mut parameters);
    }
    let buffers = plan.buffers.iter().flat_map(|buffer| std::iter::repeat_n(buffer.initial, buffer.len)).collect();
    (parameters, buffers)
}

fn draw(parameter: &Parameter, stream: &mut Stream, values: &mut Vec<f32>) {
    let n = parameter.len();
    match parameter.kind {
        ParameterKind::ConvWeight => {
            let [filters, _, kernel_height, kernel_width] = parameter.shape[..] else {
                unreachable!("a convolution's weight has four axes")
            };
            let deviation = (2.0 / (filters * kernel_height * kernel_width) as f64).sqrt();
            values.extend((0..n).map(|_| (stream.normal() * deviation) as f32));
        }
        ParameterKind::LinearWeight => draw_uniform(parameter.shape[1], n, stream, values),
        ParameterKind::LinearBias { fan_in } => draw_uniform(fan_in, n, stream, values),
        ParameterKind::NormScale => values.extend(std::iter::repeat_n(1.0, n)),
        ParameterKind::NormShift => values.extend(std::iter::repeat_n(0.0, n)),
    }
}

fn draw_uniform(fan_in: usize, n: usize, stream: &mut Stream, values: &mut Vec<f32>) {
    let bound = 1.0 / (fan_in as f64).sqrt();
    values.extend((0..n).map(|_| ((2.0 * f64::from(stream.unit()) - 1.0) * bound) as f32));
}
