//! Updates: both executors walk the same way, and what one saved the other goes on from.

use super::{LIGHTLY, Pair, SCOPES, assert_equal_losses, assert_near, distance, resnet18, setting};
use crate::executor::Executor;
use crate::experiment::recipe::Stem;

const LEARNING_RATE: f64 = 0.05;

#[test]
fn three_steps_with_momentum_agree() {
    for scope in SCOPES {
        let mut pair = Pair::of_recipe(&resnet18(Stem::ImageNet, LIGHTLY), &setting(16, scope));
        let start = pair.cpu.save().parameters;
        for (step, bound) in [1e-5, 1e-4, 1e-3].into_iter().enumerate() {
            let losses = pair.forward_backward(10 + step as u32);
            assert_equal_losses(&format!("{scope:?}, step {step}"), losses, bound);
            pair.update(LEARNING_RATE);
        }
        let moves = [pair.cpu.save(), pair.reference.save()].map(|state| {
            assert_eq!(state.step, 3);
            state.parameters.iter().zip(&start).map(|(now, before)| now - before).collect::<Vec<_>>()
        });
        let apart = distance(&moves[0], &moves[1]);
        assert!(apart < 1e-2, "{scope:?}: the ways of three steps are {apart:.2e} apart");
    }
}

/// The same gradients are in both, so that only layouts, the optimizer's arithmetic and the state can differ.
#[test]
fn a_state_goes_from_one_executor_to_the_other() {
    let mut pair = Pair::of_recipe(&resnet18(Stem::ImageNet, LIGHTLY), &setting(8, SCOPES[0]));
    pair.forward_backward(20);
    pair.update(LEARNING_RATE);
    let from_cpu = pair.cpu.save();
    assert!(from_cpu.optimizer.iter().all(|(_, slot)| slot.iter().any(|&x| x != 0.0)), "momentum is part of the state");
    pair.reference.load(&from_cpu);
    assert!(pair.reference.save() == from_cpu, "the reference keeps every bit");
    pair.assert_equal_features("from cpu to reference", 1e-5);

    pair.forward_backward(21);
    pair.update(LEARNING_RATE);
    let [cpu, from_reference] = [pair.cpu.save(), pair.reference.save()];
    assert_near("parameters a step later", &cpu.parameters, &from_reference.parameters, 1e-4);
    assert_near("momentum a step later", &cpu.optimizer[0].1, &from_reference.optimizer[0].1, 1e-2);
    pair.cpu.load(&from_reference);
    assert!(pair.cpu.save() == from_reference, "cpu keeps every bit");
    pair.assert_equal_features("from reference to cpu", 1e-5);
}
