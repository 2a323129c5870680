//! What a model's parameters and running statistics are before the first step.

use rayon::prelude::*;

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
        draw(parameter, &mut Stream::new(seed, address), values);
    });
    let buffers = plan.buffers.iter().flat_map(|buffer| std::iter::repeat_n(buffer.initial, buffer.len)).collect();
    (parameters, buffers)
}

fn draw(parameter: &Parameter, stream: &mut Stream, values: &mut [f32]) {
    match parameter.kind {
        ParameterKind::ConvWeight => {
            let [filters, _, kernel_height, kernel_width] = parameter.shape[..] else {
                unreachable!("a convolution's weight has four axes")
            };
            let deviation = (2.0 / (filters * kernel_height * kernel_width) as f64).sqrt();
            for pair in values.chunks_mut(2) {
                let normals = stream.normal_pair();
                pair.iter_mut().zip(normals).for_each(|(value, normal)| *value = (normal * deviation) as f32);
            }
        }
        ParameterKind::LinearWeight => draw_uniform(parameter.shape[1], stream, values),
        ParameterKind::LinearBias { fan_in } => draw_uniform(fan_in, stream, values),
        ParameterKind::NormScale => values.fill(1.0),
        ParameterKind::NormShift => values.fill(0.0),
    }
}

fn draw_uniform(fan_in: usize, stream: &mut Stream, values: &mut [f32]) {
    let bound = 1.0 / (fan_in as f64).sqrt();
    values.iter_mut().for_each(|value| *value = ((2.0 * f64::from(stream.unit()) - 1.0) * bound) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::recipe::{Backbone, Head, Model, Stem};
    use crate::model::registry;

    fn plan() -> Plan {
        let head = Head::Mlp { layers: 2, hidden: 512, output: 128, batch_norm: true, bias: true };
        let backbone = Backbone::ResNet18 { stem: Stem::Cifar };
        registry::plan(&Model { backbone, side: 32, head, initialization: Initialization::Torchvision }).unwrap()
    }

    /// The first four moments of every tensor, within five standard errors.
    #[test]
    fn tensors_have_the_moments_of_their_distribution() {
        let plan = plan();
        let (parameters, _) = initialize(&plan, Initialization::Torchvision, 1);
        for parameter in &plan.parameters {
            let values = &parameters[parameter.range()];
            let n = values.len() as f64;
            let moment = |power: i32| values.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / n;
            // Variance and kurtosis: of a normal 3, of a uniform 1.8.
            let (variance, kurtosis) = match parameter.kind {
                ParameterKind::ConvWeight => (2.0 / (parameter.shape[0] * parameter.shape[2].pow(2)) as f64, 3.0),
                ParameterKind::LinearWeight => (1.0 / (3 * parameter.shape[1]) as f64, 1.8),
                ParameterKind::LinearBias { fan_in } => (1.0 / (3 * fan_in) as f64, 1.8),
                ParameterKind::NormScale => {
                    assert!(values.iter().all(|&x| x == 1.0));
                    continue;
                }
                ParameterKind::NormShift => {
                    assert!(values.iter().all(|&x| x == 0.0));
                    continue;
                }
            };
            let name = &parameter.name;
            assert!(moment(1).abs() < 5.0 * (variance / n).sqrt(), "{name}: mean {}", moment(1));
            let spread = 5.0 * ((kurtosis - 1.0) / n).sqrt();
            assert!((moment(2) / variance - 1.0).abs() < spread, "{name}: variance {}, not {variance}", moment(2));
            let found = moment(4) / moment(2).powi(2);
            assert!((found / kurtosis - 1.0).abs() < 50.0 / n.sqrt(), "{name}: kurtosis {found}, not {kurtosis}");
        }
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
