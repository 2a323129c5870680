//! How the ablation table is laid out: every axis in the rows or in the columns, and a metric that every cell has.

use crate::experiment::problem::{Found, Problem, Span};
use crate::experiment::read::Placed;
use crate::experiment::read::sweep::TableSection;
use crate::experiment::{AxisInfo, Table};

const DEFAULT_METRIC: &str = "knn.top1";

/// Fills what a file leaves out: all axes in the rows, k-NN accuracy as the metric. Without its sweep a table has one cell.
/// `axes` is `None` where the sweep has mistakes, so that nobody knows all its paths; `metrics` are those that
/// cells measure, a list for every reading of the sections they follow from.
pub fn layout(
    section: TableSection,
    axes: Option<&[AxisInfo]>,
    metrics: &[Vec<String>],
    ignore_sweep: bool,
    span: Span,
    found: &mut Found,
) -> Option<Table> {
    let metric = metric(section.metric.as_ref(), metrics, span, found);
    if ignore_sweep {
        return Some(Table { rows: Vec::new(), columns: Vec::new(), metric: metric? });
    }
    let paths: Vec<&str> = axes?.iter().map(|axis| axis.path.as_str()).collect();
    let mut is_right = true;
    let mut named = Vec::new();
    for place in section.rows.iter().chain(&section.columns).flatten() {
        is_right &= check_place(place, &paths, &mut named, found);
    }
    let rest: Vec<String> = paths.iter().filter(|path| !named.contains(path)).map(|path| (*path).to_owned()).collect();
    let last = section.columns.iter().chain(&section.rows).flatten().next().map(|place| place.span);
    let given = |places: &Option<Vec<Placed<String>>>| {
        places.as_ref().map(|places| places.iter().map(|place| place.value.clone()).collect::<Vec<_>>())
    };
    let (rows, columns) = match (given(&section.rows), given(&section.columns)) {
        (None, None) => (rest, Vec::new()),
        (None, Some(columns)) => (rest, columns),
        (Some(rows), None) => (rows, rest),
        (Some(rows), Some(columns)) => {
            is_right = is_right && check_complete(&rest, last, found);
            (rows, columns)
        }
    };
    is_right.then_some(())?;
    Some(Table { rows, columns, metric: metric? })
}

fn check_place<'p>(place: &'p Placed<String>, paths: &[&str], named: &mut Vec<&'p str>, found: &mut Found) -> bool {
    let path = place.value.as_str();
    if !paths.contains(&path) {
        let problem = Problem::new(place.span, "table", format!("`{path}` is not swept"));
        found.add(if paths.is_empty() {
            problem.expected("no axis: there is no sweep")
        } else {
            problem.expected_one_of(path, paths)
        });
        return false;
    }
    if named.contains(&path) {
        let problem = Problem::new(place.span, "table", format!("`{path}` stands in the table twice"));
        found.add(problem.expected("every axis once, in the rows or in the columns"));
        return false;
    }
    named.push(path);
    true
}

fn check_complete(rest: &[String], span: Option<Span>, found: &mut Found) -> bool {
    let (Some(missing), Some(span)) = (rest.first(), span) else { return rest.is_empty() };
    let problem = Problem::new(span, "table", format!("the axis `{missing}` is in neither rows nor columns"));
    found.add(problem.expected("every axis in the rows or in the columns"));
    false
}

fn metric(given: Option<&Placed<String>>, metrics: &[Vec<String>], span: Span, found: &mut Found) -> Option<String> {
    let mut of_all: Option<Vec<String>> = None;
    for names in metrics {
        match &mut of_all {
            None => of_all = Some(names.clone()),
            Some(shared) => shared.retain(|name| names.contains(name)),
        }
    }
    // Without a sound reading there is nothing to choose from, and its mistake is known already.
    let known = of_all?;
    let Some(given) = given else {
        let default = known.iter().find(|name| *name == DEFAULT_METRIC).or(known.first()).cloned();
        if default.is_none() {
            let problem = Problem::new(span, "evaluate", "the cells have no evaluation in common");
            found.add(problem.expected("one that every cell has, for the table"));
        }
        return default;
    };
    if !known.contains(&given.value) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let problem = Problem::new(given.span, "table.metric", format!("no cell measures `{}`", given.value));
        found.add(problem.expected_one_of(&given.value, &known));
        return None;
    }
    Some(given.value.clone())
}
