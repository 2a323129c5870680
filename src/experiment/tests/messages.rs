//! Every kind of mistake, as a user sees it.

use super::{loaded, options};
use crate::experiment::recipe::Backend;
use crate::experiment::{LoadOptions, Problems, load};

const EXPECTED: &str = include_str!("messages.expected");

/// A name, the text of a file and the overrides it is loaded with.
type Case = (&'static str, &'static str, &'static [&'static str]);

const CASES: [Case; 58] = [
    ("several at once, of file and command line", SEVERAL, &["train.batch=0", "train.momentum=0.9", "seeds=[1, 1]"]),
    ("syntax", "Experiment(\n    question: \"q\",\n    train: (batch: 256 temperature: 0.5),\n)", &[]),
    ("unclosed", "Experiment(question: \"q\"", &[]),
    ("empty file", "", &[]),
    ("another kind of file", "[1, 2]", &[]),
    ("missing fields", "Experiment()", &[]),
    ("duplicate field", "Experiment(question: \"a\", dataset: Cifar10(root: \"d\"), question: \"b\")", &[]),
    ("missing root", "Experiment(question: \"q\", dataset: Cifar10)", &[]),
    ("data not there", "Experiment(question: \"q\", dataset: Cifar10(root: \"missing\"), train: (batch: 1))", &[]),
    ("unknown variant", "Experiment(question: \"q\", dataset: Cifar10(root: \"d\"), train: (optimizer: Sdg))", &[]),
    ("case", "Experiment(question: \"q\", dataset: cifar10(root: \"d\"))", &[]),
    ("wrong type", "Experiment(question: \"q\", dataset: Cifar10(root: \"d\"), train: (batch: \"256\"))", &[]),
    ("not finite", "Experiment(question: \"q\", dataset: Cifar10(root: \"d\"), train: (temperature: inf))", &[]),
    ("positional", "Experiment(question: \"q\", dataset: Cifar10(\"d\"), evaluate: [Knn(200)])", &[]),
    (
        "probability",
        "Experiment(question: \"q\", dataset: Builtin, views: [RandomResizedCrop, Grayscale(p: 1.5)])",
        &[],
    ),
    (
        "reversed range",
        "Experiment(question: \"q\", dataset: Builtin, views: [RandomResizedCrop(scale: (1.0, 0.08))])",
        &[],
    ),
    (
        "mixed jitter",
        "Experiment(question: \"q\", dataset: Builtin, views: [RandomResizedCrop, ColorJitter(strength: 1, hue: 0.1)])",
        &[],
    ),
    (
        "order of views",
        "Experiment(question: \"q\", dataset: Builtin, views: [Normalize(ImageNet), RandomResizedCrop])",
        &[],
    ),
    ("no crop", "Experiment(question: \"q\", dataset: ImageFolder(root: \"d\"), views: [HorizontalFlip])", &[]),
    ("not compiled", "Experiment(question: \"q\", dataset: Builtin, model: (side: 48, head: Mlp(hidden: 300)))", &[]),
    (
        "batch above data",
        "Experiment(question: \"q\", dataset: Builtin(train_per_class: 10), train: (batch: 256))",
        &[],
    ),
    (
        "bank too small",
        "Experiment(question: \"q\", dataset: Builtin(train_per_class: 10), train: (batch: 16), evaluate: [Knn(k: 200)])",
        &[],
    ),
    (
        "warm-up too long",
        "Experiment(question: \"q\", dataset: Builtin, train: (length: Epochs(5), schedule: WarmupCosine(warmup: Epochs(10))))",
        &[],
    ),
    (
        "snapshots of no length",
        "Experiment(question: \"q\", dataset: Builtin, train: (snapshots: Every(Epochs(0))))",
        &[],
    ),
    ("snapshots without a length", "Experiment(question: \"q\", dataset: Builtin, train: (snapshots: Epochs(10)))", &[]),
    (
        "more snapshots than anybody evaluates",
        "Experiment(question: \"q\", dataset: Builtin, train: (length: Steps(5000), snapshots: Every(Steps(2))))",
        &[],
    ),
    ("numerics", "Experiment(question: \"q\", dataset: Builtin, train: (numerics: Bf16), evaluate: [])", &[]),
    ("unknown loss", "Experiment(question: \"q\", dataset: Builtin, train: (loss: NtXnet(scale: 2)))", &[]),
    (
        "numbers of losses",
        "Experiment(question: \"q\", dataset: Builtin, train: (batch: 64),
            sweep: [Axis(\"train.loss\", [NtXent(scale: 0), NtXentMemoryBank(size: 0), Dclw(sigma: -1), NtLogistic(margin: 1), MarginTriplet(margin: 2.5)])])",
        &[],
    ),
    (
        "micro-batch without its scope",
        "Experiment(question: \"q\", dataset: Builtin, train: (batch: 256, micro_batch: 64))",
        &["train.batch_norm_scope=Joint"],
    ),
    (
        "micro-batch with the scope left out",
        "Experiment(question: \"q\", dataset: Builtin, train: (batch: 256, micro_batch: 64))",
        &[],
    ),
    (
        "scope without its micro-batch",
        "Experiment(question: \"q\", dataset: Builtin, train: (batch_norm_scope: MicroBatchView))",
        &[],
    ),
    (
        "uneven micro-batches",
        "Experiment(question: \"q\", dataset: Builtin, train: (batch: 256, micro_batch: 48, batch_norm_scope: MicroBatchView))",
        &[],
    ),
    (
        "micro-batch of the whole batch",
        "Experiment(question: \"q\", dataset: Builtin, train: (batch: 7, micro_batch: 7, batch_norm_scope: MicroBatchJoint))",
        &[],
    ),
    (
        "micro-batch of one",
        "Experiment(question: \"q\", dataset: Builtin, train: (micro_batch: 1, batch_norm_scope: MicroBatchJoint))",
        &[],
    ),
    (
        "nesterov",
        "Experiment(question: \"q\", dataset: Builtin, train: (optimizer: Sgd(nesterov: true), metrics_every: Steps(0)))",
        &[],
    ),
    (
        "one bad value of an axis",
        "Experiment(\n    question: \"q\",\n    dataset: Builtin,\n    sweep: [Axis(\"train.batch\", [64, 0, 128]), Axis(\"train.temperature\", [0.1, 0.5])],\n)",
        &[],
    ),
    (
        "axis of no field",
        "Experiment(question: \"q\", dataset: Builtin, sweep: [Axis(\"train.bacth\", [64, 128])])",
        &[],
    ),
    (
        "axis into nothing",
        "Experiment(question: \"q\", dataset: Builtin, sweep: [Axis(\"evaluate[3].k\", [1])], evaluate: [Knn])",
        &[],
    ),
    (
        "axis over seeds",
        "Experiment(question: \"q\", dataset: Builtin, sweep: [Axis(\"seeds\", [[0], [1]]), Axis(\"train batch\", [1])])",
        &[],
    ),
    (
        "axes",
        "Experiment(question: \"q\", dataset: Builtin, sweep: [Axis(\"train.batch\", [64]), Axis(\"train.batch\", [32]), Axis(\"train\", [()])])",
        &[],
    ),
    (
        "empty axis, uneven zip",
        "Experiment(question: \"q\", dataset: Builtin, sweep: [Axis(\"train.batch\", []), Zip([Axis(\"train.batch\", [64, 32]), Axis(\"model.side\", [32])])])",
        &[],
    ),
    (
        "duplicate cells",
        "Experiment(question: \"q\", dataset: Builtin, sweep: [Axis(\"train.batch\", [64, 0x40]), Axis(\"train.length\", [Epochs(1), Examples(5000)])])",
        &[],
    ),
    (
        "table",
        "Experiment(question: \"q\", dataset: Builtin, sweep: [Axis(\"train.batch\", [64, 32]), Axis(\"model.side\", [32, 64])], table: (rows: \"train.bach\", columns: [], metric: \"knn.top2\"))",
        &[],
    ),
    (
        "baseline",
        "Experiment(question: \"q\", dataset: Builtin, sweep: [Axis(\"train.batch\", [64, 32]), Variants(\"views\", {\"crop\": [RandomResizedCrop], \"all\": [RandomResizedCrop, Grayscale]})], table: (baseline: {\"train.bach\": 64, \"views\": \"crops\", \"train.batch\": 48}))",
        &[],
    ),
    (
        "baseline between zipped cells",
        "Experiment(question: \"q\", dataset: Builtin, sweep: [Zip([Axis(\"train.batch\", [64, 32]), Axis(\"train.temperature\", [0.1, 0.5])])], table: (baseline: {\"train.batch\": 64, \"train.temperature\": 0.5}))",
        &[],
    ),
    ("baseline that is no map", "Experiment(question: \"q\", dataset: Builtin, table: (baseline: [\"64\"]))", &[]),
    (
        "baseline without a sweep",
        "Experiment(question: \"q\", dataset: Builtin)",
        &["table.baseline={\"train.batch\": 64}"],
    ),
    (
        "overrides",
        "Experiment(question: \"q\", dataset: Builtin)",
        &["batch", "train..batch=1", "dataset=Cifar10(root: data)", "views[9].p=1"],
    ),
    (
        "no number",
        "Experiment(question: \"q\", dataset: Builtin, train: (learning_rate: nan))",
        &["train.learning_rate=inf"],
    ),
    ("no number in a file", "Experiment(question: \"q\", dataset: Builtin, train: (learning_rate: nan))", &[]),
    (
        "split that empties a part",
        "Experiment(question: \"q\", dataset: Builtin(train_per_class: 1), split: HeldOut(fraction: 0.01))",
        &[],
    ),
    ("misspelt required fields", "Experiment(qestion: \"q\", datset: Builtin)", &[]),
    (
        "axes, table and recipe at once",
        "Experiment(
    question: \"q\",
    dataset: Builtin,
    train: (batch: 1),
    sweep: [Axis(\"train.temprature\", [0.1]), Axis(\"train.length\", [Steps(1), Steps( 1 )]), Axis(\"model.sid\", [])],
    table: (rows: 1, metric: \"knn.top2\"),
)",
        &[],
    ),
    (
        "table and recipe at once",
        "Experiment(question: \"q\", dataset: Builtin, train: (batch: 1), table: (rows: \"train.batch\", metric: \"knn\"))",
        &[],
    ),
    (
        "twice the same evaluation",
        "Experiment(question: \"q\", dataset: Builtin, evaluate: [Knn, LinearProbe, Knn(k: 200)])",
        &[],
    ),
    ("byte-order mark", "\u{feff}Experiment(question: \"q\", dataset: Builtin, train: (batch: 1))", &[]),
    (
        "override of what is swept",
        "Experiment(question: \"q\", dataset: Builtin, sweep: [Axis(\"train\", [(), (batch: 64)])])",
        &["train.batch=128"],
    ),
];

const SEVERAL: &str = "Experiment(
    question: \" \",
    dataset: Builtin(n_classes: 1),
    model: (backbone: ResNet18(stem: Cifr), sid: 32),
    train: (
        length: Epoch(100),
        temprature: 0.5,
        learning_rate: -0.1,
    ),
    evaluate: [Knn(k: 0), Knn(k: 1.5)],
)";

fn problems((_, text, overrides): &Case) -> Problems {
    let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
    load("experiments/x.ron", text, &options(&overrides)).expect_err("a mistake")
}

#[test]
fn every_mistake_is_shown_with_its_place() {
    let cases = CASES.iter().map(|case| format!("# {}\n\n{}\n", case.0, problems(case)));
    let found = cases.collect::<Vec<_>>().join("\n");
    if std::env::var_os("ABLATE_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/experiment/tests/messages.expected");
        std::fs::write(path, &found).expect("the expected messages are written");
        return;
    }
    for (found, expected) in found.split("\n# ").zip(EXPECTED.split("\n# ")) {
        assert_eq!(found, expected, "to accept: ABLATE_BLESS=1 cargo test --lib every_mistake");
    }
    assert_eq!(found.len(), EXPECTED.len());
}

#[test]
fn a_mistake_of_many_cells_is_one_mistake() {
    let numbers = (2..102).map(|batch| batch.to_string()).collect::<Vec<_>>().join(", ");
    let text = format!(
        "Experiment(question: \"q\", dataset: Builtin, train: (temperature: 0), sweep: [Axis(\"train.batch\", [{numbers}])])"
    );
    let problems = loaded(&text).expect_err("the temperature is 0");
    assert_eq!(problems.list().len(), 1, "{problems}");
    assert_eq!(problems.list()[0].path, "train.temperature");
}

#[test]
fn shrinking_does_not_hide_mistakes() {
    let text = "Experiment(question: \"q\", dataset: ImageFolder(root: \"missing\"), views: [], train: (batch: 1))";
    let problems = load("x.ron", text, &LoadOptions { smoke: true, ..options(&[]) }).expect_err("two mistakes");
    let paths: Vec<&str> = problems.list().iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["views", "train.batch"]);
}

#[test]
fn the_reference_refuses_a_micro_batch() {
    let text =
        "Experiment(question: \"q\", dataset: Builtin, train: (micro_batch: 64, batch_norm_scope: MicroBatchView))";
    let of = |backend| load("x.ron", text, &LoadOptions { backend, ..options(&[]) });
    let problems = of(Backend::Reference).expect_err("a tape of one piece");
    assert_eq!(problems.summary(), "x.ron:1:66: `reference` sees a batch in one piece");
    assert_eq!(problems.list()[0].path, "train.micro_batch");
    assert!(of(Backend::Cpu).is_ok() && of(Backend::Cuda).is_ok());
}

#[test]
fn colours_are_optional() {
    let problems = problems(&CASES[1]);
    assert!(problems.render(true).contains('\u{1b}') && !problems.render(false).contains('\u{1b}'));
}

#[test]
fn no_experiment_is_named_like_the_history_of_another() {
    let text = "Experiment(question: \"q\", dataset: Builtin)";
    let load = |path| load(path, text, &options(&[]));
    let problems = load("experiments/x.history.ron").expect_err("its results are another's history");
    assert_eq!(
        problems.summary(),
        "experiments/x.history.ron:1:1: the results of `x.history` would be taken for the history of `x`"
    );
    assert!(load("experiments/history.ron").is_ok() && load("x.history/x.ron").is_ok());
}

#[test]
fn a_sweep_may_bring_the_data() {
    let text = "Experiment(question: \"q\", sweep: [Axis(\"dataset\", [Builtin, Builtin(seed: 1)])])";
    assert_eq!(loaded(text).map(|experiment| experiment.cells.len()), Ok(2));
    let alone = load("x.ron", text, &LoadOptions { ignore_sweep: true, ..options(&[]) });
    assert!(alone.is_err_and(|problems| problems.summary().contains("lacks the field `dataset`")));
}

#[test]
fn zipped_axes_may_repeat_a_value() {
    let text = "Experiment(question: \"q\", dataset: Builtin, sweep: [Zip([Axis(\"train.batch\", [64, 64]), Axis(\"train.temperature\", [0.1, 0.2])])])";
    assert_eq!(loaded(text).map(|experiment| experiment.cells.len()), Ok(2));
}
