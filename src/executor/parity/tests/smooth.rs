//! Models without a kink: SiLU for ReLU, average for max pooling. Their gradients agree number by number.

use super::{Pair, SCOPES, assert_equal_losses, assert_near, setting};
use crate::executor::Executor;
use crate::experiment::recipe::BatchNormScope;
use crate::model::twin;
use crate::model::typed::{self, TypedModel};

fn check(name: &str, model: Box<dyn TypedModel>, batch: usize, scope: BatchNormScope) {
    let what = format!("{name} twin, {scope:?}");
    let mut pair = Pair::of_typed(model, &setting(batch, scope));
    assert_equal_losses(&what, pair.forward_backward(1), 1e-5);
    let projections = format!("{what}: projections");
    assert_near(&projections, &pair.cpu.projections(), &pair.reference.projections(), 1e-5);
    for (name, [cpu, reference]) in pair.gradients() {
        assert_near(&format!("{what}: gradients of {name}"), &cpu, &reference, 1e-4);
    }
    pair.assert_equal_running_statistics(&what, 1e-5);
    pair.assert_equal_features(&what, 1e-4);
}

#[test]
fn gradients_of_resnet18_agree() {
    for scope in SCOPES {
        check("ResNet-18", typed::build(&twin::resnet18(), None), 12, scope);
    }
}

/// A batch of several blocks a view, the last of them not full.
#[test]
fn gradients_of_every_kind_of_layer_agree() {
    let (backbone, head) = twin::small();
    for scope in SCOPES {
        for batch in [7, 70] {
            check("small", typed::build(&backbone, Some(&head)), batch, scope);
        }
    }
}
