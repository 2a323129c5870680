use std::collections::BTreeMap;

use super::*;
use crate::record::{EpochCost, Evaluation, FORMAT, Failure, FailureKind};
use crate::report::sample::experiment;

fn record(key: Key, stage: Stage, device: &str) -> Record {
    let provenance = Provenance {
        ablate_version: "0.1.0".to_owned(),
        code: "c0de".to_owned(),
        backend: "cpu".to_owned(),
        device: device.to_owned(),
        details: BTreeMap::new(),
        threads: 2,
        host: "node1".to_owned(),
        started_unix_s: 7,
        seconds: 30.0,
        command: "ablate".to_owned(),
    };
    Record { format: FORMAT, key, stage, provenance }
}

fn pretrain() -> Stage {
    let epoch = |epoch, images_per_s, gradient_s| EpochCost {
        epoch,
        steps: 10,
        images_per_s,
        views_s: 0.5,
        gradient_s,
        update_s: 0.25,
        other_s: 0.25,
    };
    Stage::Pretrain(Pretrain {
        n_parameters: 11,
        steps: 20,
        loss_first_epoch: Some(5.0),
        loss_last_epoch: Some(4.0),
        loss_ratio: None,
        epochs: vec![epoch(0, 100.0, 0.0), epoch(1, 300.0, 2.0)],
        snapshots: Vec::new(),
        peak_memory_bytes: None,
    })
}

fn evaluation(pretrain: Key, kind: &str, metrics: &[(&str, f64)]) -> Stage {
    let metric =
        |(name, value): &(&str, f64)| Metric { name: (*name).to_owned(), value: *value, unit: "fraction".to_owned() };
    Stage::Evaluation(Evaluation {
        protocol: None,
        notes: Vec::new(),
        pretrain,
        checkpoint: Key::of_bytes(b"checkpoint"),
        kind: kind.to_owned(),
        metrics: metrics.iter().map(metric).collect(),
        per_class_top1: Vec::new(),
        class_names: Vec::new(),
        n_test: 80,
        seconds: 1.0,
    })
}

fn failure(step: Option<u64>) -> Stage {
    Stage::Failure(Failure { step, ..Failure::new(FailureKind::NotFinite, "the loss is not finite") })
}

/// `cell seed evaluation.metric status value|message` of every row.
fn lines(rows: &[Row]) -> Vec<String> {
    let line = |row: &Row| {
        let tail = row.value.map(|value| format!(" {value}")).or(row.message.as_ref().map(|text| format!(" {text}")));
        format!("{} {} {} {}{}", row.cell, row.seed, row.full_metric(), row.status.name(), tail.unwrap_or_default())
    };
    rows.iter().map(line).collect()
}

#[test]
fn nothing_done() {
    let experiment = experiment(&[("train.batch", &["64", "128"])], &[], &[0, 1]);
    let rows = collect(&experiment, |_| None);
    assert_eq!(
        lines(&rows),
        ["0 0 knn.top1 missing", "0 1 knn.top1 missing", "1 0 knn.top1 missing", "1 1 knn.top1 missing"]
    );
    assert_eq!(rows[2].labels, ["128"]);
    let run = &experiment.cells[1].runs[0];
    assert_eq!(
        (rows[2].pretrain_key, rows[2].evaluation_key),
        (run.pretrain_key(), run.evaluation_key(&run.evaluate[0]))
    );
}

#[test]
fn done_failed_and_missing_side_by_side() {
    let experiment = experiment(&[("train.batch", &["64", "128"])], &[], &[0, 1]);
    let run = |cell: usize, seed: usize| &experiment.cells[cell].runs[seed];
    let mut records = BTreeMap::new();
    let mut put = |key: Key, stage: Stage, device: &str| records.insert(key, record(key, stage, device));
    // Cell 0, seed 0: all done. Cell 0, seed 1: trained, k-NN failed. Cell 1, seed 0: training failed.
    // Cell 1, seed 1: only the k-NN's record is left.
    let knn = |cell: usize, seed: usize| run(cell, seed).evaluation_key(&run(cell, seed).evaluate[0]);
    put(run(0, 0).pretrain_key(), pretrain(), "A");
    put(knn(0, 0), evaluation(run(0, 0).pretrain_key(), "knn", &[("top5", 0.9), ("top1", 0.5)]), "B");
    let linear = run(0, 0).evaluation_key(&run(0, 0).evaluate[1]);
    put(linear, evaluation(run(0, 0).pretrain_key(), "linear", &[("top1", 0.6)]), "B");
    put(run(0, 1).pretrain_key(), pretrain(), "A");
    put(knn(0, 1), failure(None), "B");
    put(run(1, 0).pretrain_key(), failure(Some(3)), "A");
    put(knn(1, 1), evaluation(run(1, 1).pretrain_key(), "knn", &[("top1", 0.25)]), "B");
    let rows = collect(&experiment, |key| records.get(key).cloned());
    assert_eq!(
        lines(&rows),
        [
            "0 0 pretrain.loss_first_epoch done 5",
            "0 0 pretrain.loss_last_epoch done 4",
            "0 0 knn.top1 done 0.5",
            "0 0 knn.top5 done 0.9",
            "0 0 linear.top1 done 0.6",
            "0 1 pretrain.loss_first_epoch done 5",
            "0 1 pretrain.loss_last_epoch done 4",
            "0 1 knn.top1 failed the loss is not finite",
            "0 1 knn.top5 failed the loss is not finite",
            "0 1 linear.top1 missing",
            "1 0 pretrain.loss_first_epoch failed the loss is not finite (step 3)",
            "1 0 pretrain.loss_last_epoch failed the loss is not finite (step 3)",
            "1 0 knn.top1 failed the loss is not finite (step 3)",
            "1 0 knn.top5 failed the loss is not finite (step 3)",
            "1 0 linear.top1 failed the loss is not finite (step 3)",
            "1 1 pretrain.loss_first_epoch missing",
            "1 1 pretrain.loss_last_epoch missing",
            "1 1 knn.top1 done 0.25",
            "1 1 knn.top5 missing",
            "1 1 linear.top1 missing",
        ]
    );
    let done = &rows[2];
    assert_eq!(
        (done.unit.as_deref(), done.steps, done.n_parameters, done.train_s),
        (Some("fraction"), Some(20), Some(11), Some(4.0))
    );
    // 100 images/s over 1 s and 300 images/s over 3 s.
    assert_eq!(done.images_per_s, Some(250.0));
    assert_eq!(done.device.as_deref(), Some("A"), "the training's device, not the evaluation's");
    assert_eq!(rows[17].device.as_deref(), Some("B"), "without a training, the evaluation's");
    assert_eq!((rows[17].steps, rows[17].images_per_s), (None, None));
}

/// Two snapshots before the final encoder, at epochs that the numbers of `sample` make half ones.
fn with_snapshots() -> crate::experiment::Experiment {
    let mut experiment = experiment(&[], &[], &[0]);
    experiment.cells[0].runs[0].train.snapshots_every_steps = Some(40);
    experiment
}

#[test]
fn the_best_encoder_is_the_first_of_the_highest() {
    let experiment = with_snapshots();
    let run = &experiment.cells[0].runs[0];
    let keys = run.keys();
    assert_eq!(keys.snapshots, [None, None, Some(40), Some(40), Some(80), Some(80)]);
    // k-NN of the final encoder and the two snapshots; the probe of the last snapshot alone.
    let rows = |values: [Option<f64>; 3], failed: bool| {
        let mut records = BTreeMap::from([(keys.pretrain, record(keys.pretrain, pretrain(), "A"))]);
        for (key, value) in [keys.evaluations[0], keys.evaluations[2], keys.evaluations[4]].into_iter().zip(values) {
            let stage = value.map(|value| evaluation(keys.pretrain, "knn", &[("top1", value), ("top5", 1.0)]));
            if let Some(stage) = stage.or_else(|| failed.then(|| failure(None))) {
                records.insert(key, record(key, stage, "A"));
            }
        }
        collect(&experiment, |key| records.get(key).cloned())
    };
    let best = |rows: &[Row]| {
        let found = rows.iter().filter(|row| row.full_metric().starts_with("knn.top1_best"));
        found.map(|row| (row.status.name(), row.value, row.encoder_step)).collect::<Vec<_>>()
    };
    let per_epoch = run.steps_per_epoch() as f64;
    let check = |values: [f64; 3], step: u64| {
        let found = rows(values.map(Some), false);
        let highest = values.into_iter().fold(0.0, f64::max);
        let expected = [("done", Some(highest), Some(step)), ("done", Some(step as f64 / per_epoch), Some(step))];
        assert_eq!(best(&found), expected, "{values:?}");
        let row = found.iter().find(|row| row.metric == "top1_best").expect("a best");
        let place = keys.snapshots.iter().position(|at| at.unwrap_or(100) == step).expect("one of the encoders");
        assert_eq!(row.evaluation_key, keys.evaluations[place]);
        assert_eq!(row.encoder, EncoderKind::Best);
        assert!(
            row.protocol
                .as_ref()
                .is_some_and(|text| text.contains("best of 3 snapshots on the test images: optimistic"))
        );
    };
    check([0.5, 0.25, 0.25], 100);
    check([0.5, 0.75, 0.25], 40);
    check([0.5, 0.25, 0.75], 80);
    check([0.5, 0.5, 0.5], 40);
    check([0.75, 0.5, 0.75], 80);
    // The best of fewer would be another number.
    assert_eq!(best(&rows([Some(0.5), None, Some(0.75)], false)), [("missing", None, None); 2]);
    assert_eq!(best(&rows([Some(0.5), None, Some(0.75)], true)), [("failed", None, None); 2]);
    let all = rows([Some(0.5), Some(0.75), Some(0.25)], false);
    let told = |wanted: &str| {
        let of = all.iter().filter(|row| row.full_metric() == wanted);
        of.map(|row| (row.encoder.name(), row.encoder_step, row.value)).collect::<Vec<_>>()
    };
    let of_knn =
        [("final", Some(100), Some(0.5)), ("snapshot", Some(40), Some(0.75)), ("snapshot", Some(80), Some(0.25))];
    assert_eq!(told("knn.top1"), of_knn);
    assert_eq!(told("linear.top1_best"), [("best", None, None)]);
    assert_eq!(told("pretrain.loss_last_epoch"), [("final", Some(100), Some(4.0))]);
}

#[test]
fn a_table_of_the_best_has_its_rows_before_anything_is_computed() {
    let mut experiment = with_snapshots();
    experiment.table.metric = "knn.top1_best".to_owned();
    let rows = collect(&experiment, |_| None);
    let best: Vec<&Row> = rows.iter().filter(|row| row.is_of("knn.top1_best")).collect();
    assert_eq!(best.len(), 1, "{:?}", lines(&rows));
    assert!(rows.iter().all(|row| row.status == Status::Missing && row.encoder == EncoderKind::Best), "{rows:?}");
}
