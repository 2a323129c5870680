use super::*;
use crate::report::sample::{complete, experiment, failed, row};
use crate::report::table::AblationTable;

const AXES: [(&str, &[&str]); 2] = [("train.batch", &["64", "128", "256"]), ("views", &["crop", "crop + colour"])];

fn label(text: &str) -> AxisLabel {
    text.parse().unwrap()
}

fn looked(change: impl FnOnce(&Experiment, &mut View)) -> Result<AblationTable, ReportError> {
    let experiment = experiment(&AXES, &["views"], &[0, 1]);
    let mut view = View::of(&experiment);
    change(&experiment, &mut view);
    AblationTable::of(&experiment, &complete(&experiment), &view)
}

fn rows(table: &AblationTable) -> Vec<String> {
    table.row_labels.iter().map(|labels| labels.join(" | ")).collect()
}

#[test]
fn a_table_is_laid_out_anew() {
    let turned = looked(|experiment, view| view.lay_out(experiment, Some(vec!["views".to_owned()]), None)).unwrap();
    assert_eq!(
        (rows(&turned), turned.column_labels.concat().join(" ")),
        (vec!["crop".into(), "crop + colour".into()], "64 128 256".to_owned())
    );
    let both = ["views", "train.batch"].map(str::to_owned).to_vec();
    let flat = looked(|experiment, view| view.lay_out(experiment, Some(both), None)).unwrap();
    assert_eq!(
        (flat.row_axes.join(" "), flat.column_axes.len(), flat.row_labels.len()),
        ("views train.batch".to_owned(), 0, 6)
    );
    let only_columns = looked(|experiment, view| view.lay_out(experiment, None, Some(vec!["train.batch".to_owned()])));
    assert_eq!(only_columns.unwrap().row_axes, ["views"]);
}

#[test]
fn only_the_cells_asked_for() {
    let table = looked(|_, view| view.only = vec![label("views=crop")]).unwrap();
    assert_eq!((rows(&table), table.column_axes.len()), (vec!["64".to_owned(), "128".into(), "256".into()], 0));
    assert_eq!(table.fixed, [label("views=crop")]);
    assert_eq!(table.notes[1], "only views = crop");
    assert_eq!(table.baseline().unwrap().labels, ["64"]);
    let several = looked(|_, view| view.only = vec![label("train.batch=64"), label("train.batch = 256")]).unwrap();
    assert_eq!((rows(&several), several.fixed.len()), (vec!["64".to_owned(), "256".into()], 0));
    let one = looked(|_, view| view.only = vec![label("train.batch=64"), label("views=crop")]).unwrap();
    assert_eq!((one.cells().count(), one.fixed.len(), one.verdict.len()), (1, 2, 0));
}

#[test]
fn the_best_rows_and_the_baselines() {
    let table = looked(|_, view| view.best = Some(1)).unwrap();
    assert_eq!(rows(&table), ["64", "256"]);
    assert_eq!((table.n_rows_hidden, table.n_comparisons), (1, 5), "hidden rows are corrected for");
    assert_eq!(table.notes[1], "2 of 3 rows: those with the best means (higher is better) and the baseline's");
    assert_eq!(rows(&looked(|_, view| view.best = Some(7)).unwrap()), ["64", "128", "256"]);
}

#[test]
fn the_lowest_loss_is_the_best() {
    let experiment = experiment(&[("a", &["1", "2", "3"])], &[], &[0]);
    let loss = |cell: u32, value: f64| crate::report::row::Row {
        evaluation: "pretrain".to_owned(),
        metric: "loss_last_epoch".to_owned(),
        unit: Some("nats".to_owned()),
        ..row(&experiment, cell, 0, value)
    };
    let found = [loss(0, 5.0), loss(1, 4.0), loss(2, 6.0)];
    let view = View { metric: "pretrain.loss_last_epoch".to_owned(), best: Some(1), ..View::of(&experiment) };
    assert_eq!(rows(&AblationTable::of(&experiment, &found, &view).unwrap()), ["1", "2"]);
}

#[test]
fn the_baseline_is_the_files_or_the_one_asked_for() {
    let mut experiment = experiment(&AXES, &["views"], &[0, 1]);
    let of = |experiment: &Experiment, view: &View| {
        let table = AblationTable::of(experiment, &complete(experiment), view)?;
        Ok::<_, ReportError>(table.baseline().map(|cell| cell.labels.join(" ")).unwrap_or_default())
    };
    assert_eq!(of(&experiment, &View::of(&experiment)).unwrap(), "64 crop");
    experiment.table.baseline = vec![label("train.batch=256")];
    let mut view = View::of(&experiment);
    assert_eq!(of(&experiment, &view).unwrap(), "256 crop");
    view.baseline = Some(vec![label("views=crop + colour")]);
    assert_eq!(of(&experiment, &view).unwrap(), "64 crop + colour");
    view.only = vec![label("views=crop")];
    let error = of(&experiment, &view).unwrap_err().to_string();
    assert_eq!(error, "no cell of the table has views = crop + colour, the baseline's labels");
    (view.baseline, view.only) = (None, vec![label("train.batch=64")]);
    assert_eq!(of(&experiment, &view).unwrap(), "crop", "the file's baseline is not shown");
}

#[test]
fn differences_pair_seeds_that_both_have() {
    let experiment = experiment(&[("a", &["1", "2", "3"])], &[], &[0, 1, 2]);
    let mut found = complete(&experiment);
    found[1] = failed(&experiment, 0, 1, "panicked");
    found.truncate(6);
    let table = AblationTable::new(&experiment, &found, "knn.top1").unwrap();
    let differences: Vec<Option<usize>> =
        table.cells().map(|cell| cell.difference.map(|difference| difference.n_pairs)).collect();
    assert_eq!(differences, [None, Some(2), None]);
    assert!((table.cells[1][0].as_ref().unwrap().difference.unwrap().mean - 0.025).abs() < 1e-12);
}

#[test]
fn what_there_is_not_is_refused_with_what_there_is() {
    let check = |change: &dyn Fn(&mut View), expected: &str| {
        let error = looked(|_, view| change(view)).unwrap_err();
        assert!(matches!(error, ReportError::View(_)));
        assert_eq!(error.to_string(), expected);
    };
    check(
        &|view| view.rows = vec!["train.bach".to_owned()],
        "`train.bach` is not swept; expected one of `train.batch`, `views`; did you mean `train.batch`?",
    );
    check(
        &|view| view.columns = vec!["train.batch".to_owned()],
        "`train.batch` stands in the table twice; expected every axis once",
    );
    check(
        &|view| view.only = vec![label("views=crop + color")],
        "`crop + color` is no label of `views`; expected one of `crop`, `crop + colour`; did you mean `crop + colour`?",
    );
    check(&|view| view.only = vec![label("seed=0")], "`seed` is not swept; expected one of `train.batch`, `views`");
    check(
        &|view| view.baseline = Some(vec![label("train.batch=512")]),
        "`512` is no label of `train.batch`; expected one of `64`, `128`, `256`",
    );
    assert!("views".parse::<AxisLabel>().is_err());
}
