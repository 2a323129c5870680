//! Texts, truth values and numbers: the leaves of a file, each with the range it must lie in.

use std::ops::RangeInclusive;

use crate::experiment::problem::Found;
use crate::experiment::read::At;
use crate::experiment::tree::{Kind, Literal};

pub fn text(at: &At, found: &mut Found) -> Option<String> {
    let Kind::Text(text) = &at.node.kind else {
        found.add(at.wrong("a text in double quotes"));
        return None;
    };
    Some(text.clone())
}

pub fn boolean(at: &At, found: &mut Found) -> Option<bool> {
    let Kind::Bool(value) = &at.node.kind else {
        found.add(at.wrong("`true` or `false`"));
        return None;
    };
    Some(*value)
}

/// The number that stands there, if one does.
fn literal(at: &At) -> Option<Literal> {
    let Kind::Number { literal, .. } = &at.node.kind else { return None };
    Some(*literal)
}

/// A whole number of `range`.
pub fn whole(at: &At, found: &mut Found, range: RangeInclusive<u64>) -> Option<u64> {
    let value = match literal(at) {
        Some(Literal::Whole(value)) => Some(value),
        Some(Literal::Negative(_) | Literal::Real(_) | Literal::Unreadable) | None => None,
    };
    let value = value.filter(|value| range.contains(value));
    if value.is_none() {
        let (low, high) = (range.start(), range.end());
        let bounds = if *high == u64::MAX { format!("of at least {low}") } else { format!("from {low} to {high}") };
        found.add(at.wrong(format!("a whole number {bounds}")));
    }
    value
}

/// A whole number of `range`, as u32.
pub fn count(at: &At, found: &mut Found, range: RangeInclusive<u32>) -> Option<u32> {
    let value = whole(at, found, u64::from(*range.start())..=u64::from(*range.end()))?;
    u32::try_from(value).ok()
}

/// A finite number that `is_right` accepts; `expected` says in words which those are.
pub fn real(at: &At, found: &mut Found, expected: &str, is_right: impl FnOnce(f64) -> bool) -> Option<f64> {
    let value = match literal(at) {
        Some(Literal::Whole(value)) => Some(value as f64),
        Some(Literal::Negative(value)) => Some(value as f64),
        Some(Literal::Real(value)) => Some(value),
        Some(Literal::Unreadable) | None => None,
    };
    let value = value.filter(|value| fits_f32(*value) && is_right(*value));
    if value.is_none() {
        found.add(at.wrong(expected));
    }
    value
}

/// Executors compute in f32, where 1e300 would be infinite and 1e-300 zero.
fn fits_f32(value: f64) -> bool {
    let single = value as f32;
    single.is_finite() && (single == 0.0) == (value == 0.0)
}

pub fn probability(at: &At, found: &mut Found) -> Option<f64> {
    real(at, found, "a probability from 0 to 1", |value| (0.0..=1.0).contains(&value))
}

pub fn positive(at: &At, found: &mut Found) -> Option<f64> {
    real(at, found, "a finite number above 0", |value| value > 0.0)
}

pub fn not_negative(at: &At, found: &mut Found) -> Option<f64> {
    real(at, found, "a finite number of at least 0", |value| value >= 0.0)
}

/// A decay rate of a running mean: momentum, β₁, β₂.
pub fn below_one(at: &At, found: &mut Found) -> Option<f64> {
    real(at, found, "a number from 0 to below 1", |value| (0.0..1.0).contains(&value))
}

/// `(a, b, ...)` of exactly `N` numbers.
pub fn numbers<const N: usize>(
    at: &At,
    found: &mut Found,
    expected: &str,
    is_right: impl Fn(f64) -> bool,
) -> Option<[f64; N]> {
    let items = match &at.node.kind {
        Kind::Record { name: None, items, .. } if items.len() == N => Some(items),
        Kind::Record { .. }
        | Kind::List(_)
        | Kind::Map(_)
        | Kind::Text(_)
        | Kind::Number { .. }
        | Kind::Bool(_)
        | Kind::Other(_) => None,
    };
    let Some(items) = items else {
        found.add(at.wrong(expected));
        return None;
    };
    let mut values = [0.0; N];
    for (value, item) in values.iter_mut().zip(items) {
        *value = real(&At { node: item, path: at.path }, found, expected, &is_right)?;
    }
    Some(values)
}

/// `(low, high)` with low ≤ high.
pub fn interval(at: &At, found: &mut Found, expected: &str, is_right: impl Fn(f64) -> bool) -> Option<(f64, f64)> {
    let [low, high] = numbers::<2>(at, found, expected, is_right)?;
    if low > high {
        found.add(at.problem(format!("`{}` runs backwards", at.node.short())).expected(expected));
        return None;
    }
    Some((low, high))
}
