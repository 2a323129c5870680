//! Every operation at the sizes of ResNet-18 against its typed layer: output, gradients of input and parameters.

use dfdx::nn::BuildOnDevice;
use dfdx::nn::builders::{AvgPoolGlobal, Linear, ReLU, UnbiasedLinear};
use dfdx::tensor::Cpu;

use super::maps::{self, Maps, Passes, Vectors, as_maps, as_vectors, fill, from_ops, to_ops, typed};
use super::{SCOPES, assert_near, draws};
use crate::experiment::recipe::BatchNormScope;
use crate::model::batch_norm::BatchNorm;
use crate::model::conv2d::Conv2D;
use crate::model::plan::{Activation, PoolKind, Window};
use crate::model::pooling::{AveragePool2D, MaxPool2D};
use crate::model::silu::SiLU;
use crate::model::tape::Recording;
use crate::model::tensors::Tensors;
use crate::ops::batch::Batch;
use crate::ops::batch_norm::cpu::{Affine, Derivative};
use crate::ops::batch_norm::input_gradient::{self, InputGradient};
use crate::ops::batch_norm::{self, Normalization};
use crate::ops::conv2d::{self, Convolution};
use crate::ops::linear::{self, Layer};
use crate::ops::pool2d::{self, Pooling};
use crate::ops::{activation, global_average_pool};

/// Of every norm. The typed layers sum in f32.
const BOUND: f64 = 1e-5;

fn assert_equal_passes(what: &str, cpu: &Passes, typed: &Passes) {
    assert_near(&format!("{what}: output"), &cpu.output, &typed.output, BOUND);
    assert_near(&format!("{what}: ∂input"), &cpu.of_input, &typed.of_input, BOUND);
    assert_eq!(
        (cpu.of_parameters.len(), cpu.buffers.len()),
        (typed.of_parameters.len(), typed.buffers.len()),
        "{what}"
    );
    for (index, (cpu, typed)) in cpu.of_parameters.iter().zip(&typed.of_parameters).enumerate() {
        assert_near(&format!("{what}: ∂parameter {index}"), cpu, typed, BOUND);
    }
    for (index, (cpu, typed)) in cpu.buffers.iter().zip(&typed.buffers).enumerate() {
        assert_near(&format!("{what}: running statistic {index}"), cpu, typed, BOUND);
    }
}

fn cpu_convolution(convolution: &Convolution, torch: &[f32], x: &[f32], dy: &[f32]) -> Passes {
    let Convolution { input, output, window } = convolution;
    let mut weight = vec![f32::NAN; torch.len()];
    conv2d::from_torch(window.kernel, input.channels, output.channels, torch, &mut weight);
    let (mut y, mut dx) = (vec![f32::NAN; output.len()], vec![f32::NAN; input.len()]);
    let mut scratch = vec![f32::NAN; conv2d::cpu::scratch_len(convolution)];
    let nothing = &mut vec![(); output.n_blocks()];
    conv2d::cpu::forward(convolution, x, &weight, &mut scratch, &mut y, nothing, |_, _| {});
    conv2d::cpu::backward_input(convolution, dy, &weight, &mut scratch, &mut dx, false);
    // What no image reaches keeps the 0 it has from the start.
    let (mut dw, mut of_weight) = (vec![0.0; torch.len()], vec![f32::NAN; torch.len()]);
    conv2d::weight_gradient::backward_weight(convolution, x, dy, &mut scratch, &mut dw);
    conv2d::to_torch(window.kernel, input.channels, output.channels, &dw, &mut of_weight);
    Passes {
        output: from_ops(output, &y),
        of_input: from_ops(input, &dx),
        of_parameters: vec![of_weight],
        buffers: Vec::new(),
    }
}

fn check_convolution<const I: usize, const O: usize, const K: usize, const S: usize, const P: usize>(
    images: usize,
    side: usize,
) {
    let window = Window { kernel: K, stride: S, padding: P };
    let input = maps::maps(images, I, side);
    let convolution = Convolution { input, output: maps::windowed(&input, O, window), window };
    let (x, dy) = (draws(1, input.len()), draws(2, convolution.output.len()));
    let mut layer = Conv2D::<I, O, K, S, P>::build_on_device(&Cpu::default());
    let weight = fill(&mut layer).remove(0);
    let typed = typed(&mut layer, BatchNormScope::Joint, [&x, &dy], as_maps::<I>(side));
    let cpu = cpu_convolution(&convolution, &weight, &to_ops(&input, &x), &to_ops(&convolution.output, &dy));
    assert_equal_passes(&format!("{I} to {O} channels, {window:?}, {images} images of {side}"), &cpu, &typed);
}

#[test]
fn convolutions() {
    check_convolution::<3, 64, 7, 2, 3>(6, 32);
    check_convolution::<3, 64, 3, 1, 1>(6, 32);
    check_convolution::<64, 64, 3, 1, 1>(6, 8);
    check_convolution::<64, 64, 3, 1, 1>(140, 2);
    check_convolution::<64, 128, 3, 2, 1>(6, 16);
    check_convolution::<64, 128, 1, 2, 0>(6, 16);
    check_convolution::<256, 512, 3, 2, 1>(26, 2);
    check_convolution::<256, 512, 1, 2, 0>(26, 2);
    check_convolution::<512, 512, 3, 1, 1>(26, 1);
    check_convolution::<512, 512, 3, 1, 1>(6, 4);
}

fn cpu_batch_norm(
    batch: &Batch,
    scope: BatchNormScope,
    activation: Activation,
    tensors: &[Vec<f32>],
    [x, dy]: [&[f32]; 2],
) -> Passes {
    let [scale, shift, running_mean, running_var] = tensors else { panic!("four tensors") };
    let affine = Affine { scale, shift };
    let derivative = match activation {
        Activation::Identity => Derivative::Identity,
        Activation::Relu => Derivative::ReluOfInput,
        Activation::Silu => Derivative::Silu { residual: None },
    };
    let mut norm = Normalization::new(*batch, scope);
    let mut running = [running_mean.clone(), running_var.clone()];
    let [mean, var] = &mut running;
    batch_norm::cpu::sum(&mut norm, x);
    norm.finish_statistics(Some([mean, var]));
    let (mut y, mut dx, mut dz) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()], dy.to_vec());
    batch_norm::cpu::forward(&norm, affine, activation, x, None, &mut y);
    batch_norm::cpu::backward_sums(&mut norm, affine, x, derivative, &mut dz);
    let (mut d_scale, mut d_shift) = (vec![f32::NAN; scale.len()], vec![f32::NAN; scale.len()]);
    norm.finish_gradients(&mut d_scale, &mut d_shift);
    input_gradient::backward_input(&norm, affine, x, derivative, &mut dz, InputGradient::Write(&mut dx));
    let (output, of_input) = (from_ops(batch, &y), from_ops(batch, &dx));
    Passes { output, of_input, of_parameters: vec![d_scale, d_shift], buffers: running.into() }
}

/// Channels lie off 0, each elsewhere; a tenth of them by several of their deviations.
fn off_centre(batch: &Batch) -> Vec<f32> {
    let centre = |index: usize| {
        let channel = index / (batch.height * batch.width) % batch.channels;
        if channel.is_multiple_of(10) { 5.0 } else { 0.5 }
    };
    draws(3, batch.len()).iter().enumerate().map(|(index, x)| x + centre(index)).collect()
}

fn check_norm_of_maps<A>(activation: Activation, images: usize, side: usize)
where
    A: BuildOnDevice<Cpu, f32>,
    (BatchNorm<64>, A): BuildOnDevice<Cpu, f32>,
    <(BatchNorm<64>, A) as BuildOnDevice<Cpu, f32>>::Built:
        Tensors + dfdx::nn::ModuleMut<Maps<64, Recording>, Output = Maps<64, Recording>>,
{
    let batch = maps::maps(images, 64, side);
    let (x, dy) = (off_centre(&batch), draws(4, batch.len()));
    for scope in SCOPES {
        let mut layer = <(BatchNorm<64>, A)>::build_on_device(&Cpu::default());
        let tensors = fill(&mut layer);
        let typed = typed(&mut layer, scope, [&x, &dy], as_maps::<64>(side));
        let cpu = cpu_batch_norm(&batch, scope, activation, &tensors, [&to_ops(&batch, &x), &to_ops(&batch, &dy)]);
        assert_equal_passes(&format!("{activation:?} of {images} maps of {side}, {scope:?}"), &cpu, &typed);
    }
}

#[test]
fn batch_norms_of_maps() {
    check_norm_of_maps::<ReLU>(Activation::Relu, 14, 16);
    check_norm_of_maps::<SiLU>(Activation::Silu, 14, 16);
    check_norm_of_maps::<ReLU>(Activation::Relu, 260, 2);
}

#[test]
fn batch_norms_of_vectors() {
    let batch = maps::vectors(38, 128);
    let (x, dy) = (off_centre(&batch), draws(4, batch.len()));
    for scope in SCOPES {
        let mut layer = BatchNorm::<128>::build_on_device(&Cpu::default());
        let tensors = fill(&mut layer);
        let typed = typed(&mut layer, scope, [&x, &dy], as_vectors::<128>);
        let cpu = cpu_batch_norm(&batch, scope, Activation::Identity, &tensors, [&x, &dy]);
        assert_equal_passes(&format!("vectors, {scope:?}"), &cpu, &typed);
    }
}

fn cpu_pool(pooling: &Pooling, kind: PoolKind, x: &[f32], dy: &[f32]) -> Passes {
    let (mut y, mut dx) = (vec![f32::NAN; pooling.output.len()], vec![f32::NAN; pooling.input.len()]);
    match kind {
        PoolKind::Max => {
            let mut winners = vec![0; y.len()];
            pool2d::cpu::max_forward(pooling, x, &mut y, &mut winners);
            pool2d::cpu::max_backward(pooling, dy, &winners, &mut dx, false);
        }
        PoolKind::Average => {
            pool2d::cpu::average_forward(pooling, x, &mut y);
            pool2d::cpu::average_backward(pooling, dy, &mut dx, false);
        }
    }
    Passes { output: from_ops(&pooling.output, &y), of_input: from_ops(&pooling.input, &dx), ..Passes::default() }
}

/// Few distinct values, so that most windows hold their maximum more than once.
#[test]
fn poolings() {
    let window = Window { kernel: 3, stride: 2, padding: 1 };
    let input = maps::maps(14, 64, 16);
    let pooling = Pooling { input, output: maps::windowed(&input, 64, window), window };
    let x: Vec<f32> = draws(5, input.len()).iter().map(|x| (4.0 * x).floor()).collect();
    let dy = draws(6, pooling.output.len());
    let [own_x, own_dy] = [to_ops(&input, &x), to_ops(&pooling.output, &dy)];
    let max = typed(&mut MaxPool2D::<3, 2, 1>, BatchNormScope::Joint, [&x, &dy], as_maps::<64>(16));
    assert_equal_passes("max", &cpu_pool(&pooling, PoolKind::Max, &own_x, &own_dy), &max);
    let average = typed(&mut AveragePool2D::<3, 2, 1>, BatchNormScope::Joint, [&x, &dy], as_maps::<64>(16));
    assert_equal_passes("average", &cpu_pool(&pooling, PoolKind::Average, &own_x, &own_dy), &average);
}

#[test]
fn global_average_pooling() {
    let (batch, pooled) = (maps::maps(14, 512, 4), maps::vectors(14, 512));
    let (x, dy) = (draws(7, batch.len()), draws(8, pooled.len()));
    let typed = typed(&mut AvgPoolGlobal, BatchNormScope::Joint, [&x, &dy], as_maps::<512>(4));
    let (mut y, mut dx) = (vec![f32::NAN; pooled.len()], vec![f32::NAN; batch.len()]);
    global_average_pool::cpu::forward(&batch, &to_ops(&batch, &x), &mut y);
    global_average_pool::cpu::backward(&batch, &dy, &mut dx, false);
    let cpu = Passes { output: y, of_input: from_ops(&batch, &dx), ..Passes::default() };
    assert_equal_passes("means", &cpu, &typed);
}

#[test]
fn activations() {
    let batch = maps::vectors(14, 512);
    let (x, dy) = (draws(9, batch.len()).iter().map(|x| 6.0 * x).collect::<Vec<_>>(), draws(10, batch.len()));
    let relu = typed(&mut ReLU, BatchNormScope::Joint, [&x, &dy], as_vectors::<512>);
    let silu = typed(&mut SiLU, BatchNormScope::Joint, [&x, &dy], as_vectors::<512>);
    for (activation, typed) in [(Activation::Relu, relu), (Activation::Silu, silu)] {
        let (mut y, mut of_input) = (vec![f32::NAN; x.len()], dy.clone());
        activation::cpu::forward(&batch, activation, &x, &mut y);
        activation::cpu::backward(&batch, activation, &x, &y, &mut of_input);
        assert_equal_passes(&format!("{activation:?}"), &Passes { output: y, of_input, ..Passes::default() }, &typed);
    }
}

fn check_linear<L>(images: usize)
where
    L: BuildOnDevice<Cpu, f32>,
    L::Built: Tensors + dfdx::nn::ModuleMut<Vectors<512, Recording>, Output = Vectors<128, Recording>>,
{
    let layer = Layer { images, inputs: 512, outputs: 128 };
    let (x, dy) = (draws(11, images * 512), draws(12, images * 128));
    let mut typed_layer = L::build_on_device(&Cpu::default());
    let tensors = fill(&mut typed_layer);
    let typed = typed(&mut typed_layer, BatchNormScope::Joint, [&x, &dy], as_vectors::<512>);
    let bias = tensors.get(1).map(Vec::as_slice);
    let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
    linear::cpu::forward(&layer, &x, &tensors[0], bias, &mut y);
    linear::cpu::backward_input(&layer, &dy, &tensors[0], &mut dx, false);
    let mut of_parameters: Vec<Vec<f32>> = tensors.iter().map(|tensor| vec![f32::NAN; tensor.len()]).collect();
    linear::cpu::backward_weight(&layer, &x, &dy, &mut of_parameters[0]);
    if let Some(of_bias) = of_parameters.get_mut(1) {
        linear::cpu::backward_bias(&layer, &dy, of_bias);
    }
    let cpu = Passes { output: y, of_input: dx, of_parameters, buffers: Vec::new() };
    assert_equal_passes(&format!("{images} vectors"), &cpu, &typed);
}

#[test]
fn linear_layers() {
    for images in [6, 140] {
        check_linear::<Linear<512, 128>>(images);
        check_linear::<UnbiasedLinear<512, 128>>(images);
    }
}
