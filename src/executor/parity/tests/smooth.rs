//! Models without a kink: SiLU for ReLU, average for max pooling. Their gradients agree number by number.

use super::{Pair, SCOPES, assert_equal_losses, assert_near, setting, start};
use crate::executor::{Executor, State};
use crate::model::{twin, typed};

fn check(what: &str, mut pair: Pair) {
    assert_equal_losses(what, pair.forward_backward(1), 1e-5);
    let projections = format!("{what}: projections");
    assert_near(&projections, &pair.cpu.projections(), &pair.reference.projections(), 1e-5);
    for (name, [cpu, reference]) in pair.gradients() {
        assert_near(&format!("{what}: gradients of {name}"), &cpu, &reference, 1e-4);
    }
    pair.assert_equal_running_statistics(what, 1e-5);
    pair.assert_equal_features(what, 1e-4);
}

#[test]
fn gradients_of_resnet18_agree() {
    let build = || typed::build(&twin::resnet18(), None);
    let start = start(build().plan());
    for scope in SCOPES {
        check(&format!("ResNet-18's twin, {scope:?}"), Pair::new(build(), &setting(12, scope), &start));
    }
}

/// A batch within one block, and one of two blocks a view, the last of them not full.
#[test]
fn gradients_of_every_kind_of_layer_agree() {
    for scope in SCOPES {
        for batch in [7, 70] {
            check(&format!("small twin, {batch}, {scope:?}"), Pair::of_small_twin(batch, scope));
        }
    }
}

/// The ways of parameters and statistics, where no kink drives them apart.
#[test]
fn five_steps_with_momentum_agree() {
    for scope in SCOPES {
        let mut pair = Pair::of_small_twin(12, scope);
        let before = pair.cpu.save();
        for step in 0..5 {
            let losses = pair.forward_backward(10 + step);
            assert_equal_losses(&format!("{scope:?}, step {step}"), losses, 1e-5);
            pair.update(0.05);
        }
        let [cpu, reference] = [pair.cpu.save(), pair.reference.save()];
        let way = |after: &State| -> Vec<f32> {
            after.parameters.iter().zip(&before.parameters).map(|(after, before)| after - before).collect()
        };
        assert_near(&format!("{scope:?}: way"), &way(&cpu), &way(&reference), 1e-4);
        assert_near(&format!("{scope:?}: momentum"), &cpu.optimizer[0].1, &reference.optimizer[0].1, 1e-3);
        pair.assert_equal_running_statistics(&format!("{scope:?}"), 1e-4);
    }
}
