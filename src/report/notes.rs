//! What stands under an ablation table: what is missing, what failed, and what makes its numbers incomparable.

use std::collections::BTreeSet;

use crate::experiment::Experiment;
use crate::report::row::{EncoderKind, Row, Status, numerics_name};
use crate::report::table::{AblationTable, SeedResult, TableCell};
use crate::report::view::{Spread, listed};

/// The metric of `Health` that is above 0 for a representation that collapsed.
const COLLAPSED: &str = "collapsed";
/// Seeds beyond so many are counted, not listed.
const SEEDS_LISTED: usize = 8;
/// Characters of a failure's message.
const MESSAGE_CHARACTERS: usize = 160;

pub fn notes(table: &AblationTable) -> Vec<String> {
    let mut notes = vec![seeds_note(table)];
    if !table.fixed.is_empty() {
        notes.push(format!("only {}", listed(&table.fixed)));
    }
    if table.n_rows_hidden > 0 {
        let (shown, all) = (table.cells.len(), table.cells.len() + table.n_rows_hidden);
        let direction = table.direction().words();
        notes.push(format!("{shown} of {all} rows: those with the best means ({direction}) and the baseline's"));
    }
    let n_cells = table.cells().count();
    let missing = table.cells().filter(|cell| cell.n_missing() == cell.results.len()).count();
    if missing > 0 {
        notes.push(format!("{missing} of {} missing", counted(n_cells, "cell")));
    }
    let incomplete =
        table.cells().filter(|cell| cell.n_missing() < cell.results.len() && cell.n_done() < cell.results.len());
    let incomplete = incomplete.count();
    if incomplete > 0 {
        notes.push(format!("{incomplete} of {} incomplete", counted(n_cells, "cell")));
    }
    notes.extend(failure_note(table));
    notes
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("{n} {what}") } else { format!("{n} {what}s") }
}

fn seeds_note(table: &AblationTable) -> String {
    let seeds = &table.seeds;
    let listed = seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let what = match table.spread {
        Spread::Deviation => "mean ± sample standard deviation".to_owned(),
        Spread::Interval => format!("mean [95 % interval, {}]", table.interval.words()),
    };
    match seeds.len() {
        0 => "no seeds".to_owned(),
        1 => format!("1 seed ({listed}), so no spread"),
        n if n <= SEEDS_LISTED => format!("{what} over {n} seeds ({listed})"),
        n => format!("{what} over {n} seeds"),
    }
}

fn failure_note(table: &AblationTable) -> Option<String> {
    let failed: usize = table.cells().map(TableCell::n_failed).sum();
    let of_cell = |cell: &TableCell| {
        let first = cell.results.iter().zip(&table.seeds).find_map(|(result, seed)| match result {
            SeedResult::Failed(message) => Some((message.clone(), *seed)),
            SeedResult::Done(_) | SeedResult::Missing => None,
        });
        first.map(|(message, seed)| (cell.labels.join(", "), message, seed))
    };
    let (labels, message, seed) = table.cells().find_map(of_cell)?;
    let runs = counted(failed, "run");
    let first = if failed == 1 { "" } else { "; the first" };
    let place = if labels.is_empty() { format!("seed {seed}") } else { format!("{labels}, seed {seed}") };
    Some(format!("{runs} failed{first}: {place}: {}", one_line(&message)))
}

fn one_line(message: &str) -> String {
    let words = message.split(|character: char| character.is_whitespace() || character.is_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MESSAGE_CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What the evaluation of the table's metric does; where cells differ, what it does in the first.
pub fn protocol_note(rows: &[&Row]) -> Option<String> {
    let mut protocols: Vec<&str> = Vec::new();
    for protocol in rows.iter().filter_map(|row| row.protocol.as_deref()) {
        if !protocols.contains(&protocol) {
            protocols.push(protocol);
        }
    }
    let first = protocols.first()?;
    Some(match protocols.len() {
        1 => format!("protocol: {first}"),
        n => format!("{n} protocols, one a row of the results file; the first: {first}"),
    })
}

/// Of every run whose health was measured, whatever the table shows.
pub fn collapse_warning(rows: &[Row]) -> Option<String> {
    let measured = || {
        rows.iter()
            .filter(|row| row.metric == COLLAPSED && row.encoder == EncoderKind::Final && row.status == Status::Done)
    };
    let collapsed = measured().filter(|row| row.value.is_some_and(|value| value > 0.0)).count();
    let first = measured().find(|row| row.value.is_some_and(|value| value > 0.0))?;
    let of = measured().count();
    let labels = if first.labels.is_empty() { String::new() } else { format!("{}, ", first.labels.join(", ")) };
    Some(format!("{collapsed} of {of} representations collapsed; the first: {labels}seed {}", first.seed))
}

/// Of the results only: what is missing mixes nothing.
pub fn warnings(experiment: &Experiment, rows: &[&Row]) -> Vec<String> {
    let done: Vec<&Row> = rows.iter().copied().filter(|row| row.status == Status::Done).collect();
    let mut warnings = Vec::new();
    if experiment.smoke {
        warnings.push("a smoke run, shrunk until it takes seconds: not a result".to_owned());
    }
    let swept = |path: &str| experiment.axes.iter().any(|axis| axis.path == path);
    let backends = done.iter().map(|row| row.backend.name().to_owned());
    warnings.extend(mixed(backends).map(|names| format!("mixes {names} results")));
    if !swept("train.numerics") {
        let numerics = done.iter().map(|row| numerics_name(row.numerics).to_owned());
        warnings.extend(mixed(numerics).map(|names| format!("mixes {names} results")));
    }
    let devices = done.iter().filter_map(|row| row.device.clone());
    warnings.extend(mixed(devices).map(|names| format!("mixes results of different devices: {names}")));
    let codes = done.iter().filter_map(|row| row.code.as_deref()).map(|code| code.chars().take(12).collect());
    warnings.extend(mixed(codes).map(|names| format!("mixes results of different program sources: {names}")));
    let units = done.iter().filter_map(|row| row.unit.clone());
    warnings.extend(mixed(units).map(|names| format!("mixes units: {names}")));
    warnings
}

/// `a and b`, when there is more than one kind.
fn mixed(kinds: impl Iterator<Item = String>) -> Option<String> {
    let kinds: Vec<String> = kinds.collect::<BTreeSet<_>>().into_iter().collect();
    let (last, others) = kinds.split_last()?;
    (!others.is_empty()).then(|| format!("{} and {last}", others.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{experiment, row};

    #[test]
    fn the_protocol_is_said_once_and_a_collapse_is_told() {
        let experiment = experiment(&[("train.batch", &["64", "128"])], &[], &[0, 1]);
        let with = |cell, protocol: Option<&str>| Row {
            protocol: protocol.map(str::to_owned),
            ..row(&experiment, cell, 0, 0.5)
        };
        let note = |rows: &[Row]| protocol_note(&rows.iter().collect::<Vec<_>>());
        assert_eq!(note(&[with(0, None)]), None);
        assert_eq!(note(&[with(0, Some("k-NN")), with(1, Some("k-NN"))]), Some("protocol: k-NN".to_owned()));
        let two = note(&[with(0, Some("k=1")), with(1, Some("k=2"))]).expect("a note");
        assert_eq!(two, "2 protocols, one a row of the results file; the first: k=1");

        let health = |cell, seed, value| Row { metric: COLLAPSED.to_owned(), ..row(&experiment, cell, seed, value) };
        assert_eq!(collapse_warning(&[health(0, 0, 0.0), row(&experiment, 0, 0, 1.0)]), None);
        let rows = [health(0, 0, 0.0), health(1, 0, 1.0), health(1, 1, 1.0), row(&experiment, 0, 1, 1.0)];
        let said = collapse_warning(&rows).expect("a warning");
        assert_eq!(said, "2 of 3 representations collapsed; the first: 128, seed 0");
    }
}
