//! Keys: pinned, moved by every setting that can change a result and by nothing else.

use std::collections::BTreeSet;

use super::{facts, options, sound};
use crate::content::{Key, Value};
use crate::experiment::recipe::{
    Augmentation, Backbone, Backend, BatchNormScope, BlurKind, Builtin, Dataset, DecayScope, Evaluation, Head, HueKind,
    Initialization, Knn, LarsFlavour, LearningRate, LinearProbe, Metric, Model, Numerics, Optimizer, Scaling, Schedule,
    Split, Stem, Train, WarmupForm,
};
use crate::experiment::run::{Bookkeeping, DataFacts, Run};
use crate::experiment::{LoadOptions, load, meaning};

const LARS: Optimizer = Optimizer::Lars {
    flavour: LarsFlavour::Google,
    momentum: 0.9,
    weight_decay: 1e-4,
    trust_coefficient: 0.001,
    decay: DecayScope::Weights,
};

fn augmentations() -> Vec<Augmentation> {
    vec![
        Augmentation::RandomResizedCrop { scale: (0.08, 1.0), ratio: (0.75, 4.0 / 3.0) },
        Augmentation::HorizontalFlip { p: 0.5 },
        Augmentation::VerticalFlip { p: 0.25 },
        Augmentation::Rotate90 { p: 0.25 },
        Augmentation::Rotate { p: 0.25, degrees: (-10.0, 10.0) },
        Augmentation::ColorJitter {
            p: 0.8,
            brightness: 0.4,
            contrast: 0.3,
            saturation: 0.2,
            hue: 0.1,
            hue_kind: HueKind::Float,
        },
        Augmentation::Grayscale { p: 0.2 },
        Augmentation::GaussianBlur { p: 0.5, sigma: (0.1, 2.0), kind: BlurKind::Gaussian },
        Augmentation::Solarize { p: 0.1, threshold: 0.5 },
        Augmentation::Normalize { mean: [0.5, 0.4, 0.3], std: [0.3, 0.2, 0.1] },
    ]
}

/// One of everything.
fn rich_run() -> Run {
    Run {
        dataset: Dataset::Builtin(Builtin { n_classes: 10, train_per_class: 32, test_per_class: 8, seed: 0 }),
        facts: DataFacts { n_train: 288, n_test: 32, n_classes: 10, digest: Key::of_bytes(b"data") },
        split: Split::HeldOut { fraction: 0.1, seed: 5 },
        model: Model {
            backbone: Backbone::ResNet18 { stem: Stem::Cifar },
            side: 32,
            head: Head::Mlp { layers: 2, hidden: 512, output: 128, batch_norm: true, bias: false },
            initialization: Initialization::Torchvision,
        },
        views: augmentations(),
        train: Train {
            length_steps: 100,
            batch: 64,
            temperature: 0.5,
            batch_norm_scope: BatchNormScope::View,
            optimizer: LARS,
            learning_rate: LearningRate { base: 0.3, scaling: Scaling::Linear { per: 256 } },
            schedule: Schedule::WarmupCosine { warmup_steps: 10, form: WarmupForm::Lightly { end: 0.001 } },
            numerics: Numerics::F32,
        },
        evaluate: vec![
            Evaluation::Knn(Knn { k: 20, temperature: 0.1, metric: Metric::Cosine }),
            Evaluation::LinearProbe(LinearProbe {
                epochs: 90,
                batch: 256,
                learning_rate: 0.1,
                momentum: 0.9,
                weight_decay: 0.0,
                seed: 0,
            }),
        ],
        seed: 3,
        backend: Backend::Cpu,
        smoke: false,
        bookkeeping: Bookkeeping { metrics_every_steps: 50, checkpoint_every_steps: 100 },
    }
}

fn evaluation_keys(run: &Run) -> Vec<Key> {
    run.evaluate.iter().map(|evaluation| run.evaluation_key(evaluation)).collect()
}

/// A key that moves orphans every stored result. If a change of meaning is intended, bump the stage's version
/// in `run.rs` and copy the printed keys here.
#[test]
fn keys_are_pinned() {
    let run = rich_run();
    let found: Vec<String> =
        [vec![run.data_key(), run.pretrain_key()], evaluation_keys(&run)].concat().iter().map(Key::to_string).collect();
    let pinned = [
        "49bc82379f51d2c864dab3f82c047b1b2848794dadbc2119665c9831e35224f6",
        "e63cd8cd0bd04c4b46e0106d61da4174ac424711b9e49db10b02a81b6255ddf4",
        "e94422b136521fe1218b69febc4d3f0138b998ac851fdac966c9e56bd283a8f8",
        "0d3d525dbe4e8b5e450cc7956edf80d40859656b5702fe224fade79e54e6b7ed",
    ];
    assert_eq!(found, pinned, "to accept: copy the left list over the right one, and bump the stage's version");
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Moves {
    /// The training's key, and with it those of its evaluations.
    Pretrain,
    /// The key of an evaluation alone.
    Evaluation,
    /// No key: cannot change a result, or is held by another field that is in the key.
    Nothing,
}

type Change = (&'static str, Moves, fn(&mut Run));

fn jitter(change: fn(&mut [f64; 5], &mut HueKind)) -> Augmentation {
    let (mut numbers, mut hue_kind) = ([0.8, 0.4, 0.3, 0.2, 0.1], HueKind::Float);
    change(&mut numbers, &mut hue_kind);
    let [p, brightness, contrast, saturation, hue] = numbers;
    Augmentation::ColorJitter { p, brightness, contrast, saturation, hue, hue_kind }
}

fn lars(change: fn(&mut [f64; 3], &mut LarsFlavour, &mut DecayScope)) -> Optimizer {
    let (mut numbers, mut flavour, mut decay) = ([0.9, 1e-4, 0.001], LarsFlavour::Google, DecayScope::Weights);
    change(&mut numbers, &mut flavour, &mut decay);
    let [momentum, weight_decay, trust_coefficient] = numbers;
    Optimizer::Lars { flavour, momentum, weight_decay, trust_coefficient, decay }
}

fn probe(run: &mut Run) -> &mut LinearProbe {
    match &mut run.evaluate[1] {
        Evaluation::LinearProbe(probe) => probe,
        Evaluation::Knn(_) => panic!("the second evaluation is a probe"),
    }
}

fn knn(run: &mut Run) -> &mut Knn {
    match &mut run.evaluate[0] {
        Evaluation::Knn(knn) => knn,
        Evaluation::LinearProbe(_) => panic!("the first evaluation is a k-NN"),
    }
}

fn mlp(layers: u32, hidden: u32, output: u32, batch_norm: bool, bias: bool) -> Head {
    Head::Mlp { layers, hidden, output, batch_norm, bias }
}

fn warmup(warmup_steps: u64, end: f64) -> Schedule {
    Schedule::WarmupCosine { warmup_steps, form: WarmupForm::Lightly { end } }
}

/// Data, model and everything beside training.
const CHANGES: [Change; 24] = [
    ("dataset: where the data lie", Moves::Nothing, |run| run.dataset = Dataset::Cifar10 { root: "r".to_owned() }),
    ("facts.n_train: follows from digest and split", Moves::Nothing, |run| run.facts.n_train += 1),
    ("facts.n_test", Moves::Nothing, |run| run.facts.n_test += 1),
    ("facts.n_classes", Moves::Nothing, |run| run.facts.n_classes += 1),
    ("facts.digest", Moves::Pretrain, |run| run.facts.digest = Key::of_bytes(b"other")),
    ("split", Moves::Pretrain, |run| run.split = Split::Official),
    ("split.fraction", Moves::Pretrain, |run| run.split = Split::HeldOut { fraction: 0.2, seed: 5 }),
    ("split.seed", Moves::Pretrain, |run| run.split = Split::HeldOut { fraction: 0.1, seed: 6 }),
    ("stem", Moves::Pretrain, |run| run.model.backbone = Backbone::ResNet18 { stem: Stem::ImageNet }),
    ("side", Moves::Pretrain, |run| run.model.side = 64),
    ("head", Moves::Pretrain, |run| run.model.head = Head::None),
    ("layers", Moves::Pretrain, |run| run.model.head = mlp(3, 512, 128, true, false)),
    ("hidden", Moves::Pretrain, |run| run.model.head = mlp(2, 1024, 128, true, false)),
    ("output", Moves::Pretrain, |run| run.model.head = mlp(2, 512, 64, true, false)),
    ("batch_norm", Moves::Pretrain, |run| run.model.head = mlp(2, 512, 128, false, false)),
    ("bias", Moves::Pretrain, |run| run.model.head = mlp(2, 512, 128, true, true)),
    ("seed", Moves::Pretrain, |run| run.seed += 1),
    ("backend", Moves::Pretrain, |run| run.backend = Backend::Reference),
    ("smoke", Moves::Pretrain, |run| run.smoke = true),
    ("metrics_every", Moves::Nothing, |run| run.bookkeeping.metrics_every_steps += 1),
    ("checkpoint_every", Moves::Nothing, |run| run.bookkeeping.checkpoint_every_steps += 1),
    ("order of the views", Moves::Pretrain, |run| run.views.swap(1, 2)),
    ("reverse order of the views", Moves::Pretrain, |run| run.views.reverse()),
    ("number of the views", Moves::Pretrain, |run| run.views.truncate(9)),
];

const VIEW_CHANGES: [Change; 31] = [
    ("scale.0", Moves::Pretrain, |run| run.views[0] = crop((0.1, 1.0), (0.75, 4.0 / 3.0))),
    ("scale.1", Moves::Pretrain, |run| run.views[0] = crop((0.08, 0.9), (0.75, 4.0 / 3.0))),
    ("ratio.0", Moves::Pretrain, |run| run.views[0] = crop((0.08, 1.0), (0.7, 4.0 / 3.0))),
    ("ratio.1", Moves::Pretrain, |run| run.views[0] = crop((0.08, 1.0), (0.75, 1.3))),
    ("kind of view", Moves::Pretrain, |run| run.views[0] = Augmentation::Grayscale { p: 0.1 }),
    ("flip", Moves::Pretrain, |run| run.views[1] = Augmentation::HorizontalFlip { p: 0.0 }),
    ("vertical flip", Moves::Pretrain, |run| run.views[2] = Augmentation::VerticalFlip { p: 0.5 }),
    ("rotate 90", Moves::Pretrain, |run| run.views[3] = Augmentation::Rotate90 { p: 0.5 }),
    ("rotate", Moves::Pretrain, |run| run.views[4] = Augmentation::Rotate { p: 0.5, degrees: (-10.0, 10.0) }),
    ("degrees.0", Moves::Pretrain, |run| run.views[4] = Augmentation::Rotate { p: 0.25, degrees: (-9.0, 10.0) }),
    ("degrees.1", Moves::Pretrain, |run| run.views[4] = Augmentation::Rotate { p: 0.25, degrees: (-10.0, 9.0) }),
    ("jitter", Moves::Pretrain, |run| run.views[5] = jitter(|numbers, _| numbers[0] = 0.7)),
    ("brightness", Moves::Pretrain, |run| run.views[5] = jitter(|numbers, _| numbers[1] = 0.7)),
    ("contrast", Moves::Pretrain, |run| run.views[5] = jitter(|numbers, _| numbers[2] = 0.7)),
    ("saturation", Moves::Pretrain, |run| run.views[5] = jitter(|numbers, _| numbers[3] = 0.7)),
    ("hue", Moves::Pretrain, |run| run.views[5] = jitter(|numbers, _| numbers[4] = 0.2)),
    ("hue_kind", Moves::Pretrain, |run| run.views[5] = jitter(|_, kind| *kind = HueKind::Pillow)),
    ("grayscale", Moves::Pretrain, |run| run.views[6] = Augmentation::Grayscale { p: 0.1 }),
    ("blur", Moves::Pretrain, |run| run.views[7] = blur(0.4, (0.1, 2.0), BlurKind::Gaussian)),
    ("sigma.0", Moves::Pretrain, |run| run.views[7] = blur(0.5, (0.2, 2.0), BlurKind::Gaussian)),
    ("sigma.1", Moves::Pretrain, |run| run.views[7] = blur(0.5, (0.1, 1.0), BlurKind::Gaussian)),
    ("blur kind", Moves::Pretrain, |run| run.views[7] = blur(0.5, (0.1, 2.0), BlurKind::PillowBoxes)),
    ("solarize", Moves::Pretrain, |run| run.views[8] = Augmentation::Solarize { p: 0.2, threshold: 0.5 }),
    ("threshold", Moves::Pretrain, |run| run.views[8] = Augmentation::Solarize { p: 0.1, threshold: 0.6 }),
    ("no normalisation", Moves::Pretrain, |run| run.views[9] = Augmentation::Grayscale { p: 0.2 }),
    ("mean.0", Moves::Pretrain, |run| run.views[9] = normalize([0.6, 0.4, 0.3], [0.3, 0.2, 0.1])),
    ("mean.1", Moves::Pretrain, |run| run.views[9] = normalize([0.5, 0.5, 0.3], [0.3, 0.2, 0.1])),
    ("mean.2", Moves::Pretrain, |run| run.views[9] = normalize([0.5, 0.4, 0.4], [0.3, 0.2, 0.1])),
    ("std.0", Moves::Pretrain, |run| run.views[9] = normalize([0.5, 0.4, 0.3], [0.4, 0.2, 0.1])),
    ("std.1", Moves::Pretrain, |run| run.views[9] = normalize([0.5, 0.4, 0.3], [0.3, 0.3, 0.1])),
    ("std.2", Moves::Pretrain, |run| run.views[9] = normalize([0.5, 0.4, 0.3], [0.3, 0.2, 0.2])),
];

const TRAIN_CHANGES: [Change; 27] = [
    ("length", Moves::Pretrain, |run| run.train.length_steps += 1),
    ("batch", Moves::Pretrain, |run| run.train.batch += 1),
    ("temperature", Moves::Pretrain, |run| run.train.temperature = 0.1),
    ("batch_norm_scope", Moves::Pretrain, |run| run.train.batch_norm_scope = BatchNormScope::Joint),
    ("numerics", Moves::Pretrain, |run| run.train.numerics = Numerics::Bf16),
    ("optimizer", Moves::Pretrain, |run| run.train.optimizer = adam(0.9, 0.999, 1e-8, 1e-4)),
    ("flavour", Moves::Pretrain, |run| run.train.optimizer = lars(|_, flavour, _| *flavour = LarsFlavour::Popular)),
    ("momentum", Moves::Pretrain, |run| run.train.optimizer = lars(|numbers, _, _| numbers[0] = 0.8)),
    ("weight_decay", Moves::Pretrain, |run| run.train.optimizer = lars(|numbers, _, _| numbers[1] = 0.0)),
    ("trust_coefficient", Moves::Pretrain, |run| run.train.optimizer = lars(|numbers, _, _| numbers[2] = 0.02)),
    ("decay", Moves::Pretrain, |run| run.train.optimizer = lars(|_, _, decay| *decay = DecayScope::All)),
    ("base", Moves::Pretrain, |run| run.train.learning_rate.base = 0.4),
    ("scaling", Moves::Pretrain, |run| run.train.learning_rate.scaling = Scaling::Sqrt),
    ("per", Moves::Pretrain, |run| run.train.learning_rate.scaling = Scaling::Linear { per: 128 }),
    ("schedule", Moves::Pretrain, |run| run.train.schedule = Schedule::Cosine),
    ("warmup", Moves::Pretrain, |run| run.train.schedule = warmup(11, 0.001)),
    ("end", Moves::Pretrain, |run| run.train.schedule = warmup(10, 0.0)),
    ("form", Moves::Pretrain, |run| {
        run.train.schedule = Schedule::WarmupCosine { warmup_steps: 10, form: WarmupForm::Google };
    }),
    ("k", Moves::Evaluation, |run| knn(run).k += 1),
    ("metric", Moves::Evaluation, |run| knn(run).metric = Metric::Euclidean),
    ("knn.temperature", Moves::Evaluation, |run| knn(run).temperature = 0.2),
    ("probe.epochs", Moves::Evaluation, |run| probe(run).epochs += 1),
    ("probe.batch", Moves::Evaluation, |run| probe(run).batch += 1),
    ("probe.learning_rate", Moves::Evaluation, |run| probe(run).learning_rate = 0.2),
    ("probe.momentum", Moves::Evaluation, |run| probe(run).momentum = 0.8),
    ("probe.weight_decay", Moves::Evaluation, |run| probe(run).weight_decay = 1e-4),
    ("probe.seed", Moves::Evaluation, |run| probe(run).seed += 1),
];

fn crop(scale: (f64, f64), ratio: (f64, f64)) -> Augmentation {
    Augmentation::RandomResizedCrop { scale, ratio }
}

fn blur(p: f64, sigma: (f64, f64), kind: BlurKind) -> Augmentation {
    Augmentation::GaussianBlur { p, sigma, kind }
}

fn normalize(mean: [f64; 3], std: [f64; 3]) -> Augmentation {
    Augmentation::Normalize { mean, std }
}

fn adam(beta1: f64, beta2: f64, epsilon: f64, weight_decay: f64) -> Optimizer {
    Optimizer::Adam { beta1, beta2, epsilon, weight_decay, decay: DecayScope::All }
}

/// Every leaf that a run's keys are made of: the data's, the training's and the evaluations'.
fn leaves(run: &Run) -> Vec<(String, String)> {
    let evaluations = Value::List(run.evaluate.iter().map(meaning::evaluation).collect());
    let parts = [("data", run.data_meaning()), ("pretrain", run.pretrain_meaning()), ("evaluate", evaluations)];
    let named = parts
        .iter()
        .flat_map(|(part, value)| value.leaves().into_iter().map(move |(path, leaf)| (format!("{part}.{path}"), leaf)));
    named.collect()
}

#[test]
fn every_setting_moves_the_key_it_should() {
    let base = rich_run();
    // A new field stops the compiler here: give it a change above, or name it as moving nothing.
    let Run {
        dataset: _,
        facts: DataFacts { n_train: _, n_test: _, n_classes: _, digest: _ },
        split: _,
        model: Model { backbone: _, side: _, head: _, initialization: _ },
        views: _,
        train:
            Train {
                length_steps: _,
                batch: _,
                temperature: _,
                batch_norm_scope: _,
                optimizer: _,
                learning_rate: LearningRate { base: _, scaling: _ },
                schedule: _,
                numerics: _,
            },
        evaluate: _,
        seed: _,
        backend: _,
        smoke: _,
        bookkeeping: Bookkeeping { metrics_every_steps: _, checkpoint_every_steps: _ },
    } = &base;
    let before: BTreeSet<(String, String)> = leaves(&base).into_iter().collect();
    let mut moved_leaves = BTreeSet::new();
    for (name, moves, change) in CHANGES.iter().chain(&VIEW_CHANGES).chain(&TRAIN_CHANGES) {
        let mut run = base.clone();
        change(&mut run);
        assert_ne!(run, base, "`{name}` changes nothing");
        let pretrain = run.pretrain_key() != base.pretrain_key();
        let evaluation = evaluation_keys(&run) != evaluation_keys(&base);
        let expected = match moves {
            Moves::Pretrain => (true, true),
            Moves::Evaluation => (false, true),
            Moves::Nothing => (false, false),
        };
        assert_eq!((pretrain, evaluation), expected, "`{name}` (training, evaluations)");
        let after: BTreeSet<(String, String)> = leaves(&run).into_iter().collect();
        moved_leaves.extend(before.difference(&after).map(|(path, _)| path.clone()));
    }
    let unmoved: Vec<&str> =
        before.iter().map(|(path, _)| path.as_str()).filter(|path| !moved_leaves.contains(*path)).collect();
    // A variant's fixed name, the only initialisation there is, and versions, which move by hand.
    let constant = [
        "data.",
        "data.version",
        "evaluate.",
        "evaluate.[0]",
        "evaluate.[1]",
        "pretrain.",
        "pretrain.model",
        "pretrain.model.backbone",
        "pretrain.model.initialization",
        "pretrain.train",
        "pretrain.train.learning_rate",
        "pretrain.version",
    ];
    let lengths_of_pairs =
        |path: &&str| !(path.starts_with("pretrain.views[") && before.contains(&leaf(path, &before)));
    let unexplained: Vec<&str> =
        unmoved.into_iter().filter(|path| !constant.contains(path)).filter(lengths_of_pairs).collect();
    assert_eq!(unexplained, Vec::<&str>::new(), "no change above moves these leaves");
}

/// A leaf that only says how long a list of two or three numbers is, which never varies.
fn leaf(path: &str, leaves: &BTreeSet<(String, String)>) -> (String, String) {
    let found = leaves.iter().find(|(known, value)| known == path && (value == "[2]" || value == "[3]"));
    found.cloned().unwrap_or_default()
}

/// Changes one leaf of a value; the leaf counter runs down to it.
fn changed(value: &Value, countdown: &mut usize) -> Value {
    let is_it = |countdown: &mut usize| {
        *countdown = countdown.wrapping_sub(1);
        *countdown == usize::MAX
    };
    match value {
        Value::Bool(value) => Value::Bool(*value ^ is_it(countdown)),
        Value::Integer(value) => Value::Integer(value + i128::from(is_it(countdown))),
        Value::Float(value) => Value::float(if is_it(countdown) { value.next_up() } else { *value }),
        Value::Text(value) => Value::text(if is_it(countdown) { format!("{value}x") } else { value.clone() }),
        Value::Key(value) => Value::Key(if is_it(countdown) { Key::of_bytes(b"changed") } else { *value }),
        Value::List(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| changed(item, countdown)).collect();
            if is_it(countdown) {
                items.push(Value::Bool(true));
            }
            Value::List(items)
        }
        Value::Record(tag, fields) => {
            let tag = if is_it(countdown) { "Changed" } else { tag };
            Value::Record(tag, fields.iter().map(|(name, value)| (*name, changed(value, countdown))).collect())
        }
    }
}

#[test]
fn the_smallest_change_of_any_leaf_moves_the_key() {
    let meaning = rich_run().pretrain_meaning();
    let key = Key::of_value("d", &meaning);
    let mut n_leaves = 0;
    loop {
        let mut countdown = n_leaves;
        let other = changed(&meaning, &mut countdown);
        if countdown != usize::MAX && countdown < usize::MAX / 2 {
            break;
        }
        assert_ne!(Key::of_value("d", &other), key, "leaf {n_leaves}");
        n_leaves += 1;
    }
    assert!(n_leaves > 80, "{n_leaves} leaves");
}

fn key_of(text: &str) -> Key {
    sound(text).cells[0].runs[0].pretrain_key()
}

#[test]
fn spelling_never_moves_a_key() {
    let plain = "Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), train: (batch: 256, temperature: 0.5), seeds: [1])";
    let expected = key_of(plain);
    let others = [
        "// comment\nExperiment(seeds: [1], train: (temperature: 5e-1, batch: 0x100,), /* c */ dataset: Cifar10(root: \"data\"), question: \"other\",)",
        "Experiment(question: \"q\", dataset: Cifar10(root: \"/else/where\"), train: (batch: 2_56, temperature: 0.50), seeds: [0x1])",
        "(question: \"q\", dataset: Cifar10(root: \"data\"), seeds: [1, 2], model: (side: 32), evaluate: [LinearProbe], split: Official)",
        "Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), seeds: [1], train: (length: Steps(1950), metrics_every: Steps(1)))",
        "Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), seeds: [1], train: (length: Examples(499200), learning_rate: (base: 6e-2)))",
        "Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), seeds: [1], train: (optimizer: Sgd(decay: Weights), numerics: F32))",
    ];
    for other in others {
        assert_eq!(key_of(other), expected, "{other}");
    }
}

#[test]
fn a_cell_and_the_same_run_alone_share_their_keys() {
    let swept = sound(
        "Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), seeds: [0, 7],
         sweep: [Axis(\"train.batch\", [64, 128]), Variants(\"model.head\", {\"a\": None, \"b\": Linear(output: 64)})])",
    );
    let alone = sound(
        "Experiment(question: \"other\", dataset: Cifar10(root: \"data\"), seeds: [7],
         train: (batch: 128), model: (head: Linear(output: 64)), evaluate: [LinearProbe, Knn])",
    );
    let (cell, run) = (&swept.cells[3].runs[1], &alone.cells[0].runs[0]);
    assert_eq!(cell.pretrain_key(), run.pretrain_key());
    assert_eq!(
        evaluation_keys(cell)[0],
        evaluation_keys(run)[1],
        "an evaluation's key does not depend on its neighbours"
    );
}

#[test]
fn smoke_and_devices_have_keys_of_their_own() {
    let text = "Experiment(question: \"q\", dataset: Builtin(train_per_class: 32, test_per_class: 8), seeds: [0], train: (batch: 4, length: Steps(2)), evaluate: [Knn(k: 5)])";
    let key = |smoke, backend| {
        let loaded = load("x.ron", text, &LoadOptions { smoke, backend, facts: &facts, ..options(&[]) });
        loaded.unwrap_or_else(|problems| panic!("{problems}")).cells[0].runs[0].pretrain_key()
    };
    let keys =
        [key(false, Backend::Cpu), key(true, Backend::Cpu), key(false, Backend::Cuda), key(false, Backend::Reference)];
    assert_eq!(BTreeSet::from(keys).len(), 4);
}

#[test]
fn the_temperature_of_a_euclidean_vote_has_no_effect() {
    let key = |metric, temperature| {
        Key::of_value("d", &meaning::evaluation(&Evaluation::Knn(Knn { k: 5, temperature, metric })))
    };
    assert_eq!(key(Metric::Euclidean, 0.1), key(Metric::Euclidean, 0.2));
    assert_ne!(key(Metric::Cosine, 0.1), key(Metric::Cosine, 0.2));
}
