use super::{bits, setting, smooth, start, views};
use crate::device::cuda::convolutions::description;
use crate::device::cuda::plan_lock::{EngineChoice, PlanLock};
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::Gpu;
use crate::executor::cuda::{CudaExecutor, convolutions};
use crate::executor::{Executor, Setting};
use crate::experiment::recipe::{Numerics, Stem};

/// A step of an executor that was built with a lock: what it says of its engines, the loss and the state.
fn stepped(lock: &PlanLock, setting: &Setting) -> (Vec<(String, String)>, f32, Vec<u32>) {
    let plan = smooth(Stem::Cifar, 16);
    let mut gpu = Emulator::new(Order::FORWARD);
    gpu.lock_plans(lock);
    let mut executor = CudaExecutor::new(Box::new(gpu), plan.clone(), setting).expect("a plan for the emulation");
    executor.load(&start(&plan, setting));
    let loss = executor.forward_backward(&views(&plan, setting.batch, 1)).expect("views fit");
    executor.update(0.05);
    let choices = executor.device().choices();
    (choices, loss, bits(&executor.save()))
}

/// Both with the batch in one piece and in several: every convolution that an executor prepares is known before, and
/// no other.
#[test]
fn a_lock_of_the_convolutions_known_before_covers_all_that_are_prepared() {
    for (numerics, micro_batch) in [(Numerics::F32, None), (Numerics::F32, Some(2)), (Numerics::Bf16, None)] {
        let setting = Setting { micro_batch, ..setting(4, numerics) };
        let known = convolutions(smooth(Stem::Cifar, 16), &setting).expect("a sound plan");
        let named = known.iter().enumerate().map(|(index, (shape, pass))| {
            (description(shape, *pass), EngineChoice { engine: index as i64, knobs: [].into() })
        });
        let lock = PlanLock { choices: named.collect() };
        let (choices, loss, state) = stepped(&lock, &setting);
        let expected: Vec<(String, String)> =
            lock.choices.iter().map(|(name, choice)| (name.clone(), format!("engine {}", choice.engine))).collect();
        assert!(expected.len() > 20, "{} convolutions", expected.len());
        assert_eq!(choices, expected);
        let (free, free_loss, free_state) = stepped(&PlanLock::default(), &setting);
        assert!(free.iter().all(|(_, choice)| choice == "unlocked") && free.len() == expected.len(), "{free:?}");
        assert_eq!((loss.to_bits(), state), (free_loss.to_bits(), free_state));
    }
}

#[test]
fn a_batch_that_cannot_be_has_no_convolutions() {
    let plan = smooth(Stem::Cifar, 16);
    for (batch, micro_batch) in [(1, None), (6, Some(4)), (6, Some(0))] {
        let setting = Setting { micro_batch, ..setting(batch, Numerics::F32) };
        assert!(convolutions(plan.clone(), &setting).is_err(), "{batch} {micro_batch:?}");
    }
}
