//! A batch in pieces: the gradient of the whole batch's loss, the same bits for any number of threads, in less memory.

use super::build::{Builder, resnet18, window};
use super::{executor, setting, values};
use crate::executor::cpu::{CpuExecutor, needed_bytes};
use crate::executor::{Executor, ExecutorError, Setting};
use crate::experiment::recipe::{BatchNormScope, Stem};
use crate::model::plan::{Activation, Plan, PoolKind, ValueId};

const SCOPES: [BatchNormScope; 2] = [BatchNormScope::MicroBatchView, BatchNormScope::MicroBatchJoint];

fn in_pieces(batch: usize, images: usize, scope: BatchNormScope, threads: usize) -> Setting {
    Setting { micro_batch: Some(images), batch_norm_scope: scope, ..setting(batch, threads) }
}

fn views(plan: &Plan, batch: usize, seed: u64) -> Vec<f32> {
    values(seed, 2 * batch * plan.shape(plan.input).len(), 2.0)
}

fn stepped(plan: &Plan, setting: &Setting) -> (f32, CpuExecutor) {
    let mut executor = executor(plan.clone(), setting);
    let loss = executor.forward_backward(&views(plan, setting.batch, 50)).expect("views fit");
    (loss, executor)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// ‖a − b‖/‖b‖ in f64.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |value: f64| value * value;
    let norm = b.iter().map(|b| square(f64::from(*b))).sum::<f64>().sqrt();
    let difference = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum::<f64>().sqrt();
    difference / norm
}

/// Two convolutions, a residual, pools and a biased head, with a batch norm behind each convolution or none at all.
fn small(with_norms: bool) -> Plan {
    let mut builder = Builder::new(8);
    let weights = [3, 6].map(|inputs| builder.filter(&format!("conv{inputs}"), 6, inputs, 3));
    let norms = [0, 1].map(|index| with_norms.then(|| builder.norm(&format!("bn{index}"), 6)));
    let layer = |builder: &mut Builder, index: usize, x: ValueId| {
        let y = builder.convolve(x, weights[index], window(3, 1, 1));
        match norms[index] {
            Some(norm) => builder.normalize(y, norm, None, Activation::Silu),
            None => builder.activate(y, Activation::Silu),
        }
    };
    let x = layer(&mut builder, 0, ValueId(0));
    let x = builder.pool(x, window(3, 2, 1), PoolKind::Max);
    let y = layer(&mut builder, 1, x);
    let sum = builder.add(y, x);
    builder.plan.features = builder.average(sum);
    let hidden = builder.linear("head.0", builder.plan.features, 9, true);
    let hidden = builder.activate(hidden, Activation::Silu);
    builder.plan.projection = builder.linear("head.1", hidden, 5, false);
    builder.plan
}

/// Without batch norms an image's embedding does not depend on its company, and pieces change nothing but roundings.
#[test]
fn without_batch_norms_pieces_give_the_gradient_of_the_whole_batch() {
    let plan = small(false);
    for batch in [12, 150] {
        let (loss, whole) = stepped(&plan, &setting(batch, 2));
        for images in [2, 3, batch / 2] {
            let (other_loss, pieces) = stepped(&plan, &in_pieces(batch, images, BatchNormScope::MicroBatchView, 2));
            assert_eq!((other_loss.to_bits(), pieces.projections()), (loss.to_bits(), whole.projections()));
            let (own, expected) = (pieces.gradients(), whole.gradients());
            let of_all = distance(&own, &expected);
            assert!(of_all < 1e-6, "pieces of {images} of {batch}: {of_all:e}");
            for parameter in &plan.parameters {
                // A sum over the batch in which much cancels: its rounding is larger than that of its terms.
                let of_one = distance(&own[parameter.range()], &expected[parameter.range()]);
                assert!(of_one < 3e-6, "{} in pieces of {images} of {batch}: {of_one:e}", parameter.name);
            }
        }
    }
}

/// With batch norms in pieces the loss is another function of the parameters, and moves along its gradient as fast as that says.
#[test]
fn gradients_are_slopes_of_the_loss_in_pieces() {
    let plan = small(true);
    for scope in SCOPES {
        let (_, mut executor) = stepped(&plan, &in_pieces(12, 4, scope, 2));
        let (gradients, start) = (executor.gradients(), executor.save());
        let views = views(&plan, 12, 50);
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

/// The views of one piece, first views first.
fn views_of_piece(plan: &Plan, views: &[f32], batch: usize, piece: usize, images: usize) -> Vec<f32> {
    let len = plan.shape(plan.input).len();
    (0..2).flat_map(|view| &views[(view * batch + piece * images) * len..][..images * len]).copied().collect()
}

/// A piece is embedded as a batch of its size, and the running statistics are those of the pieces seen one after another, once.
#[test]
fn a_piece_is_seen_as_a_batch_of_its_size() {
    let plan = resnet18(Stem::Cifar, 8, 8, 16, 8);
    let (batch, images, width) = (6, 2, plan.projection_width());
    for (scope, undivided) in SCOPES.into_iter().zip([BatchNormScope::View, BatchNormScope::Joint]) {
        let (_, pieces) = stepped(&plan, &in_pieces(batch, images, scope, 2));
        let mut small = executor(plan.clone(), &Setting { batch_norm_scope: undivided, ..setting(images, 1) });
        let views = views(&plan, batch, 50);
        for piece in 0..batch / images {
            small.forward_backward(&views_of_piece(&plan, &views, batch, piece, images)).expect("views fit");
            let (own, all) = (small.projections(), pieces.projections());
            for view in 0..2 {
                let rows = &all[(view * batch + piece * images) * width..][..images * width];
                assert_eq!(
                    bits(rows),
                    bits(&own[view * images * width..][..images * width]),
                    "{scope:?}, piece {piece}"
                );
            }
        }
        assert_eq!(bits(&pieces.save().buffers), bits(&small.save().buffers), "{scope:?}");
    }
}

#[test]
fn scopes_and_sizes_of_pieces_differ() {
    let plan = small(true);
    let of = |images, scope| bits(&stepped(&plan, &in_pieces(12, images, scope, 2)).1.gradients());
    let all =
        [of(2, SCOPES[0]), of(4, SCOPES[0]), of(4, SCOPES[1]), bits(&stepped(&plan, &setting(12, 2)).1.gradients())];
    for (index, one) in all.iter().enumerate() {
        assert!(all[..index].iter().all(|other| other != one), "{index}");
    }
}

#[test]
fn threads_never_change_a_bit_of_pieces() {
    let run = |threads: usize| {
        let plan = resnet18(Stem::ImageNet, 32, 8, 16, 8);
        let (_, mut executor) = stepped(&plan, &in_pieces(140, 70, BatchNormScope::MicroBatchView, threads));
        executor.update(0.05);
        let loss = executor.forward_backward(&views(&plan, 140, 51)).expect("views fit");
        (loss.to_bits(), bits(&executor.gradients()), bits(&executor.projections()), bits(&executor.save().buffers))
    };
    let one = run(1);
    assert!(one == run(2) && one == run(3));
}

#[test]
fn interrupted_and_resumed_in_pieces_is_uninterrupted() {
    let plan = resnet18(Stem::Cifar, 8, 8, 16, 8);
    let setting = |threads| in_pieces(6, 2, BatchNormScope::MicroBatchJoint, threads);
    let mut whole = executor(plan.clone(), &setting(2));
    let mut first = executor(plan.clone(), &setting(1));
    let train = |executor: &mut CpuExecutor, step: u64| {
        executor.forward_backward(&views(&plan, 6, 50 + step)).expect("views fit");
        executor.update(0.1);
    };
    (0..4).for_each(|step| train(&mut whole, step));
    (0..2).for_each(|step| train(&mut first, step));
    let mut resumed = CpuExecutor::new(plan.clone(), &setting(2)).expect("memory");
    resumed.load(&first.save());
    (2..4).for_each(|step| train(&mut resumed, step));
    assert!(whole.save() == resumed.save() && whole.save().step == 4);
}

#[test]
fn pieces_need_less_memory_and_divide_the_batch() {
    let plan = resnet18(Stem::ImageNet, 32, 16, 24, 8);
    let in_pieces = |batch, images| in_pieces(batch, images, BatchNormScope::MicroBatchView, 1);
    let needed = |setting: &Setting| needed_bytes(&plan, setting);
    assert!(4 * needed(&in_pieces(4096, 256)) < needed(&setting(4096, 1)));
    // What is beyond a piece: projections and their gradients, and the sums over pieces.
    let beyond = 4 * (2 * 2 * 4096 * 8 - 2 * 256 * 8 + plan.n_parameters()) as u64;
    assert_eq!(needed(&in_pieces(4096, 256)), needed(&setting(256, 1)) + beyond);
    for (batch, images) in [(8, 3), (8, 0), (8, 16)] {
        let refused = CpuExecutor::new(plan.clone(), &in_pieces(batch, images));
        assert!(matches!(refused, Err(ExecutorError::Device(message)) if message.contains("pieces")), "{images}");
    }
    let (_, mut executor) = stepped(&small(true), &in_pieces(4, 2));
    assert!(executor.forward_backward(&values(1, 2 * 2 * 8 * 8 * 3, 1.0)).is_err(), "the views of one piece alone");
}
