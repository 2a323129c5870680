//! How the ablation table is laid out: every axis in the rows or in the columns, a metric that every cell has, and a cell
//! that the others are compared with.

use crate::experiment::problem::{Found, Problem, Span};
use crate::experiment::read::Placed;
use crate::experiment::read::sweep::{PlacedLabel, TableSection};
use crate::experiment::{AxisInfo, AxisLabel, Cell, Table};

/// What every evaluation measures.
const METRICS: [&str; 2] = ["top1", "top5"];
const DEFAULT_METRIC: &str = "knn.top1";

/// What there is to lay out.
pub struct Shape<'a> {
    /// `None` where the sweep has mistakes, so that nobody knows all its paths.
    pub axes: Option<&'a [AxisInfo]>,
    /// None where they have mistakes.
    pub cells: &'a [Cell],
    /// The names of those that cells share, a list for every reading of the section.
    pub evaluations: &'a [Vec<String>],
}

/// Fills what a file leaves out: all axes in the rows, k-NN accuracy as the metric, the first cell as the baseline. Without
/// its sweep a table has one cell.
pub fn layout(
    section: TableSection,
    shape: &Shape,
    ignore_sweep: bool,
    span: Span,
    found: &mut Found,
) -> Option<Table> {
    let metric = metric(section.metric.as_ref(), shape.evaluations, span, found);
    if ignore_sweep {
        return Some(Table { rows: Vec::new(), columns: Vec::new(), metric: metric?, baseline: Vec::new() });
    }
    let axes = shape.axes?;
    let paths: Vec<&str> = axes.iter().map(|axis| axis.path.as_str()).collect();
    let baseline = section.baseline.map_or(Some(Vec::new()), |given| baseline(&given, axes, shape.cells, found));
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
    Some(Table { rows, columns, metric: metric?, baseline: baseline? })
}

/// The labels of one cell, or of several that agree in them.
fn baseline(given: &[PlacedLabel], axes: &[AxisInfo], cells: &[Cell], found: &mut Found) -> Option<Vec<AxisLabel>> {
    let labels: Vec<Option<(usize, AxisLabel)>> = given.iter().map(|label| axis_label(label, axes, found)).collect();
    let labels = labels.into_iter().collect::<Option<Vec<_>>>()?;
    let is_there = |cell: &Cell| labels.iter().all(|(axis, wanted)| cell.labels.get(*axis) == Some(&wanted.label));
    if let Some(last) = given.last().filter(|_| !cells.is_empty() && !cells.iter().any(is_there)) {
        let problem = Problem::new(last.label.span, "table.baseline", "no cell has these labels together");
        found.add(problem.expected("the labels of one cell: zipped axes move together"));
        return None;
    }
    Some(labels.into_iter().map(|(_, label)| label).collect())
}

/// The axis by its index, and its label as it spells it.
fn axis_label(given: &PlacedLabel, axes: &[AxisInfo], found: &mut Found) -> Option<(usize, AxisLabel)> {
    let (path, label) = (given.path.value.as_str(), given.label.value.as_str());
    let Some(index) = axes.iter().position(|axis| axis.path == path) else {
        let problem = Problem::new(given.path.span, "table.baseline", format!("`{path}` is not swept"));
        let paths: Vec<&str> = axes.iter().map(|axis| axis.path.as_str()).collect();
        found.add(if paths.is_empty() {
            problem.expected("no axis: there is no sweep")
        } else {
            problem.expected_one_of(path, &paths)
        });
        return None;
    };
    let labels: Vec<&str> = axes[index].labels.iter().map(String::as_str).collect();
    let Some(label) = [label, &given.quoted].into_iter().find(|label| labels.contains(label)) else {
        let problem =
            Problem::new(given.label.span, "table.baseline", format!("`{path}` has no value `{label}` in the sweep"));
        found.add(problem.expected_one_of(label, &labels));
        return None;
    };
    Some((index, AxisLabel { path: path.to_owned(), label: label.to_owned() }))
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

fn metric(
    given: Option<&Placed<String>>,
    evaluations: &[Vec<String>],
    span: Span,
    found: &mut Found,
) -> Option<String> {
    let mut of_all: Option<Vec<String>> = None;
    for names in evaluations {
        match &mut of_all {
            None => of_all = Some(names.clone()),
            Some(shared) => shared.retain(|name| names.contains(name)),
        }
    }
    // Without a sound reading there is nothing to choose from, and its mistake is known already.
    let of_all = of_all?;
    let known: Vec<String> = of_all.iter().flat_map(|name| METRICS.map(|metric| format!("{name}.{metric}"))).collect();
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
