//! A whole experiment file: texts in, runs and their keys or problems that point at their places out.
//!
//! The bytes before the first `\u{1}` are the file, those between the others its overrides.
#![no_main]

use std::collections::BTreeSet;

use ablate::experiment::{Experiment, Problems, load};
use ablate_fuzz::options;
use libfuzzer_sys::fuzz_target;

/// So that a sweep of a million cells, which is allowed, does not take the fuzzer's time.
const BOUND: &str = "max_cells=500";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.split('\u{1}');
    let file = parts.next().unwrap_or_default();
    let overrides: Vec<String> = parts.map(str::to_owned).chain([BOUND.to_owned()]).collect();
    let smoke = text.len() % 8 == 0;
    match load("experiments/x.ron", file, &options(&overrides, smoke)) {
        Ok(experiment) => check_experiment(&experiment, file, &overrides, smoke),
        Err(problems) => check_problems(&problems, file, &overrides),
    }
});

fn keys(experiment: &Experiment) -> Vec<String> {
    let runs = experiment.cells.iter().take(40).filter_map(|cell| cell.runs.first());
    runs.map(|run| format!("{:?}", run.keys())).collect()
}

fn check_experiment(experiment: &Experiment, file: &str, overrides: &[String], smoke: bool) {
    let n_runs: usize = experiment.cells.iter().map(|cell| cell.runs.len()).sum();
    assert!(n_runs > 0 && n_runs <= 500, "{n_runs} runs");
    assert!(experiment.cells.iter().all(|cell| cell.labels.len() == experiment.axes.len()));
    let axes: BTreeSet<&String> = experiment.axes.iter().map(|axis| &axis.path).collect();
    let placed: BTreeSet<&String> = experiment.table.rows.iter().chain(&experiment.table.columns).collect();
    assert_eq!(axes, placed, "every axis stands in the table");
    let keys_once = keys(experiment);
    let distinct: BTreeSet<&String> = keys_once.iter().collect();
    assert!(smoke || distinct.len() == keys_once.len(), "two cells are one run");
    if has_plain_lines(file) {
        let windows = format!("\u{feff}{}", file.replace('\n', "\r\n"));
        let again = load("experiments/x.ron", &windows, &options(overrides, smoke));
        let again = again.unwrap_or_else(|problems| panic!("with other line ends: {problems}"));
        assert_eq!(keys(&again), keys_once);
    }
    for run in experiment.cells.iter().filter_map(|cell| cell.runs.first()).take(3) {
        assert!(run.train.batch > 0 && run.facts.n_train > 0);
        assert!(run.pretrain_preimage().starts_with("ablate/pretrain/"));
        assert!(run.evaluate.iter().all(|evaluation| !run.evaluation_preimage(evaluation).is_empty()));
    }
}

/// Whether line ends are no meaning, so that others and a byte-order mark change nothing: none is in a text.
fn has_plain_lines(file: &str) -> bool {
    let is_simple = !["//", "/*", "\\", "'", "r\"", "r#", "\u{feff}"].iter().any(|mark| file.contains(mark));
    is_simple && file.split('"').skip(1).step_by(2).all(|inner| !inner.contains('\n'))
}

fn check_problems(problems: &Problems, file: &str, overrides: &[String]) {
    assert!(!problems.list().is_empty(), "refused without a reason");
    let file = file.strip_prefix('\u{feff}').unwrap_or(file);
    for problem in problems.list() {
        let source = problem.span.source.checked_sub(1).map_or(file, |index| overrides[index].as_str());
        assert!(source.get(problem.span.start..problem.span.end).is_some(), "{problem:?} points outside its text");
        assert!(!problem.message.is_empty());
    }
    assert!(problems.render(false).contains("error: "));
    assert!(!problems.summary().is_empty());
}
