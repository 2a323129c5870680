use crate::bench::parity::{compare, digest};
use crate::bench::{plans, setting};
use crate::device::emulator::{Emulator, Order};
use crate::executor::cuda::CudaExecutor;
use crate::executor::{Executor, ExecutorError, Setting};
use crate::experiment::recipe::Numerics;
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
