//! Keys: pinned, moved by every setting that can change a result and by nothing else.

use std::collections::BTreeSet;

use super::changes::{CHANGES, Moves, TRAIN_CHANGES, VIEW_CHANGES, rich_run};
use super::{facts, options, sound};
use crate::content::{Key, Value};
use crate::experiment::recipe::{
    Augmentation, Backend, BatchNormScope, DecayScope, Evaluation, HueKind, Knn, LarsFlavour, LearningRate, Metric,
    Model, Optimizer, Train,
};
use crate::experiment::run::{Bookkeeping, DataFacts, Run};
use crate::experiment::{LoadOptions, load, meaning};

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
        "8daf3d2f72f549435c4672dedfe6e529a6be1fb6ce7529f0ca7b1bd7615149da",
        "ac21d21f27b54e2e205787a21ab10e7639c986c03a6a7f0f7813a89199063afa",
        "e470b6442a64b612acf9489d657d1248254abf7db7bf9df234ee39727e584616",
    ];
    assert_eq!(found, pinned, "to accept: copy the left list over the right one, and bump the stage's version");
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
    check_changes(&rich_run());
    check_changes(&run_in_pieces());
}

/// As `rich_run`, in micro-batches.
fn run_in_pieces() -> Run {
    let mut run = rich_run();
    (run.train.micro_batch, run.train.batch_norm_scope) = (Some(16), BatchNormScope::MicroBatchView);
    run
}

fn check_changes(base: &Run) {
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
                micro_batch: _,
                loss: _,
                temperature: _,
                batch_norm_scope: _,
                optimizer: _,
                learning_rate: LearningRate { base: _, scaling: _ },
                schedule: _,
                numerics: _,
                snapshots_every_steps: _,
            },
        evaluate: _,
        seed: _,
        backend: _,
        plans: _,
        code: _,
        smoke: _,
        bookkeeping: Bookkeeping { metrics_every_steps: _, checkpoint_every_steps: _ },
    } = base;
    let before: BTreeSet<(String, String)> = leaves(base).into_iter().collect();
    let mut moved_leaves = BTreeSet::new();
    for (name, moves, change) in CHANGES.iter().chain(&VIEW_CHANGES).chain(&TRAIN_CHANGES) {
        let mut run = base.clone();
        change(&mut run);
        assert_ne!(run, *base, "`{name}` changes nothing");
        let pretrain = run.pretrain_key() != base.pretrain_key();
        let evaluation = evaluation_keys(&run) != evaluation_keys(base);
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
    // A variant's fixed name, and versions, which move by hand.
    let constant = [
        "data.",
        "data.version",
        "evaluate.",
        "evaluate.[0]",
        "evaluate.[1]",
        "pretrain.",
        "pretrain.model",
        "pretrain.model.backbone",
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
    check_leaves(&rich_run().pretrain_meaning());
    check_leaves(&run_in_pieces().pretrain_meaning());
    check_leaves(&Run { plans: Some(Key::of_bytes(b"lock")), ..rich_run() }.pretrain_meaning());
}

fn check_leaves(meaning: &Value) {
    let key = Key::of_value("d", meaning);
    let mut n_leaves = 0;
    loop {
        let mut countdown = n_leaves;
        let other = changed(meaning, &mut countdown);
        if countdown != usize::MAX && countdown < usize::MAX / 2 {
            break;
        }
        assert_ne!(Key::of_value("d", &other), key, "leaf {n_leaves}");
        n_leaves += 1;
    }
    assert!(n_leaves > 80, "{n_leaves} leaves");
}

#[test]
fn a_lock_of_plans_is_one_more_leaf_and_none_without_it() {
    let locked = |lock: Option<&[u8]>| Run { plans: lock.map(Key::of_bytes), ..rich_run() };
    let (without, with) = (leaves(&rich_run()), leaves(&locked(Some(b"a"))));
    let more: Vec<_> = with.iter().filter(|leaf| !without.contains(leaf)).collect();
    assert_eq!(more, [&("pretrain.train.plans".to_owned(), Key::of_bytes(b"a").to_string())]);
    assert_eq!(with.len(), without.len() + 1);
    let keys = [None, Some(&b"a"[..]), Some(b"b")].map(|lock| locked(lock).pretrain_key());
    assert_eq!(BTreeSet::from(keys).len(), 3);
    let mut experiment = sound("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), seeds: [1, 2])");
    let before = experiment.clone();
    experiment.lock_plans(Key::of_bytes(b"a"));
    for (run, old) in experiment.cells[0].runs.iter().zip(&before.cells[0].runs) {
        assert_eq!(*run, Run { plans: Some(Key::of_bytes(b"a")), ..old.clone() });
    }
}

#[test]
fn code_is_one_more_leaf_of_every_stage_and_none_without_it() {
    let of = |code: Option<&[u8]>| Run { code: code.map(Key::of_bytes), ..rich_run() };
    let (without, with) = (of(None), of(Some(b"a")));
    let line = format!("code = {}", Key::of_bytes(b"a"));
    let lines = |text: &str| text.lines().filter(|found| *found == line).count();
    assert_eq!((lines(&without.pretrain_preimage()), lines(&with.pretrain_preimage())), (0, 1));
    for evaluation in &with.evaluate {
        assert_eq!(lines(&with.evaluation_preimage(evaluation)), 2);
    }
    let keys = [None, Some(&b"a"[..]), Some(b"b")].map(|code| of(code).keys());
    assert_eq!(keys.iter().map(|keys| keys.pretrain).collect::<BTreeSet<Key>>().len(), 3);
    assert_eq!(keys.iter().flat_map(|keys| keys.evaluations.clone()).collect::<BTreeSet<Key>>().len(), 6);
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
fn a_batch_in_one_piece_has_the_key_it_had_before_there_were_pieces() {
    let names = |run: &Run| leaves(run).into_iter().map(|(path, _)| path).collect::<BTreeSet<_>>();
    let (whole, pieces) = (names(&rich_run()), names(&run_in_pieces()));
    assert_eq!(pieces.difference(&whole).collect::<Vec<_>>(), ["pretrain.train.micro_batch"]);
    let scope = |scope| {
        let mut run = rich_run();
        run.train.batch_norm_scope = scope;
        run.pretrain_key()
    };
    let scopes =
        [BatchNormScope::View, BatchNormScope::Joint, BatchNormScope::MicroBatchView, BatchNormScope::MicroBatchJoint];
    assert_eq!(BTreeSet::from(scopes.map(scope)).len(), 4);
    let left_out = "Experiment(question: \"q\", dataset: Cifar10(root: \"data\"))";
    let spelled = "Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), train: (micro_batch: None))";
    assert_eq!(key_of(left_out), key_of(spelled));
}

#[test]
fn the_temperature_of_a_euclidean_vote_has_no_effect() {
    let key = |metric, temperature| {
        Key::of_value("d", &meaning::evaluation(&Evaluation::Knn(Knn { k: 5, temperature, metric, ..Knn::DEFAULT })))
    };
    assert_eq!(key(Metric::Euclidean, 0.1), key(Metric::Euclidean, 0.2));
    assert_ne!(key(Metric::Cosine, 0.1), key(Metric::Cosine, 0.2));
}

/// Settings that evaluations once did not have: where they change nothing they leave the key as it was.
#[test]
fn new_settings_of_an_evaluation_leave_no_leaf_while_they_are_neutral() {
    let key = |text: &str| {
        let text = format!("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), evaluate: [{text}])");
        let run = sound(&text).cells[0].runs[0].clone();
        run.evaluation_key(&run.evaluate[0])
    };
    let check = |old: &str, same: &[&str], others: &[&str]| {
        same.iter().for_each(|text| assert_eq!(key(text), key(old), "{text}"));
        let keys: BTreeSet<Key> = others.iter().map(|text| key(text)).chain([key(old)]).collect();
        assert_eq!(keys.len(), others.len() + 1, "{others:?}");
    };
    check(
        "Knn(k: 5)",
        &["Knn(k: 5, vote: Weighted, layer: Backbone)", "KnnGrid(k: 5)", "KnnGrid(k: [5], temperature: [0.1])"],
        &[
            "Knn(k: 5, vote: Majority)",
            "Knn(k: 5, layer: Head(1))",
            "Knn(k: 5, layer: Head(2))",
            "Knn(k: 5, layer: Projection)",
            "Robustness(k: 5)",
        ],
    );
    check(
        "LinearProbe(epochs: 3)",
        &["LinearProbe(epochs: 3, augment: None, labels: 1, layer: Backbone)"],
        &[
            "LinearProbe(epochs: 3, augment: CropAndFlip)",
            "LinearProbe(epochs: 3, labels: 0.1)",
            "LinearProbe(epochs: 3, labels: 0.01)",
            "LinearProbe(epochs: 3, layer: Head(1))",
        ],
    );
    check(
        "Health",
        &["Health(rankme_min: 8, feature_std_min: 0.05, layer: Backbone)"],
        &["Health(rankme_min: 7)", "Health(feature_std_min: 0.1)", "Health(layer: Head(1))"],
    );
    check(
        "Robustness(k: 5, vote: Majority)",
        &["Robustness(k: 5, vote: Majority, temperature: 7)"],
        &["Robustness(k: 5)"],
    );
}

#[test]
fn the_kind_of_a_hue_shift_by_nothing_has_no_effect() {
    let key = |hue, hue_kind| {
        let jitter =
            Augmentation::ColorJitter { p: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue, hue_kind };
        Key::of_value("d", &meaning::augmentation(&jitter))
    };
    assert_eq!(key(0.0, HueKind::Float), key(0.0, HueKind::Pillow));
    assert_ne!(key(0.1, HueKind::Float), key(0.1, HueKind::Pillow));
    assert_ne!(key(0.0, HueKind::Float), key(0.1, HueKind::Float));
}

#[test]
fn without_weight_decay_lightlys_lars_has_no_trust_ratio() {
    let key = |flavour, weight_decay, trust_coefficient, decay| {
        let mut run = rich_run();
        run.train.optimizer = Optimizer::Lars { flavour, momentum: 0.9, weight_decay, trust_coefficient, decay };
        run.pretrain_key()
    };
    let check = |flavour, weight_decay, has_ratio: bool| {
        let base = key(flavour, weight_decay, 0.001, DecayScope::All);
        assert_eq!(key(flavour, weight_decay, 0.02, DecayScope::All) != base, has_ratio, "{flavour:?} {weight_decay}");
        assert_eq!(
            key(flavour, weight_decay, 0.001, DecayScope::Weights) != base,
            has_ratio,
            "{flavour:?} {weight_decay}"
        );
    };
    check(LarsFlavour::Lightly, 0.0, false);
    check(LarsFlavour::Lightly, 1e-4, true);
    for flavour in [LarsFlavour::Google, LarsFlavour::Popular, LarsFlavour::SoloLearn, LarsFlavour::SoloLearnClipped] {
        check(flavour, 0.0, true);
    }
}
