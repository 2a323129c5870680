//! `train.snapshots`, end to end: the same training, every encoder evaluated once, the best epoch beside the final one.

use std::collections::BTreeMap;
#[cfg(unix)]
use std::time::Duration;

use ablate::report::parquet;
use ablate::report::row::EncoderKind;

use crate::harness::{MINIATURE, Workplace, verified_digests};

/// Trainings of seven steps, six an epoch; encoders are kept after two, four and six.
fn with_snapshots() -> String {
    MINIATURE
        .replace("length: Steps(3)", "length: Steps(7), snapshots: Every(Steps(2))")
        .replace(", LinearProbe(epochs: 2, batch: 16)", ", Robustness(k: 5)")
}

fn rows(place: &Workplace) -> Vec<ablate::report::row::Row> {
    let bytes = std::fs::read(place.path().join("results/miniature.parquet")).expect("a table of results");
    parquet::from_parquet(&bytes).expect("rows").0
}

#[test]
fn every_encoder_is_evaluated_once_and_the_best_stands_beside_the_final_one() {
    let place = Workplace::new();
    place.write("miniature.ron", &with_snapshots());
    let plan = place.ablate(&["plan", "miniature.ron", "--json"]).success().json();
    assert_eq!((plan["to_train"].as_u64(), plan["to_evaluate"].as_u64()), (Some(4), Some(4 * (2 + 3))), "{plan}");
    let keys = plan["runs"][0]["evaluation_keys"].as_object().expect("keys");
    let names: Vec<&str> = keys.keys().map(String::as_str).collect();
    assert_eq!(names, ["knn", "robustness", "knn@step2", "knn@step4", "knn@epoch1"]);

    let said = place.ablate(&["sweep", "miniature.ron"]).success();
    let again = place.ablate(&["sweep", "miniature.ron"]).success();
    assert!(again.err.contains("computed nothing, all 4 runs from the store"), "{}", again.err);
    assert_eq!(said.out, again.out);
    for expected in ["knn.top1 in %", "knn.top1, best epoch", "(optimistic)", "best of 4 snapshots on the test images"]
    {
        assert!(said.out.contains(expected), "`{expected}` is not in\n{}", said.out);
    }

    let rows = rows(&place);
    let mut numbers: BTreeMap<(u32, u64), Vec<(u64, f64)>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.full_metric() == "knn.top1") {
        let step = row.encoder_step.expect("a step");
        assert_eq!(row.encoder == EncoderKind::Final, step == 7);
        assert_eq!(row.encoder_epoch, Some(step as f64 / 6.0));
        numbers.entry((row.cell, row.seed)).or_default().push((step, row.value.expect("a value")));
    }
    assert_eq!(numbers.len(), 4);
    for ((cell, seed), of_run) in numbers {
        assert_eq!(of_run.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [2, 4, 6, 7]);
        let best = of_run.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1)).expect("four encoders");
        let told = rows.iter().find(|row| row.cell == cell && row.seed == seed && row.metric == "top1_best");
        let told = told.expect("a best");
        assert_eq!(
            (told.encoder_step, told.value),
            (Some(best.0), Some(best.1)),
            "cell {cell}, seed {seed}: {of_run:?}"
        );
    }
    assert!(rows.iter().filter(|row| row.evaluation == "robustness").all(|row| row.encoder == EncoderKind::Final));

    let best = place.ablate(&["table", "miniature.ron", "--metric", "knn.top1_best", "--best", "1"]).success();
    assert!(best.out.contains("knn.top1_best in %") && !best.out.contains("knn.top1, best"), "{}", best.out);
    let epochs = place.ablate(&["table", "miniature.ron", "--metric", "knn.top1_best_epoch"]).success();
    assert!(epochs.out.contains("epochs"), "{}", epochs.out);
    let report = place.ablate(&["report", "miniature.ron", "--json"]).success().json();
    let figures = report["figures"].to_string();
    assert!(figures.contains("evaluated.svg"), "{figures}");
    let page = std::fs::read_to_string(report["page"].as_str().map(|page| place.path().join(page)).expect("a page"));
    assert!(page.expect("a readable page").contains("best epoch (optimistic)"));
    let status = place.ablate(&["status", "miniature.ron", "--json"]).success().json();
    assert!(status["backends"].as_array().is_some_and(|all| all.iter().any(|of| of["complete"] == 4)), "{status}");
    let explained = place.ablate(&["explain", "miniature.ron"]).success();
    assert!(explained.out.contains("knn@step2"), "{}", explained.out);
}

/// `--smoke` keeps snapshots, of the shrunk training.
#[test]
fn a_shrunk_experiment_has_both_columns() {
    let place = Workplace::new();
    place.write("miniature.ron", &with_snapshots());
    let said = place.ablate(&["sweep", "miniature.ron", "--smoke"]).success();
    assert!(said.out.contains("best epoch") && said.out.contains("best of 3 snapshots"), "{}", said.out);
}

/// Killed behind a snapshot and a checkpoint; the next sweep goes on and ends with every encoder, bit by bit.
#[cfg(unix)]
#[test]
fn killed_and_run_again_has_every_snapshot() {
    use crate::harness::caught_training;
    let text = with_snapshots()
        .replace("length: Steps(7), snapshots: Every(Steps(2))", "length: Steps(9), snapshots: Every(Steps(2))")
        .replace(", Robustness(k: 5)", "")
        .replace("[0.1, 0.5]", "[0.5]")
        .replace("seeds: [0, 1]", "seeds: [0]");
    let whole = Workplace::new();
    whole.write("miniature.ron", &text);
    whole.ablate(&["sweep", "miniature.ron"]).success();
    let expected = verified_digests(&whole.store());
    assert_eq!(expected.keys().filter(|name| name.contains(".snapshot-")).count(), 4);
    let (place, said) = caught_training(&text, rustix::process::Signal::KILL, Duration::ZERO);
    assert_eq!(said.code, None, "{}", said.err);
    place.ablate(&["gc", "--leftovers", "--apply", "--store", "results/store"]).success();
    let resumed = place.ablate(&["sweep", "miniature.ron"]).success();
    assert!(resumed.err.contains("goes on from its checkpoint"), "{}", resumed.err);
    assert_eq!(expected, verified_digests(&place.store()));
}
