//! ResNet-18 as it is trained. Gradients are 1e-5 apart until one value falls on another side of a ReLU's kink, which
//! moves them by 1e-3 to 1e-2; so they are asked to agree in direction and length, and `smooth` compares them tightly.

use super::{
    LIGHTLY, LIGHTLY_START, Pair, SCOPES, assert_equal_losses, assert_near, cosine, norm, resnet18, setting, start,
};
use crate::executor::{Executor, Setting, State};
use crate::experiment::recipe::{BatchNormScope, Head, Stem};

/// Either executor's projections lie some 1e-5 off those of f64 loops.
const PROJECTIONS_BOUND: f64 = 3e-5;

fn check(stem: Stem, head: Head, batch: usize, scopes: &[BatchNormScope]) {
    let start = start(resnet18(stem, head).plan());
    for &scope in scopes {
        check_from(&start, stem, head, &setting(batch, scope));
    }
}

fn check_from(start: &State, stem: Stem, head: Head, setting: &Setting) {
    let scope = setting.batch_norm_scope;
    let what = format!("{stem:?}, {head:?}, {scope:?}");
    let model = resnet18(stem, head);
    let mut pair = Pair::new(model, setting, start);
    assert_equal_losses(&what, pair.forward_backward(1), 1e-5);
    let projections = format!("{what}: projections");
    assert_near(&projections, &pair.cpu.projections(), &pair.reference.projections(), PROJECTIONS_BOUND);
    for (name, [cpu, reference]) in pair.gradients() {
        // A shift that is held: a gradient of 0 has no direction.
        if cpu == reference {
            continue;
        }
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
        check_from(&LIGHTLY_START, Stem::ImageNet, LIGHTLY, &setting(16, scope));
    }
}

#[test]
fn cifar_stem_agrees() {
    check(Stem::Cifar, LIGHTLY, 4, &SCOPES);
}

#[test]
fn the_padded_stem_agrees() {
    check(Stem::CifarPadded, LIGHTLY, 4, &[BatchNormScope::Joint]);
}

/// Google's head: its last shift stays where it is on either executor, whatever the optimizer.
#[test]
fn a_held_shift_stays_at_0() {
    let (hidden, output) = (512, 128);
    let google = Head::Mlp { layers: 3, hidden, output, batch_norm: true, bias: false, output_shift: false };
    let plan = resnet18(Stem::ImageNet, google).plan().clone();
    assert_eq!(plan.n_parameters() - plan.n_trained(), 128);
    check(Stem::ImageNet, google, 16, &[BatchNormScope::Joint]);
    let start = start(&plan);
    let mut pair = Pair::new(resnet18(Stem::ImageNet, google), &setting(8, BatchNormScope::Joint), &start);
    for salt in 0..2 {
        pair.forward_backward(salt);
        pair.update(0.1);
    }
    let held = plan.parameters.last().expect("the last shift").range();
    for state in [pair.cpu.save(), pair.reference.save()] {
        assert!(state.parameters[held.clone()].iter().all(|&shift| shift == 0.0));
        assert!(state.parameters[held.start - 128..held.start] != start.parameters[held.start - 128..held.start]);
    }
}

#[test]
fn other_heads_agree() {
    let mlp =
        |layers, batch_norm, bias| Head::Mlp { layers, hidden: 512, output: 128, batch_norm, bias, output_shift: true };
    check(Stem::ImageNet, mlp(2, false, true), 16, &[BatchNormScope::View]);
    check(Stem::ImageNet, mlp(3, true, false), 16, &[BatchNormScope::View]);
}

/// Every kind of head that is left, and batches of more than a block.
#[test]
fn further_heads_and_batches_agree() {
    if std::env::var_os("ABLATE_SLOW_TESTS").is_none() {
        println!("skipped: set ABLATE_SLOW_TESTS=1 to compare further heads and batches");
        return;
    }
    let linear = |batch_norm, bias| Head::Linear { output: 128, batch_norm, bias };
    let mlp =
        |layers, batch_norm, bias| Head::Mlp { layers, hidden: 512, output: 128, batch_norm, bias, output_shift: true };
    for head in [Head::None, linear(false, true), linear(true, false), mlp(2, false, false), mlp(3, false, true)] {
        check(Stem::ImageNet, head, 24, &SCOPES);
    }
    check(Stem::ImageNet, LIGHTLY, 96, &SCOPES);
    check(Stem::Cifar, LIGHTLY, 24, &SCOPES);
}
