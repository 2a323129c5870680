//! `train.snapshots`: what is kept and asked on the way, its keys and names, and how the best epoch is told.

use std::collections::BTreeSet;

use super::{first_run, loaded, options, sound};
use crate::content::Key;
use crate::experiment::{Encoder, LoadOptions, asked_names, evaluation_names, load, protocol_of};

/// 195 steps an epoch.
fn run(snapshots: &str) -> crate::experiment::run::Run {
    first_run(&format!(
        "train: (length: Epochs(4), batch: 256, snapshots: {snapshots}), evaluate: [Knn(k: 5), Robustness, Health]"
    ))
}

#[test]
fn snapshots_come_before_the_end_and_lengths_become_steps() {
    let check = |text: &str, expected: &[u64]| assert_eq!(run(text).snapshots(), expected, "{text}");
    check("None", &[]);
    check("Every(Epochs(1))", &[195, 390, 585]);
    check("Every(Epochs(3))", &[585]);
    check("Every(Steps(390))", &[390]);
    check("Every(Examples(51200))", &[200, 400, 600]);
    check("Every(Epochs(4))", &[]);
    check("Every(Steps(779))", &[779]);
}

#[test]
fn what_keeps_nothing_more_leaves_no_leaf_and_what_does_moves_the_key() {
    let key = |text: &str| run(text).pretrain_key();
    let plain = first_run("train: (length: Epochs(4), batch: 256), evaluate: [Knn(k: 5), Robustness, Health]");
    for neutral in ["None", "Every(Epochs(4))", "Every(Steps(100000))"] {
        assert_eq!(run(neutral).keys(), plain.keys(), "{neutral}");
    }
    let keys: BTreeSet<Key> =
        ["None", "Every(Epochs(1))", "Every(Epochs(2))", "Every(Steps(7))"].map(key).into_iter().collect();
    assert_eq!(keys.len(), 4);
    assert_eq!(key("Every(Epochs(1))"), key("Every(Steps(195))"), "equal meanings have equal keys");
    let leaves = |text: &str| run(text).pretrain_meaning().leaves().into_iter().collect::<BTreeSet<_>>();
    let (with, without) = (leaves("Every(Epochs(1))"), leaves("None"));
    let more: Vec<String> = with.difference(&without).map(|(path, leaf)| format!("{path} = {leaf}")).collect();
    assert_eq!(more, ["train.snapshots_every_steps = 195"]);
}

#[test]
fn every_encoder_is_asked_and_named() {
    let run = run("Every(Epochs(2))");
    let names = ["knn", "robustness", "health", "knn@epoch2", "health@epoch2"];
    assert_eq!(asked_names(&run), names);
    let keys = run.keys();
    assert_eq!(keys.snapshots, [None, None, None, Some(390), Some(390)]);
    assert_eq!(keys.evaluations.iter().collect::<BTreeSet<_>>().len(), names.len());
    for (asked, key) in run.asked().into_iter().zip(&keys.evaluations) {
        let preimage = run.asked_preimage(asked);
        assert_eq!(preimage.contains("snapshot_step = 390"), asked.snapshot.is_some(), "{preimage}");
        if asked.snapshot.is_none() {
            assert_eq!(run.evaluation_key(asked.evaluation), *key);
        }
    }
    let within = first_run("train: (length: Epochs(1), batch: 256, snapshots: Every(Steps(100))), evaluate: [Knn]");
    assert_eq!(asked_names(&within), ["knn", "knn@step100"]);
    assert_eq!(evaluation_names(&within.evaluate), ["knn"]);
}

#[test]
fn protocols_say_which_encoder_and_what_the_best_is_chosen_on() {
    let end = |split: &str, snapshots: &str, encoder| {
        let run = first_run(&format!(
            "split: {split}, train: (length: Epochs(4), batch: 200, snapshots: {snapshots}),
             evaluate: [Knn(k: 5), Transfer(dataset: Builtin(train_per_class: 500, test_per_class: 8), protocol: Knn(k: 5))]"
        ));
        let of = |index: usize| protocol_of(&run, &run.evaluate[index], encoder);
        [0, 1].map(|index| of(index).split_once("without augmentation, ").expect("the end").1.to_owned())
    };
    let official = |encoder| end("Official", "Every(Epochs(2))", encoder);
    assert_eq!(official(Encoder::Final)[0], "final epoch, test split");
    assert_eq!(official(Encoder::Snapshot(500))[0], "epoch 2 of 4, test split");
    assert_eq!(
        official(Encoder::Best),
        [(); 2].map(|()| "best of 2 epochs on the test images: optimistic, test split")
    );
    let within = end("Official", "Every(Steps(300))", Encoder::Snapshot(300));
    assert_eq!(within[1], "step 300 of 1000, test split");
    let [own, transferred] = end("HeldOut(fraction: 0.1)", "Every(Epochs(1))", Encoder::Best);
    assert!(own.starts_with("best of 4 epochs on the held-out images, split held out of"), "{own}");
    assert!(transferred.starts_with("best of 4 epochs on the test images: optimistic"), "{transferred}");
}

#[test]
fn the_best_may_be_what_a_table_is_of_where_there_are_snapshots() {
    let text = |train: &str, metric: &str| {
        format!(
            "Experiment(question: \"q\", dataset: Builtin, train: ({train}), evaluate: [Knn(k: 5), Health],
             table: (metric: \"{metric}\"))"
        )
    };
    for metric in ["knn.top1_best", "knn.top5_best", "knn.top1_best_epoch", "knn.top1"] {
        assert_eq!(sound(&text("snapshots: Every(Epochs(1))", metric)).table.metric, metric);
    }
    for (train, metric) in [("batch: 256", "knn.top1_best"), ("snapshots: Every(Epochs(1))", "health.rankme_best")] {
        let problems = loaded(&text(train, metric)).expect_err("no such metric");
        assert_eq!(problems.list()[0].path, "table.metric", "{problems}");
    }
}

#[test]
fn smoke_keeps_as_large_a_share() {
    let check = |snapshots: &str, expected: &[u64]| {
        let text = format!(
            "Experiment(question: \"q\", dataset: Cifar10(root: \"data\"),
             train: (length: Epochs(100), snapshots: {snapshots}))"
        );
        let shrunk = load("x.ron", &text, &LoadOptions { smoke: true, ..options(&[]) });
        let run = shrunk.unwrap_or_else(|problems| panic!("{problems}")).cells[0].runs[0].clone();
        assert_eq!((run.train.length_steps, run.snapshots()), (3, expected.to_vec()), "{snapshots}");
    };
    check("None", &[]);
    check("Every(Epochs(10))", &[1, 2]);
    check("Every(Epochs(50))", &[2]);
    check("Every(Epochs(100))", &[]);
}
