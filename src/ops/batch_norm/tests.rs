use super::*;
use crate::model::plan::{Activation, Shape};
use crate::ops::batch_norm::cpu::{Affine, Derivative};
use crate::ops::batch_norm::input_gradient::{self, InputGradient};
use crate::random::{Address, Purpose, Stream};

fn draw(n: usize, salt: u32) -> Vec<f32> {
    let mut stream = Stream::new(2, Address { example: salt, ..Address::of(Purpose::View) });
    (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect()
}

/// One case: everything a plain f64 forward pass needs.
struct Case {
    batch: Batch,
    scope: BatchNormScope,
    activation: Activation,
    x: Vec<f32>,
    residual: Option<Vec<f32>>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Case {
    fn new(shape: Shape, images: usize, scope: BatchNormScope, activation: Activation, with_residual: bool) -> Case {
        let batch = Batch::new(shape, images, 2);
        // Views differ and the mean is far from 0, so that a wrong group or a careless variance shows.
        let view = |at: usize| if at / batch.row_len() % images < images / 2 { 30.0 } else { -20.0 };
        let x = draw(batch.len(), 1).iter().enumerate().map(|(at, x)| x * 0.5 + view(at)).collect();
        let residual = with_residual.then(|| draw(batch.len(), 2));
        let scale = draw(batch.channels, 3).iter().map(|s| s + 1.5).collect();
        Case { batch, scope, activation, x, residual, scale, shift: draw(batch.channels, 4) }
    }

    /// Values that share a channel and group with the one at `at`.
    fn group(&self, at: usize) -> Vec<usize> {
        let Batch { images, channels, .. } = self.batch;
        let view = |at: usize| at / self.batch.row_len() % images / (images / 2);
        let same = |other: &usize| {
            other % channels == at % channels && (self.scope == BatchNormScope::Joint || view(*other) == view(at))
        };
        (0..self.x.len()).filter(same).collect()
    }

    fn forward(&self, x: &[f64], scale: &[f64], shift: &[f64]) -> Vec<f64> {
        let mut y = vec![f64::NAN; x.len()];
        for at in 0..x.len() {
            if !y[at].is_nan() {
                continue;
            }
            let group = self.group(at);
            let mean = group.iter().map(|i| x[*i]).sum::<f64>() / group.len() as f64;
            let var = group.iter().map(|i| (x[*i] - mean).powi(2)).sum::<f64>() / group.len() as f64;
            for i in group {
                let channel = i % self.batch.channels;
                let residual = self.residual.as_ref().map_or(0.0, |residual| f64::from(residual[i]));
                let z = scale[channel] * (x[i] - mean) / (var + EPSILON).sqrt() + shift[channel] + residual;
                y[i] = match self.activation {
                    Activation::Identity => z,
                    Activation::Relu => z.max(0.0),
                    Activation::Silu => z / (1.0 + (-z).exp()),
                };
            }
        }
        y
    }

    /// Central difference of Σ dy · y along one coordinate of x (0), scale (1) or shift (2).
    fn slope(&self, which: usize, at: usize, dy: &[f32]) -> f64 {
        let wide = |data: &[f32]| data.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let loss = |step: f64| -> f64 {
            let mut inputs = [wide(&self.x), wide(&self.scale), wide(&self.shift)];
            inputs[which][at] += step;
            let [x, scale, shift] = &inputs;
            self.forward(x, scale, shift).iter().zip(dy).map(|(y, dy)| y * f64::from(*dy)).sum()
        };
        (loss(1e-5) - loss(-1e-5)) / 2e-5
    }
}

fn close(got: f32, expected: f64, tolerance: f64, what: &str) {
    assert!((f64::from(got) - expected).abs() <= tolerance * (1.0 + expected.abs()), "{what}: {got} for {expected}");
}

fn check(case: &Case, places: &[usize]) {
    let Case { batch, activation, x, scale, shift, .. } = case;
    let what = format!("{batch:?} {:?} {activation:?}", case.scope);
    let affine = Affine { scale, shift };
    let mut norm = Normalization::new(*batch, case.scope);
    let (mut running_mean, mut running_var) = (vec![0.5; batch.channels], vec![2.0; batch.channels]);
    cpu::sum(&mut norm, x);
    norm.finish_statistics(Some([&mut running_mean, &mut running_var]));
    let mut y = vec![f32::NAN; x.len()];
    cpu::forward(&norm, affine, *activation, x, case.residual.as_deref(), &mut y);
    let wide = |data: &[f32]| data.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    for (got, expected) in y.iter().zip(case.forward(&wide(x), &wide(scale), &wide(shift))) {
        close(*got, expected, 2e-5, &what);
    }
    check_running(case, &running_mean, &running_var);

    let dy = draw(x.len(), 9);
    let mut dz = dy.clone();
    let residual = case.residual.as_deref();
    let derivative = match (activation, residual) {
        (Activation::Identity, _) => Derivative::Identity,
        (Activation::Relu, None) => Derivative::ReluOfInput,
        (Activation::Relu, Some(_)) => Derivative::ReluOfOutput { y: &y },
        (Activation::Silu, residual) => Derivative::Silu { residual },
    };
    cpu::backward_sums(&mut norm, affine, x, derivative, &mut dz);
    let (mut d_scale, mut d_shift) = (vec![f32::NAN; batch.channels], vec![f32::NAN; batch.channels]);
    norm.finish_gradients(&mut d_scale, &mut d_shift);
    let mut dx = vec![f32::NAN; x.len()];
    input_gradient::backward_input(&norm, affine, x, derivative, &mut dz, InputGradient::Write(&mut dx));
    let mut twice = dx.clone();
    input_gradient::backward_input(&norm, affine, x, derivative, &mut dz, InputGradient::Accumulate(&mut twice));
    input_gradient::backward_input(&norm, affine, x, derivative, &mut dz, InputGradient::InPlace);
    assert_eq!(dz, dx, "in place: {what}");
    assert!(twice.iter().zip(&dx).all(|(twice, dx)| *twice == 2.0 * dx), "accumulated: {what}");
    for at in places.iter().filter(|at| **at < x.len()) {
        close(dx[*at], case.slope(0, *at, &dy), 1e-4, &format!("dx[{at}] of {what}"));
    }
    for channel in [0, batch.channels - 1] {
        close(d_scale[channel], case.slope(1, channel, &dy), 1e-4, &format!("dscale of {what}"));
        close(d_shift[channel], case.slope(2, channel, &dy), 1e-4, &format!("dshift of {what}"));
    }
}

/// Running statistics start at 0.5 and 2 and take a tenth of each group's mean and unbiased variance, in order.
fn check_running(case: &Case, running_mean: &[f32], running_var: &[f32]) {
    let half = case.batch.images / 2 * case.batch.row_len();
    let groups = match case.scope {
        BatchNormScope::View | BatchNormScope::MicroBatchView => vec![case.group(0), case.group(half)],
        BatchNormScope::Joint | BatchNormScope::MicroBatchJoint => vec![case.group(0)],
    };
    let (mut mean, mut var) = (0.5, 2.0);
    for group in groups {
        let n = group.len() as f64;
        let average = group.iter().map(|i| f64::from(case.x[*i])).sum::<f64>() / n;
        let squares = group.iter().map(|i| (f64::from(case.x[*i]) - average).powi(2)).sum::<f64>();
        mean = 0.9 * mean + 0.1 * average;
        var = 0.9 * var + 0.1 * squares / (n - 1.0);
    }
    close(running_mean[0], mean, 1e-6, "running mean");
    close(running_var[0], var, 1e-6, "running variance");
}

#[test]
fn forward_backward_and_running_statistics() {
    let map = Shape::Map { channels: 19, height: 2, width: 3 };
    for scope in [BatchNormScope::View, BatchNormScope::Joint] {
        for activation in [Activation::Identity, Activation::Silu, Activation::Relu] {
            for residual in [false, true] {
                check(&Case::new(map, 6, scope, activation, residual), &[0, 18, 100, 683]);
            }
        }
        check(&Case::new(Shape::Vector { width: 33 }, 10, scope, Activation::Relu, false), &[0, 32, 329]);
        check(&Case::new(Shape::Vector { width: 2 }, 260, scope, Activation::Identity, true), &[0, 130, 519]);
    }
}

#[test]
fn evaluation_uses_the_running_statistics() {
    let batch = Batch::new(Shape::Vector { width: 2 }, 3, 1);
    let mut statistics = Statistics::new(2);
    statistics.set_running(&[1.0, -1.0], &[4.0, 0.25]);
    let affine = Affine { scale: &[2.0, 1.0], shift: &[0.0, 1.0] };
    let mut y = [f32::NAN; 6];
    cpu::evaluate(&batch, affine, &statistics, Activation::Relu, (&[3.0, -1.0, 0.0, 0.0, 1.0, -2.0], None), &mut y);
    for (got, expected) in y.iter().zip([2.0, 1.0, 0.0, 3.0, 0.0, 0.0]) {
        close(*got, expected, 1e-4, "evaluation");
    }
}

#[test]
fn a_single_number_has_no_variance() {
    let mut norm = Normalization::new(Batch::new(Shape::Vector { width: 1 }, 2, 2), BatchNormScope::View);
    let (mut mean, mut var) = ([0.0], [1.0]);
    cpu::sum(&mut norm, &[3.0, 5.0]);
    norm.finish_statistics(Some([&mut mean, &mut var]));
    assert!((mean[0] - 0.77).abs() < 1e-6 && (var[0] - 0.81).abs() < 1e-6, "{mean:?} {var:?}");
}
