//! Updates: both executors walk the same way, and what one saved the other goes on from.

use super::{LIGHTLY, LIGHTLY_START, Pair, SCOPES, assert_equal_losses, assert_near, resnet18, setting};
use crate::executor::Executor;
use crate::experiment::recipe::Stem;

/// Three steps of it lower the first batch's loss by 0.6 to 0.8; at ten times as much, kinks show in the second loss.
const LEARNING_RATE: f64 = 0.001;

/// Kinks multiply what rounding did, so later losses are further apart; `smooth` compares the ways of parameters.
#[test]
fn three_steps_with_momentum_agree() {
    for scope in SCOPES {
        let mut pair = Pair::new(resnet18(Stem::ImageNet, LIGHTLY), &setting(16, scope), &LIGHTLY_START);
        for (step, bound) in [1e-5, 1e-4, 1e-3].into_iter().enumerate() {
            let losses = pair.forward_backward(10 + step as u32);
            assert_equal_losses(&format!("{scope:?}, step {step}"), losses, bound);
            pair.update(LEARNING_RATE);
        }
        assert_eq!([pair.cpu.save().step, pair.reference.save().step], [3, 3]);
    }
}

/// Every bit of parameters, statistics and momentum arrives, and the next step is the same from there.
#[test]
fn a_state_goes_from_one_executor_to_the_other() {
    let mut pair = Pair::new(resnet18(Stem::ImageNet, LIGHTLY), &setting(8, SCOPES[0]), &LIGHTLY_START);
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
