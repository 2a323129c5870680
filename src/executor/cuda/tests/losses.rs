//! Every loss on the emulated device, held to the `cpu` executor.

use super::pieces::without_norms;
use super::{distance, emulated, on_cpu, setting, smooth, views};
use crate::device::emulator::{Emulator, Order};
use crate::executor::cuda::CudaExecutor;
use crate::executor::cuda::memory::needed_bytes;
use crate::executor::{Executor, ExecutorError, Setting};
use crate::experiment::recipe::{BatchNormScope, Loss, Numerics, Stem};

/// A network of smooth functions, so that what two executors differ by does not grow.
#[test]
fn one_step_of_every_loss_agrees_with_the_cpu() {
    let plan = smooth(Stem::Cifar, 8);
    let views = views(&plan, 5, 3);
    let losses = [
        (Loss::NtXent { normalize: true, scale: 2.0 }, 0.5),
        (Loss::NtXent { normalize: false, scale: 0.5 }, 10.0),
        (Loss::NtXentMemoryBank { size: 12 }, 0.5),
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
        let [found, expected] = [found.save(), expected.save()].map(|state| state.bank);
        assert!(found.is_empty() && expected.is_empty() || distance(&found, &expected) < 1e-4, "{loss:?}: the bank");
    }
}

/// The class of every image of a batch, of eight.
fn labels(batch: usize) -> Vec<u32> {
    (0..batch as u32).map(|image| (3 * image + 1) % 8).collect()
}

/// From two views of an image and from one, whose batch norms are then one group; in one piece and, without batch norms, in
/// several.
#[test]
fn steps_on_labels_agree_with_the_cpu() {
    for (n_views, batch, micro_batch) in [(2, 5, None), (1, 7, None), (2, 6, Some(3)), (1, 6, Some(2))] {
        let plan = if micro_batch.is_some() { without_norms() } else { smooth(Stem::Cifar, 8) };
        let loss = Loss::CrossEntropy { label_smoothing: 0.1 };
        let scope = if micro_batch.is_some() { BatchNormScope::MicroBatchView } else { BatchNormScope::View };
        let setting = Setting { loss, n_views, micro_batch, batch_norm_scope: scope, ..setting(batch, Numerics::F32) };
        let views = views(&plan, batch, 3);
        let views = &views[..n_views * views.len() / 2];
        let (mut found, mut expected) = (emulated(&plan, &setting, Order::FORWARD), on_cpu(&plan, &setting));
        let losses = [&mut found as &mut dyn Executor, &mut expected]
            .map(|executor| executor.forward_backward_labelled(views, &labels(batch)).expect("views fit"));
        let name = format!("{batch} images in {n_views} views, {micro_batch:?} at a time");
        assert!((losses[0] - losses[1]).abs() < 1e-5 * losses[1], "{name}: {losses:?}");
        let far = distance(&found.gradients(), &expected.gradients());
        assert!(far < 1e-4, "{name}: gradients {far:e}");
        let far = distance(&found.projections(), &expected.projections());
        assert!(far < 1e-5, "{name}: logits {far:e}");
    }
}

#[test]
fn labels_and_views_that_cannot_be_are_refused() {
    let plan = smooth(Stem::Cifar, 8);
    let labelled = Setting { loss: Loss::CrossEntropy { label_smoothing: 0.0 }, ..setting(4, Numerics::F32) };
    let mut executor = emulated(&plan, &labelled, Order::FORWARD);
    let views = views(&plan, 4, 1);
    let said = executor.forward_backward(&views).expect_err("no labels").to_string();
    assert_eq!(said, "expected the labels of 4 images, found 0");
    let said = executor.forward_backward_labelled(&views, &[0, 7, 8, 1]).expect_err("no class").to_string();
    assert_eq!(said, "a label of 8: the classifier has 8 classes");
    for (n_views, loss) in [(1, Loss::NT_XENT), (3, Loss::Dcl), (0, labelled.loss)] {
        let setting = Setting { n_views, loss, ..labelled.clone() };
        let refused = CudaExecutor::new(Box::new(Emulator::new(Order::FORWARD)), plan.clone(), &setting);
        assert!(matches!(refused, Err(ExecutorError::Device(text)) if text.contains("views an image")), "{loss:?}");
    }
}

/// The bank takes room of its own, and nothing of it is views × rows.
#[test]
fn a_bank_is_counted_before_it_is_there() {
    let plan = smooth(Stem::Cifar, 8);
    let needed = |size| {
        let loss = if size == 0 { Loss::NT_XENT } else { Loss::NtXentMemoryBank { size } };
        needed_bytes(&plan, &Setting { loss, ..setting(64, Numerics::F32) })
    };
    let width = plan.projection_width().next_multiple_of(16);
    let (small, large) = (needed(1 << 12), needed(1 << 16));
    assert!(large - small >= 4 * width * ((1 << 16) - (1 << 12)) && small > needed(0));
    assert!(large < needed(0) + (128 << 20), "{large}");
}
