//! Presets: what they say, what a file says over them, and that nothing in a key tells of them.

use std::collections::BTreeSet;

use super::{loaded, options, sound};
use crate::experiment::preset::Preset;
use crate::experiment::problem::Found;
use crate::experiment::recipe::{
    Augmentation, Backbone, BatchNormScope, BlurKind, DecayScope, Evaluation, Filter, Head, HueKind, Initialization,
    Knn, LarsFlavour, LearningRate, LinearProbe, Loss, Model, Optimizer, ProbeViews, Scaling, Schedule, Stem, Vote,
    WarmupForm,
};
use crate::experiment::run::Run;
use crate::experiment::tree::{Kind, Node, parse};
use crate::experiment::{Experiment, LoadOptions, load};

fn of(fields: &str) -> Run {
    let text = format!("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), {fields})");
    sound(&text).cells[0].runs[0].clone()
}

fn with(text: &str, overrides: &[&str]) -> Experiment {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    load("x.ron", text, &options(&overrides)).unwrap_or_else(|problems| panic!("{problems}"))
}

const LIGHTLY: &str = "Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), preset: Lightly)";

fn model(stem: Stem, head: Head, initialization: Initialization) -> Model {
    Model { backbone: Backbone::ResNet18 { stem }, side: 32, head, initialization }
}

fn mlp(layers: u32, hidden: u32, output: u32, batch_norm: bool, output_shift: bool) -> Head {
    Head::Mlp { layers, hidden, output, batch_norm, bias: !batch_norm, output_shift }
}

fn crop(smallest: f64, filter: Filter) -> Augmentation {
    Augmentation::RandomResizedCrop { scale: (smallest, 1.0), ratio: (0.75, 4.0 / 3.0), filter }
}

fn jitter(factor: f64, hue: f64, hue_kind: HueKind) -> Augmentation {
    let (brightness, contrast, saturation) = (factor, factor, factor);
    Augmentation::ColorJitter { p: 0.8, brightness, contrast, saturation, hue, hue_kind }
}

const FLIP: Augmentation = Augmentation::HorizontalFlip { p: 0.5 };

fn sgd(momentum: f64, weight_decay: f64) -> Optimizer {
    Optimizer::Sgd { momentum, nesterov: false, weight_decay, decay: DecayScope::All }
}

fn lars(flavour: LarsFlavour, trust_coefficient: f64) -> Optimizer {
    Optimizer::Lars { flavour, momentum: 0.9, weight_decay: 1e-4, trust_coefficient, decay: DecayScope::Weights }
}

/// The rows of a table of the recipes: epochs, batch, temperature, scope, optimizer, base rate and per.
fn check_train(run: &Run, epochs: u64, batch: u32, temperature: f64, scope: BatchNormScope, optimizer: Optimizer) {
    assert_eq!(run.train.length_steps, epochs * u64::from(50_000 / batch));
    assert_eq!((run.train.batch, run.train.micro_batch, run.train.temperature), (batch, None, temperature));
    assert_eq!((run.train.batch_norm_scope, run.train.optimizer), (scope, optimizer));
}

fn rate(base: f64, per: u32) -> LearningRate {
    LearningRate { base, scaling: Scaling::Linear { per } }
}

fn warmup(batch: u32) -> Schedule {
    Schedule::WarmupCosine { warmup_steps: 10 * u64::from(50_000 / batch), form: WarmupForm::Google }
}

fn knn(k: u32, temperature: f64) -> Evaluation {
    Evaluation::Knn(Knn { k, temperature, ..Knn::DEFAULT })
}

fn probe(batch: u32) -> Evaluation {
    let (epochs, learning_rate, momentum, weight_decay, seed) = (100, 0.1, 0.9, 0.0, 0);
    Evaluation::LinearProbe(LinearProbe {
        epochs,
        batch,
        learning_rate,
        momentum,
        weight_decay,
        seed,
        ..LinearProbe::DEFAULT
    })
}

#[test]
fn lightlys_benchmark() {
    let run = of("preset: Lightly");
    assert_eq!(run.model, model(Stem::Cifar, mlp(2, 512, 128, true, true), Initialization::PyTorchDefault));
    check_train(&run, 200, 128, 0.5, BatchNormScope::View, sgd(0.9, 5e-4));
    assert_eq!((run.train.learning_rate, run.train.schedule), (rate(0.06, 128), Schedule::Cosine));
    let normalize = Augmentation::Normalize { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    let jitter = jitter(0.4, 0.1, HueKind::Pillow);
    let views = [crop(0.08, Filter::Bilinear), FLIP, jitter, Augmentation::Grayscale { p: 0.2 }, normalize];
    assert_eq!(run.views, views);
    assert_eq!(run.evaluate, [knn(200, 0.1)]);
}

#[test]
fn solo_learns_recipe() {
    let run = of("preset: SoloLearn");
    let head = mlp(2, 2048, 256, false, true);
    assert_eq!(run.model, model(Stem::CifarPadded, head, Initialization::TorchvisionNewStem));
    check_train(&run, 1000, 256, 0.2, BatchNormScope::View, lars(LarsFlavour::SoloLearnClipped, 0.02));
    assert_eq!((run.train.learning_rate, run.train.schedule), (rate(0.4, 256), warmup(256)));
    let blur = Augmentation::GaussianBlur { p: 0.5, sigma: (0.1, 2.0), kind: BlurKind::PillowBoxes };
    let normalize = Augmentation::Normalize { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] };
    let jitter = jitter(0.8, 0.2, HueKind::Pillow);
    let views = [crop(0.08, Filter::Bicubic), jitter, Augmentation::Grayscale { p: 0.2 }, blur, FLIP, normalize];
    assert_eq!(run.views, views);
    assert_eq!(run.evaluate, [probe(256), knn(20, 0.07)]);
}

#[test]
fn googles_recipe() {
    let run = of("preset: Google");
    assert_eq!(run.model, model(Stem::Cifar, mlp(3, 512, 128, true, false), Initialization::Google));
    check_train(&run, 1000, 512, 0.5, BatchNormScope::Joint, lars(LarsFlavour::Google, 0.001));
    assert_eq!((run.train.learning_rate, run.train.schedule), (rate(1.0, 256), warmup(512)));
    let jitter = jitter(0.4, 0.1, HueKind::Float);
    assert_eq!(run.views, [crop(0.08, Filter::Bicubic), FLIP, jitter, Augmentation::Grayscale { p: 0.2 }]);
    let Evaluation::LinearProbe(plain) = probe(512) else { unreachable!("a probe") };
    assert_eq!(run.evaluate, [Evaluation::LinearProbe(LinearProbe { augment: ProbeViews::CropAndFlip, ..plain })]);
    assert_eq!(run.train.loss, Loss::NtXent { normalize: true, scale: 2.0 });
}

#[test]
fn kobaks_recipe() {
    let run = of("preset: Dkobak");
    assert_eq!(run.model, model(Stem::Cifar, mlp(2, 1024, 128, false, true), Initialization::TorchvisionNewStem));
    check_train(&run, 1000, 512, 0.5, BatchNormScope::View, sgd(0.9, 5e-4));
    assert_eq!((run.train.learning_rate, run.train.schedule), (rate(0.03, 256), Schedule::Cosine));
    let jitter = jitter(0.4, 0.1, HueKind::Pillow);
    assert_eq!(run.views, [crop(0.2, Filter::Bilinear), FLIP, jitter, Augmentation::Grayscale { p: 0.1 }]);
    let majority = Knn { k: 10, vote: Vote::Majority, ..Knn::DEFAULT };
    assert_eq!(run.evaluate, [Evaluation::Knn(majority)]);
}

fn paths(node: &Node, path: &str, found: &mut BTreeSet<String>) {
    let Kind::Record { fields, .. } = &node.kind else { return };
    for field in fields {
        let path = format!("{path}.{}", field.name);
        found.insert(path.clone());
        // The fields of a variant are the variant's own affair.
        if matches!(&field.value.kind, Kind::Record { name: None, .. }) {
            paths(&field.value, &path, found);
        }
    }
}

/// A preset that left something out would follow a default of this program instead of its peer.
#[test]
fn a_preset_says_all_that_a_file_can_say_of_a_recipe() {
    let tree = |text: &str| parse(0, text, 0, &mut Found::default()).expect("RON");
    let all = |root: &Node| {
        let mut found = BTreeSet::new();
        paths(root, "", &mut found);
        found.retain(|path| ["model", "views", "train", "evaluate"].contains(&path.split('.').nth(1).unwrap_or("")));
        found
    };
    let mut expected = all(&tree(include_str!("../format.ron")));
    // How often something is written down is no part of a recipe.
    let kept = [".train.metrics_every", ".train.checkpoint_every", ".train.snapshots"];
    assert!(kept.iter().all(|path| expected.remove(*path)));
    for preset in Preset::ALL {
        assert_eq!(all(&tree(preset.text())), expected, "{preset:?}");
    }
}

#[test]
fn a_preset_leaves_no_trace() {
    for preset in Preset::ALL {
        let text = preset.text();
        let fields = &text[text.find("\n(").expect("a record") + 2..text.rfind(')').expect("its end")];
        let (spelled, chosen) = (of(fields), of(&format!("preset: {}", preset.name())));
        assert_eq!(spelled, chosen);
        assert_eq!(spelled.keys(), chosen.keys());
    }
    assert_eq!(of("seeds: [0]"), of("preset: None, seeds: [0]"));
}

#[test]
fn a_file_speaks_over_its_preset() {
    let check = |fields: &str, change: fn(&mut Run)| {
        let mut expected = of("preset: Lightly");
        change(&mut expected);
        assert_eq!(of(&format!("preset: Lightly, {fields}")), expected, "{fields}");
        assert_eq!(of(&format!("{fields}, preset: Lightly")), expected, "{fields}");
    };
    check("train: (temperature: 0.1)", |run| run.train.temperature = 0.1);
    check("train: Train(temperature: 0.1)", |run| run.train.temperature = 0.1);
    check("train: (learning_rate: (base: 0.1))", |run| run.train.learning_rate.base = 0.1);
    check("train: (learning_rate: 0.1)", |run| {
        run.train.learning_rate = LearningRate { base: 0.1, scaling: Scaling::None };
    });
    // The preset's variant keeps what the file does not say, another one takes its own defaults.
    check("train: (optimizer: Sgd(weight_decay: 0.0))", |run| run.train.optimizer = sgd(0.9, 0.0));
    check("train: (optimizer: Adam)", |run| {
        let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
        run.train.optimizer = Optimizer::Adam { beta1, beta2, epsilon, weight_decay: 0.0, decay: DecayScope::All };
    });
    check("model: (head: Mlp(hidden: 2048))", |run| run.model.head = mlp(2, 2048, 128, true, true));
    check("model: (head: Linear(output: 64), side: 64)", |run| {
        run.model.head = Head::Linear { output: 64, batch_norm: true, bias: false };
        run.model.side = 64;
    });
    // A list is the file's alone.
    check("views: [RandomResizedCrop]", |run| run.views = vec![crop(0.08, Filter::Bilinear)]);
    check("evaluate: [LinearProbe(epochs: 100)]", |run| run.evaluate = vec![probe(256)]);
}

#[test]
fn overrides_and_axes_reach_into_a_preset() {
    let run = |overrides: &[&str]| with(LIGHTLY, overrides).cells[0].runs[0].clone();
    assert_eq!(run(&["train.batch=64"]), of("preset: Lightly, train: (batch: 64)"));
    assert_eq!(run(&["views[2].strength=1.0"]).views[2], jitter(0.8, 0.2, HueKind::Pillow));
    assert_eq!(run(&["evaluate[0].k=20"]).evaluate, [knn(20, 0.1)]);
    assert_eq!(run(&["preset=Dkobak"]), of("preset: Dkobak"));
    // Whatever the order: what is overridden is the recipe of the preset that is chosen.
    assert_eq!(run(&["evaluate[1].k=5", "preset=SoloLearn"]).evaluate, [probe(256), knn(5, 0.07)]);
    assert_eq!(run(&["preset=None"]), of("seeds: [0]"));
    let swept = sound(
        "Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), preset: Lightly, seeds: [0],
         sweep: [Axis(\"train.optimizer.momentum\", [0.0, 0.9]), Axis(\"views[3].p\", [0.1, 0.2])])",
    );
    let changed = &swept.cells[0].runs[0];
    assert_eq!((changed.train.optimizer, &changed.views[3]), (sgd(0.0, 5e-4), &Augmentation::Grayscale { p: 0.1 }));
    assert_eq!(swept.cells[3].runs[0], of("preset: Lightly"));
}

#[test]
fn presets_are_an_axis() {
    let text = "Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), seeds: [0], train: (length: Epochs(20)),
         evaluate: [Knn], sweep: [Axis(\"preset\", [Lightly, Google, None]), Axis(\"train.temperature\", [0.1, 0.5])])";
    let base = "train: (length: Epochs(20)), evaluate: [Knn]";
    let swept = sound(text);
    let labels: Vec<&str> = swept.cells.iter().map(|cell| cell.labels[0].as_str()).collect();
    assert_eq!(labels, ["Lightly", "Lightly", "Google", "Google", "None", "None"]);
    let cell = |index: usize| swept.cells[index].runs[0].clone();
    assert_eq!(cell(1), of(&format!("{base}, preset: Lightly")));
    assert_eq!(cell(3).model, of("preset: Google").model);
    assert_eq!(cell(2).train.temperature, 0.1);
    assert_eq!(cell(5), of(base));
    assert_eq!(swept.axes[0].path, "preset");
    // An override holds for every preset; one of the axis itself has no effect and says so.
    let halved = with(text, &["train.batch=128"]);
    assert!(halved.cells.iter().all(|cell| cell.runs[0].train.batch == 128));
    let overridden = ["preset=Dkobak".to_owned()];
    let refused = load("x.ron", text, &options(&overridden)).expect_err("an axis takes its place");
    assert!(refused.summary().contains("this override has no effect"), "{}", refused.summary());
    let alone = load("x.ron", text, &LoadOptions { ignore_sweep: true, ..options(&overridden) });
    let alone = alone.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(alone.cells[0].runs[0].model, of("preset: Dkobak").model);
}

#[test]
fn mistakes_show_where_they_were_made() {
    let check = |fields: &str, expected: &[&str]| {
        let text = format!("Experiment(\nquestion: \"q\",\ndataset: Cifar10(root: \"data\"),\n{fields}\n)");
        let summary = loaded(&text).expect_err(fields).summary();
        assert_eq!(summary.lines().collect::<Vec<_>>(), expected, "{fields}");
    };
    let at = |place: &str, message: &str| format!("experiments/x.ron:{place}: {message}");
    check("preset: Ligthly", &[&at("4:9", "`preset` cannot be `Ligthly`")]);
    check("preset: \"Lightly\"", &[&at("4:9", "`preset` cannot be `\"Lightly\"`")]);
    // What the file says is the file's mistake, what it does not is that of choosing the preset.
    check("preset: Lightly,\ntrain: (batch: 1)", &[&at("5:16", "`train.batch` cannot be `1`")]);
    let message = "with a `micro_batch`, batch norms see a view of a micro-batch, not of the batch";
    check("preset: Lightly,\ntrain: (micro_batch: 64)", &[&at("4:9", message)]);
    check(
        "train: (batch: 1), preset: Nobody",
        &[&at("4:16", "`train.batch` cannot be `1`"), &at("4:28", "`preset` cannot be `Nobody`")],
    );
    check("sweep: [Axis(\"preset\", [Lightly, Nobody])]", &[&at("4:34", "`preset` cannot be `Nobody`")]);
    let message = "`preset.train` cannot be swept: a preset has a name and no fields";
    check("preset: Lightly, sweep: [Axis(\"preset.train\", [1])]", &[&at("4:31", message)]);
    let message = "`Lightly` means the same as `Lightly`: their cells would be the same run";
    check("sweep: [Axis(\"preset\", [Lightly, Lightly])]", &[&at("4:34", message)]);
    let message = "`output_shift: false` is of the last batch norm, and this head has none";
    check("preset: Google, model: (head: Mlp(batch_norm: false))", &[&at("4:9", message)]);
}

#[test]
fn presets_shrink_for_a_smoke() {
    for preset in Preset::ALL {
        let text = LIGHTLY.replace("Lightly", preset.name());
        let shrunk = load("x.ron", &text, &LoadOptions { smoke: true, ..options(&[]) }).expect("a sound experiment");
        let run = &shrunk.cells[0].runs[0];
        assert!(run.smoke && run.train.length_steps <= 3 && run.train.batch <= 32, "{preset:?}");
    }
}
