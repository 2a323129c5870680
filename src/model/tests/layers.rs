//! Every typed layer forward against f64 loops, backward against differences of the same loops.

use dfdx::nn::builders::{AvgPoolGlobal, Linear, UnbiasedLinear};
use dfdx::nn::{BuildOnDevice, Module, ModuleMut};
use dfdx::shapes::{Const, Shape};
use dfdx::tensor::{Cpu, Tensor, TensorFromVec, Trace};
use dfdx::tensor_ops::{Backward, SumTo, TryMul};

use super::exact::{self, Maps};
use crate::model::batch_norm::BatchNorm;
use crate::model::conv2d::Conv2D;
use crate::model::plan::{Activation, PoolKind, Window};
use crate::model::pooling::{AveragePool2D, MaxPool2D};
use crate::model::silu::SiLU;
use crate::model::tape::Recording;
use crate::model::tensors::{Role, Tensors};
use crate::random::{Address, Purpose, Stream};

fn draws(example: u32, n: usize) -> Vec<f32> {
    let mut stream = Stream::new(17, Address { example, ..Address::of(Purpose::BuiltinData) });
    (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// The distance is at most 1e-5 of the expected norm.
fn assert_close(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let distance = norm(&mut found.iter().zip(expected).map(|(&a, b)| f64::from(a) - b));
    let bound = 1e-5 * norm(&mut expected.iter().copied()) + 1e-7;
    assert!(distance <= bound, "{what}: {distance} away, at most {bound}");
}

/// Central differences of Σ output · cotangent; exact but for rounding where the layer is linear.
fn differences(values: &[f64], cotangent: &[f64], forward: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let step = 1e-5;
    let loss = |values: &[f64]| forward(values).iter().zip(cotangent).map(|(y, c)| y * c).sum::<f64>();
    let mut moved = values.to_vec();
    let mut slope = |i: usize| {
        moved[i] = values[i] + step;
        let above = loss(&moved);
        moved[i] = values[i] - step;
        let below = loss(&moved);
        moved[i] = values[i];
        (above - below) / (2.0 * step)
    };
    (0..values.len()).map(&mut slope).collect()
}

/// A layer's output, the gradient of its input and those of its parameters, for Σ output · cotangent.
struct Recorded {
    output: Vec<f32>,
    cotangent: Vec<f64>,
    of_input: Vec<f32>,
    of_parameters: Vec<Vec<f32>>,
}

fn record<M, In: Shape, Out: Shape>(layer: &mut M, input: Tensor<In, f32, Cpu>) -> Recorded
where
    M: Tensors + ModuleMut<Tensor<In, f32, Cpu, Recording>, Output = Tensor<Out, f32, Cpu, Recording>>,
{
    let output = layer.forward_mut(input.leaky_trace());
    let values = output.as_vec();
    let cotangent = draws(9, values.len());
    let shape = *dfdx::shapes::HasShape::shape(&output);
    let loss = output.try_mul(Cpu::default().tensor_from_vec(cotangent.clone(), shape)).unwrap().sum();
    let gradients = loss.backward();
    let mut of_parameters = Vec::new();
    layer.visit(&mut |role, tensor| {
        if role == Role::Parameter {
            of_parameters.push(tensor.gradient(&gradients));
        }
    });
    Recorded { output: values, cotangent: wide(&cotangent), of_input: gradients.get(&input).as_vec(), of_parameters }
}

/// Fills every tensor of a layer and gives the values, in f64.
fn fill(layer: &mut impl Tensors) -> Vec<Vec<f64>> {
    let mut filled = Vec::new();
    layer.visit_mut(&mut |_, tensor| {
        let values = draws(20 + filled.len() as u32, tensor.values().len());
        tensor.take(&mut &values[..]);
        filled.push(wide(&values));
    });
    filled
}

fn images<const C: usize>(maps: Maps) -> Tensor<(usize, Const<C>, usize, usize), f32, Cpu> {
    Cpu::default().tensor_from_vec(draws(1, maps.len()), (maps.n, Const, maps.side, maps.side))
}

fn check_conv<const I: usize, const O: usize, const K: usize, const S: usize, const P: usize>(side: usize) {
    let maps = Maps { n: 3, channels: I, side };
    let window = Window { kernel: K, stride: S, padding: P };
    let mut conv = Conv2D::<I, O, K, S, P>::build_on_device(&Cpu::default());
    let weight = fill(&mut conv).remove(0);
    let recorded = record(&mut conv, images::<I>(maps));
    let input = wide(&draws(1, maps.len()));
    let what = format!("{K}×{K} stride {S} on {side}");
    assert_close(&what, &recorded.output, &exact::conv2d(&input, &weight, maps, O, window));
    let of_input = differences(&input, &recorded.cotangent, |x| exact::conv2d(x, &weight, maps, O, window));
    assert_close(&what, &recorded.of_input, &of_input);
    let of_weight = differences(&weight, &recorded.cotangent, |w| exact::conv2d(&input, w, maps, O, window));
    assert_close(&what, &recorded.of_parameters[0], &of_weight);
}

#[test]
fn convolutions_agree_with_loops() {
    for side in [1, 2, 4, 7, 8] {
        check_conv::<3, 2, 3, 1, 1>(side);
        check_conv::<3, 2, 3, 2, 1>(side);
        check_conv::<2, 3, 1, 2, 0>(side);
        check_conv::<2, 3, 1, 1, 0>(side);
        check_conv::<3, 2, 7, 2, 3>(side);
    }
}

fn check_pool<M>(mut pool: M, side: usize, window: Window, kind: PoolKind)
where
    M: Tensors
        + ModuleMut<
            Tensor<(usize, Const<2>, usize, usize), f32, Cpu, Recording>,
            Output = Tensor<(usize, Const<2>, usize, usize), f32, Cpu, Recording>,
        >,
{
    let maps = Maps { n: 2, channels: 2, side };
    let recorded = record(&mut pool, images::<2>(maps));
    let input = wide(&draws(1, maps.len()));
    let what = format!("{kind:?} on {side}");
    assert_close(&what, &recorded.output, &exact::pool2d(&input, maps, window, kind));
    let of_input = differences(&input, &recorded.cotangent, |x| exact::pool2d(x, maps, window, kind));
    assert_close(&what, &recorded.of_input, &of_input);
}

#[test]
fn poolings_agree_with_loops() {
    let window = Window { kernel: 3, stride: 2, padding: 1 };
    for side in [1, 2, 7, 8, 16] {
        check_pool(MaxPool2D::<3, 2, 1>, side, window, PoolKind::Max);
        check_pool(AveragePool2D::<3, 2, 1>, side, window, PoolKind::Average);
    }
}

/// As PyTorch: of equal values the first, in reading order, takes the gradient; padding never wins, however low the values.
#[test]
fn the_first_of_equal_maxima_takes_the_gradient() {
    let input: Tensor<(usize, Const<1>, usize, usize), f32, Cpu> =
        Cpu::default().tensor_from_vec(vec![-5.0; 16], (1, Const, 4, 4));
    let output = MaxPool2D::<3, 2, 1>.forward(input.leaky_trace());
    assert_eq!(output.as_vec(), [-5.0; 4]);
    let gradient = output.sum().backward().get(&input).as_vec();
    let mut expected = [0.0; 16];
    for first in [0, 1, 4, 5] {
        expected[first] = 1.0;
    }
    assert_eq!(gradient, expected);
}

#[test]
fn batch_norm_of_maps_agrees_with_loops() {
    let maps = Maps { n: 4, channels: 3, side: 3 };
    let mut norm = BatchNorm::<3>::build_on_device(&Cpu::default());
    let [scale, shift, running_mean, running_var] = &fill(&mut norm)[..] else { panic!("four tensors") };
    let recorded = record(&mut norm, images::<3>(maps));
    let input = wide(&draws(1, maps.len()));
    let forward = |x: &[f64], scale: &[f64], shift: &[f64]| {
        exact::normalise(x, maps, &exact::statistics(x, maps), [scale, shift])
    };
    assert_close("output", &recorded.output, &forward(&input, scale, shift));
    let of = |values: &[f64], forward: &dyn Fn(&[f64]) -> Vec<f64>| differences(values, &recorded.cotangent, forward);
    assert_close("∂input", &recorded.of_input, &of(&input, &|x| forward(x, scale, shift)));
    assert_close("∂scale", &recorded.of_parameters[0], &of(scale, &|scale| forward(&input, scale, shift)));
    assert_close("∂shift", &recorded.of_parameters[1], &of(shift, &|shift| forward(&input, scale, shift)));
    let (mean, variance) = exact::statistics(&input, maps);
    let moved = |old: &[f64], new: &[f64], correction: f64| -> Vec<f64> {
        old.iter().zip(new).map(|(old, new)| 0.9 * old + 0.1 * correction * new).collect()
    };
    assert_close("running mean", &norm.running_mean.as_vec(), &moved(running_mean, &mean, 1.0));
    assert_close("running variance", &norm.running_var.as_vec(), &moved(running_var, &variance, 36.0 / 35.0));
}

#[test]
fn batch_norm_of_vectors_agrees_with_loops() {
    let maps = Maps { n: 6, channels: 5, side: 1 };
    let mut norm = BatchNorm::<5>::build_on_device(&Cpu::default());
    let filled = fill(&mut norm);
    let input: Tensor<(usize, Const<5>), f32, Cpu> = Cpu::default().tensor_from_vec(draws(1, 30), (6, Const));
    let recorded = record(&mut norm, input);
    let values = wide(&draws(1, 30));
    let forward = |x: &[f64]| exact::normalise(x, maps, &exact::statistics(x, maps), [&filled[0], &filled[1]]);
    assert_close("output", &recorded.output, &forward(&values));
    assert_close("∂input", &recorded.of_input, &differences(&values, &recorded.cotangent, forward));
}

#[test]
fn batch_norm_evaluates_with_its_running_statistics() {
    let maps = Maps { n: 2, channels: 3, side: 2 };
    let mut norm = BatchNorm::<3>::build_on_device(&Cpu::default());
    fill(&mut norm);
    norm.running_var.copy_from(&[0.5, 1.5, 2.0]);
    let [scale, shift, mean] = [&norm.weight, &norm.bias, &norm.running_mean].map(|tensor| wide(&tensor.as_vec()));
    let output = norm.forward(images::<3>(maps)).as_vec();
    let statistics = (mean, vec![0.5, 1.5, 2.0]);
    assert_close("output", &output, &exact::normalise(&wide(&draws(1, 24)), maps, &statistics, [&scale, &shift]));
}

#[test]
fn linear_layers_agree_with_loops() {
    let input: Tensor<(usize, Const<5>), f32, Cpu> = Cpu::default().tensor_from_vec(draws(1, 20), (4, Const));
    let values = wide(&draws(1, 20));
    let mut biased = Linear::<5, 3>::build_on_device(&Cpu::default());
    let filled = fill(&mut biased);
    let recorded = record(&mut biased, input.clone());
    assert_close("output", &recorded.output, &exact::linear(&values, &filled[0], &filled[1], 5));
    let of = |of: &[f64], forward: &dyn Fn(&[f64]) -> Vec<f64>| differences(of, &recorded.cotangent, forward);
    assert_close("∂input", &recorded.of_input, &of(&values, &|x| exact::linear(x, &filled[0], &filled[1], 5)));
    assert_close("∂weight", &recorded.of_parameters[0], &of(&filled[0], &|w| exact::linear(&values, w, &filled[1], 5)));
    assert_close("∂bias", &recorded.of_parameters[1], &of(&filled[1], &|b| exact::linear(&values, &filled[0], b, 5)));
    let mut unbiased = UnbiasedLinear::<5, 3>::build_on_device(&Cpu::default());
    let weight = fill(&mut unbiased).remove(0);
    let recorded = record(&mut unbiased, input);
    assert_close("unbiased output", &recorded.output, &exact::linear(&values, &weight, &[0.0; 3], 5));
}

#[test]
fn global_average_pool_and_silu_agree_with_loops() {
    let maps = Maps { n: 2, channels: 3, side: 7 };
    let input = wide(&draws(1, maps.len()));
    let recorded = record(&mut AvgPoolGlobal, images::<3>(maps));
    assert_close("mean", &recorded.output, &exact::global_average_pool(&input, maps));
    let forward = |x: &[f64]| exact::global_average_pool(x, maps);
    assert_close("∂mean", &recorded.of_input, &differences(&input, &recorded.cotangent, forward));
    let recorded = record(&mut SiLU, images::<3>(maps));
    let forward = |x: &[f64]| x.iter().map(|&x| exact::activate(x, Activation::Silu)).collect::<Vec<f64>>();
    assert_close("SiLU", &recorded.output, &forward(&input));
    assert_close("∂SiLU", &recorded.of_input, &differences(&input, &recorded.cotangent, forward));
}
