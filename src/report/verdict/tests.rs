use super::*;
use crate::experiment::Experiment;
use crate::report::row::Row;
use crate::report::sample::{complete, experiment, failed, missing, row};
use crate::report::view::View;

/// The verdict on cells of these values, a list of one value a seed each.
fn of(values: &[&[f64]]) -> String {
    let labels = ["crop", "crop + colour", "all", "none"];
    let seeds: Vec<u64> = (0..values[0].len() as u64).collect();
    let experiment = experiment(&[("views", &labels[..values.len()])], &[], &seeds);
    let row_of = |(cell, values): (usize, &&[f64])| {
        let experiment = &experiment;
        let of_seed = move |(seed, value): (usize, &f64)| row(experiment, cell as u32, seed as u64, *value);
        values.iter().enumerate().map(of_seed).collect::<Vec<Row>>()
    };
    let rows: Vec<Row> = values.iter().enumerate().flat_map(row_of).collect();
    said(&experiment, &rows)
}

fn said(experiment: &Experiment, rows: &[Row]) -> String {
    AblationTable::new(experiment, rows, "knn.top1").unwrap().verdict.join(" ")
}

const CROP: [f64; 6] = [0.501, 0.512, 0.495, 0.505, 0.509, 0.498];
const COLOUR: [f64; 6] = [0.562, 0.570, 0.561, 0.569, 0.565, 0.565];

#[test]
fn six_seeds_can_settle_one_comparison() {
    insta::assert_snapshot!(of(&[&CROP, &COLOUR]));
}

#[test]
fn two_seeds_cannot() {
    insta::assert_snapshot!(of(&[&CROP[..2], &[0.561, 0.573]]));
}

#[test]
fn one_seed_says_nothing_of_the_spread() {
    insta::assert_snapshot!([of(&[&[0.5], &[0.561]]), of(&[&[0.5], &[0.561], &[0.4]])].join("\n"));
}

#[test]
fn an_interval_around_zero_shows_no_difference() {
    let near: Vec<f64> = CROP.iter().zip([0.01, -0.012, 0.004, 0.008, -0.003, 0.001]).map(|(a, b)| a + b).collect();
    insta::assert_snapshot!([of(&[&CROP, &near]), of(&[&CROP[..3], &near[..3], &CROP[..3]])].join("\n"));
}

#[test]
fn several_comparisons_are_corrected_for() {
    let worse: Vec<f64> = CROP.iter().map(|value| value - 0.1).collect();
    insta::assert_snapshot!(of(&[&CROP, &COLOUR, &worse, &CROP]));
}

#[test]
fn the_best_may_be_worse_than_the_baseline() {
    insta::assert_snapshot!(of(&[&COLOUR, &CROP]));
}

#[test]
fn what_is_not_there_is_named() {
    let experiment = experiment(&[("views", &["crop", "colour", "all"])], &[], &[0, 1, 2]);
    let mut rows = complete(&experiment);
    rows[4] = failed(&experiment, 1, 1, "panicked");
    rows[7] = missing(&experiment, 2, 1);
    let some = said(&experiment, &rows);
    let no_baseline = said(&experiment, &rows[3..]);
    let nothing_else = said(&experiment, &rows[..3]);
    insta::assert_snapshot!([some, no_baseline, nothing_else, said(&experiment, &[])].join("\n"));
}

#[test]
fn where_nothing_says_what_is_better() {
    let experiment = experiment(&[("a", &["1", "2", "3"])], &[], &[0, 1]);
    let of_row = |row: Row| Row { metric: "rank".to_owned(), unit: Some("1".to_owned()), ..row };
    let rows: Vec<Row> = complete(&experiment).into_iter().map(of_row).collect();
    let view = View { metric: "knn.rank".to_owned(), ..View::of(&experiment) };
    insta::assert_snapshot!(AblationTable::of(&experiment, &rows, &view).unwrap().verdict.join(" "));
    let refused = AblationTable::of(&experiment, &rows, &View { best: Some(1), ..view }).unwrap_err().to_string();
    assert_eq!(refused, "`--best` cannot choose: nothing says whether a higher `knn.rank` is better");
}

#[test]
fn one_cell_needs_no_verdict() {
    let experiment = experiment(&[], &[], &[0, 1]);
    assert_eq!(said(&experiment, &complete(&experiment)), "");
}

#[test]
fn numbers_in_words() {
    let check = |p: f64, expected: &str| assert_eq!(p_words(p), expected);
    check(1.0, "1");
    check(0.5, "0.5");
    check(0.25, "0.25");
    check(0.0625, "0.062");
    check(0.03125, "0.031");
    check(0.00049, "0.00049");
    check(0.000_030_6, "3.1e-5");
    assert_eq!(number(&Unit::Fraction, -0.0612), "−6.1");
    assert_eq!(number(&Unit::Fraction, -0.0001), "0.0");
    assert_eq!(number(&Unit::Nats, 0.12345), "0.123");
    assert_eq!(amount(&Unit::Fraction, 0.0101), "1.0 point");
    assert_eq!(signed(&Unit::Nats, -0.5), "−0.500 nats");
}
