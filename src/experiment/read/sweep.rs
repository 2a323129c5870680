//! The sections `sweep` and `table`: what varies, and how the results are laid out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::experiment::path::FieldPath;
use crate::experiment::preset;
use crate::experiment::problem::{Found, Problem, Span};
use crate::experiment::read::scalar::text;
use crate::experiment::read::{At, Fields, Placed, ReadVariant, list, record, variant};
use crate::experiment::tree::{Kind, Node};

/// The sections that say what a run is; the rest of a file says which runs there are.
pub const SECTIONS: [&str; 6] = ["dataset", "split", "model", "views", "train", "evaluate"];

/// What an axis may vary.
const SWEEPABLE: [&str; 7] = ["dataset", "split", "model", "views", "train", "evaluate", preset::FIELD];

/// One swept path and the values that replace what stands there.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub path: FieldPath,
    pub path_span: Span,
    pub values: Vec<AxisValue>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AxisValue {
    pub label: String,
    pub node: Arc<Node>,
}

/// Axes that move together, all of one length: a single one, or those of a `Zip`.
#[derive(Debug, Clone, PartialEq)]
pub struct Factor {
    pub axes: Vec<Axis>,
}

impl Factor {
    pub fn n_values(&self) -> usize {
        self.axes[0].values.len()
    }
}

/// What a file varies.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sweep {
    /// Those without mistakes.
    pub factors: Vec<Factor>,
    /// Whether others have mistakes, so that the paths of all axes are not known.
    pub lacks_some: bool,
}

pub fn sweep(at: &At, found: &mut Found) -> Option<Sweep> {
    let mut sweep = Sweep::default();
    list(at, found, "a list of axes, `[Axis(\"train.batch\", [64, 128])]`", |at, found| {
        let alone_axis: ReadVariant<Factor> = |fields| alone(axis(fields)?, fields.found);
        let alone_variants: ReadVariant<Factor> = |fields| alone(variants(fields)?, fields.found);
        match variant(at, found, &[("Axis", alone_axis), ("Variants", alone_variants), ("Zip", zip)]) {
            Some(factor) => sweep.factors.push(factor),
            None => sweep.lacks_some = true,
        }
        Some(())
    })?;
    let axes: Vec<&Axis> = sweep.factors.iter().flat_map(|factor| &factor.axes).collect();
    for (index, axis) in axes.iter().enumerate() {
        let overwritten = axes[..index].iter().find(|earlier| axis.path.contains(&earlier.path));
        if let Some(earlier) = overwritten {
            let message = if earlier.path == axis.path {
                format!("`{}` is swept twice", axis.path)
            } else {
                format!("this axis overwrites `{}`, which is swept before it", earlier.path)
            };
            let problem = Problem::new(axis.path_span, at.path, message);
            found.add(problem.expected("every path once, an outer path before the inner ones"));
        }
    }
    Some(sweep)
}

/// An axis outside a `Zip`, where equal values would be equal cells.
fn alone(axis: Axis, found: &mut Found) -> Option<Factor> {
    let mut seen = BTreeMap::new();
    for value in &axis.values {
        if let Some(earlier) = seen.insert(value.node.to_string(), &value.label) {
            found.add(same_value(&axis.path, value, earlier));
        }
    }
    Some(Factor { axes: vec![axis] })
}

/// Two cells that mean the same would be one run shown as two results.
pub fn same_value(path: &FieldPath, value: &AxisValue, earlier_label: &str) -> Problem {
    let message = format!("`{}` means the same as `{earlier_label}`: their cells would be the same run", value.label);
    Problem::new(value.node.span, path, message).expected("values that differ in what is computed")
}

/// `Axis("train.batch", [64, 128])`: a value's label is its text.
fn axis(fields: &mut Fields) -> Option<Axis> {
    let path = fields.item("the path to vary, `Axis(\"train.batch\", [64, 128])`", path);
    let values = fields.item("the list of values, `Axis(\"train.batch\", [64, 128])`", |at, found| {
        let Kind::List(items) = &at.node.kind else {
            found.add(
                at.problem(format!("`{}` is not a list", at.node.short())).expected("a list of values, `[64, 128]`"),
            );
            return None;
        };
        Some(items.iter().map(|node| AxisValue { label: node.to_string(), node: Arc::clone(node) }).collect())
    });
    complete(fields, path?, values?)
}

/// `Variants("views", {"crop": [...], "crop + colour": [...]})`: values with names.
fn variants(fields: &mut Fields) -> Option<Axis> {
    let path = fields.item("the path to vary, `Variants(\"views\", {\"name\": value})`", path);
    let values = fields.item("the named values, `Variants(\"views\", {\"name\": value})`", |at, found| {
        let Kind::Map(pairs) = &at.node.kind else {
            found.add(
                at.problem(format!("`{}` is not a map", at.node.short())).expected("named values, `{\"name\": value}`"),
            );
            return None;
        };
        let read = |(key, value): &(Arc<Node>, Arc<Node>), found: &mut Found| {
            let label = text(&At { node: key, path: at.path }, found)?;
            if label.trim().is_empty() {
                found.add(Problem::new(key.span, at.path, "the name of a variant is empty"));
                return None;
            }
            Some(AxisValue { label, node: Arc::clone(value) })
        };
        let values: Vec<Option<AxisValue>> = pairs.iter().map(|pair| read(pair, found)).collect();
        values.into_iter().collect()
    });
    complete(fields, path?, values?)
}

fn complete(fields: &mut Fields, path: Placed<FieldPath>, values: Vec<AxisValue>) -> Option<Axis> {
    if values.is_empty() {
        fields
            .found
            .add(fields.problem(format!("the axis `{}` has no values", path.value)).expected("at least one value"));
        return None;
    }
    Some(Axis { path: path.value, path_span: path.span, values })
}

/// `Zip([Axis(...), Axis(...)])`: the first values together, then the second ones, and so on.
fn zip(fields: &mut Fields) -> Option<Factor> {
    let axes = fields.item("a list of axes, `Zip([Axis(...), Axis(...)])`", |at, found| {
        list(at, found, "a list of axes, `Zip([Axis(...), Axis(...)])`", |at, found| {
            variant(at, found, &[("Axis", axis), ("Variants", variants)])
        })
    })?;
    let Some(first) = axes.first() else {
        fields.found.add(fields.problem("`Zip` has no axes").expected("at least one axis"));
        return None;
    };
    for axis in &axes[1..] {
        let (expected, length) = (first.values.len(), axis.values.len());
        if length != expected {
            let message =
                format!("the zipped axis `{}` has {length} values, `{}` has {expected}", axis.path, first.path);
            let problem = Problem { span: axis.path_span, ..fields.problem(message) };
            fields.found.add(problem.expected("zipped axes of one length"));
            return None;
        }
    }
    Some(Factor { axes })
}

fn path(at: &At, found: &mut Found) -> Option<Placed<FieldPath>> {
    let path: FieldPath = match text(at, found)?.parse() {
        Ok(path) => path,
        Err(error) => {
            found.add(at.problem(error.to_string()).expected("fields and indices, `train.batch` or `evaluate[0].k`"));
            return None;
        }
    };
    if !SWEEPABLE.contains(&path.section()) {
        let problem = at.problem(format!("`{path}` cannot be swept"));
        found.add(problem.expected_one_of(path.section(), &SWEEPABLE));
        return None;
    }
    if path.section() == preset::FIELD && path.0.len() > 1 {
        let problem = at.problem(format!("`{path}` cannot be swept: a preset has a name and no fields"));
        found.add(problem.expected("`preset`, or the path without it"));
        return None;
    }
    Some(Placed { value: path, span: at.node.span })
}

/// What the section `table` says; absent parts follow from the axes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableSection {
    pub rows: Option<Vec<Placed<String>>>,
    pub columns: Option<Vec<Placed<String>>>,
    pub metric: Option<Placed<String>>,
    pub baseline: Option<Vec<PlacedLabel>>,
}

/// One entry of `baseline`: an axis and the value of it that is meant.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacedLabel {
    pub path: Placed<String>,
    /// As an axis spells its label: a text without its quotes is a variant's name.
    pub label: Placed<String>,
    /// With its quotes, where it is a text: the label of a value that is one.
    pub quoted: String,
}

pub fn table(at: &At, found: &mut Found) -> Option<TableSection> {
    record(at, found, "Table", |fields| {
        let rows = fields.given("rows", paths);
        let columns = fields.given("columns", paths);
        let metric = fields.given("metric", placed_text);
        let baseline = fields.given("baseline", baseline);
        // What has a mistake counts as left out, so that the rest is still checked.
        Some(TableSection {
            rows: rows.flatten(),
            columns: columns.flatten(),
            metric: metric.flatten(),
            baseline: baseline.flatten(),
        })
    })
}

/// `{"train.batch": 256, "views": "crop"}`: what the other cells are compared with.
fn baseline(at: &At, found: &mut Found) -> Option<Vec<PlacedLabel>> {
    let Kind::Map(pairs) = &at.node.kind else {
        found.add(at.wrong("axes with a value of each, `{\"train.batch\": 256}`"));
        return None;
    };
    let read = |(key, value): &(Arc<Node>, Arc<Node>)| {
        let path = placed_text(&At { node: key, path: at.path }, found)?;
        let quoted = value.to_string();
        let label = if let Kind::Text(text) = &value.kind { text.clone() } else { quoted.clone() };
        Some(PlacedLabel { path, label: Placed { value: label, span: value.span }, quoted })
    };
    let labels: Vec<Option<PlacedLabel>> = pairs.iter().map(read).collect();
    labels.into_iter().collect()
}

/// A path, or a list of them.
fn paths(at: &At, found: &mut Found) -> Option<Vec<Placed<String>>> {
    if let Kind::Text(_) = at.node.kind {
        return placed_text(at, found).map(|path| vec![path]);
    }
    list(at, found, "the path of an axis, or a list of them", placed_text)
}

fn placed_text(at: &At, found: &mut Found) -> Option<Placed<String>> {
    text(at, found).map(|value| Placed { value, span: at.node.span })
}
