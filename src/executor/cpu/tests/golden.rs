//! Three optimisation steps of the whole model against PyTorch 2.15, torchvision 0.29 and Lightly 1.6 in f64
//! (`tests/golden/simclr_steps.json`): torchvision's ResNet-18, Lightly's head and NT-Xent, each view forwarded on its own.

use serde_json::Value;

use super::build::resnet18;
use super::{executor, values};
use crate::executor::cpu::CpuExecutor;
use crate::executor::{Executor, Setting};
use crate::experiment::recipe::{BatchNormScope, DecayScope, Optimizer, Stem};

fn number(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or(0.0)
}

fn size(value: &Value, field: &str) -> usize {
    number(value, field) as usize
}

fn close(got: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((got - expected).abs() <= tolerance * expected.abs(), "{what}: {got} for {expected}");
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

/// From images × channels × height × width to images × height × width × channels.
fn channels_last(images: &[f32], side: usize) -> Vec<f32> {
    let plane = side * side;
    let image = |image: &[f32]| (0..3 * plane).map(|at| image[at % 3 * plane + at / 3]).collect::<Vec<_>>();
    images.chunks_exact(3 * plane).flat_map(image).collect()
}

fn view(case: &Value, step: u64, view: u64) -> Vec<f32> {
    let (n, side) = (size(case, "n"), size(case, "size"));
    channels_last(&values(50 + 2 * step + view, n * 3 * side * side, 2.0), side)
}

fn build(case: &Value) -> CpuExecutor {
    let stem = if case["stem"] == "cifar" { Stem::Cifar } else { Stem::ImageNet };
    let plan = resnet18(stem, size(case, "size"), 64, size(case, "hidden"), size(case, "out"));
    let sgd = &case["sgd"];
    let optimizer = Optimizer::Sgd {
        momentum: number(sgd, "momentum"),
        nesterov: sgd["nesterov"] == true,
        weight_decay: number(sgd, "weight_decay"),
        decay: DecayScope::All,
    };
    let temperature = number(case, "temperature") as f32;
    let batch_norm_scope = BatchNormScope::View;
    executor(
        plan,
        &Setting { batch: size(case, "n"), temperature, batch_norm_scope, optimizer, ..super::setting(2, 2) },
    )
}

fn check(case: &Value) {
    let mut executor = build(case);
    for (step, tolerance) in [1e-5, 1e-3, 2e-2].into_iter().enumerate() {
        let views: Vec<f32> = (0..2).flat_map(|v| view(case, step as u64, v)).collect();
        let loss = executor.forward_backward(&views).expect("views of the right size");
        let expected = &case["steps"][step];
        close(f64::from(loss), number(expected, "loss"), tolerance, &format!("loss of step {step}"));
        if step == 0 {
            let projections = executor.projections();
            let (first, second) = projections.split_at(projections.len() / 2);
            close(norm(first), number(&expected["z0"], "norm"), 1e-5, "first projections");
            close(norm(second), number(&expected["z1"], "norm"), 1e-5, "second projections");
            check_gradients(&executor, &expected["grads"]);
        }
        executor.update(number(&case["sgd"], "lr"));
    }
    check_running(&executor, &case["running"]);
    let features = executor.features(&view(case, 2, 0)).expect("images of the right size");
    close(norm(&features), number(&case["eval_features"], "norm"), 2e-2, "features");
}

fn check_gradients(executor: &CpuExecutor, expected: &Value) {
    let gradients = executor.gradients();
    for parameter in &executor.plan().parameters {
        let got = norm(&gradients[parameter.range()]);
        close(got, number(&expected[&parameter.name], "norm"), 1e-2, &parameter.name);
    }
}

fn check_running(executor: &CpuExecutor, expected: &Value) {
    let running = executor.save().buffers;
    let mut n_checked = 0;
    for buffer in &executor.plan().buffers {
        let Some(expected) = expected.get(&buffer.name) else { continue };
        let got = norm(&running[buffer.offset..buffer.offset + buffer.len]);
        close(got, number(expected, "norm"), 1e-2, &buffer.name);
        n_checked += 1;
    }
    assert!(n_checked >= 6, "{n_checked} running statistics");
}

fn case(index: usize) -> Value {
    let text = include_str!("../../../../tests/golden/simclr_steps.json");
    serde_json::from_str::<Value>(text).expect("JSON")[index].clone()
}

#[test]
fn image_net_stem() {
    check(&case(0));
}

#[test]
fn cifar_stem() {
    check(&case(1));
}

#[test]
fn image_net_stem_at_64_pixels_with_momentum() {
    check(&case(2));
}

#[test]
fn cifar_stem_with_nesterov_momentum() {
    check(&case(3));
}
