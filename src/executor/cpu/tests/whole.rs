use super::build::{Builder, resnet18, window};
use super::{executor, setting, values};
use crate::executor::cpu::{CpuExecutor, needed_bytes};
use crate::executor::{Executor, ExecutorError};
use crate::experiment::recipe::{BatchNormScope, Stem};
use crate::model::plan::{Activation, Op, Plan, PoolKind, ValueId};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn views(plan: &Plan, batch: usize, seed: u64) -> Vec<f32> {
    values(seed, 2 * batch * plan.shape(plan.input).len(), 2.0)
}

/// Two residual units with both pools and a biased head. `fused` puts residuals and activations into the batch norms.
fn small(activation: Activation, fused: bool) -> Plan {
    let mut builder = Builder::new(8);
    let weights: Vec<_> = [(3, 6), (6, 6), (6, 6)]
        .iter()
        .enumerate()
        .map(|(i, c)| builder.filter(&format!("conv{i}"), c.1, c.0, 3))
        .collect();
    let norms: Vec<_> = (0..3).map(|i| builder.norm(&format!("bn{i}"), 6)).collect();
    let unit = |builder: &mut Builder, index: usize, x: ValueId, residual: Option<ValueId>| {
        let y = builder.convolve(x, weights[index], window(3, 1, 1));
        if fused {
            return builder.normalize(y, norms[index], residual, activation);
        }
        let y = builder.normalize(y, norms[index], None, Activation::Identity);
        let y = residual.map_or(y, |residual| builder.add(y, residual));
        builder.activate(y, activation)
    };
    let x = unit(&mut builder, 0, ValueId(0), None);
    let x = builder.pool(x, window(3, 2, 1), PoolKind::Max);
    let y = unit(&mut builder, 1, x, None);
    let y = unit(&mut builder, 2, y, Some(x));
    // A third reader of x, and an Add whose left side has other readers.
    let pooled = builder.pool(x, window(2, 2, 0), PoolKind::Average);
    let other = builder.pool(y, window(2, 2, 0), PoolKind::Average);
    let sum = builder.add(other, pooled);
    let sum = builder.add(sum, pooled);
    builder.plan.features = builder.average(sum);
    let hidden = builder.linear("head.0", builder.plan.features, 9, true);
    let hidden = builder.activate(hidden, activation);
    builder.plan.projection = builder.linear("head.1", hidden, 5, false);
    builder.plan
}

fn step(plan: Plan, batch: usize, scope: BatchNormScope, threads: usize) -> (f32, CpuExecutor) {
    let mut setting = setting(batch, threads);
    setting.batch_norm_scope = scope;
    let views = views(&plan, batch, 50);
    let mut executor = executor(plan, &setting);
    let loss = executor.forward_backward(&views).expect("views fit");
    (loss, executor)
}

#[test]
fn fused_and_unfused_plans_agree() {
    for activation in [Activation::Relu, Activation::Silu, Activation::Identity] {
        for scope in [BatchNormScope::View, BatchNormScope::Joint] {
            let (loss, fused) = step(small(activation, true), 5, scope, 2);
            let (other_loss, unfused) = step(small(activation, false), 5, scope, 1);
            assert!((loss - other_loss).abs() < 1e-6 * loss, "{activation:?}: {loss} and {other_loss}");
            let (a, b) = (fused.gradients(), unfused.gradients());
            let norm = a.iter().map(|v| v * v).sum::<f32>().sqrt();
            let difference = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            assert!(norm > 0.01 && difference < 2e-6 * norm, "{activation:?}: {difference:e} of {norm:e}");
        }
    }
}

/// The loss moves along the gradient as fast as the gradient says.
#[test]
fn gradients_are_slopes_of_the_loss() {
    for scope in [BatchNormScope::View, BatchNormScope::Joint] {
        let plan = small(Activation::Silu, true);
        let (_, mut executor) = step(plan.clone(), 6, scope, 2);
        let (gradients, start) = (executor.gradients(), executor.save());
        let views = views(&plan, 6, 50);
        for parameter in &plan.parameters {
            let norm = gradients[parameter.range()].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            let reach = 0.01;
            let mut loss_at = |sign: f64| {
                let mut state = start.clone();
                for index in parameter.range() {
                    state.parameters[index] += (sign * reach * f64::from(gradients[index]) / norm) as f32;
                }
                executor.load(&state);
                f64::from(executor.forward_backward(&views).expect("views fit"))
            };
            let slope = (loss_at(1.0) - loss_at(-1.0)) / (2.0 * reach);
            assert!((slope - norm).abs() < 5e-3 * norm + 1e-4, "{}: {slope} for {norm}", parameter.name);
        }
    }
}

#[test]
fn threads_never_change_a_bit() {
    let run = |threads: usize| {
        let plan = resnet18(Stem::ImageNet, 32, 16, 24, 8);
        let views = views(&plan, 70, 51);
        let (_, mut executor) = step(plan, 70, BatchNormScope::View, threads);
        executor.update(0.05);
        let loss = executor.forward_backward(&views).expect("views fit");
        (loss.to_bits(), bits(&executor.gradients()), bits(&executor.projections()), bits(&executor.save().buffers))
    };
    let one = run(1);
    assert!(one == run(2) && one == run(3) && one == run(2));
}

#[test]
fn interrupted_and_resumed_is_uninterrupted() {
    let plan = resnet18(Stem::Cifar, 8, 8, 16, 8);
    let mut whole = executor(plan.clone(), &setting(6, 2));
    let mut first = executor(plan.clone(), &setting(6, 1));
    let train = |executor: &mut CpuExecutor, step: u64| {
        executor.forward_backward(&views(&plan, 6, 50 + step)).expect("views fit");
        executor.update(0.1);
    };
    (0..4).for_each(|step| train(&mut whole, step));
    (0..2).for_each(|step| train(&mut first, step));
    let mut resumed = CpuExecutor::new(plan.clone(), &setting(6, 2)).expect("memory");
    resumed.load(&first.save());
    assert_eq!(resumed.save(), first.save());
    (2..4).for_each(|step| train(&mut resumed, step));
    assert!(whole.save() == resumed.save() && whole.save().step == 4);
}

#[test]
fn features_do_not_depend_on_company() {
    let plan = resnet18(Stem::ImageNet, 32, 8, 16, 8);
    let (_, mut executor) = step(plan.clone(), 4, BatchNormScope::View, 2);
    let before = (executor.projections(), executor.gradients());
    let images = values(77, 259 * 32 * 32 * 3, 2.0);
    let all = executor.features(&images).expect("images fit");
    assert_eq!(all.len(), 259 * plan.feature_width());
    assert!(all.iter().any(|v| *v > 0.0));
    for image in [0, 255, 256, 258] {
        let one = executor.features(&images[image * 3072..][..3072]).expect("an image fits");
        assert_eq!(bits(&one), bits(&all[image * plan.feature_width()..][..plan.feature_width()]), "{image}");
    }
    assert_eq!(executor.features(&[]), Ok(Vec::new()));
    assert!(executor.features(&images[..100]).is_err());
    assert_eq!((executor.projections(), executor.gradients()), before);
}

#[test]
fn wrong_input_is_refused() {
    let refused = |plan: Plan, text: &str| match CpuExecutor::new(plan, &setting(2, 1)) {
        Err(ExecutorError::Device(message)) => assert!(message.contains(text), "{message}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted, expected: {text}"),
    };
    let mut twice = small(Activation::Relu, true);
    let weight = twice.ops.iter().find_map(|op| if let Op::Conv2d { weight, .. } = op { Some(*weight) } else { None });
    let Some(Op::Conv2d { weight: last, .. }) = twice.ops.iter_mut().rfind(|op| matches!(op, Op::Conv2d { .. })) else {
        panic!("a convolution")
    };
    *last = weight.expect("a convolution");
    refused(twice, "`conv0.weight` is used by two operations");
    let mut shapes = small(Activation::Relu, true);
    shapes.values[1] = shapes.values[0];
    refused(shapes, "cannot go from");
    let mut same = Builder::new(2);
    same.plan.projection = same.add(ValueId(0), ValueId(0));
    refused(same.plan, "reads value 0 twice");

    let empty = CpuExecutor::new(small(Activation::Relu, true), &setting(0, 1));
    assert!(matches!(empty, Err(ExecutorError::Device(message)) if message.contains("0 images")));

    let plan = small(Activation::Relu, true);
    let mut executor = executor(plan.clone(), &setting(2, 1));
    assert!(executor.forward_backward(&[0.0; 5]).is_err());
    let huge = CpuExecutor::new(plan.clone(), &setting(1 << 40, 1));
    let Err(ExecutorError::OutOfMemory { needed_bytes: lacking, available_bytes, largest_batch }) = huge else {
        panic!("a batch of 2^40 fits")
    };
    assert!(lacking > available_bytes);
    assert!(needed_bytes(&plan, &setting(largest_batch, 1)) <= available_bytes);
    assert!(needed_bytes(&plan, &setting(largest_batch + 1, 1)) > available_bytes);
    assert!(needed_bytes(&plan, &setting(64, 1)) > needed_bytes(&plan, &setting(32, 1)));
}
