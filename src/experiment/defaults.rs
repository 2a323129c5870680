//! What stands where a file leaves a field out, so that a path can lead into it: `evaluate[0].k` of a file without
//! `evaluate`. The defaults are read from `format.ron`; the tests hold it to what the readers assume.

use std::sync::{Arc, LazyLock};

use crate::experiment::path::Step;
use crate::experiment::problem::{Found, Span};
use crate::experiment::tree::{Field, Kind, Node, parse};

const FORMAT: &str = include_str!("format.ron");

/// The inner defaults of the choices that `format.ron` has in comments only.
const OTHER_CHOICES: &str = "[Rotate(degrees: (-30.0, 30.0)), WarmupCosine(warmup: Epochs(10), form: Google)]";

/// Given by every file, so that what the reference says there is an example.
const WITHOUT_DEFAULT: [&str; 2] = ["question", "dataset"];

static REFERENCE: LazyLock<[Option<Arc<Node>>; 2]> =
    LazyLock::new(|| [FORMAT, OTHER_CHOICES].map(|text| parse(0, text, 0, &mut Found::default())));

/// What stands at the path `steps` where `parent`, the record around it, does not say: a list with its items, a variant
/// without its fields, which have defaults of their own, and `()` where there is no default or it is a record.
pub fn left_out(steps: &[Step], parent: Option<&Node>, span: Span) -> Node {
    let default = steps.split_last().and_then(|(last, outer)| match last {
        Step::Field(field) => default_of(outer, parent, field),
        Step::Index(_) => None,
    });
    default.map_or_else(|| Node::empty_record(span), |node| outermost(node, span))
}

fn default_of(outer: &[Step], parent: Option<&Node>, field: &str) -> Option<&'static Node> {
    if outer.is_empty() && WITHOUT_DEFAULT.contains(&field) {
        return None;
    }
    let there = REFERENCE[0].as_deref().and_then(|root| at(root, outer));
    let record = match (parent.and_then(variant_name), there.and_then(variant_name)) {
        (Some(name), there_name) if there.is_none() || there_name.is_some_and(|other| other != name) => {
            REFERENCE.iter().flatten().find_map(|root| named(root, name))
        }
        (Some(_) | None, Some(_) | None) => there,
    };
    record.and_then(|record| field_of(record, field))
}

fn fields(node: &Node) -> &[Field] {
    match &node.kind {
        Kind::Record { fields, .. } => fields,
        Kind::List(_) | Kind::Map(_) | Kind::Text(_) | Kind::Number { .. } | Kind::Bool(_) | Kind::Other(_) => &[],
    }
}

fn items(node: &Node) -> &[Arc<Node>] {
    match &node.kind {
        Kind::Record { items, .. } | Kind::List(items) => items,
        Kind::Map(_) | Kind::Text(_) | Kind::Number { .. } | Kind::Bool(_) | Kind::Other(_) => &[],
    }
}

fn variant_name(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Record { name, .. } => name.as_deref(),
        Kind::List(_) | Kind::Map(_) | Kind::Text(_) | Kind::Number { .. } | Kind::Bool(_) | Kind::Other(_) => None,
    }
}

fn field_of<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    fields(node).iter().find(|field| field.name == name).map(|field| &*field.value)
}

fn at<'n>(root: &'n Node, steps: &[Step]) -> Option<&'n Node> {
    steps.iter().try_fold(root, |node, step| match step {
        Step::Field(name) => field_of(node, name),
        Step::Index(index) => items(node).get(*index).map(|item| &**item),
    })
}

/// The first variant of that name at or below `node`.
fn named<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    if variant_name(node) == Some(name) {
        return Some(node);
    }
    let inner = fields(node).iter().map(|field| &field.value).chain(items(node));
    inner.into_iter().find_map(|node| named(node, name))
}

/// A copy that stands at `span`, without the fields of the record itself.
fn outermost(node: &Node, span: Span) -> Node {
    let mut copy = standing_at(node, span);
    if let Kind::Record { fields, .. } = &mut copy.kind {
        fields.clear();
    }
    copy
}

/// A copy of which every part stands at `span`: what is wrong with a default after a replacement is the replacement's fault,
/// what is wrong with a preset's that of whoever chose it.
pub fn standing_at(node: &Node, span: Span) -> Node {
    let copy = |node: &Arc<Node>| Arc::new(standing_at(node, span));
    let kind = match &node.kind {
        Kind::Record { name, fields, items } => Kind::Record {
            name: name.clone(),
            fields: fields
                .iter()
                .map(|field| Field { name: field.name.clone(), span, value: copy(&field.value) })
                .collect(),
            items: items.iter().map(copy).collect(),
        },
        Kind::List(items) => Kind::List(items.iter().map(copy).collect()),
        Kind::Map(pairs) => Kind::Map(pairs.iter().map(|(key, value)| (copy(key), copy(value))).collect()),
        Kind::Text(_) | Kind::Number { .. } | Kind::Bool(_) | Kind::Other(_) => node.kind.clone(),
    };
    Node { span, kind }
}
