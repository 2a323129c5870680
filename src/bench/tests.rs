use std::collections::BTreeSet;

use crate::bench::operations::{self, Kind, Operation, Pass};
use crate::bench::parity::{compare, digest, each_loss};
use crate::bench::speed::{self, Subject};
use crate::bench::{plan, plans, setting, views};
use crate::data;
use crate::device::emulator::{Emulator, Order};
use crate::executor::cuda::CudaExecutor;
use crate::executor::{Executor, ExecutorError, Setting};
use crate::experiment::recipe::{Backend, Builtin, Dataset, Numerics, Split, Stem};
use crate::model::plan::Plan;

fn emulated(plan: Plan, setting: &Setting) -> Result<Box<dyn Executor>, ExecutorError> {
    Ok(Box::new(CudaExecutor::new(Box::new(Emulator::new(Order::FORWARD)), plan, setting)?))
}

/// The check that a GPU machine runs, on the emulated device: every operation in f32.
#[test]
fn every_operation_agrees_with_the_cpu() {
    let setting = setting(2, Numerics::F32, 2, 0);
    for (name, plan) in plans::operations(8) {
        let found = compare(&name, &plan, &setting, &mut emulated).expect("a plan for the emulation");
        assert!(found.loss < 1e-5 && found.features < 1e-5 && found.running < 1e-5, "{found:?}");
        assert!(found.gradient < 2e-5 && found.worst_cosine > 0.999, "{found:?}");
    }
}

#[test]
fn every_loss_agrees_with_the_cpu() {
    for found in each_loss(8, &setting(6, Numerics::F32, 2, 0), &mut emulated).expect("a plan for the emulation") {
        assert!(found.loss < 1e-5 && found.features < 1e-5 && found.running < 1e-5, "{found:?}");
        assert!(found.gradient < 5e-5 && found.worst_cosine > 0.999, "{found:?}");
    }
}

/// With bf16 activations every operation stays within what their rounding explains.
#[test]
fn every_operation_in_bf16_stays_near_the_cpu() {
    let setting = setting(2, Numerics::Bf16, 2, 0);
    for (name, plan) in plans::operations(8) {
        let found = compare(&name, &plan, &setting, &mut emulated).expect("a plan for the emulation");
        assert!(found.loss < 0.01 && found.features < 0.02 && found.running < 0.01, "{found:?}");
        assert!(found.gradient < 0.06 && found.worst_cosine > 0.99, "{found:?}");
    }
}

#[test]
fn equal_steps_have_equal_digests() {
    let setting = setting(2, Numerics::Bf16, 1, 0);
    let (_, plan) = plans::operations(8).swap_remove(5);
    let run = |n_steps| {
        let mut executor = emulated(plan.clone(), &setting).expect("a plan for the emulation");
        digest(&plan, &setting, executor.as_mut(), n_steps).expect("steps")
    };
    assert!(run(2) == run(2) && run(1) != run(2));
}

fn subject(batch: usize) -> Subject {
    Subject {
        stem: Stem::ImageNet,
        batch,
        numerics: Numerics::F32,
        backend: Backend::Cpu,
        device: 0,
        threads: 2,
        jobs: 1,
        seconds: 0.0,
    }
}

/// With 0 seconds one step is measured, so that the parts of the answer are those of one step.
#[test]
fn the_parts_of_a_step_are_within_it() {
    let builtin = Builtin { n_classes: 2, train_per_class: 4, test_per_class: 1, seed: 0 };
    let data = data::load(&Dataset::Builtin(builtin), Split::Official).expect("the built-in data");
    let speed = speed::train(&subject(2), &data.train.images, &views()).expect("a measured step");
    assert_eq!(speed.steps, 1);
    let known = |part: Option<f64>| part.expect("the cpu executor times its parts");
    let phases = [speed.forward_ms, speed.loss_ms, speed.backward_ms].map(known);
    assert!(phases.iter().all(|ms| *ms > 0.0), "{speed:?}");
    let gradient = known(speed.gradient_ms);
    assert!(phases.iter().sum::<f64>() <= gradient, "{speed:?}");
    assert!(known(speed.views_ms) + gradient + known(speed.update_ms) <= speed.step_ms, "{speed:?}");
    let reference = Subject { backend: Backend::Reference, ..subject(2) };
    let speed = speed::train(&reference, &data.train.images, &views()).expect("a measured step");
    assert!(speed.gradient_ms.is_some() && speed.forward_ms.is_none(), "{speed:?}");
}

#[test]
fn every_operation_of_a_step_is_timed() {
    let step = operations::time(&subject(2)).expect("a measured step");
    let plan = plan(Stem::ImageNet).expect("a compiled model");
    assert_eq!((step.steps, step.operations.len()), (1, plan.ops.len()));
    let passes: Vec<_> = step.operations.iter().flat_map(Operation::passes).flatten().collect();
    assert!(passes.iter().all(|pass| pass.ms > 0.0 && pass.floor_ms > 0.0), "{step:?}");
    let in_operations: f64 = passes.iter().map(|pass| pass.ms).sum();
    assert!(in_operations + step.loss_ms + step.update_ms <= step.step_ms, "{step:?}");
    let names: Vec<&str> = step.operations.iter().map(|operation| operation.name.as_str()).collect();
    assert_eq!(names[..4], ["conv1", "bn1", "max-pool", "layer1.0.conv1"]);
    assert_eq!(names[names.len() - 4..].first(), Some(&"projection_head.layers.0"), "{names:?}");
    let parameters: usize = names.iter().collect::<BTreeSet<_>>().len();
    assert_eq!(parameters, names.len(), "names are told apart: {names:?}");
    assert_eq!(step.operations[3].what, "3x3 64x8x8 -> 64x8x8");
    let linear = |operation: &&Operation| operation.kind == Kind::Linear;
    assert_eq!(step.operations.iter().filter(linear).count(), 2);
}

#[test]
fn passes_add_up() {
    let pass = |flop| Pass { ms: 2.0, flop, bytes: 8.0, floor_ms: 1.0 };
    let sum = Pass::sum([pass(Some(4e6)), pass(None)].into_iter()).expect("two passes");
    assert_eq!(sum, Pass { ms: 4.0, flop: Some(4e6), bytes: 16.0, floor_ms: 2.0 });
    assert_eq!((sum.share(), sum.gflop_per_s()), (0.5, Some(1.0)));
    assert_eq!(Pass::sum(std::iter::empty()), None);
}
