//! The whole model against PyTorch, and the gradients of its smooth twin against finite differences.

mod presets;

use serde_json::Value;

use dfdx::tensor::{AsArray, Cpu, Tensor, TensorFromVec, Trace};
use dfdx::tensor_ops::Backward;

use super::ReferenceExecutor;
use super::nt_xent::nt_xent;
use crate::executor::{Executor, Setting, State};
use crate::experiment::recipe::{
    Backbone, BatchNormScope, DecayScope, Head, Initialization, Loss, Model, Numerics, Optimizer, Stem,
};

use crate::model::plan::{ParameterKind, Plan};
use crate::model::{twin, typed};

/// PyTorch 2.15, torchvision 0.29 and Lightly 1.6 in f64: four configurations, three SGD steps each.
const GOLDEN: &str = include_str!("../../../tests/golden/simclr_steps.json");

/// n values in [-1, 1), exact in f32: the upper 24 bits of splitmix64 at seed·2³² + index.
fn uniform(seed: u64, n: usize) -> impl Iterator<Item = f64> {
    (0..n as u64).map(move |index| {
        let mut z = ((seed << 32) + index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f64 / 8_388_608.0 - 1.0
    })
}

/// Parameter p from seed 1000 + p: weights u·√(6/fan_in), batch-norm scale 1 + u/4 and shift u/4, linear bias u/8.
fn golden_fill(plan: &Plan) -> State {
    let fill = |(index, parameter): (usize, &crate::model::plan::Parameter)| {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let value = move |u: f64, kind| match kind {
            ParameterKind::ConvWeight | ParameterKind::LinearWeight => u * (6.0 / fan_in as f64).sqrt(),
            ParameterKind::NormScale => 1.0 + u / 4.0,
            ParameterKind::NormShift => u / 4.0,
            ParameterKind::LinearBias { .. } => u / 8.0,
            ParameterKind::HeldNormShift => 0.0,
        };
        let kind = parameter.kind;
        uniform(1000 + index as u64, parameter.len()).map(move |u| value(u, kind) as f32)
    };
    let parameters = plan.parameters.iter().enumerate().flat_map(fill).collect();
    let buffers = plan.buffers.iter().flat_map(|buffer| vec![buffer.initial; buffer.len]).collect();
    State { parameters, buffers, optimizer: Vec::new(), bank: Vec::new(), step: 0 }
}

/// View `view` of step `step`, height × width × channels.
fn golden_view(step: u64, view: u64, n: usize, side: usize) -> Vec<f32> {
    let channels_first: Vec<f64> = uniform(50 + 2 * step + view, n * 3 * side * side).map(|u| 2.0 * u).collect();
    let area = side * side;
    let pixel = |i: usize| channels_first[(i / (3 * area) * 3 + i % 3) * area + i / 3 % area] as f32;
    (0..channels_first.len()).map(pixel).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// Norm within `bound` of the golden norm, and the golden entries within `bound` of the norm's share of an entry.
fn assert_probe(name: &str, values: &[f32], golden: &Value, bound: f64) {
    let expected = number(&golden["norm"]);
    let found = norm(values);
    assert!((found - expected).abs() <= bound * expected, "{name}: norm {found}, PyTorch {expected}");
    let scale = expected / (values.len() as f64).sqrt();
    for (index, value) in golden["index"].as_array().unwrap().iter().zip(golden["value"].as_array().unwrap()) {
        let found = f64::from(values[index.as_u64().unwrap() as usize]);
        let expected = number(value);
        let off = (found - expected).abs();
        assert!(off <= bound * (10.0 * scale + expected.abs()), "{name}[{index}]: {found}, PyTorch {expected}");
    }
}

struct GoldenRun {
    executor: ReferenceExecutor,
    plan: Plan,
    n: usize,
    side: usize,
}

fn golden_run(golden: &Value) -> GoldenRun {
    let (n, side) = (golden["n"].as_u64().unwrap() as usize, golden["size"].as_u64().unwrap() as usize);
    let stem = if golden["stem"] == "cifar" { Stem::Cifar } else { Stem::ImageNet };
    let width = |key: &str| golden[key].as_u64().unwrap() as u32;
    let (hidden, output) = (width("hidden"), width("out"));
    let model = Model {
        backbone: Backbone::ResNet18 { stem },
        side: side as u32,
        head: Head::Mlp { layers: 2, hidden, output, batch_norm: true, bias: false, output_shift: true },
        initialization: Initialization::Torchvision,
    };
    let sgd = &golden["sgd"];
    let setting = Setting {
        batch: n,
        n_views: 2,
        micro_batch: None,
        loss: Loss::NT_XENT,
        temperature: number(&golden["temperature"]) as f32,
        batch_norm_scope: BatchNormScope::View,
        optimizer: Optimizer::Sgd {
            momentum: sgd["momentum"].as_f64().unwrap_or(0.0),
            nesterov: sgd["nesterov"].as_bool().unwrap_or(false),
            weight_decay: sgd["weight_decay"].as_f64().unwrap_or(0.0),
            decay: DecayScope::All,
        },
        numerics: Numerics::F32,
        threads: 2,
        device: 0,
    };
    let mut executor = ReferenceExecutor::new(&model, &setting).unwrap();
    let plan = executor.plan().clone();
    let optimizer = executor.save().optimizer;
    executor.load(&State { optimizer, ..golden_fill(&plan) });
    GoldenRun { executor, plan, n, side }
}

fn check_golden(index: usize) {
    let all: Value = serde_json::from_str(GOLDEN).unwrap();
    let golden = &all[index];
    let GoldenRun { mut executor, plan, n, side } = golden_run(golden);
    let learning_rate = number(&golden["sgd"]["lr"]);
    for (step, bound) in [1e-5, 1e-3, 2e-2].into_iter().enumerate() {
        let views = [golden_view(step as u64, 0, n, side), golden_view(step as u64, 1, n, side)].concat();
        let loss = f64::from(executor.forward_backward(&views).unwrap());
        let expected = number(&golden["steps"][step]["loss"]);
        assert!((loss - expected).abs() <= bound * expected, "step {step}: loss {loss}, PyTorch {expected}");
        if step == 0 {
            check_first_step(&executor, &plan, &golden["steps"][0]);
        }
        executor.update(learning_rate);
    }
    let state = executor.save();
    for (name, golden) in golden["running"].as_object().unwrap() {
        let buffer = plan.buffers.iter().find(|buffer| &buffer.name == name).expect("PyTorch's name of a buffer");
        assert_probe(name, &state.buffers[buffer.offset..][..buffer.len], golden, 1e-2);
    }
    let features = executor.features(&golden_view(2, 0, n, side)).unwrap();
    assert_probe("features", &features, &golden["eval_features"], 2e-2);
}

fn check_first_step(executor: &ReferenceExecutor, plan: &Plan, golden: &Value) {
    let projections = executor.projections();
    let (first, second) = projections.split_at(projections.len() / 2);
    assert_probe("first projections", first, &golden["z0"], 1e-4);
    assert_probe("second projections", second, &golden["z1"], 1e-4);
    let gradients = executor.gradients();
    let names: Vec<&String> = golden["grads"].as_object().unwrap().keys().collect();
    let own_names: Vec<&String> = plan.parameters.iter().map(|parameter| &parameter.name).collect();
    assert_eq!(own_names, names, "names and order are those of PyTorch");
    for parameter in &plan.parameters {
        assert_probe(&parameter.name, &gradients[parameter.range()], &golden["grads"][&parameter.name], 1e-2);
    }
}

#[test]
fn imagenet_stem_trains_as_in_pytorch() {
    check_golden(0);
}

#[test]
fn cifar_stem_trains_as_in_pytorch() {
    check_golden(1);
}

#[test]
fn wide_head_on_64_pixels_trains_as_in_pytorch() {
    check_golden(2);
}

#[test]
fn nesterov_on_the_cifar_stem_trains_as_in_pytorch() {
    check_golden(3);
}

fn twin_executor(scope: BatchNormScope, threads: usize) -> ReferenceExecutor {
    let (backbone, head) = twin::small();
    let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0, decay: DecayScope::All };
    let setting = Setting {
        batch: 6,
        n_views: 2,
        micro_batch: None,
        loss: Loss::NT_XENT,
        temperature: 0.5,
        batch_norm_scope: scope,
        optimizer,
        numerics: Numerics::F32,
        threads,
        device: 0,
    };
    let mut executor = ReferenceExecutor::of_model(typed::build(&backbone, Some(&head)), &setting);
    let state = golden_fill(&executor.plan().clone());
    executor.load(&state);
    executor
}

fn twin_views() -> Vec<f32> {
    [golden_view(0, 0, 6, twin::SMALL_SIDE), golden_view(0, 1, 6, twin::SMALL_SIDE)].concat()
}

/// Along the gradient and a random direction at once, both of length 1, tensor by tensor.
fn check_slopes(scope: BatchNormScope) {
    let mut executor = twin_executor(scope, 1);
    let (views, state) = (twin_views(), executor.save());
    executor.forward_backward(&views).unwrap();
    let gradients = executor.gradients();
    for (index, parameter) in executor.plan().parameters.clone().iter().enumerate() {
        let gradient = &gradients[parameter.range()];
        let random: Vec<f32> = uniform(2000 + index as u64, parameter.len()).map(|u| u as f32).collect();
        let (own, other) = (norm(gradient), norm(&random));
        let direction: Vec<f64> =
            gradient.iter().zip(&random).map(|(&g, &r)| f64::from(g) / own + f64::from(r) / other).collect();
        let expected: f64 = gradient.iter().zip(&direction).map(|(&g, d)| f64::from(g) * d).sum();
        let step = 0.01 * norm(&state.parameters[parameter.range()]).min(1.0);
        let mut loss_at = |step: f64| {
            let mut moved = state.clone();
            for (value, d) in moved.parameters[parameter.range()].iter_mut().zip(&direction) {
                *value = (f64::from(*value) + step * d) as f32;
            }
            executor.load(&moved);
            f64::from(executor.forward_backward(&views).unwrap())
        };
        let slope =
            (8.0 * (loss_at(step) - loss_at(-step)) - loss_at(2.0 * step) + loss_at(-2.0 * step)) / (12.0 * step);
        let bound = 5e-3 * expected.abs() + 2e-5;
        assert!((slope - expected).abs() < bound, "{}: slope {slope}, gradient {expected}", parameter.name);
    }
}

#[test]
fn gradients_of_the_twin_are_its_slopes() {
    check_slopes(BatchNormScope::View);
    check_slopes(BatchNormScope::Joint);
}

/// The views' statistics differ, so the scope shows in every number; running statistics move once or twice.
#[test]
fn the_scope_of_batch_norm_decides_whose_statistics_count() {
    let views = twin_views();
    let step = |scope| {
        let mut executor = twin_executor(scope, 1);
        (executor.forward_backward(&views).unwrap(), executor.projections(), executor.save().buffers)
    };
    let (by_view, joint) = (step(BatchNormScope::View), step(BatchNormScope::Joint));
    assert_ne!(by_view.0, joint.0);
    assert_ne!(by_view.1, joint.1);
    let mut first_then_second = twin_executor(BatchNormScope::Joint, 1);
    for view in views.chunks(views.len() / 2) {
        first_then_second.forward_backward(view).unwrap();
    }
    assert_eq!(first_then_second.save().buffers, by_view.2, "view 0 moves the running statistics before view 1");
}

#[test]
fn threads_change_no_bit() {
    let run = |threads| {
        let mut executor = twin_executor(BatchNormScope::View, threads);
        let loss = executor.forward_backward(&twin_views()).unwrap();
        executor.update(0.1);
        (loss, executor.gradients(), executor.save(), executor.features(&twin_views()).unwrap())
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn features_do_not_depend_on_their_company() {
    let mut executor = twin_executor(BatchNormScope::View, 1);
    let images = golden_view(0, 0, 70, twin::SMALL_SIDE);
    let all = executor.features(&images).unwrap();
    assert_eq!(all.len(), 70 * 16);
    let image_len = 3 * twin::SMALL_SIDE * twin::SMALL_SIDE;
    let last = executor.features(&images[69 * image_len..]).unwrap();
    for (alone, together) in last.iter().zip(&all[69 * 16..]) {
        assert!((alone - together).abs() <= 1e-6 * together.abs().max(1.0), "{alone} alone, {together} together");
    }
    assert_eq!(executor.features(&[]).unwrap(), Vec::<f32>::new());
}

/// The loss as the paper writes it, in f64.
fn exact_loss(projections: &[f32], width: usize, temperature: f64) -> f64 {
    let rows: Vec<Vec<f64>> = projections
        .chunks(width)
        .map(|row| row.iter().map(|&x| f64::from(x) / norm(row).max(1e-12)).collect())
        .collect();
    let logit = |i: usize, j: usize| rows[i].iter().zip(&rows[j]).map(|(a, b)| a * b).sum::<f64>() / temperature;
    let n = rows.len();
    let term = |i: usize| {
        let others: Vec<f64> = (0..n).filter(|&k| k != i).map(|k| logit(i, k)).collect();
        let largest = others.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = others.iter().map(|other| (other - largest).exp()).sum();
        largest + sum.ln() - logit(i, (i + n / 2) % n)
    };
    (0..n).map(term).sum::<f64>() / n as f64
}

/// Down to T = 0.01, for views that agree, differ, or are 0.
#[test]
fn the_loss_is_finite_and_that_of_the_paper() {
    let random: Vec<f32> = uniform(7, 12 * 5).map(|u| u as f32).collect();
    let equal = [&random[..30], &random[..30]].concat();
    let with_zeros = [&[0.0; 5], &random[5..]].concat();
    for temperature in [0.01, 0.07, 0.5, 1.0] {
        for values in [&random, &equal, &with_zeros] {
            let leaf: Tensor<(usize, usize), f32, Cpu> = Cpu::default().tensor_from_vec(values.clone(), (12, 5));
            let loss = nt_xent(leaf.leaky_trace(), temperature, true).unwrap();
            let (found, expected) = (f64::from(loss.array()), exact_loss(values, 5, f64::from(temperature)));
            assert!(
                (found - expected).abs() <= 2e-5 * expected.abs().max(1.0),
                "T {temperature}: {found}, not {expected}"
            );
            let gradient = loss.backward().get(&leaf).as_vec();
            assert!(gradient.iter().all(|x| x.is_finite()), "T {temperature}: {gradient:?}");
        }
    }
}

/// What the compiler says of a side and what the layers do at run time is the same.
#[test]
fn models_of_several_sides_evaluate() {
    for (stem, side) in [(Stem::ImageNet, 32), (Stem::ImageNet, 96), (Stem::ImageNet, 128), (Stem::Cifar, 32)] {
        let initialization = Initialization::Torchvision;
        let model = Model { backbone: Backbone::ResNet18 { stem }, side, head: Head::None, initialization };
        let setting = Setting {
            batch: 1,
            n_views: 2,
            micro_batch: None,
            loss: Loss::NT_XENT,
            temperature: 0.5,
            batch_norm_scope: BatchNormScope::Joint,
            optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0, decay: DecayScope::All },
            numerics: Numerics::F32,
            threads: 2,
            device: 0,
        };
        let mut executor = ReferenceExecutor::new(&model, &setting).unwrap();
        let state = golden_fill(&executor.plan().clone());
        executor.load(&state);
        let features = executor.features(&golden_view(0, 0, 1, side as usize)).unwrap();
        assert_eq!(features.len(), 512);
        assert!(norm(&features).is_finite() && norm(&features) > 0.0, "{stem:?} {side}");
    }
}
