use super::*;
use crate::experiment::recipe::{Backend, Numerics};
use crate::report::sample::{complete, experiment, failed, missing, row};

fn table(experiment: &Experiment, rows: &[Row]) -> AblationTable {
    AblationTable::new(experiment, rows, &experiment.table.metric).unwrap()
}

fn means(table: &AblationTable) -> Vec<Vec<f64>> {
    let mean =
        |cell: &Option<TableCell>| cell.as_ref().and_then(|cell| cell.summary).map_or(f64::NAN, |summary| summary.mean);
    table.cells.iter().map(|row| row.iter().map(mean).map(|mean| (mean * 1e6).round() / 1e6).collect()).collect()
}

#[test]
fn rows_and_columns_follow_the_layout() {
    let axes: [(&str, &[&str]); 2] = [("train.batch", &["64", "128", "256"]), ("scaling", &["Linear", "Sqrt"])];
    let by_scaling = experiment(&axes, &["scaling"], &[0, 1]);
    assert_eq!(means(&table(&by_scaling, &complete(&by_scaling))), [[0.5, 0.525], [0.55, 0.575], [0.6, 0.625]]);
    let by_batch = experiment(&axes, &["train.batch"], &[0, 1]);
    let turned = table(&by_batch, &complete(&by_batch));
    assert_eq!(means(&turned), [[0.5, 0.55, 0.6], [0.525, 0.575, 0.625]]);
    assert_eq!(
        (turned.row_axes.join(" "), turned.column_axes.join(" ")),
        ("scaling".to_owned(), "train.batch".to_owned())
    );
    assert_eq!(turned.column_labels.concat(), ["64", "128", "256"]);
    assert_eq!(turned.cells[1][2].as_ref().unwrap().labels, ["Sqrt", "256"]);
}

#[test]
fn three_axes_the_order_of_the_layout_wins() {
    let axes: [(&str, &[&str]); 3] = [("a", &["1", "2"]), ("b", &["x", "y"]), ("c", &["p", "q"])];
    let mut experiment = experiment(&axes, &["b"], &[0]);
    experiment.table.rows = vec!["c".to_owned(), "a".to_owned()];
    let table = table(&experiment, &complete(&experiment));
    assert_eq!(table.row_labels.iter().map(|labels| labels.concat()).collect::<Vec<_>>(), ["p1", "p2", "q1", "q2"]);
    assert_eq!(means(&table), [[0.5, 0.55], [0.6, 0.65], [0.525, 0.575], [0.625, 0.675]]);
}

#[test]
fn an_axis_that_the_layout_leaves_out_is_not_lost() {
    let mut experiment = experiment(&[("a", &["1", "2"]), ("b", &["x", "y"])], &["b"], &[0]);
    experiment.table.rows.clear();
    assert_eq!(means(&table(&experiment, &complete(&experiment))), [[0.5, 0.525], [0.55, 0.575]]);
}

#[test]
fn a_grid_with_holes_has_absent_cells() {
    let mut experiment = experiment(&[("a", &["1", "2"]), ("b", &["x", "y"])], &["b"], &[0]);
    let rows = complete(&experiment);
    experiment.cells.truncate(3);
    let table = table(&experiment, &rows);
    assert_eq!(table.cells[1][1], None);
    assert_eq!(table.cells().count(), 3);
}

#[test]
fn values_that_share_a_label_keep_their_cells() {
    let experiment = experiment(&[("views", &["crop", "crop"]), ("b", &["x", "x"])], &["b"], &[0]);
    assert_eq!(means(&table(&experiment, &complete(&experiment))), [[0.5, 0.525], [0.55, 0.575]]);
}

#[test]
fn of_two_rows_a_result_wins() {
    let experiment = experiment(&[], &[], &[0, 1]);
    let rows = [
        failed(&experiment, 0, 0, "panicked"),
        row(&experiment, 0, 0, 0.5),
        missing(&experiment, 0, 1),
        failed(&experiment, 0, 1, "panicked"),
        row(&experiment, 0, 77, 0.9),
    ];
    let table = table(&experiment, &rows);
    let cell = table.cells().next().unwrap();
    assert_eq!(cell.results, [SeedResult::Done(0.5), SeedResult::Failed("panicked".to_owned())]);
    assert_eq!((cell.n_done(), cell.n_missing(), cell.n_failed()), (1, 0, 1));
}

#[test]
fn a_metric_that_nothing_has_is_refused() {
    let experiment = experiment(&[], &[], &[0]);
    let error = AblationTable::new(&experiment, &complete(&experiment), "knn.top2").unwrap_err().to_string();
    assert_eq!(error, "no results of metric `knn.top2`; expected one of knn.top1");
    assert_eq!(table(&experiment, &[]).cells().count(), 1, "no rows at all is an experiment not begun");
}

#[test]
fn what_is_missing_or_failed_is_noted() {
    let check = |change: &dyn Fn(&Experiment, &mut Vec<Row>), expected: &[&str]| {
        let experiment = experiment(&[("a", &["1", "2"])], &[], &[0, 1, 2]);
        let mut rows = complete(&experiment);
        change(&experiment, &mut rows);
        let mut notes = vec!["mean ± sample standard deviation over 3 seeds (0, 1, 2)"];
        notes.extend(expected);
        assert_eq!(table(&experiment, &rows).notes, notes);
    };
    check(&|_, _| {}, &[]);
    check(&|_, rows| rows.truncate(3), &["1 of 2 cells missing"]);
    check(&|_, rows| rows.truncate(1), &["1 of 2 cells missing", "1 of 2 cells incomplete"]);
    check(
        &|experiment, rows| rows[4] = failed(experiment, 1, 1, "not finite\n at step 3"),
        &["1 of 2 cells incomplete", "1 run failed: 2, seed 1: not finite at step 3"],
    );
    check(
        &|experiment, rows| (0..3).for_each(|seed| rows[seed] = failed(experiment, 0, seed as u64, &"é".repeat(500))),
        &["1 of 2 cells incomplete", &format!("3 runs failed; the first: 1, seed 0: {}…", "é".repeat(160))],
    );
    let notes_of = |seeds: &[u64]| table(&experiment(&[], &[], seeds), &[]).notes[0].clone();
    assert_eq!(notes_of(&[]), "no seeds");
    assert_eq!(notes_of(&[7]), "1 seed (7), so no spread");
    assert_eq!(notes_of(&[0, 1, 2, 3, 4, 5, 6, 7, 8]), "mean ± sample standard deviation over 9 seeds");
}

#[test]
fn mixtures_are_warned_of() {
    let check = |axis: &str, change: &dyn Fn(&mut Row), expected: &[&str]| {
        let experiment = experiment(&[(axis, &["1", "2"])], &[], &[0]);
        let mut rows = complete(&experiment);
        change(&mut rows[1]);
        assert_eq!(table(&experiment, &rows).warnings, expected);
    };
    check("a", &|_| {}, &[]);
    check("a", &|row| row.backend = Backend::Cuda, &["mixes cpu and cuda results"]);
    check("a", &|row| row.numerics = Numerics::Bf16, &["mixes bf16 and f32 results"]);
    check("train.numerics", &|row| row.numerics = Numerics::Bf16, &[]);
    let device = "mixes results of different devices: Processor A and Processor B";
    check("a", &|row| row.device = Some("Processor B".to_owned()), &[device]);
    let code = "mixes results of different program sources: 0123456789ab and ffffff";
    check("a", &|row| row.code = Some("ffffff".to_owned()), &[code]);
    check("a", &|row| row.unit = Some("nats".to_owned()), &["mixes units: fraction and nats"]);
    let not_done = |row: &mut Row| (row.status, row.backend) = (Status::Missing, Backend::Cuda);
    check("a", &not_done, &[]);
    let smoke = Experiment { smoke: true, ..experiment(&[], &[], &[0]) };
    assert_eq!(table(&smoke, &[]).warnings, ["a smoke run, shrunk until it takes seconds: not a result"]);
}
