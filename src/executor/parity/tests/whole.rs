//! ResNet-18 as it is trained. A value beside a ReLU's kink or two near maxima of a window may fall on either side, so
//! gradients agree in direction and length; `smooth` compares them tightly.

use super::{LIGHTLY, Pair, SCOPES, assert_equal_losses, assert_near, cosine, norm, resnet18, setting};
use crate::executor::Executor;
use crate::experiment::recipe::{BatchNormScope, Head, Stem};

fn check(stem: Stem, head: Head, batch: usize, scope: BatchNormScope) {
    let what = format!("{stem:?}, {head:?}, {scope:?}");
    let mut pair = Pair::of_recipe(&resnet18(stem, head), &setting(batch, scope));
    assert_equal_losses(&what, pair.forward_backward(1), 1e-5);
    let projections = format!("{what}: projections");
    assert_near(&projections, &pair.cpu.projections(), &pair.reference.projections(), 1e-5);
    for (name, [cpu, reference]) in pair.gradients() {
        let (cosine, ratio) = (cosine(&cpu, &reference), norm(&cpu) / norm(&reference));
        assert!(cosine >= 0.999, "{what}: gradients of {name} have cosine {cosine}");
        assert!((ratio - 1.0).abs() <= 1e-2, "{what}: gradients of {name} have norms of ratio {ratio}");
    }
    pair.assert_equal_running_statistics(&what, 1e-5);
    pair.assert_equal_features(&what, 1e-4);
}

#[test]
fn imagenet_stem_agrees() {
    for scope in SCOPES {
        check(Stem::ImageNet, LIGHTLY, 16, scope);
    }
}

#[test]
fn cifar_stem_agrees() {
    for scope in SCOPES {
        check(Stem::Cifar, LIGHTLY, 5, scope);
    }
}

#[test]
fn other_heads_agree() {
    let mlp = |layers, batch_norm, bias| Head::Mlp { layers, hidden: 512, output: 128, batch_norm, bias };
    check(Stem::ImageNet, mlp(2, false, true), 16, BatchNormScope::View);
    check(Stem::ImageNet, mlp(3, true, false), 16, BatchNormScope::View);
}
