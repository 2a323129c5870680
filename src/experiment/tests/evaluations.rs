//! The section `evaluate`: what is read, what it is called, and what is refused.

use super::{first_run, loaded, options, sound};
use crate::experiment::recipe::{
    Classification, Dataset, Evaluation, Health, Knn, Layer, LinearProbe, Metric, ProbeViews, Robustness, Transfer,
    Vote,
};
use crate::experiment::{LoadOptions, augmentation_names, evaluation_names, load, metrics, protocol};

fn evaluations(text: &str) -> Vec<Evaluation> {
    first_run(&format!("evaluate: {text}")).evaluate
}

#[test]
fn every_setting_is_read() {
    let knn = Knn { k: 7, metric: Metric::Euclidean, vote: Vote::Majority, layer: Layer::Head(2), ..Knn::DEFAULT };
    let fields = "k: 7, metric: Euclidean, vote: Majority, layer: Head(2)";
    assert_eq!(evaluations(&format!("[Knn({fields})]")), [Evaluation::Knn(knn)]);
    assert_eq!(evaluations(&format!("[Robustness({fields})]")), [Evaluation::Robustness(Robustness { knn })]);
    let probe = LinearProbe {
        augment: ProbeViews::CropAndFlip,
        labels: 0.01,
        layer: Layer::Projection,
        ..LinearProbe::DEFAULT
    };
    let text = "[LinearProbe(augment: CropAndFlip, labels: 0.01, layer: Projection)]";
    assert_eq!(evaluations(text), [Evaluation::LinearProbe(probe)]);
    let health = Health { layer: Layer::Head(1), rankme_min: 3.0, feature_std_min: 0.5 };
    let text = "[Health(layer: Head(1), rankme_min: 3, feature_std_min: 0.5)]";
    assert_eq!(evaluations(text), [Evaluation::Health(health)]);
}

#[test]
fn names_say_what_tells_evaluations_apart() {
    let check = |text: &str, expected: &[&str]| assert_eq!(evaluation_names(&evaluations(text)), expected, "{text}");
    check("[Knn, LinearProbe, Health, Robustness]", &["knn", "linear", "health", "robustness"]);
    check("[Knn(k: 1), Knn(k: 2), Knn(k: 3, layer: Head(1))]", &["knn", "knn_2", "knn_head1"]);
    check("[Knn(layer: Head(1)), Knn(k: 9, layer: Head(1)), Knn]", &["knn_head1", "knn_head1_2", "knn"]);
    check("[LinearProbe(layer: Projection), LinearProbe(layer: Head(2))]", &["linear_projection", "linear_head2"]);
    // A single one is the same in every cell of a sweep over layers.
    check("[Knn(layer: Head(1)), LinearProbe]", &["knn", "linear"]);
    check("[Health, Health(layer: Projection)]", &["health", "health_projection"]);
    check("[Knn(k: 10), Knn(k: 10, vote: Majority)]", &["knn", "knn_2"]);
}

#[test]
fn a_grid_is_an_evaluation_for_every_point() {
    let text =
        "[Knn, KnnGrid(k: [10, 200], temperature: [0.07, 1], metric: [Cosine, Euclidean], layer: [Backbone, Head(1)])]";
    let found = evaluations(text);
    let names = [
        "knn",
        "knn_k10_t0.07",
        "knn_k10_t1",
        "knn_k200_t0.07",
        "knn_k200_t1",
        "knn_k10_euclidean",
        "knn_k200_euclidean",
        "knn_head1_k10_t0.07",
        "knn_head1_k10_t1",
        "knn_head1_k200_t0.07",
        "knn_head1_k200_t1",
        "knn_head1_k10_euclidean",
        "knn_head1_k200_euclidean",
    ];
    assert_eq!(evaluation_names(&found), names);
    let of_grid = Knn { k: 200, temperature: 1.0, layer: Layer::Head(1), grid_k: Some(200), ..Knn::DEFAULT };
    assert_eq!(found[10], Evaluation::Knn(of_grid));
    assert_eq!(
        evaluation_names(&evaluations("[KnnGrid(k: 3, vote: [Weighted, Majority])]")),
        ["knn_k3_t0.1", "knn_k3_majority"]
    );
    let experiment = sound(
        "Experiment(question: \"q\", dataset: Builtin, evaluate: [KnnGrid(k: [1, 5])], table: (metric: \"knn_k5_t0.1.top1\"))",
    );
    assert_eq!(experiment.table.metric, "knn_k5_t0.1.top1");
}

#[test]
fn a_swept_layer_shares_trainings_and_its_metric() {
    let text = "Experiment(question: \"q\", dataset: Builtin, evaluate: [LinearProbe],
        sweep: [Variants(\"model.head\", {\"none\": None, \"mlp\": Mlp}), Axis(\"evaluate[0].layer\", [Backbone, Projection])])";
    let experiment = sound(text);
    assert_eq!((experiment.cells.len(), experiment.table.metric.as_str()), (4, "linear.top1"));
    let keys: Vec<_> = experiment.cells.iter().map(|cell| cell.runs[0].keys()).collect();
    assert_eq!(keys[0].pretrain, keys[1].pretrain);
    assert_ne!(keys[2].evaluations, keys[3].evaluations);
}

#[test]
fn what_an_evaluation_measures_can_be_the_tables_metric() {
    let table = |evaluate: &str, metric: &str| {
        loaded(&format!(
            "Experiment(question: \"q\", dataset: Builtin, evaluate: {evaluate}, views: [RandomResizedCrop, Grayscale],
             table: (metric: \"{metric}\"))"
        ))
    };
    for metric in ["health.rankme", "health.collapsed", "robustness.cosine", "robustness.grayscale_top1", "knn.top5"] {
        assert!(table("[Knn, Health, Robustness]", metric).is_ok(), "{metric}");
    }
    for metric in ["health.top1", "robustness.solarize_top1", "robustness.top5", "knn.rankme", "knn"] {
        let problems = table("[Knn, Health, Robustness]", metric).expect_err("nobody measures it");
        assert!(problems.to_string().contains(&format!("no cell measures `{metric}`")), "{problems}");
    }
    assert_eq!(table("[Health]", "health.rankme").expect("a metric").table.metric, "health.rankme");
    let run = first_run("evaluate: [Robustness], views: [Solarize, RandomResizedCrop, Solarize, Normalize(Cifar10)]");
    let expected = [
        "cosine",
        "top1",
        "solarize_cosine",
        "solarize_top1",
        "crop_cosine",
        "crop_top1",
        "solarize_2_cosine",
        "solarize_2_top1",
    ];
    assert_eq!(metrics(&run.evaluate[0], &run.views), expected);
    assert_eq!(augmentation_names(&run.views)[3], None);
}

#[test]
fn what_cannot_be_evaluated_is_refused_where_it_stands() {
    let check = |fields: &str, expected: &[&str]| {
        let text = format!("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), {fields})");
        let said = loaded(&text).expect_err("a mistake").to_string();
        expected.iter().for_each(|expected| assert!(said.contains(expected), "{fields}: {said}"));
    };
    let one_of = "one of `Backbone`, `Projection`, `Head(1)`, `Head(2)`";
    check(
        "evaluate: [Knn, Knn(layer: Head(3))]",
        &["`Head(3)`, but the head has 2 layers", "evaluate[1].layer", one_of],
    );
    check("model: (head: None), evaluate: [Health(layer: Head(1))]", &["`Head(1)`, but there is no head"]);
    check("model: (head: Linear), evaluate: [Robustness(layer: Head(2))]", &["the head has 1 layer"]);
    check("evaluate: [Knn(layer: Head(0))]", &["`evaluate[0].layer` cannot be `0`", "from 1 to 8"]);
    check("evaluate: [Knn(layer: Head)]", &["`Head` lacks a value"]);
    check("evaluate: [LinearProbe(labels: 0)]", &["a share above 0 and at most 1"]);
    check("evaluate: [LinearProbe(labels: 1.5)]", &["a share above 0 and at most 1"]);
    check("evaluate: [LinearProbe(augment: Crop)]", &["`None`, `CropAndFlip`"]);
    check("evaluate: [Knn(vote: All)]", &["`Weighted`, `Majority`"]);
    check("evaluate: [KnnGrid(k: [])]", &["`evaluate[0].k` has 0 values"]);
    check("evaluate: [KnnGrid(k: [5, 6, 5])]", &["this value is given twice"]);
    check("evaluate: [KnnGrid(k: [5, 0])]", &["`evaluate[0].k[1]` cannot be `0`"]);
    check("evaluate: [Knn(k: 5), KnnGrid(k: [5, 6])]", &["this evaluation is given twice"]);
    check(
        "evaluate: [KnnGrid(k: [5, 60000])]",
        &["`k` is 60000, more than the 50000 training images", "evaluate[0].k"],
    );
    check("evaluate: [Health(rankme_min: -1)]", &["at least 0"]);
    check("evaluate: [Robustness(k: 60000)]", &["`k` is 60000"]);
}

#[test]
fn a_shrunk_evaluation_asks_the_same_of_less() {
    let evaluate =
        "[Knn(k: 500, layer: Head(1)), Robustness(k: 500), Health, LinearProbe(labels: 0.1, augment: CropAndFlip)]";
    let text = format!("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), evaluate: {evaluate})");
    let grid = text.replace(evaluate, "[KnnGrid(k: [10, 300, 500])], table: (metric: \"knn_k500_t0.1.top1\")");
    let named =
        load("x.ron", &grid, &LoadOptions { smoke: true, ..options(&[]) }).unwrap_or_else(|all| panic!("{all}"));
    let names = evaluation_names(&named.cells[0].runs[0].evaluate);
    assert_eq!(names, ["knn_k10_t0.1", "knn_k300_t0.1", "knn_k500_t0.1"], "names are the file's");
    let shrunk =
        load("x.ron", &text, &LoadOptions { smoke: true, ..options(&[]) }).unwrap_or_else(|all| panic!("{all}"));
    let knn = Knn { k: 200, layer: Layer::Head(1), ..Knn::DEFAULT };
    let robust = Robustness { knn: Knn { k: 200, ..Knn::DEFAULT } };
    let augment = ProbeViews::CropAndFlip;
    let probe = LinearProbe { epochs: 5, batch: 16, labels: 0.1, augment, ..LinearProbe::DEFAULT };
    let expected = [
        Evaluation::Knn(knn),
        Evaluation::Robustness(robust),
        Evaluation::Health(Health::DEFAULT),
        Evaluation::LinearProbe(probe),
    ];
    assert_eq!(shrunk.cells[0].runs[0].evaluate, expected);
}

#[test]
fn protocols_say_all_that_numbers_depend_on() {
    let check = |fields: &str, expected: &str| {
        let run = first_run(fields);
        assert_eq!(protocol(&run, &run.evaluate[0]), expected);
    };
    check(
        "evaluate: [Knn]",
        "k-NN k=200 T=0.1 cosine, backbone, bank 50000 train images without augmentation, final epoch, test split",
    );
    check(
        "evaluate: [Knn(k: 10, vote: Majority, layer: Head(2))], split: HeldOut(fraction: 0.1, seed: 3)",
        "k-NN k=10 cosine majority, head layer 2, bank 45000 train images without augmentation, final epoch, split held \
         out of the training set (0.1 of it, seed 3)",
    );
    check(
        "evaluate: [Knn(metric: Euclidean, layer: Projection)]",
        "k-NN k=200 euclidean, projection, bank 50000 train images without augmentation, final epoch, test split",
    );
    check(
        "evaluate: [LinearProbe(augment: CropAndFlip, labels: 0.01)]",
        "linear probe of 90 epochs, SGD batch 256 rate 0.1 momentum 0.9 decay 0 seed 0, backbone, 1% of the labels of \
         50000 train images cropped and flipped anew every epoch, final epoch, test split",
    );
    check(
        "evaluate: [Health]",
        "RankMe and standard deviation of 10000 images without augmentation, alignment and uniformity of two augmented \
         views of each, backbone, alarm below RankMe 8 or deviation 0.05, final epoch, test split",
    );
    check(
        "evaluate: [Robustness(k: 5)]",
        "each augmentation alone and always applied: cosine to the plain image's features, and k-NN k=5 T=0.1 cosine, \
         backbone, bank 50000 train images without augmentation, final epoch, test split",
    );
}

#[test]
fn a_transfer_holds_what_is_known_of_its_data() {
    let cifar100 = "dataset: Cifar100(root: \"data\")";
    let text =
        format!("[Knn, Transfer({cifar100}), Transfer({cifar100}, protocol: LinearProbe(epochs: 30, layer: Head(1)))]");
    let run = first_run(&format!("evaluate: {text}"));
    let [_, Evaluation::Transfer(Transfer { dataset, facts, protocol: first }), Evaluation::Transfer(second)] =
        &run.evaluate[..]
    else {
        panic!("two transfers, not {:?}", run.evaluate);
    };
    assert_eq!(
        (dataset, facts.map(|facts| facts.n_classes)),
        (&Dataset::Cifar100 { root: "data".to_owned() }, Some(100))
    );
    assert_eq!(*first, Classification::Knn(Knn::DEFAULT));
    let probe = LinearProbe { epochs: 30, layer: Layer::Head(1), ..LinearProbe::DEFAULT };
    assert_eq!(second.protocol, Classification::LinearProbe(probe));
    let names = ["knn", "transfer_cifar100_knn", "transfer_cifar100_linear"];
    assert_eq!(evaluation_names(&run.evaluate), names);
    let expected = "transfer to CIFAR-100: k-NN k=200 T=0.1 cosine, backbone, bank 50000 train images without augmentation, final \
                    epoch, test split";
    assert_eq!(protocol(&run, &run.evaluate[1]), expected);
    // The key hangs on the images, not on where they lie.
    let keys = |dataset: &str| {
        let run = first_run(&format!("evaluate: [Transfer(dataset: {dataset})]"));
        run.keys().evaluations
    };
    assert_eq!(keys("Cifar100(root: \"data\")"), keys("Cifar100(root: \"elsewhere\")"));
    assert_ne!(keys("Cifar100(root: \"data\")"), keys("Builtin"));
    assert_ne!(keys("Builtin(seed: 1)"), keys("Builtin(seed: 2)"));
}

#[test]
fn a_transfer_to_nowhere_is_refused() {
    let check = |transfer: &str, expected: &[&str]| {
        let text = format!("Experiment(question: \"q\", dataset: Builtin, evaluate: [Knn, {transfer}])");
        let said = loaded(&text).expect_err("a mistake").to_string();
        expected.iter().for_each(|expected| assert!(said.contains(expected), "{transfer}: {said}"));
    };
    check("Transfer", &["`Transfer` lacks the field `dataset`"]);
    check("Transfer(dataset: ImageFolder(root: \"missing\"))", &["no data in `missing`", "evaluate[1].dataset"]);
    check("Transfer(dataset: Builtin, protocol: Health)", &["`evaluate[1].protocol` cannot be `Health`"]);
    check(
        "Transfer(dataset: Builtin(train_per_class: 5))",
        &["`protocol.k` is 200, more than the 50 training images", "evaluate[1].protocol.k"],
    );
    check("Transfer(dataset: Builtin, protocol: Knn(layer: Head(4)))", &["`Head(4)`, but the head has 2 layers"]);
    check("Transfer(dataset: Builtin), Transfer(dataset: Builtin)", &["this evaluation is given twice"]);
    let two = "Transfer(dataset: Builtin(seed: 1)), Transfer(dataset: Builtin(seed: 2))";
    assert!(loaded(&format!("Experiment(question: \"q\", dataset: Builtin, evaluate: [Knn, {two}])")).is_ok());
    let text = "Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), evaluate: [Transfer(dataset: ImageFolder(root: \"missing\"))])";
    let shrunk =
        load("x.ron", text, &LoadOptions { smoke: true, ..options(&[]) }).unwrap_or_else(|all| panic!("{all}"));
    let Evaluation::Transfer(transfer) = &shrunk.cells[0].runs[0].evaluate[0] else { panic!("a transfer") };
    assert!(matches!(transfer.dataset, Dataset::Builtin(_)) && transfer.facts.is_some());
}
