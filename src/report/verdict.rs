//! What an ablation table says, in sentences that never say more than its statistics do.
//!
//! The best of the other cells is set against the baseline; whether zero lies in the interval, what the sign-flip test says
//! and what it could say at all decide the words. What is missing or failed is named at the end.

use crate::report::direction::Direction;
use crate::report::statistics::paired::Difference;
use crate::report::statistics::{Interval, LEVEL, correction};
use crate::report::table::{AblationTable, TableCell, Unit};

/// Characters of a cell's name.
const NAME_CHARACTERS: usize = 48;

/// Empty where there is no other cell. `table` shows every cell that was compared.
pub fn verdict(table: &AblationTable) -> Vec<String> {
    let Some(baseline) = table.baseline().filter(|_| table.cells().count() > 1) else { return Vec::new() };
    if table.cells().all(|cell| cell.n_missing() == cell.results.len()) {
        return vec!["Nothing is computed yet.".to_owned()];
    }
    let mut sentences = Vec::new();
    if baseline.summary.is_none() {
        sentences.push(format!("Nothing to compare with: the baseline {} has no result yet.", name(baseline)));
    } else if let Some((best, difference)) = leading(table) {
        sentences.push(claim(table, baseline, best, &difference));
        sentences.extend(by_sign_flips(table, &difference));
    } else {
        sentences.push(format!("Nothing to compare with the baseline {} yet.", name(baseline)));
    }
    sentences.extend(incompleteness(table));
    sentences
}

/// The cell with the best mean difference, or with the largest where nothing says what is good.
fn leading(table: &AblationTable) -> Option<(&TableCell, Difference)> {
    let direction = table.direction();
    let goodness = |difference: &Difference| direction.goodness(difference.mean).unwrap_or(difference.mean.abs());
    let compared = table.cells().filter_map(|cell| Some((cell, cell.difference?)));
    // Of equals the first.
    compared.reduce(|best, next| if goodness(&next.1) > goodness(&best.1) { next } else { best })
}

/// What the difference is. It `is` one where the interval and the corrected test both say so, and else only `comes out` so.
fn claim(table: &AblationTable, baseline: &TableCell, best: &TableCell, difference: &Difference) -> String {
    let (baseline, best) = (name(baseline), name(best));
    let compared = table.cells().filter(|cell| cell.difference.is_some()).count();
    let is_alone = compared == 1;
    let standing = match table.direction() {
        Direction::HigherIsBetter | Direction::LowerIsBetter => "does best",
        Direction::Unknown => "differs most",
    };
    let opening = if is_alone {
        format!("Against {baseline}")
    } else {
        format!("Of {compared} cells compared with {baseline}, {best} {standing}")
    };
    let signed = signed(&table.unit, difference.mean);
    let Some(interval) = &difference.interval else {
        let joint = if is_alone { format!(", {best} differs by") } else { ", by".to_owned() };
        return format!("{opening}{joint} {signed} in the one seed of both, which says nothing of the spread.");
    };
    let numbers = interval_words(&table.unit, interval, difference.n_pairs, is_alone);
    if !interval.excludes_zero() {
        let joint = if is_alone { format!(", no difference of {best}") } else { ", but no difference".to_owned() };
        return format!("{opening}{joint} is shown: {signed} ({numbers}).");
    }
    let verb = if difference.adjusted_p.is_some_and(|p| p < LEVEL) { "is" } else { "comes out" };
    let joint = if is_alone { format!(", {best} {verb}") } else { format!(": it {verb}") };
    let word = table.direction().comparative(difference.mean);
    format!("{opening}{joint} {word} by {} ({numbers}).", amount(&table.unit, difference.mean.abs()))
}

/// `95 % interval 4.8 to 7.4, t over 6 seeds`.
fn interval_words(unit: &Unit, interval: &Interval, n_pairs: usize, is_alone: bool) -> String {
    let (low, high) = (number(unit, interval.low), number(unit, interval.high));
    let scope = if is_alone { "" } else { " of this comparison alone" };
    format!("95 % interval{scope} {low} to {high}, {} over {n_pairs} seeds", interval.method.words())
}

/// What the sign-flip test adds for the cell told of, and for all of them together.
fn by_sign_flips(table: &AblationTable, difference: &Difference) -> Option<String> {
    let p = difference.sign_flip_p.filter(|_| difference.n_pairs > 1)?;
    let (n, smallest) = (difference.n_pairs, difference.smallest_p);
    if smallest > LEVEL {
        return Some(format!(
            "{n} seeds cannot settle it by sign flips, whose p is never below {}.",
            p_words(smallest)
        ));
    }
    let least = if p <= smallest { format!(", the smallest {n} seeds can give") } else { String::new() };
    let of_it = format!("Its sign-flip p is {}{least}", p_words(p));
    let Some(adjusted) = difference.adjusted_p.filter(|_| table.n_comparisons > 1) else {
        return Some(format!("{of_it}."));
    };
    let below = table.cells().filter_map(|cell| cell.difference?.adjusted_p).filter(|p| *p < LEVEL).count();
    let (adjusted, of_all) = (p_words(adjusted), table.n_comparisons);
    Some(format!(
        "{of_it}; corrected for {of_all} comparisons ({}) it is {adjusted}, and {below} of them are below {LEVEL}.",
        correction::NAME
    ))
}

/// Runs that are not there, of whichever cell.
fn incompleteness(table: &AblationTable) -> Option<String> {
    let n_runs: usize = table.cells().map(|cell| cell.results.len()).sum();
    let missing: usize = table.cells().map(TableCell::n_missing).sum();
    let failed: usize = table.cells().map(TableCell::n_failed).sum();
    let what = match (missing, failed) {
        (0, 0) => return None,
        (missing, 0) => format!("{missing} of {n_runs} runs {} missing", is_or_are(missing)),
        (0, failed) => format!("{failed} of {n_runs} runs failed"),
        (missing, failed) => format!("of {n_runs} runs {missing} {} missing and {failed} failed", is_or_are(missing)),
    };
    let cells: Vec<String> =
        table.cells().filter(|cell| cell.n_done() < cell.results.len()).take(3).map(name).collect();
    let more = table.cells().filter(|cell| cell.n_done() < cell.results.len()).count() - cells.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("Not all is in: {what} ({}{more}).", cells.join(", ")))
}

fn is_or_are(n: usize) -> &'static str {
    if n == 1 { "is" } else { "are" }
}

/// `“crop, 256”`, cut where it is long.
pub fn name(cell: &TableCell) -> String {
    let labels = cell.labels.join(", ");
    match labels.char_indices().nth(NAME_CHARACTERS) {
        Some((end, _)) => format!("“{}…”", labels[..end].trim_end()),
        None => format!("“{labels}”"),
    }
}

/// `6.1 points`, `0.023 nats`: a difference without its sign.
fn amount(unit: &Unit, value: f64) -> String {
    let number = number(unit, value);
    match unit {
        Unit::Fraction if number == "1.0" => "1.0 point".to_owned(),
        Unit::Fraction => format!("{number} points"),
        Unit::Nats => format!("{number} nats"),
        Unit::Other(name) if name != "1" => format!("{number} {name}"),
        Unit::Other(_) | Unit::Unknown => number,
    }
}

/// `+0.3 points`, `−0.3 points`.
fn signed(unit: &Unit, value: f64) -> String {
    let sign = if value < 0.0 { "" } else { "+" };
    format!("{sign}{}", amount(unit, value))
}

/// Percentage points with one decimal for fractions, else three decimals; with a real minus sign, and no sign of a zero.
pub fn number(unit: &Unit, value: f64) -> String {
    let text = match unit {
        Unit::Fraction => format!("{:.1}", 100.0 * value),
        Unit::Nats | Unit::Other(_) | Unit::Unknown => format!("{value:.3}"),
    };
    match text.strip_prefix('-') {
        Some(digits) if digits.chars().all(|digit| matches!(digit, '0' | '.')) => digits.to_owned(),
        Some(digits) => format!("−{digits}"),
        None => text,
    }
}

/// Two digits that count: `0.031`, `0.5`, `1.5e-5`.
pub fn p_words(p: f64) -> String {
    if p < 1e-4 {
        return format!("{p:.1e}");
    }
    let decimals = (1..6).find(|decimals| p * 10f64.powi(*decimals) >= 9.95).unwrap_or(6) as usize;
    let text = format!("{p:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
