//! What models are lowered to: names, counts, order, fusion; and that the Plan computes what the typed model does.

use super::exact;
use crate::experiment::recipe::{self, Backbone, Head, Initialization, Stem};
use crate::model::fuse::fuse;
use crate::model::lower::{Extent, Lower};
use crate::model::lowering::Lowering;
use crate::model::plan::{Activation, Op, Plan, PoolKind};
use crate::model::registry::{self, NotCompiled};
use crate::model::{twin, typed};
use crate::random::{Address, Purpose, Stream};

fn model(stem: Stem, side: u32, head: Head) -> recipe::Model {
    recipe::Model { backbone: Backbone::ResNet18 { stem }, side, head, initialization: Initialization::Torchvision }
}

const LIGHTLY: Head =
    Head::Mlp { layers: 2, hidden: 512, output: 128, batch_norm: true, bias: false, output_shift: true };

fn every_head() -> Vec<Head> {
    let mut heads = vec![Head::None];
    for output in registry::OUTPUTS {
        for (batch_norm, bias) in [(false, false), (false, true), (true, false), (true, true)] {
            heads.push(Head::Linear { output, batch_norm, bias });
            for hidden in registry::HIDDEN {
                heads.extend([2, 3].map(|layers| Head::Mlp {
                    layers,
                    hidden,
                    output,
                    batch_norm,
                    bias,
                    output_shift: true,
                }));
            }
        }
    }
    heads
}

/// Values are defined once and before they are read; tensors lie one behind another.
fn assert_well_formed(plan: &Plan) {
    let mut is_defined = vec![false; plan.values.len()];
    is_defined[plan.input.0] = true;
    for op in &plan.ops {
        assert!(op.inputs().iter().all(|input| is_defined[input.0]), "{op:?} reads what is not there yet");
        assert!(!std::mem::replace(&mut is_defined[op.output().0], true), "{op:?} defines a value again");
    }
    assert!(is_defined.iter().all(|&is_defined| is_defined), "a value without an operation");
    let mut end = 0;
    for parameter in &plan.parameters {
        assert_eq!(parameter.offset, end, "{}", parameter.name);
        end = parameter.range().end;
    }
    assert_eq!(plan.n_parameters(), end);
    let mut end = 0;
    for buffer in &plan.buffers {
        assert_eq!(buffer.offset, end, "{}", buffer.name);
        end += buffer.len;
    }
}

#[test]
fn every_compiled_model_is_well_formed_and_fully_fused() {
    for stem in [Stem::ImageNet, Stem::Cifar, Stem::CifarPadded] {
        for side in registry::SIDES {
            let plan = registry::plan(&model(stem, side, LIGHTLY)).unwrap();
            assert_well_formed(&plan);
            let is_left = |op: &Op| matches!(op, Op::Add { .. } | Op::Activate { .. });
            assert!(!plan.ops.iter().any(is_left), "{stem:?} {side}");
            assert_eq!(plan.shape(plan.input).len(), (side * side * 3) as usize);
            assert_eq!((plan.feature_width(), plan.projection_width()), (512, 128));
        }
    }
}

/// Parameters by hand: layer by layer out·in, plus out for a bias, plus 2·out for a batch norm.
#[test]
fn every_compiled_head_has_its_parameters() {
    let backbone = registry::plan(&model(Stem::Cifar, 32, Head::None)).unwrap().n_parameters();
    for head in every_head() {
        let (widths, batch_norm, bias) = match head {
            Head::None => (vec![512], false, false),
            Head::Linear { output, batch_norm, bias } => (vec![512, output], batch_norm, bias),
            Head::Classifier { n_classes } => (vec![512, n_classes], false, true),
            Head::Mlp { layers, hidden, output, batch_norm, bias, output_shift: _ } => {
                let hidden = std::iter::repeat_n(hidden, layers as usize - 1);
                (std::iter::once(512).chain(hidden).chain([output]).collect(), batch_norm, bias)
            }
        };
        let layer = |w: &[u32]| w[1] * (w[0] + u32::from(bias) + 2 * u32::from(batch_norm));
        let expected: u32 = widths.windows(2).map(layer).sum();
        let plan = registry::plan(&model(Stem::Cifar, 32, head)).unwrap();
        assert_well_formed(&plan);
        assert_eq!(plan.n_parameters() - backbone, expected as usize, "{head:?}");
        assert_eq!(plan.projection_width(), *widths.last().unwrap() as usize, "{head:?}");
    }
}

/// torchvision's resnet18 without `fc` has 11,176,512 parameters, 11,168,832 with a 3×3 stem; Lightly's heads of
/// 512-512-128 and 512-2048-2048 have 328,960 and 5,251,072.
#[test]
fn parameter_counts_are_those_of_torchvision_and_lightly() {
    let count = |stem, head| registry::plan(&model(stem, 32, head)).unwrap().n_parameters();
    assert_eq!(count(Stem::ImageNet, Head::None), 11_176_512);
    assert_eq!(count(Stem::Cifar, Head::None), 11_168_832);
    assert_eq!(count(Stem::Cifar, LIGHTLY) - 11_168_832, 328_960);
    let wide = Head::Mlp { layers: 2, hidden: 2048, output: 2048, batch_norm: true, bias: false, output_shift: true };
    assert_eq!(count(Stem::ImageNet, wide) - 11_176_512, 5_251_072);
}

/// What solo-learn's padding adds to the sides of the maps, stage by stage.
#[test]
fn the_padded_stem_grows_the_maps() {
    let sides = |stem| {
        let plan = registry::plan(&model(stem, 32, Head::None)).unwrap();
        let of_convolution = |op: &Op| match *op {
            Op::Conv2d { output, .. } => Some(plan.shape(output).positions()),
            _ => None,
        };
        let mut positions: Vec<usize> = plan.ops.iter().filter_map(of_convolution).collect();
        positions.dedup();
        positions
    };
    assert_eq!(sides(Stem::Cifar), [32 * 32, 16 * 16, 8 * 8, 4 * 4]);
    assert_eq!(sides(Stem::CifarPadded), [34 * 34, 17 * 17, 9 * 9, 5 * 5]);
}

/// A head without its last shift: the same tensors under the same names, one of them held.
#[test]
fn a_held_shift_is_there_but_not_trained() {
    let (layers, hidden, output) = (3, 512, 128);
    let head = |output_shift| Head::Mlp { layers, hidden, output, batch_norm: true, bias: false, output_shift };
    let [shifted, held] = [true, false].map(|shift| registry::plan(&model(Stem::Cifar, 32, head(shift))).unwrap());
    assert_eq!(shifted.n_trained(), shifted.n_parameters());
    assert_eq!((held.n_parameters(), held.n_trained()), (shifted.n_parameters(), shifted.n_trained() - 128));
    let kinds = |plan: &Plan| plan.parameters.iter().map(|parameter| parameter.kind).collect::<Vec<_>>();
    let differing: Vec<&str> = held
        .parameters
        .iter()
        .zip(kinds(&held).iter().zip(kinds(&shifted)))
        .filter_map(|(parameter, (held, shifted))| (*held != shifted).then_some(parameter.name.as_str()))
        .collect();
    assert_eq!(differing, ["projection_head.layers.7.bias"]);
    let typed = registry::typed(&model(Stem::Cifar, 32, head(false))).unwrap();
    assert_eq!(*typed.plan(), held);
}

#[test]
fn layers_of_a_head_are_numbered_as_in_lightly() {
    let check = |head: Head, expected: &[&str]| {
        let plan = registry::plan(&model(Stem::Cifar, 32, head)).unwrap();
        let own = |name: &str| name.strip_prefix("projection_head.layers.").map(str::to_owned);
        let names: Vec<String> = plan.parameters.iter().filter_map(|parameter| own(&parameter.name)).collect();
        assert_eq!(names, expected, "{head:?}");
    };
    check(Head::Linear { output: 64, batch_norm: false, bias: true }, &["0.weight", "0.bias"]);
    check(Head::Linear { output: 64, batch_norm: true, bias: false }, &["0.weight", "1.weight", "1.bias"]);
    let mlp =
        |layers, batch_norm, bias| Head::Mlp { layers, hidden: 512, output: 64, batch_norm, bias, output_shift: true };
    check(mlp(2, false, true), &["0.weight", "0.bias", "2.weight", "2.bias"]);
    check(mlp(3, false, false), &["0.weight", "2.weight", "4.weight"]);
    check(mlp(2, true, false), &["0.weight", "1.weight", "1.bias", "3.weight", "4.weight", "4.bias"]);
    let three = ["0.weight", "1.weight", "1.bias", "3.weight", "4.weight", "4.bias", "6.weight", "7.weight", "7.bias"];
    check(mlp(3, true, false), &three);
}

/// torchvision's `resnet18` has 11,689,512 parameters with the classifier of ImageNet.
#[test]
fn a_classifier_is_as_wide_as_the_data_and_torchvisions() {
    for n_classes in [1, 7, 1000] {
        let model = model(Stem::ImageNet, 32, Head::Classifier { n_classes });
        let plan = registry::plan(&model).unwrap();
        let shapes: Vec<(&str, &[usize])> = plan.parameters.iter().map(|p| (p.name.as_str(), &p.shape[..])).collect();
        let n = n_classes as usize;
        assert_eq!(shapes[shapes.len() - 2..], [("fc.weight", &[n, 512][..]), ("fc.bias", &[n][..])]);
        assert_eq!((plan.projection_width(), plan.feature_width()), (n, 512));
        assert_eq!(registry::typed(&model).unwrap().plan(), &plan);
        assert!(n_classes != 1000 || plan.n_parameters() == 11_689_512);
    }
    let error = registry::plan(&model(Stem::ImageNet, 32, Head::Classifier { n_classes: 0 })).unwrap_err();
    assert!(error.to_string().contains("or a `Classifier` of 1 to 65536 classes"), "{error}");
}

#[test]
fn what_is_not_compiled_is_refused_with_what_is() {
    let check = |model: recipe::Model, expected: &str| {
        let error = registry::plan(&model).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(registry::typed(&model).err(), Some(error));
    };
    check(model(Stem::Cifar, 48, LIGHTLY), "views of `48` pixels: expected a side of 32, 64, 96, 128 or 224");
    let narrow = Head::Mlp { layers: 2, hidden: 300, output: 128, batch_norm: true, bias: false, output_shift: true };
    check(model(Stem::Cifar, 32, narrow), "hidden 512, 1024 or 2048 and output 64, 128, 256 or 2048");
    let deep = Head::Mlp { layers: 4, hidden: 512, output: 128, batch_norm: true, bias: false, output_shift: true };
    check(model(Stem::Cifar, 32, deep), "2 or 3 layers");
    let odd = Head::Linear { output: 100, batch_norm: false, bias: false };
    check(model(Stem::ImageNet, 32, odd), "`Linear` with an output of 64, 128, 256 or 2048");
    assert_eq!(
        registry::plan(&model(Stem::ImageNet, 0, Head::None)).unwrap_err(),
        NotCompiled::Side { stem: Stem::ImageNet, side: 0 }
    );
}

/// The small twin as lowered, before fusion.
fn unfused() -> Plan {
    type View = (dfdx::shapes::Const<3>, dfdx::shapes::Const<16>, dfdx::shapes::Const<16>);
    let mut lowering = Lowering::default();
    let input = lowering.value(View::of_image());
    let features = <twin::SmallBackbone as Lower<View>>::lower(&mut lowering, input);
    let projection = <twin::SmallHead as Lower<(dfdx::shapes::Const<16>,)>>::lower(&mut lowering, features);
    lowering.finish(input, features, projection)
}

fn draws(example: u32, n: usize, low: f32, high: f32) -> Vec<f32> {
    let mut stream = Stream::new(23, Address { example, ..Address::of(Purpose::BuiltinData) });
    (0..n).map(|_| stream.uniform(low, high)).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

#[test]
fn fusion_changes_no_number() {
    let (plan, fused) = (unfused(), fuse(unfused()));
    assert_well_formed(&plan);
    assert_well_formed(&fused);
    assert_eq!((&plan.parameters, &plan.buffers), (&fused.parameters, &fused.buffers));
    let parameters = wide(&draws(0, plan.n_parameters(), -0.5, 0.5));
    let views = wide(&draws(1, 3 * 3 * 256, -1.0, 1.0));
    let (values, fused_values) =
        (exact::run(&plan, &parameters, &views, 3), exact::run(&fused, &parameters, &views, 3));
    assert_eq!(values[plan.features.0], fused_values[fused.features.0]);
    assert_eq!(values[plan.projection.0], fused_values[fused.projection.0]);
}

#[test]
fn fusion_merges_residual_and_activation_behind_the_shortcut() {
    let fused = fuse(unfused());
    let describe = |op: &Op| match op {
        Op::Conv2d { window, .. } => format!("conv{}", window.kernel),
        Op::BatchNorm { residual, activation, .. } => {
            format!(
                "norm{}{}",
                if residual.is_some() { "+" } else { "" },
                ["", "~"][usize::from(*activation == Activation::Silu)]
            )
        }
        Op::Pool2d { kind: PoolKind::Average, .. } => "average".to_owned(),
        Op::GlobalAveragePool { .. } => "global".to_owned(),
        Op::Linear { .. } => "linear".to_owned(),
        Op::Pool2d { kind: PoolKind::Max, .. } | Op::Activate { .. } | Op::Add { .. } => format!("{op:?}"),
    };
    let ops: Vec<String> = fused.ops.iter().map(describe).collect();
    let expected = "conv7 norm~ average conv3 norm~ conv3 norm+~ conv3 norm~ conv3 conv1 norm norm+~ global linear norm~ linear norm";
    assert_eq!(ops.join(" "), expected);
}

/// A batch norm whose output is read twice, or is what evaluations see, stays as it is.
#[test]
fn fusion_leaves_what_others_read() {
    let mut plan = unfused();
    let norm = plan.ops.iter().position(|op| matches!(op, Op::BatchNorm { .. })).unwrap();
    plan.features = plan.ops[norm].output();
    plan.projection = plan.features;
    let fused = fuse(plan);
    assert_well_formed(&fused);
    assert!(matches!(fused.ops[1], Op::BatchNorm { activation: Activation::Identity, .. }), "{:?}", fused.ops[1]);
    assert!(matches!(fused.ops[2], Op::Activate { .. }), "{:?}", fused.ops[2]);
}

#[test]
fn the_plan_computes_what_the_typed_model_does() {
    let (backbone, head) = twin::small();
    let mut model = typed::build(&backbone, Some(&head));
    let plan = typed::plan(&backbone, Some(&head));
    let parameters = draws(0, plan.n_parameters(), -0.5, 0.5);
    let (_, buffers) = model.save();
    model.load(&parameters, &buffers);
    assert_eq!(model.save(), (parameters.clone(), buffers));
    let channels_last = draws(1, 4 * 3 * 256, -1.0, 1.0);
    let first = |i: usize| f64::from(channels_last[i / 768 * 768 + i % 256 * 3 + i / 256 % 3]);
    let views: Vec<f64> = (0..channels_last.len()).map(first).collect();
    let expected = exact::run(&plan, &wide(&parameters), &views, 4);
    let found = model.forward(&channels_last).unwrap().as_vec();
    for (found, expected) in found.iter().zip(&expected[plan.projection.0]) {
        assert!((f64::from(*found) - expected).abs() < 1e-4, "{found}, in f64 {expected}");
    }
}
