//! The optimizers against PyTorch 2.15 and Lightly 1.6 (`tests/golden/optimizers.json`), worked examples of the four
//! LARS forms, and dfdx.

use dfdx::optim::{Momentum, SgdConfig, WeightDecay};
use dfdx::prelude::*;
use serde::Deserialize;

use super::{Step, Updater, slots};
use crate::device::Pool;
use crate::experiment::recipe::{DecayScope, LarsFlavour, Optimizer};
use crate::model::plan::{Parameter, ParameterKind};
use crate::ops::nt_xent::golden::values_f32;

pub fn layout(tensors: &[(usize, ParameterKind)]) -> Vec<Parameter> {
    let mut offset = 0;
    let mut parameters = Vec::new();
    for (index, &(len, kind)) in tensors.iter().enumerate() {
        parameters.push(Parameter { name: format!("tensor{index}"), shape: vec![len], offset, kind });
        offset += len;
    }
    parameters
}

/// The parameters after every step: one gradient and one rate a step.
fn run(
    optimizer: &Optimizer,
    layout: &[Parameter],
    start: &[f32],
    steps: &[(Vec<f32>, f64)],
    threads: usize,
) -> Vec<Vec<f32>> {
    let mut parameters = start.to_vec();
    let mut slots = slots(optimizer, start.len());
    let pool = Pool::new(threads);
    let mut updater = Updater::new(optimizer, layout);
    let mut trace = Vec::new();
    for (number, &(ref gradients, learning_rate)) in (0..).zip(steps) {
        updater.update(&mut parameters, gradients, &mut slots, Step { number, learning_rate }, &pool);
        trace.push(parameters.clone());
    }
    trace
}

pub fn sgd(momentum: f64, nesterov: bool, weight_decay: f64) -> Optimizer {
    Optimizer::Sgd { momentum, nesterov, weight_decay, decay: DecayScope::All }
}

pub fn lars(flavour: LarsFlavour, weight_decay: f64, trust_coefficient: f64) -> Optimizer {
    Optimizer::Lars { flavour, momentum: 0.9, weight_decay, trust_coefficient, decay: DecayScope::Weights }
}

fn adam(weight_decay: f64) -> Optimizer {
    Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay, decay: DecayScope::All }
}

fn assert_close(found: &[f32], expected: &[f64], bound: f64, name: &str) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (found, wanted) in found.iter().zip(expected) {
        assert!((f64::from(*found) - wanted).abs() < bound, "{name}: {found}, {wanted} wanted");
    }
}

#[derive(Deserialize)]
struct Case {
    name: String,
    seed_parameter: u64,
    seed_gradients: Vec<u64>,
    gradient_scale: f64,
    after_step: Vec<Vec<f64>>,
}

#[test]
fn agrees_with_pytorch_and_lightly() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/golden/optimizers.json")).unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let (optimizer, rate) = match case.name.as_str() {
            "sgd" => (sgd(0.0, false, 0.0), 0.06),
            "sgd_momentum_wd" => (sgd(0.9, false, 1e-3), 0.1),
            "sgd_nesterov" => (sgd(0.9, true, 1e-3), 0.1),
            "lars" => (lars(LarsFlavour::Lightly, 1e-6, 1e-3), 4.8),
            "lars_excluded" => (lars(LarsFlavour::Lightly, 0.0, 1e-3), 4.8),
            "adam" => (adam(1e-6), 3e-4),
            other => panic!("no optimizer for `{other}`"),
        };
        let gradients = case.seed_gradients.iter().map(|&seed| (values_f32(seed, 35, case.gradient_scale), rate));
        let steps: Vec<_> = gradients.collect();
        let layout = layout(&[(35, ParameterKind::LinearWeight)]);
        let trace = run(&optimizer, &layout, &values_f32(case.seed_parameter, 35, 1.0), &steps, 1);
        for (found, expected) in trace.iter().zip(&case.after_step) {
            assert_close(found, expected, 1e-6, &case.name);
        }
    }
}

/// w = (3, 4), momentum 0.9, rates 0.5 then 0.25, gradients (1, 2) then (−2, 1); each code base's own formula in f64.
#[test]
fn four_forms_of_lars() {
    use LarsFlavour::{Google, Lightly, Popular, SoloLearn, SoloLearnClipped};
    let check = |name: &str, optimizers: [Optimizer; 2], kind: ParameterKind, expected: [[f64; 2]; 2]| {
        let layout = layout(&[(2, kind)]);
        let mut parameters = vec![3.0, 4.0];
        let mut slots = slots(&optimizers[0], 2);
        let steps = [([1.0, 2.0], 0.5), ([-2.0, 1.0], 0.25)];
        for (number, ((gradient, learning_rate), optimizer)) in (0..).zip(steps.into_iter().zip(&optimizers)) {
            let step = Step { number, learning_rate };
            Updater::new(optimizer, &layout).update(&mut parameters, &gradient, &mut slots, step, &Pool::new(1));
            assert_close(&parameters, &expected[number as usize], 1e-6, name);
        }
    };
    let weight = ParameterKind::ConvWeight;
    let same = |flavour, weight_decay, trust| [lars(flavour, weight_decay, trust); 2];
    let first = [2.998873222908, 3.997768324982];
    check("Google", same(Google, 0.01, 1e-3), weight, [first, [2.998964002491, 3.995176546961]]);
    check("Popular", same(Popular, 0.01, 1e-3), weight, [first, [2.999471052182, 3.996180800719]]);
    let raw = [[2.998873611802, 3.997769095220], [2.999443401834, 3.996196811984]];
    check("Lightly", same(Lightly, 0.01, 1e-3), weight, raw);
    check("solo-learn", same(SoloLearn, 0.01, 1e-3), weight, raw);
    let clipped = [[2.954944472097, 3.910763808813], [3.019203600328, 3.826028862756]];
    check("solo-learn, clipped", same(SoloLearnClipped, 0.01, 0.02), weight, clipped);
    let google = [[2.998881966011, 3.997763932023], [2.998993219415, 3.995192728846]];
    check("Google, no decay", same(Google, 0.0, 1e-3), weight, google);
    check("Lightly, no decay", same(Lightly, 0.0, 1e-3), weight, [[2.5, 3.0], [2.775, 2.3]]);
    let solo = [[2.998881966016, 3.997763932033], [2.999496334712, 3.996198959453]];
    check("solo-learn, no decay", same(SoloLearn, 0.0, 1e-3), weight, solo);
    for kind in [ParameterKind::NormScale, ParameterKind::NormShift, ParameterKind::LinearBias { fan_in: 2 }] {
        check("Google, excluded", same(Google, 0.01, 1e-3), kind, [[2.5, 3.0], [2.55, 1.85]]);
        for flavour in [Popular, Lightly, SoloLearn, SoloLearnClipped] {
            check("excluded", same(flavour, 0.01, 1e-3), kind, [[2.5, 3.0], [2.775, 2.3]]);
        }
    }
}

/// Where a norm is 0, Google and Popular still decay; the others leave the tensor to plain momentum.
#[test]
fn lars_where_a_norm_is_zero() {
    let check = |flavour, start: f32, gradient: f32, expected: f64| {
        let layout = layout(&[(1, ParameterKind::LinearWeight)]);
        let trace = run(&lars(flavour, 0.1, 1e-3), &layout, &[start], &[(vec![gradient], 0.5)], 1);
        assert_close(&trace[0], &[expected], 1e-6, "a norm of 0");
    };
    for flavour in [LarsFlavour::Google, LarsFlavour::Popular] {
        check(flavour, 0.0, 2.0, -1.0);
        check(flavour, 2.0, -0.2, 2.0);
        check(flavour, 2.0, 0.0, 2.0 - 0.5 * 1e-3 * 2.0);
    }
    for flavour in [LarsFlavour::Lightly, LarsFlavour::SoloLearn, LarsFlavour::SoloLearnClipped] {
        check(flavour, 0.0, 2.0, -1.0);
        check(flavour, 2.0, 0.0, 2.0);
    }
    check(
        LarsFlavour::SoloLearnClipped,
        2.0,
        1e-9,
        2.0 - 0.5 * (1e-9 + 0.2) * (1e-3 * 2.0 / (1e-9 + 0.2 + 1e-8) / 0.5),
    );
}

#[test]
fn decay_leaves_norms_and_biases_alone() {
    let decays = |optimizer: Optimizer, kind: ParameterKind| {
        let trace = run(&optimizer, &layout(&[(1, kind)]), &[2.0], &[(vec![0.0], 0.5)], 1);
        trace[0][0] != 2.0
    };
    for decay in [DecayScope::All, DecayScope::Weights] {
        let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.1, decay };
        let adam = Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, decay };
        for optimizer in [sgd, adam] {
            assert!(decays(optimizer, ParameterKind::ConvWeight) && decays(optimizer, ParameterKind::LinearWeight));
            assert_eq!(decays(optimizer, ParameterKind::NormScale), decay == DecayScope::All);
            assert_eq!(decays(optimizer, ParameterKind::LinearBias { fan_in: 3 }), decay == DecayScope::All);
        }
    }
}

fn every_optimizer() -> Vec<Optimizer> {
    use LarsFlavour::{Google, Lightly, Popular, SoloLearnClipped};
    let flavours = [Google, Popular, Lightly, SoloLearnClipped].map(|flavour| lars(flavour, 1e-3, 0.02));
    [sgd(0.0, false, 1e-3), sgd(0.9, true, 1e-3), adam(1e-3)].into_iter().chain(flavours).collect()
}

/// Bits of a layout of several tensors are those of each tensor alone, for any number of threads.
#[test]
fn tensors_do_not_touch_each_other() {
    let tensors = [
        (5, ParameterKind::NormScale),
        (10_000, ParameterKind::ConvWeight),
        (4096, ParameterKind::LinearWeight),
        (1, ParameterKind::LinearBias { fan_in: 9 }),
        (4097, ParameterKind::ConvWeight),
    ];
    let whole = layout(&tensors);
    let n = whole.iter().map(Parameter::len).sum();
    let start = values_f32(1, n, 1.0);
    let steps: Vec<_> = (2..5).map(|seed| (values_f32(seed, n, 0.1), 0.3)).collect();
    for optimizer in every_optimizer() {
        let together = run(&optimizer, &whole, &start, &steps, 1);
        assert_eq!(together, run(&optimizer, &whole, &start, &steps, 2), "{optimizer:?} on 2 threads");
        assert_eq!(together, run(&optimizer, &whole, &start, &steps, 3), "{optimizer:?} on 3 threads");
        for (parameter, &tensor) in whole.iter().zip(&tensors) {
            let range = parameter.range();
            let own: Vec<_> = steps.iter().map(|(gradient, rate)| (gradient[range.clone()].to_vec(), *rate)).collect();
            let alone = run(&optimizer, &layout(&[tensor]), &start[range.clone()], &own, 1);
            for (together, alone) in together.iter().zip(alone) {
                assert_eq!(together[range.clone()], alone, "{optimizer:?} on {}", parameter.name);
            }
        }
    }
}

/// All optimizers after three steps, bit for bit.
#[test]
fn the_bits_are_pinned() {
    let layout = layout(&[(5000, ParameterKind::ConvWeight), (10, ParameterKind::NormShift)]);
    let start = values_f32(21, 5010, 1.0);
    let steps: Vec<_> = (22..25).map(|seed| (values_f32(seed, 5010, 0.1), 0.3)).collect();
    let traces = every_optimizer().into_iter().map(|optimizer| run(&optimizer, &layout, &start, &steps, 2).concat());
    let bytes: Vec<u8> = traces.flatten().flat_map(f32::to_le_bytes).collect();
    assert_eq!(&blake3::hash(&bytes).to_hex()[..16], "8c04bc2a8e632f49");
}

#[test]
fn slots_are_named_and_empty_without_momentum() {
    let names = |optimizer: &Optimizer| slots(optimizer, 3).iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert!(names(&sgd(0.0, false, 0.1)).is_empty());
    assert_eq!(names(&sgd(0.9, false, 0.1)), ["momentum"]);
    assert_eq!(names(&lars(LarsFlavour::Google, 0.1, 0.1)), ["momentum"]);
    assert_eq!(names(&adam(0.1)), ["first_moment", "second_moment"]);
    assert!(slots(&adam(0.1), 3).iter().all(|(_, values)| values == &[0.0; 3]));
}

/// Three steps of a dfdx optimizer on one vector.
fn with_dfdx<O: dfdx::optim::Optimizer<Tensor<Rank1<35>, f32, Cpu>, Cpu, f32>>(
    steps: &[(Vec<f32>, f64)],
    start: &[f32],
    make: impl Fn(&Tensor<Rank1<35>, f32, Cpu>) -> O,
) -> Vec<f64> {
    let device = Cpu::default();
    let mut parameters: Tensor<Rank1<35>, f32, Cpu> = device.tensor(start.to_vec());
    let mut optimizer = make(&parameters);
    for (gradient, _) in steps {
        let gradient: Tensor<Rank1<35>, f32, Cpu> = device.tensor(gradient.clone());
        let gradients = (parameters.leaky_trace() * gradient).sum().backward();
        optimizer.update(&mut parameters, &gradients).expect("the vector is used");
    }
    parameters.as_vec().into_iter().map(f64::from).collect()
}

#[test]
fn agrees_with_dfdx() {
    let start = values_f32(11, 35, 1.0);
    let steps: Vec<_> = (12..15).map(|seed| (values_f32(seed, 35, 0.5), 0.1)).collect();
    let layout = layout(&[(35, ParameterKind::LinearWeight)]);
    let check = |optimizer: Optimizer, expected: Vec<f64>| {
        let trace = run(&optimizer, &layout, &start, &steps, 1);
        assert_close(trace.last().unwrap(), &expected, 1e-6, &format!("{optimizer:?}"));
    };
    for (momentum, own) in [
        (None, sgd(0.0, false, 0.01)),
        (Some(Momentum::Classic(0.9)), sgd(0.9, false, 0.01)),
        (Some(Momentum::Nesterov(0.9)), sgd(0.9, true, 0.01)),
    ] {
        let config = SgdConfig { lr: 0.1, momentum, weight_decay: Some(WeightDecay::L2(0.01)) };
        check(own, with_dfdx(&steps, &start, |model| dfdx::optim::Sgd::new(model, config)));
    }
    let config =
        dfdx::optim::AdamConfig { lr: 0.1, betas: [0.9, 0.999], eps: 1e-8, weight_decay: Some(WeightDecay::L2(0.01)) };
    check(adam(0.01), with_dfdx(&steps, &start, |model| dfdx::optim::Adam::new(model, config)));
}
