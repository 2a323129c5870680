//! Paths into a file, `train.learning_rate.base` or `evaluate[1].k`, and the replacement of what they name.
//! Overrides and the axes of a sweep are replacements; both then pass the same checks as the file itself.

use std::fmt;
use std::sync::Arc;

use crate::experiment::defaults::left_out;
use crate::experiment::problem::Span;
use crate::experiment::tree::{Field, Kind, NAME_BYTES_MAX, Node};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Field(String),
    Index(usize),
}

/// At least one step, the first a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath(pub Vec<Step>);

impl FieldPath {
    /// The section: `train` of `train.batch`.
    pub fn section(&self) -> &str {
        match &self.0[0] {
            Step::Field(name) => name,
            Step::Index(_) => "",
        }
    }

    /// Whether `other` names this very place or one inside it.
    pub fn contains(&self, other: &FieldPath) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

fn shown(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Field(name) if text.is_empty() => text.push_str(name),
            Step::Field(name) => text.push_str(&format!(".{name}")),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// Longer paths are refused: the format needs 5 steps, and what replaces along a path takes its steps one inside another.
const STEPS_MAX: usize = 16;

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAPath {
    #[error("`{0}` is not a path")]
    Malformed(String),
    #[error("`{0}` has more than {STEPS_MAX} steps")]
    TooLong(String),
}

impl std::str::FromStr for FieldPath {
    type Err = NotAPath;

    fn from_str(text: &str) -> Result<FieldPath, NotAPath> {
        let start = || text.chars().take(80).collect::<String>();
        let refused = || NotAPath::Malformed(start());
        let mut steps = Vec::new();
        for part in text.split('.') {
            let name_end = part.find('[').unwrap_or(part.len());
            let (name, mut rest) = part.split_at(name_end);
            let is_name = name.starts_with(|first: char| first.is_alphabetic() || first == '_')
                && name.len() <= NAME_BYTES_MAX
                && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
            if !is_name {
                return Err(refused());
            }
            steps.push(Step::Field(name.to_owned()));
            while !rest.is_empty() {
                let (digits, after) =
                    rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).ok_or_else(refused)?;
                let is_index = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
                let index = digits.parse().ok().filter(|_| is_index).ok_or_else(refused)?;
                steps.push(Step::Index(index));
                rest = after;
            }
            if steps.len() > STEPS_MAX {
                return Err(NotAPath::TooLong(start()));
            }
        }
        Ok(FieldPath(steps))
    }
}

/// Why nothing stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchPlace {
    #[error("there is no element {index} in `{place}`, which has {length}")]
    Element { place: String, index: usize, length: usize },
    #[error("there is no field `{field}` in `{place}`, which is {found}")]
    Field { place: String, found: String, field: String },
    #[error("there is no element {index} in `{place}`, which is {found}")]
    NotAList { place: String, found: String, index: usize },
}

fn what_is_there(node: &Node) -> String {
    let text = node.short();
    if text == "()" { "left out".to_owned() } else { format!("`{text}`") }
}

/// A number that stands for a record with this one field.
fn shorthand(place: &str) -> Option<&'static str> {
    (place == "train.learning_rate").then_some("base")
}

/// `node` with the value at `steps[done..]` replaced; a field that the file leaves out is inserted with its default, with
/// `path_span` as its place.
pub fn replaced(
    node: &Arc<Node>,
    steps: &[Step],
    done: usize,
    value: &Arc<Node>,
    path_span: Span,
) -> Result<Arc<Node>, NoSuchPlace> {
    let Some(step) = steps.get(done) else { return Ok(Arc::clone(value)) };
    let place = || shown(&steps[..done]);
    let kind = match (&node.kind, step) {
        (Kind::Record { name, fields, items }, Step::Field(field)) if items.is_empty() => {
            let mut fields = fields.clone();
            let at = fields.iter().position(|known| known.name == *field).unwrap_or_else(|| {
                let value = Arc::new(left_out(&steps[..=done], Some(node), path_span));
                fields.push(Field { name: field.clone(), span: path_span, value });
                fields.len() - 1
            });
            fields[at].value = replaced(&fields[at].value, steps, done + 1, value, path_span)?;
            Kind::Record { name: name.clone(), fields, items: Vec::new() }
        }
        (Kind::Number { .. }, Step::Field(_)) if shorthand(&place()).is_some() => {
            let name = shorthand(&place()).unwrap_or_default().to_owned();
            let fields = vec![Field { name, span: node.span, value: Arc::clone(node) }];
            let record = Node { span: node.span, kind: Kind::Record { name: None, fields, items: Vec::new() } };
            return replaced(&Arc::new(record), steps, done, value, path_span);
        }
        (_, Step::Field(field)) => {
            return Err(NoSuchPlace::Field { place: place(), found: what_is_there(node), field: field.clone() });
        }
        (Kind::List(items), Step::Index(index)) => {
            let mut items = items.clone();
            let length = items.len();
            let item =
                items.get_mut(*index).ok_or_else(|| NoSuchPlace::Element { place: place(), index: *index, length })?;
            *item = replaced(item, steps, done + 1, value, path_span)?;
            Kind::List(items)
        }
        (Kind::Record { name, fields, items }, Step::Index(index)) if fields.is_empty() && !items.is_empty() => {
            let mut items = items.clone();
            let length = items.len();
            let item =
                items.get_mut(*index).ok_or_else(|| NoSuchPlace::Element { place: place(), index: *index, length })?;
            *item = replaced(item, steps, done + 1, value, path_span)?;
            Kind::Record { name: name.clone(), fields: Vec::new(), items }
        }
        (_, Step::Index(index)) => {
            return Err(NoSuchPlace::NotAList { place: place(), found: what_is_there(node), index: *index });
        }
    };
    Ok(Arc::new(Node { span: node.span, kind }))
}
