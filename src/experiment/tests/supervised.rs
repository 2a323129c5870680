//! Learning from labels: the loss and the head that belong together, and fine-tuning among the evaluations.

use std::collections::BTreeSet;

use super::{first_run, loaded, options, sound};
use crate::content::Key;
use crate::experiment::recipe::{Backend, Evaluation, FineTune, Head, Loss, ProbeViews};
use crate::experiment::run::Run;
use crate::experiment::{LoadOptions, evaluation_names, load, metrics, protocol};

const SUPERVISED: &str = "model: (head: Classifier), train: (loss: CrossEntropy";

fn plain() -> Run {
    first_run(&format!("{SUPERVISED})"))
}

#[test]
fn a_classifier_is_as_wide_as_the_data() {
    let run = plain();
    assert_eq!(run.train.loss, Loss::CrossEntropy { label_smoothing: 0.0 });
    assert_eq!(run.model.head, Head::Classifier { n_classes: 10 });
    let text = format!("Experiment(question: \"q\", dataset: Cifar100(root: \"data\"), {SUPERVISED}))");
    let of_cifar100 = &sound(&text).cells[0].runs[0];
    assert_eq!(of_cifar100.model.head, Head::Classifier { n_classes: 100 });
    // The width follows from the data, which the key holds.
    let mut wider = run.clone();
    wider.model.head = Head::Classifier { n_classes: 11 };
    assert_eq!(wider.pretrain_key(), run.pretrain_key());
    let smoothed = first_run(&format!("{SUPERVISED}(label_smoothing: 0.1))"));
    assert_eq!(smoothed.train.loss, Loss::CrossEntropy { label_smoothing: 0.1 });
    assert_ne!(smoothed.pretrain_key(), run.pretrain_key());
}

#[test]
fn it_has_no_temperature() {
    let at = |temperature: f64| first_run(&format!("{SUPERVISED}, temperature: {temperature})")).pretrain_key();
    assert_eq!(at(0.1), at(0.5));
    let leaves: Vec<String> = plain().pretrain_meaning().leaves().into_iter().map(|(path, _)| path).collect();
    assert!(!leaves.iter().any(|path| path == "train.temperature"));
    assert!(leaves.iter().any(|path| path == "train.loss.label_smoothing"));
}

/// The two mistakes of one file, each where it stands.
#[test]
fn the_one_without_the_other_is_a_mistake_at_its_place() {
    let text = "Experiment(question: \"q\", dataset: Builtin, train: (batch: 64), evaluate: [FineTune(batch: 64)],
    sweep: [Zip([
        Axis(\"train.loss\", [NtXent, CrossEntropy]),
        Axis(\"model.head\", [Classifier, None]),
    ])])";
    let said = loaded(text).expect_err("two mistakes").to_string();
    for expected in [
        "experiments/x.ron:3:37",
        "`CrossEntropy` learns the classes of the data, and this head has other outputs",
        "`head: Classifier` in `model`",
        "experiments/x.ron:4:29",
        "a `Classifier` needs a loss of labels, and this one contrasts views",
        "`loss: CrossEntropy` in `train`",
    ] {
        assert!(said.contains(expected), "no {expected:?} in {said}");
    }
    assert_eq!(loaded(&text.replace("[Classifier, None]", "[None, Classifier]")).expect("right pairs").cells.len(), 2);
    let said = loaded(
        "Experiment(question: \"q\", dataset: Builtin, train: (batch: 64, loss: CrossEntropy(label_smoothing: 1)))",
    );
    assert!(said.expect_err("no share").to_string().contains("train.loss.label_smoothing"));
}

#[test]
fn every_device_trains_it() {
    let text = format!("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), {SUPERVISED}))");
    for backend in [Backend::Cpu, Backend::Reference, Backend::Cuda] {
        assert!(load("x.ron", &text, &LoadOptions { backend, ..options(&[]) }).is_ok(), "{backend:?}");
    }
}

#[test]
fn layers_of_a_classifier_are_its_logits() {
    let run = first_run(&format!("{SUPERVISED}), evaluate: [Knn, Knn(layer: Head(1)), Knn(layer: Projection)]"));
    assert_eq!(evaluation_names(&run.evaluate), ["knn", "knn_head1", "knn_projection"]);
    let text = format!(
        "Experiment(question: \"q\", dataset: Builtin, {SUPERVISED}, batch: 64), evaluate: [Knn(layer: Head(2))])"
    );
    assert!(loaded(&text).expect_err("no such layer").to_string().contains("the head has 1 layer"));
}

fn tunings(fields: &[&str]) -> Vec<Evaluation> {
    let all: Vec<String> = fields.iter().map(|fields| format!("FineTune({fields})")).collect();
    first_run(&format!("evaluate: [{}]", all.join(", "))).evaluate
}

#[test]
fn every_setting_of_a_fine_tuning_is_read_and_moves_its_key_alone() {
    let all = "epochs: 60, batch: 128, learning_rate: 0.1, momentum: 0.5, weight_decay: 0.001, seed: 4, augment: None, labels: 0.01";
    let tuning = FineTune {
        epochs: 60,
        batch: 128,
        learning_rate: 0.1,
        momentum: 0.5,
        weight_decay: 0.001,
        seed: 4,
        augment: ProbeViews::Plain,
        labels: 0.01,
    };
    assert_eq!(tunings(&["", all]), [Evaluation::FineTune(FineTune::DEFAULT), Evaluation::FineTune(tuning)]);
    let mut keys: BTreeSet<Key> = BTreeSet::new();
    let of = |fields: &str| first_run(&format!("evaluate: [FineTune({fields})]"));
    for fields in std::iter::once("").chain(all.split(", ")) {
        let run = of(fields);
        assert_eq!(run.pretrain_key(), of("").pretrain_key());
        assert!(keys.insert(run.evaluation_key(&run.evaluate[0])), "{fields} moves no key");
    }
    let probe = first_run("evaluate: [LinearProbe]");
    assert!(!keys.contains(&probe.evaluation_key(&probe.evaluate[0])));
}

#[test]
fn fine_tunings_on_several_shares_have_names_of_their_own() {
    let found = tunings(&["labels: 0.01, epochs: 60", "labels: 0.1", "", "seed: 1"]);
    assert_eq!(evaluation_names(&found), ["finetune_labels0.01", "finetune_labels0.1", "finetune", "finetune_2"]);
    assert_eq!(metrics(&found[0], &[]), ["top1", "top5"]);
    let table = "evaluate: [FineTune(labels: 0.01)], table: (metric: \"finetune_labels0.01.top1\")";
    let experiment = sound(&format!("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), {table})"));
    assert_eq!(experiment.table.metric, "finetune_labels0.01.top1");
    let run = first_run("evaluate: [FineTune(labels: 0.01, epochs: 60)]");
    assert_eq!(
        protocol(&run, &run.evaluate[0]),
        "fine-tuning of 60 epochs, encoder and linear classifier, f32 on the processor, SGD batch 256 rate 0.05 Nesterov \
         momentum 0.9 decay 0 seed 0, 1% of the labels of 50000 train images cropped and flipped anew every epoch, final \
         epoch, test split"
    );
}

#[test]
fn what_cannot_be_fine_tuned_is_refused_where_it_stands() {
    let check = |evaluate: &str, expected: &str| {
        let text = format!("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), evaluate: [{evaluate}])");
        let said = loaded(&text).expect_err("a mistake").to_string();
        assert!(said.contains(expected), "{evaluate}: {said}");
    };
    check("FineTune(labels: 0)", "a share above 0 and at most 1");
    check("FineTune(batch: 1)", "`evaluate[0].batch` cannot be `1`");
    check("FineTune(batch: 60000)", "`batch` is 60000, more than the 50000 training images");
    check("FineTune(augment: Crop)", "`None`, `CropAndFlip`");
    check("FineTune(layer: Backbone)", "`FineTune` has no field `layer`");
    check("FineTune, FineTune(epochs: 30)", "this evaluation is given twice");
    check("FineTune(momentum: 1)", "evaluate[0].momentum");
}

#[test]
fn a_shrunk_one_learns_the_same_from_less() {
    let text = format!(
        "Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), {SUPERVISED}(label_smoothing: 0.1)), evaluate: [FineTune(labels: 0.1)])"
    );
    let shrunk =
        load("x.ron", &text, &LoadOptions { smoke: true, ..options(&[]) }).unwrap_or_else(|all| panic!("{all}"));
    let run = &shrunk.cells[0].runs[0];
    assert_eq!((run.train.loss, run.train.batch), (Loss::CrossEntropy { label_smoothing: 0.1 }, 16));
    let tuning = FineTune { epochs: 1, batch: 16, labels: 0.1, ..FineTune::DEFAULT };
    assert_eq!(run.evaluate, [Evaluation::FineTune(tuning)]);
}
