//! The losses that a GPU has, and those it refuses.

use super::{distance, emulated, on_cpu, setting, smooth, views};
use crate::device::emulator::{Emulator, Order};
use crate::executor::cuda::CudaExecutor;
use crate::executor::{Executor, ExecutorError, Setting};
use crate::experiment::recipe::{Loss, Numerics, Stem};

/// A network of smooth functions, so that what two executors differ by does not grow.
#[test]
fn one_step_of_every_loss_agrees_with_the_cpu() {
    let plan = smooth(Stem::Cifar, 8);
    let views = views(&plan, 5, 3);
    let losses = [
        (Loss::NtXent { normalize: true, scale: 2.0 }, 0.5),
        (Loss::NtXent { normalize: false, scale: 0.5 }, 10.0),
        (Loss::Dcl, 0.5),
        (Loss::Dclw { sigma: 0.5 }, 0.2),
        (Loss::NtLogistic { semi_hard: false }, 0.2),
        (Loss::NtLogistic { semi_hard: true }, 0.2),
        (Loss::MarginTriplet { margin: 0.8, semi_hard: false }, 0.5),
        (Loss::MarginTriplet { margin: 0.8, semi_hard: true }, 0.5),
    ];
    for (loss, temperature) in losses {
        let setting = Setting { loss, temperature, ..setting(5, Numerics::F32) };
        let (mut found, mut expected) = (emulated(&plan, &setting, Order::FORWARD), on_cpu(&plan, &setting));
        let losses = [&mut found as &mut dyn Executor, &mut expected].map(|executor| {
            let loss = executor.forward_backward(&views).expect("views fit");
            executor.update(0.01);
            loss
        });
        assert!((losses[0] - losses[1]).abs() < 1e-4 * losses[1].abs().max(0.1), "{loss:?}: {losses:?}");
        let far = distance(&found.gradients(), &expected.gradients());
        assert!(far < 2e-3, "{loss:?}: gradients {far:e}");
    }
}

#[test]
fn a_loss_without_kernels_is_refused() {
    let plan = smooth(Stem::Cifar, 8);
    let without = [Loss::NtXentMemoryBank { size: 16 }, Loss::CrossEntropy { label_smoothing: 0.0 }];
    for loss in without {
        let setting = Setting { loss, ..setting(4, Numerics::F32) };
        let refused = CudaExecutor::new(Box::new(Emulator::new(Order::FORWARD)), plan.clone(), &setting);
        assert!(matches!(refused, Err(ExecutorError::Device(text)) if text.contains("no kernels")), "{loss:?}");
    }
}
