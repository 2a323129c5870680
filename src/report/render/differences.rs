//! Every cell against the baseline, as a table below the table.

use crate::report::render::grid::Grid;
use crate::report::statistics::correction;
use crate::report::statistics::paired::Difference;
use crate::report::statistics::sign_flip::{N_DRAWN, N_PAIRS_EXACT};
use crate::report::table::{AblationTable, TableCell, Unit};
use crate::report::verdict::{name, number, p_words};

/// Absent without a difference.
pub fn of(table: &AblationTable) -> Option<Grid> {
    let baseline = table.baseline()?;
    let compared: Vec<(&TableCell, Difference)> =
        table.cells().filter_map(|cell| Some((cell, cell.difference?))).collect();
    if compared.is_empty() {
        return None;
    }
    let headers = ["difference", "95 % interval", "p", "corrected p", "pairs"];
    Some(Grid {
        title: format!("{} less that of the baseline {}{}", table.metric, name(baseline), unit(&table.unit)),
        label_headers: table.axes().map(str::to_owned).collect(),
        number_headers: headers.map(str::to_owned).to_vec(),
        rows: compared.iter().map(|(cell, difference)| row(table, cell, difference)).collect(),
        notes: notes(table, &compared),
    })
}

fn row(table: &AblationTable, cell: &TableCell, difference: &Difference) -> Vec<String> {
    let number = |value: f64| number(&table.unit, value);
    let mean = number(difference.mean);
    let sign = if difference.mean > 0.0 { "+" } else { "" };
    let interval = difference.interval.map(|ends| format!("[{}, {}]", number(ends.low), number(ends.high)));
    let p = |p: Option<f64>| p.map_or(String::new(), p_words);
    let numbers = [
        format!("{sign}{mean}"),
        interval.unwrap_or_default(),
        p(difference.sign_flip_p),
        p(difference.adjusted_p),
        difference.n_pairs.to_string(),
    ];
    cell.labels.iter().cloned().chain(numbers).collect()
}

fn unit(unit: &Unit) -> String {
    match unit {
        Unit::Fraction => ", in percentage points".to_owned(),
        Unit::Nats => ", in nats".to_owned(),
        Unit::Other(name) if name != "1" => format!(", in {name}"),
        Unit::Other(_) | Unit::Unknown => String::new(),
    }
}

fn notes(table: &AblationTable, compared: &[(&TableCell, Difference)]) -> Vec<String> {
    let method = table.interval.words();
    let n_pairs = || compared.iter().map(|(_, difference)| difference.n_pairs);
    let smallest = compared.iter().map(|(_, difference)| difference.smallest_p).fold(f64::INFINITY, f64::min);
    let most = n_pairs().max().unwrap_or(0);
    let counted = if most == 1 { "1 pair".to_owned() } else { format!("{most} pairs") };
    let mut notes = vec![
        format!("mean difference over pairs of one seed; interval: {method}, of each comparison alone"),
        format!(
            "p: two-sided sign-flip test, never below {} with {counted}; corrected for {} ({})",
            p_words(smallest),
            if table.n_comparisons == 1 {
                "1 comparison".to_owned()
            } else {
                format!("{} comparisons", table.n_comparisons)
            },
            correction::NAME
        ),
    ];
    if n_pairs().any(|n| n > N_PAIRS_EXACT) {
        notes.push(format!("p of more than {N_PAIRS_EXACT} pairs: of {N_DRAWN} drawn flips, not of all"));
    }
    notes
}
