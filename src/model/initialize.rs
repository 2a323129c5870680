//! What a model's parameters and running statistics are before the first step.

use rayon::prelude::*;

use crate::experiment::recipe::Initialization;
use crate::model::plan::{Parameter, ParameterKind, Plan};
use crate::random::{Address, Purpose, Stream};

/// Parameters and buffers, laid out as `plan` says. Tensor number i draws from the stream of example i, so a tensor's
/// values depend on the seed and its place alone.
///
/// Batch norms start at scale 1 and shift 0, and:
/// - `Torchvision`: convolutions Kaiming normal, fan out, gain √2, so σ = √(2/(O·K·K)); linear weights and biases uniform
///   in ±1/√fan_in. Sources: torchvision, `ResNet.__init__`; PyTorch, `torch.nn.Linear.reset_parameters`; He et al.,
///   "Delving Deep into Rectifiers", 2015.
/// - `TorchvisionNewStem`: the same but for the first convolution, which is as `PyTorchDefault`.
/// - `PyTorchDefault`: convolutions, linear weights and biases uniform in ±1/√fan_in. Source: PyTorch,
///   `torch.nn.Conv2d.reset_parameters`, Kaiming uniform with a = √5.
/// - `Google`: convolutions normal, cut off at two deviations and stretched to a variance of 1/fan_in; linear weights
///   normal, σ = 0.01, biases 0; the last scale of a residual branch 0. Source: google-research/simclr, `resnet.py` and
///   `model_util.py`; TensorFlow, `variance_scaling_initializer`.
pub fn initialize(plan: &Plan, initialization: Initialization, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut parameters = vec![0.0; plan.n_parameters()];
    let mut rest = parameters.as_mut_slice();
    let mut tensors = Vec::with_capacity(plan.parameters.len());
    for parameter in &plan.parameters {
        let (values, behind) = rest.split_at_mut(parameter.len());
        tensors.push((parameter, values));
        rest = behind;
    }
    tensors.into_par_iter().enumerate().for_each(|(index, (parameter, values))| {
        let address = Address { example: index as u32, ..Address::of(Purpose::Initialization) };
        distribution(parameter, initialization).fill(&mut Stream::new(seed, address), values);
    });
    let buffers = plan.buffers.iter().flat_map(|buffer| std::iter::repeat_n(buffer.initial, buffer.len)).collect();
    (parameters, buffers)
}

/// What a tensor is drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Distribution {
    Constant(f32),
    Normal {
        deviation: f64,
    },
    /// Cut off at two deviations of the normal it comes from and stretched, so that `deviation` is that of what is drawn.
    TruncatedNormal {
        deviation: f64,
    },
    /// In ±bound.
    Uniform {
        bound: f64,
    },
}

/// Standard deviation of a standard normal that is cut off at ±2.
const DEVIATION_WITHIN_TWO: f64 = 0.879_625_661_034_239_8;

fn distribution(parameter: &Parameter, initialization: Initialization) -> Distribution {
    let within_fan_in = |fan_in: usize| Distribution::Uniform { bound: 1.0 / (fan_in as f64).sqrt() };
    match parameter.kind {
        ParameterKind::ConvWeight => {
            let [filters, inputs, height, width] = parameter.shape[..] else {
                unreachable!("a convolution's weight has four axes")
            };
            let fan_in = inputs * height * width;
            let kaiming = Distribution::Normal { deviation: (2.0 / (filters * height * width) as f64).sqrt() };
            match initialization {
                Initialization::Torchvision => kaiming,
                Initialization::TorchvisionNewStem if parameter.name != "backbone.conv1.weight" => kaiming,
                Initialization::TorchvisionNewStem | Initialization::PyTorchDefault => within_fan_in(fan_in),
                Initialization::Google => Distribution::TruncatedNormal { deviation: 1.0 / (fan_in as f64).sqrt() },
            }
        }
        ParameterKind::LinearWeight => match initialization {
            Initialization::Torchvision | Initialization::TorchvisionNewStem | Initialization::PyTorchDefault => {
                within_fan_in(parameter.shape[1])
            }
            Initialization::Google => Distribution::Normal { deviation: 0.01 },
        },
        ParameterKind::LinearBias { fan_in } => match initialization {
            Initialization::Torchvision | Initialization::TorchvisionNewStem | Initialization::PyTorchDefault => {
                within_fan_in(fan_in)
            }
            Initialization::Google => Distribution::Constant(0.0),
        },
        ParameterKind::NormScale => match initialization {
            Initialization::Google if parameter.name.ends_with(".bn2.weight") => Distribution::Constant(0.0),
            Initialization::Torchvision
            | Initialization::TorchvisionNewStem
            | Initialization::PyTorchDefault
            | Initialization::Google => Distribution::Constant(1.0),
        },
        ParameterKind::NormShift | ParameterKind::HeldNormShift => Distribution::Constant(0.0),
    }
}

impl Distribution {
    fn fill(self, stream: &mut Stream, values: &mut [f32]) {
        match self {
            Distribution::Constant(value) => values.fill(value),
            Distribution::Normal { deviation } => {
                for pair in values.chunks_mut(2) {
                    let normals = stream.normal_pair();
                    pair.iter_mut().zip(normals).for_each(|(value, normal)| *value = (normal * deviation) as f32);
                }
            }
            Distribution::TruncatedNormal { deviation } => {
                let normals = std::iter::repeat_with(|| stream.normal_pair()).flatten();
                let within = normals.filter(|normal| normal.abs() <= 2.0);
                let stretched = deviation / DEVIATION_WITHIN_TWO;
                values.iter_mut().zip(within).for_each(|(value, normal)| *value = (normal * stretched) as f32);
            }
            Distribution::Uniform { bound } => {
                values.iter_mut().for_each(|value| *value = ((2.0 * f64::from(stream.unit()) - 1.0) * bound) as f32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::recipe::{Backbone, Head, Model, Stem};
    use crate::model::registry;

    const ALL: [Initialization; 4] = [
        Initialization::Torchvision,
        Initialization::TorchvisionNewStem,
        Initialization::PyTorchDefault,
        Initialization::Google,
    ];

    fn plan() -> Plan {
        let (batch_norm, bias, output_shift) = (true, true, true);
        let head = Head::Mlp { layers: 2, hidden: 512, output: 128, batch_norm, bias, output_shift };
        let backbone = Backbone::ResNet18 { stem: Stem::Cifar };
        registry::plan(&Model { backbone, side: 32, head, initialization: Initialization::Torchvision }).unwrap()
    }

    /// Kurtosis of a normal, of one cut off at two deviations, and of a uniform.
    const NORMAL: f64 = 3.0;
    const TRUNCATED: f64 = 2.365_537;
    const UNIFORM: f64 = 1.8;

    /// Variance and kurtosis as the libraries' documentation has them, or the one value of a tensor.
    fn expected(parameter: &Parameter, initialization: Initialization) -> Result<(f64, f64), f32> {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let of_uniform = |fan_in: usize| (1.0 / (3 * fan_in) as f64, UNIFORM);
        let is_stem = parameter.name == "backbone.conv1.weight";
        match (parameter.kind, initialization) {
            (ParameterKind::ConvWeight, Initialization::Google) => Ok((1.0 / fan_in as f64, TRUNCATED)),
            (ParameterKind::ConvWeight, Initialization::PyTorchDefault) => Ok(of_uniform(fan_in)),
            (ParameterKind::ConvWeight, Initialization::TorchvisionNewStem) if is_stem => Ok(of_uniform(27)),
            (ParameterKind::ConvWeight, _) => {
                Ok((2.0 / (parameter.shape[0] * parameter.shape[2].pow(2)) as f64, NORMAL))
            }
            (ParameterKind::LinearWeight, Initialization::Google) => Ok((1e-4, NORMAL)),
            (ParameterKind::LinearBias { .. }, Initialization::Google) => Err(0.0),
            (ParameterKind::LinearWeight, _) => Ok(of_uniform(fan_in)),
            (ParameterKind::LinearBias { fan_in }, _) => Ok(of_uniform(fan_in)),
            (ParameterKind::NormScale, Initialization::Google) if parameter.name.contains("bn2") => Err(0.0),
            (ParameterKind::NormScale, _) => Err(1.0),
            (ParameterKind::NormShift | ParameterKind::HeldNormShift, _) => Err(0.0),
        }
    }

    /// The first four moments of every tensor, within five standard errors.
    #[test]
    fn tensors_have_the_moments_of_their_distribution() {
        let plan = plan();
        for initialization in ALL {
            let (parameters, _) = initialize(&plan, initialization, 1);
            for parameter in &plan.parameters {
                let values = &parameters[parameter.range()];
                let name = format!("{} by {initialization:?}", parameter.name);
                match expected(parameter, initialization) {
                    Ok((variance, kurtosis)) => check_moments(&name, values, variance, kurtosis),
                    Err(value) => assert!(values.iter().all(|&x| x == value), "{name}"),
                }
            }
        }
    }

    fn check_moments(name: &str, values: &[f32], variance: f64, kurtosis: f64) {
        let n = values.len() as f64;
        let moment = |power: i32| values.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / n;
        assert!(moment(1).abs() < 5.0 * (variance / n).sqrt(), "{name}: mean {}", moment(1));
        let spread = 5.0 * ((kurtosis - 1.0) / n).sqrt();
        assert!((moment(2) / variance - 1.0).abs() < spread, "{name}: variance {}, not {variance}", moment(2));
        let found = moment(4) / moment(2).powi(2);
        assert!((found / kurtosis - 1.0).abs() < 50.0 / n.sqrt(), "{name}: kurtosis {found}, not {kurtosis}");
    }

    #[test]
    fn what_is_cut_off_lies_within_two_deviations_of_the_normal_it_came_from() {
        let plan = plan();
        let (parameters, _) = initialize(&plan, Initialization::Google, 4);
        for parameter in plan.parameters.iter().filter(|parameter| parameter.kind == ParameterKind::ConvWeight) {
            let fan_in: usize = parameter.shape[1..].iter().product();
            let bound = 2.0 / DEVIATION_WITHIN_TWO / (fan_in as f64).sqrt();
            let largest = parameters[parameter.range()].iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
            assert!(f64::from(largest) <= bound * 1.000_001, "{}: {largest} of {bound}", parameter.name);
            assert!(f64::from(largest) > bound * 0.97, "{}: {largest} of {bound}", parameter.name);
        }
    }

    /// Each residual block of google-research/simclr begins as its shortcut: eight scales of 0.
    #[test]
    fn eight_scales_begin_at_0_and_only_by_google() {
        let plan = plan();
        let zeros = |initialization| {
            let (parameters, _) = initialize(&plan, initialization, 0);
            let is_zero = |parameter: &&Parameter| {
                parameter.kind == ParameterKind::NormScale && parameters[parameter.range()].iter().all(|&x| x == 0.0)
            };
            plan.parameters.iter().filter(is_zero).count()
        };
        assert_eq!(ALL.map(zeros), [0, 0, 0, 8]);
    }

    #[test]
    fn running_statistics_start_at_mean_0_and_variance_1() {
        let plan = plan();
        let (_, buffers) = initialize(&plan, Initialization::Torchvision, 1);
        for buffer in &plan.buffers {
            let expected = if buffer.name.ends_with("var") { 1.0 } else { 0.0 };
            assert!(buffers[buffer.offset..][..buffer.len].iter().all(|&x| x == expected), "{}", buffer.name);
        }
    }

    /// These bits are a promise: the same seed starts the same training on every machine.
    #[test]
    fn the_bits_of_seed_0_are_pinned() {
        let (parameters, _) = initialize(&plan(), Initialization::Torchvision, 0);
        let bytes: Vec<u8> = parameters.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(crate::content::Key::of_bytes(&bytes).short(), "378e7b2a2e3f");
    }

    #[test]
    fn another_seed_draws_every_tensor_anew() {
        let plan = plan();
        let [first, second] = [0, 1].map(|seed| initialize(&plan, Initialization::Torchvision, seed).0);
        for parameter in plan
            .parameters
            .iter()
            .filter(|parameter| matches!(parameter.kind, ParameterKind::ConvWeight | ParameterKind::LinearWeight))
        {
            let range = parameter.range();
            let n_equal = first[range.clone()].iter().zip(&second[range]).filter(|(a, b)| a == b).count();
            assert!(n_equal * 1000 < parameter.len(), "{}: {n_equal} equal draws", parameter.name);
        }
    }
}
