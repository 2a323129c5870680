use proptest::prelude::*;

use super::*;
use crate::experiment::Experiment;
use crate::experiment::recipe::Backend;
use crate::report::row::{EncoderKind, Row};
use crate::report::sample::{complete, experiment, failed, missing, row};
use crate::report::statistics::IntervalMethod;
use crate::report::view::View;

const FORMATS: [Format; 5] = [Format::Text, Format::Markdown, Format::Latex, Format::Typst, Format::Csv];

fn table(experiment: &Experiment, rows: &[Row]) -> AblationTable {
    AblationTable::new(experiment, rows, &experiment.table.metric).unwrap()
}

/// All forms below each other.
fn all(experiment: &Experiment, rows: &[Row]) -> String {
    let table = table(experiment, rows);
    FORMATS.map(|format| format!("── {format:?}\n{}", table.render(format))).concat()
}

fn two_axes() -> Experiment {
    let axes: [(&str, &[&str]); 2] =
        [("train.batch", &["64", "128"]), ("train.learning_rate.scaling", &["Linear(per: 256)", "Sqrt"])];
    experiment(&axes, &["train.learning_rate.scaling"], &[0, 1, 2])
}

#[test]
fn complete_table() {
    let experiment = two_axes();
    insta::assert_snapshot!(all(&experiment, &complete(&experiment)));
}

#[test]
fn partial_failed_and_mixed() {
    let experiment = two_axes();
    let mut rows = complete(&experiment);
    rows[1] = missing(&experiment, 0, 1);
    rows[4] = failed(&experiment, 1, 1, "the loss is not finite at step 3: 100% & $x_1$");
    for (index, seed) in [0, 1, 2].into_iter().enumerate() {
        rows[6 + index] = missing(&experiment, 2, seed);
        rows[9 + index] = failed(&experiment, 3, seed, "panicked");
    }
    rows[2].backend = Backend::Cuda;
    rows[2].device = Some("Processor B".to_owned());
    insta::assert_snapshot!(all(&experiment, &rows));
}

#[test]
fn nothing_done() {
    let experiment = two_axes();
    insta::assert_snapshot!(all(&experiment, &[]));
}

#[test]
fn three_axes() {
    let axes: [(&str, &[&str]); 3] = [
        ("train.batch", &["64", "1024"]),
        ("model.head", &["None", "Mlp"]),
        ("train.temperature", &["0.1", "0.5", "1.0"]),
    ];
    let experiment = experiment(&axes, &["train.temperature"], &[0, 1]);
    insta::assert_snapshot!(all(&experiment, &complete(&experiment)));
}

#[test]
fn no_axes_one_seed_in_nats() {
    let mut experiment = experiment(&[], &[], &[5]);
    experiment.table.metric = "pretrain.loss_last_epoch".to_owned();
    let base = row(&experiment, 0, 5, 4.321_98);
    let nats = |text: &str| Row {
        metric: text.to_owned(),
        evaluation: "pretrain".to_owned(),
        unit: Some("nats".to_owned()),
        ..base
    };
    insta::assert_snapshot!(all(&experiment, &[nats("loss_last_epoch")]));
}

#[test]
fn one_axis_in_columns_only() {
    let experiment = experiment(&[("train.batch", &["64", "128"])], &["train.batch"], &[0, 1]);
    insta::assert_snapshot!(all(&experiment, &complete(&experiment)));
}

#[test]
fn long_and_hostile_labels() {
    let long = "crop, flip, colour jitter at half strength, grayscale and a Gaussian blur of a tenth of the side";
    let axes: [(&str, &[&str]); 1] =
        [("views", &[long, "größer × 2, 彩色", "[*]", "a|b\\c*_\"d\"\n<e> & 100% $x_1$ {~^#}"])];
    let mut experiment = experiment(&axes, &[], &[0, 1]);
    experiment.question = "Is `colour` needed?\u{1b}[31m".to_owned();
    insta::assert_snapshot!(all(&experiment, &complete(&experiment)));
}

#[test]
fn wide_tables_are_cut_into_blocks() {
    let labels: Vec<String> = (1..=16).map(|power| (1u32 << power).to_string()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let axes: [(&str, &[&str]); 2] = [("train.batch", &labels), ("model.backbone.stem", &["Cifar", "ImageNet"])];
    let experiment = experiment(&axes, &["train.batch"], &[0, 1, 2]);
    let text = table(&experiment, &complete(&experiment)).render(Format::Text);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!(text);
}

/// Every form of the table below the table.
fn all_differences(table: &AblationTable) -> String {
    let of = |format| Some(format!("── {format:?}\n{}", table.render_differences(format)?));
    FORMATS.into_iter().filter_map(of).collect()
}

#[test]
fn differences_below_the_table() {
    let experiment = two_axes();
    let mut rows = complete(&experiment);
    rows[4] = failed(&experiment, 1, 1, "panicked");
    rows.truncate(9);
    insta::assert_snapshot!(all_differences(&table(&experiment, &rows)));
    assert_eq!(table(&experiment, &[]).render_differences(Format::Text), None);
}

#[test]
fn intervals_in_place_of_deviations() {
    let experiment = two_axes();
    let mut rows = complete(&experiment);
    rows[1] = missing(&experiment, 0, 1);
    let spread = Spread::Interval;
    let all = IntervalMethod::ALL.map(|interval| {
        let view = View { interval, spread, ..View::of(&experiment) };
        let table = AblationTable::of(&experiment, &rows, &view).unwrap();
        let differences = table.render_differences(Format::Text).unwrap();
        [Format::Text, Format::Markdown, Format::Latex, Format::Typst].map(|format| table.render(format)).concat()
            + &differences
    });
    insta::assert_snapshot!(all.concat());
}

#[test]
fn one_label_left_is_named_below() {
    let experiment = two_axes();
    let only = vec!["train.batch=128".parse().unwrap()];
    let view = View { only, best: Some(1), ..View::of(&experiment) };
    let table = AblationTable::of(&experiment, &complete(&experiment), &view).unwrap();
    insta::assert_snapshot!(FORMATS.map(|format| table.render(format)).concat());
}

/// In 80 columns, however long the labels are.
#[test]
fn differences_fit_a_terminal() {
    let long = "crop, flip, colour jitter at half strength, grayscale and a Gaussian blur of a tenth of the side";
    let axes: [(&str, &[&str]); 2] =
        [("views", &[long, "b"]), ("train.learning_rate.scaling", &["Linear(per: 256)", "Sqrt"])];
    let experiment = experiment(&axes, &[], &[0, 1, 2]);
    let text = table(&experiment, &complete(&experiment)).render_differences(Format::Text).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn as_json() {
    let experiment = two_axes();
    let mut rows = complete(&experiment);
    rows[1] = failed(&experiment, 0, 1, "panicked");
    rows.truncate(4);
    insta::assert_snapshot!(serde_json::to_string_pretty(&table(&experiment, &rows).to_json()).unwrap());
}

proptest! {
    #[test]
    fn no_label_breaks_the_frame(first in any::<String>(), second in ".{0,90}", name in any::<String>()) {
        let mut experiment = experiment(&[("views", &[&first, "b"]), ("other", &[&second, "d"])], &["other"], &[0, 1]);
        experiment.name = name.clone();
        experiment.question = name;
        let table = table(&experiment, &complete(&experiment));
        let [text, markdown, latex, typst, csv] = FORMATS.map(|format| table.render(format));
        prop_assert!(!text.chars().any(|character| character.is_control() && character != '\n'));
        let bars = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
        prop_assert!(markdown.lines().filter(|line| line.starts_with("| ")).all(|line| bars(line) == 4), "{markdown}");
        prop_assert_eq!(markdown.lines().filter(|line| line.starts_with("| ")).count(), 4);
        prop_assert_eq!(latex.lines().filter(|line| line.ends_with(" \\\\")).count(), 4, "{}", latex);
        prop_assert_eq!(csv_fields(&csv), 5 * 25);
        prop_assert_eq!(typst.lines().filter(|line| line.starts_with("  \"")).count(), 3, "{}", typst);
        prop_assert!(typst.lines().all(|line| line.replace("\\\\", "").replace("\\\"", "").matches('"').count() % 2 == 0 || line.starts_with("//")), "{typst}");
    }
}

/// How many fields a reader of RFC 4180 finds.
fn csv_fields(text: &str) -> usize {
    let (mut quoted, mut fields) = (false, 0);
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' | '\n' if !quoted => fields += 1,
            _ => {}
        }
    }
    fields
}

/// `complete`, and for every row one of the best encoder, 2 % better at epoch 10 times the seed and one.
fn with_best(experiment: &mut Experiment) -> Vec<Row> {
    experiment.cells.iter_mut().flat_map(|cell| &mut cell.runs).for_each(|run| {
        run.train.snapshots_every_steps = Some(run.steps_per_epoch());
        run.train.length_steps = 3 * run.steps_per_epoch();
    });
    let rows = complete(experiment);
    let best = |row: &Row| Row {
        metric: "top1_best".to_owned(),
        encoder: EncoderKind::Best,
        encoder_step: Some(row.seed + 1),
        encoder_epoch: Some(10.0 * (row.seed + 1) as f64),
        value: row.value.map(|value| value + 0.02),
        ..row.clone()
    };
    let snapshot = |row: &Row| Row { encoder: EncoderKind::Snapshot, value: Some(0.01), ..row.clone() };
    let others: Vec<Row> = rows.iter().flat_map(|row| [best(row), snapshot(row)]).collect();
    [rows, others].concat()
}

#[test]
fn the_best_epoch_stands_beside_the_final_one() {
    let mut experiment = experiment(&[("train.batch", &["64", "128"])], &[], &[0, 1, 2]);
    let rows = with_best(&mut experiment);
    insta::assert_snapshot!(all(&experiment, &rows));
    let json = table(&experiment, &rows).to_json();
    assert_eq!(
        (json["best"]["metric"].as_str(), json["best"]["is_optimistic"].as_bool()),
        (Some("knn.top1_best"), Some(true))
    );
    let best = &json["cells"][1]["best"];
    assert_eq!(best["epochs"], serde_json::json!([10.0, 20.0, 30.0]));
    let higher = best["mean"].as_f64().unwrap() - json["cells"][1]["mean"].as_f64().unwrap();
    assert!((higher - 0.02).abs() < 1e-12, "{json}");
    // By itself it is a metric like any other, and the verdict is of the table's own.
    let alone = AblationTable::new(&experiment, &rows, "knn.top1_best").unwrap();
    assert_eq!((&alone.best, alone.cells().count()), (&None, 2));
    assert!(alone.cells().all(|cell| cell.n_done() == 3));
    let plain = AblationTable::new(&experiment, &complete(&experiment), "knn.top1").unwrap();
    assert_eq!(table(&experiment, &rows).verdict, plain.verdict);
    experiment.cells.iter_mut().flat_map(|cell| &mut cell.runs).for_each(|run| {
        run.split = crate::experiment::recipe::Split::HeldOut { fraction: 0.1, seed: 0 };
    });
    let held_out = table(&experiment, &rows).render(Format::Text);
    assert!(held_out.contains("held-out images") && !held_out.contains("optimistic"), "{held_out}");
}
