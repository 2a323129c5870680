//! From the tree of a file to typed values, one file a section.
//!
//! A reader never stops at a mistake: it notes it, gives `None` and lets the next field be read, so that one pass finds
//! every mistake. What is allowed is said once, by the calls that read it.

pub mod dataset;
pub mod evaluate;
pub mod model;
pub mod scalar;
pub mod sweep;
pub mod train;
pub mod views;

use std::fmt;
use std::sync::Arc;

use crate::experiment::problem::{Found, Problem, Span, nearest, quoted};
use crate::experiment::tree::{Field, Kind, Node};

/// Where a reader stands, as a chain of borrowed steps; written out only when a problem needs it.
#[derive(Debug, Clone, Copy)]
pub enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A value to be read.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    pub node: &'a Node,
    pub path: Path<'a>,
}

impl At<'_> {
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::new(self.node.span, self.path, message)
    }

    pub fn wrong(&self, expected: impl Into<String>) -> Problem {
        let found = self.node.short();
        let message = match self.path {
            Path::Root => format!("`{found}` is not an experiment"),
            Path::Field(..) | Path::Index(..) => format!("`{}` cannot be `{found}`", self.path),
        };
        self.problem(message).expected(expected)
    }

    fn unknown(&self, name: &str, known: &[&str]) -> Problem {
        self.problem(format!("`{}` cannot be `{name}`", self.path)).expected_one_of(name, known)
    }
}

/// A value and the place that a later check points to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed<T> {
    pub value: T,
    pub span: Span,
}

/// The fields of one record: each is asked for by name or position, whatever is left over is a mistake.
pub struct Fields<'a> {
    at: At<'a>,
    named: &'a [Field],
    items: &'a [Arc<Node>],
    known: Vec<&'static str>,
    n_items_read: usize,
    /// Required fields that are not there, by name.
    lacking: Vec<(&'static str, Problem)>,
    pub found: &'a mut Found,
}

impl<'a> Fields<'a> {
    fn new(at: At<'a>, named: &'a [Field], items: &'a [Arc<Node>], found: &'a mut Found) -> Fields<'a> {
        Fields { at, named, items, known: Vec::new(), n_items_read: 0, lacking: Vec::new(), found }
    }

    /// The variant's name, or where it has none the section's.
    fn title(&self) -> String {
        match (&self.at.node.kind, self.at.path) {
            (Kind::Record { name: Some(name), .. }, _) => name.clone(),
            (_, Path::Root) => "Experiment".to_owned(),
            (_, Path::Field(..) | Path::Index(..)) => self.at.path.to_string(),
        }
    }

    fn get(&mut self, name: &'static str) -> Option<&'a Field> {
        self.known.push(name);
        self.named.iter().find(|field| field.name == name)
    }

    /// Reads a field; `Some(None)` where the file leaves it out.
    pub fn given<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&At, &mut Found) -> Option<T>,
    ) -> Option<Option<T>> {
        let Some(field) = self.get(name) else { return Some(None) };
        let at = At { node: &field.value, path: Path::Field(&self.at.path, name) };
        read(&at, self.found).map(Some)
    }

    pub fn optional<T>(
        &mut self,
        name: &'static str,
        default: T,
        read: impl FnOnce(&At, &mut Found) -> Option<T>,
    ) -> Option<T> {
        self.given(name, read).map(|value| value.unwrap_or(default))
    }

    /// As `optional`, with the place of the value, or of the record where the default stands.
    pub fn placed<T>(
        &mut self,
        name: &'static str,
        default: T,
        read: impl FnOnce(&At, &mut Found) -> Option<T>,
    ) -> Option<Placed<T>> {
        let span =
            self.named.iter().find(|field| field.name == name).map_or(self.at.node.span, |field| field.value.span);
        self.optional(name, default, read).map(|value| Placed { value, span })
    }

    pub fn required<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(&At, &mut Found) -> Option<T>,
    ) -> Option<T> {
        let value = self.given(name, read)?;
        if value.is_none() {
            let path = Path::Field(&self.at.path, name);
            let message = format!("`{}` lacks the field `{name}`", self.title());
            let problem = Problem::new(self.at.node.span, path, message).expected(expected);
            self.lacking.push((name, problem));
        }
        value
    }

    /// Reads the next positional item; `Some(None)` where there are no more.
    pub fn given_item<T>(&mut self, read: impl FnOnce(&At, &mut Found) -> Option<T>) -> Option<Option<T>> {
        let Some(item) = self.items.get(self.n_items_read) else { return Some(None) };
        let at = At { node: item, path: self.at.path };
        self.n_items_read += 1;
        read(&at, self.found).map(Some)
    }

    pub fn item<T>(&mut self, expected: &str, read: impl FnOnce(&At, &mut Found) -> Option<T>) -> Option<T> {
        let value = self.given_item(read)?;
        if value.is_none() {
            let message = format!("`{}` lacks a value", self.title());
            self.found.add(self.at.problem(message).expected(expected));
        }
        value
    }

    pub fn problem(&self, message: impl Into<String>) -> Problem {
        self.at.problem(message)
    }

    /// A problem of the field `name` that shows at `span`.
    pub fn problem_of(&self, name: &str, span: Span, message: impl Into<String>) -> Problem {
        Problem::new(span, Path::Field(&self.at.path, name), message)
    }

    /// Of the whole record.
    pub fn span(&self) -> Span {
        self.at.node.span
    }

    pub fn has(&self, name: &str) -> bool {
        self.named.iter().any(|field| field.name == name)
    }

    fn unknown(&self) -> impl Iterator<Item = &'a Field> {
        self.named.iter().filter(|field| !self.known.contains(&field.name.as_str()))
    }

    /// Whether a field that nobody asked for was probably meant to be `name`.
    fn misspells(&self, name: &str) -> bool {
        self.unknown().any(|field| nearest(&field.name, &self.known) == Some(name))
    }

    /// Whether a field is neither there nor misspelt; to be asked when all fields have been.
    pub fn lacks(&self, name: &str) -> bool {
        !self.has(name) && !self.misspells(name)
    }

    fn finish(mut self) {
        let lacking = std::mem::take(&mut self.lacking);
        for (_, problem) in lacking.into_iter().filter(|(name, _)| self.lacks(name)).collect::<Vec<_>>() {
            self.found.add(problem);
        }
        for field in self.unknown().collect::<Vec<_>>() {
            let path = Path::Field(&self.at.path, &field.name);
            let message = format!("`{}` has no field `{}`", self.title(), field.name);
            self.found.add(Problem::new(field.span, path, message).expected_one_of(&field.name, &self.known));
        }
        let Some(item) = self.items.get(self.n_items_read) else { return };
        let problem = if self.n_items_read == 0 && !self.known.is_empty() {
            let message = format!("`{}` takes fields with names, not `{}`", self.title(), item.short());
            Problem::new(item.span, self.at.path, message).expected(format!("`{}: ...`", self.known[0]))
        } else {
            let message = format!("`{}` is one value too many in `{}`", item.short(), self.title());
            Problem::new(item.span, self.at.path, message).expected("nothing more")
        };
        self.found.add(problem);
    }
}

/// Reads `(...)` or `Title(...)`.
pub fn record<T>(at: &At, found: &mut Found, title: &str, read: impl FnOnce(&mut Fields) -> Option<T>) -> Option<T> {
    match &at.node.kind {
        Kind::Record { name, fields, items } if name.as_deref().is_none_or(|name| name == title) => {
            let mut fields = Fields::new(*at, fields, items, found);
            let value = read(&mut fields);
            fields.finish();
            value
        }
        Kind::Record { .. }
        | Kind::List(_)
        | Kind::Map(_)
        | Kind::Text(_)
        | Kind::Number { .. }
        | Kind::Bool(_)
        | Kind::Other(_) => {
            found.add(at.wrong("a record of named fields, `(name: value, ...)`"));
            None
        }
    }
}

/// How the fields of one variant are read.
pub type ReadVariant<T> = fn(&mut Fields) -> Option<T>;

/// Reads one of several named alternatives, each with its own fields.
pub fn variant<T>(at: &At, found: &mut Found, table: &[(&'static str, ReadVariant<T>)]) -> Option<T> {
    let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    let Kind::Record { name: Some(name), fields, items } = &at.node.kind else {
        found.add(at.wrong(format!("one of {}", quoted(&names))));
        return None;
    };
    let Some((_, read)) = table.iter().find(|(known, _)| known == name) else {
        found.add(at.unknown(name, &names));
        return None;
    };
    let mut fields = Fields::new(*at, fields, items, found);
    let value = read(&mut fields);
    fields.finish();
    value
}

/// Reads one of several names without fields.
pub fn unit<T: Copy>(at: &At, found: &mut Found, table: &[(&'static str, T)]) -> Option<T> {
    let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    match &at.node.kind {
        Kind::Record { name: Some(name), fields, items } if fields.is_empty() && items.is_empty() => {
            let value = table.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
            if value.is_none() {
                found.add(at.unknown(name, &names));
            }
            value
        }
        Kind::Record { .. }
        | Kind::List(_)
        | Kind::Map(_)
        | Kind::Text(_)
        | Kind::Number { .. }
        | Kind::Bool(_)
        | Kind::Other(_) => {
            found.add(at.wrong(format!("one of {}", quoted(&names))));
            None
        }
    }
}

/// Reads every item of a list; one bad item does not hide the next.
pub fn list<T>(
    at: &At,
    found: &mut Found,
    expected: &str,
    mut read: impl FnMut(&At, &mut Found) -> Option<T>,
) -> Option<Vec<T>> {
    let Kind::List(items) = &at.node.kind else {
        found.add(at.wrong(expected));
        return None;
    };
    let values: Vec<Option<T>> = items
        .iter()
        .enumerate()
        .map(|(index, item)| read(&At { node: item, path: Path::Index(&at.path, index) }, found))
        .collect();
    values.into_iter().collect()
}
