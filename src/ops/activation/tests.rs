use super::*;
use crate::model::plan::{Activation, Shape};
use crate::ops::activation::cpu;
use crate::ops::batch::Batch;

fn check(activation: Activation, reference: fn(f64) -> f64) {
    let batch = Batch::new(Shape::Vector { width: 41 }, 2, 2);
    let x: Vec<f32> = (0..82).map(|i| (i as f32 - 40.5) / 7.0).collect();
    let mut y = vec![f32::NAN; 82];
    cpu::forward(&batch, activation, &x, &mut y);
    let mut gradient: Vec<f32> = (0..82).map(|i| 1.0 + i as f32 / 50.0).collect();
    let dy = gradient.clone();
    cpu::backward(&batch, activation, &x, &y, &mut gradient);
    for i in 0..82 {
        let at = f64::from(x[i]);
        assert!((f64::from(y[i]) - reference(at)).abs() < 1e-6, "{activation:?} at {at}");
        let slope = (reference(at + 1e-6) - reference(at - 1e-6)) / 2e-6;
        assert!((f64::from(gradient[i]) - slope * f64::from(dy[i])).abs() < 1e-5, "{activation:?} slope at {at}");
    }
}

#[test]
fn values_and_slopes() {
    check(Activation::Identity, |x| x);
    check(Activation::Relu, |x| x.max(0.0));
    check(Activation::Silu, |x| x / (1.0 + (-x).exp()));
}

#[test]
fn relu_at_zero_and_not_a_number() {
    let batch = Batch::new(Shape::Vector { width: 3 }, 1, 1);
    let x = [0.0, f32::NAN, -1.0];
    let mut y = [9.0; 3];
    cpu::forward(&batch, Activation::Relu, &x, &mut y);
    assert!(y[0] == 0.0 && y[1].is_nan() && y[2] == 0.0);
    let mut gradient = [1.0; 3];
    cpu::backward(&batch, Activation::Relu, &x, &y, &mut gradient);
    assert_eq!(gradient[0], 0.0);
    assert!(silu_derivative(0.0) == 0.5);
}

#[test]
fn sums() {
    let batch = Batch::new(Shape::Vector { width: 3 }, 1, 1);
    let mut out = [0.0; 3];
    cpu::add(&batch, &[1.0, 2.0, 3.0], &[0.5, 0.25, -3.0], &mut out);
    assert_eq!(out, [1.5, 2.25, 0.0]);
    cpu::accumulate(&batch, &[1.0; 3], &mut out);
    assert_eq!(out, [2.5, 3.25, 1.0]);
}
