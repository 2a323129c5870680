//! The stems and heads of other implementations against PyTorch 2.15 and torchvision 0.29 in f64: `tests/golden/presets.json`,
//! made by `presets.py` beside it.

use serde_json::Value;

use super::{assert_probe, golden_fill, golden_view, number};
use crate::executor::reference::ReferenceExecutor;
use crate::executor::{Executor, Setting};
use crate::experiment::recipe::{
    Backbone, BatchNormScope, DecayScope, Head, Initialization, Loss, Model, Numerics, Optimizer, Stem,
};

const GOLDEN: &str = include_str!("../../../../tests/golden/presets.json");

fn check(recipe: &str, stem: Stem, head: Head, batch_norm_scope: BatchNormScope) {
    let all: Value = serde_json::from_str(GOLDEN).unwrap();
    let golden = all["steps"].as_array().unwrap().iter().find(|step| step["recipe"] == recipe).unwrap();
    let size = |key: &str| golden[key].as_u64().unwrap() as usize;
    let (n, side) = (size("n"), size("side"));
    let setting = Setting {
        batch: n,
        n_views: 2,
        micro_batch: None,
        loss: Loss::NT_XENT,
        temperature: number(&golden["temperature"]) as f32,
        batch_norm_scope,
        optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0, decay: DecayScope::All },
        numerics: Numerics::F32,
        threads: 2,
        device: 0,
    };
    let backbone = Backbone::ResNet18 { stem };
    let model = Model { backbone, side: side as u32, head, initialization: Initialization::Torchvision };
    let mut executor = ReferenceExecutor::new(&model, &setting).unwrap();
    let plan = executor.plan().clone();
    executor.load(&golden_fill(&plan));
    let views = [golden_view(0, 0, n, side), golden_view(0, 1, n, side)].concat();
    let loss = f64::from(executor.forward_backward(&views).unwrap());
    let expected = number(&golden["loss"]);
    assert!((loss - expected).abs() <= 1e-5 * expected, "{recipe}: loss {loss}, PyTorch {expected}");
    let projections = executor.projections();
    let (first, second) = projections.split_at(projections.len() / 2);
    assert_probe("first projections", first, &golden["z0"], 1e-4);
    assert_probe("second projections", second, &golden["z1"], 1e-4);
    let gradients = executor.gradients();
    let names: Vec<&String> = golden["grads"].as_object().unwrap().keys().collect();
    assert_eq!(plan.parameters.iter().map(|parameter| &parameter.name).collect::<Vec<_>>(), names, "{recipe}");
    for parameter in &plan.parameters {
        assert_probe(&parameter.name, &gradients[parameter.range()], &golden["grads"][&parameter.name], 1e-2);
    }
}

fn plain(hidden: u32, output: u32) -> Head {
    Head::Mlp { layers: 2, hidden, output, batch_norm: false, bias: true, output_shift: true }
}

#[test]
fn solo_learns_stem_and_head_are_pytorchs() {
    check("SoloLearn", Stem::CifarPadded, plain(2048, 256), BatchNormScope::View);
}

#[test]
fn kobaks_head_is_pytorchs() {
    check("Dkobak", Stem::Cifar, plain(1024, 128), BatchNormScope::View);
}

#[test]
fn googles_head_is_pytorchs_without_the_last_shift() {
    let (hidden, output) = (512, 128);
    let google = Head::Mlp { layers: 3, hidden, output, batch_norm: true, bias: false, output_shift: false };
    check("Google", Stem::Cifar, google, BatchNormScope::Joint);
}
