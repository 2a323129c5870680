//! RON text as a tree that remembers where everything stands.
//!
//! `ron` parses and checks everything; it is asked for one level at a time, whose values it hands back as slices of the
//! text (`RawValue`), so that each key and value keeps its place. Unlike `ron::Value` the tree keeps variant names and
//! the spelling of numbers, and sees duplicate keys.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use ron::value::RawValue;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::experiment::problem::{Found, Problem, Span};

/// Longer texts are refused: 256 KiB.
pub const TEXT_BYTES_MAX: usize = 1 << 18;

/// Deeper texts are refused; the format needs 9 levels. A level costs a few passes of `ron` over what is inside it.
const DEPTH_MAX: usize = 16;

/// Longer names are refused: they would fill a terminal in every message that repeats them.
pub const NAME_BYTES_MAX: usize = 200;

/// A value and its place. Shared, so that a cell of a sweep copies only the way to what it replaces.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub span: Span,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `Name`, `Name(...)` or `(...)`, with named fields or with positional items, never both.
    Record {
        name: Option<String>,
        fields: Vec<Field>,
        items: Vec<Arc<Node>>,
    },
    List(Vec<Arc<Node>>),
    Map(Vec<(Arc<Node>, Arc<Node>)>),
    Text(String),
    Number {
        /// As written.
        text: String,
        literal: Literal,
    },
    Bool(bool),
    /// Characters, bytes and ranges, of which the format has no use; as written.
    Other(String),
}

/// A named field of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub name: String,
    pub span: Span,
    pub value: Arc<Node>,
}

/// What a number's spelling means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Literal {
    Whole(u64),
    Negative(i64),
    Real(f64),
    /// A range, or out of every type's reach.
    Unreadable,
}

impl Node {
    /// `()`: what an absent section is.
    pub fn empty_record(span: Span) -> Node {
        Node { span, kind: Kind::Record { name: None, fields: Vec::new(), items: Vec::new() } }
    }

    /// What stands there, in a few words for a message.
    pub fn short(&self) -> String {
        let text = self.to_string();
        if text.chars().count() <= 40 {
            return text;
        }
        format!("{}...", text.chars().take(37).collect::<String>())
    }
}

/// The value's RON text with whitespace and comments normalised; numbers as they were spelled.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Record { name, fields, items } => {
                f.write_str(name.as_deref().unwrap_or(""))?;
                if name.is_some() && fields.is_empty() && items.is_empty() {
                    return Ok(());
                }
                f.write_str("(")?;
                let fields = fields.iter().map(|field| (Some(&field.name), &field.value));
                for (index, (name, value)) in fields.chain(items.iter().map(|item| (None, item))).enumerate() {
                    f.write_str(if index > 0 { ", " } else { "" })?;
                    name.map_or(Ok(()), |name| write!(f, "{name}: "))?;
                    write!(f, "{value}")?;
                }
                f.write_str(")")
            }
            Kind::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Kind::Map(pairs) => {
                f.write_str("{")?;
                for (index, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("}")
            }
            Kind::Text(text) => write!(f, "{text:?}"),
            Kind::Number { text, .. } | Kind::Other(text) => f.write_str(text),
            Kind::Bool(value) => write!(f, "{value}"),
        }
    }
}

/// Reads `text[from..]` of source `source`. `None` after a syntax error, which is then in `found`.
pub fn parse(source: usize, text: &str, from: usize, found: &mut Found) -> Option<Arc<Node>> {
    let whole = Span { source, start: from, end: text.len() };
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the text is {} bytes long, more than the limit of {TEXT_BYTES_MAX}", text.len());
        found.add(Problem::new(Span { end: from, ..whole }, "", message).help("split it into several experiments"));
        return None;
    }
    let parser = Parser { source, text };
    let body = &text[from..];
    match only_value(body) {
        Ok(raw) => Some(Arc::new(parser.node(raw, 0, found))),
        Err(error) => {
            found.add(syntax_problem(source, text, from, &error));
            None
        }
    }
}

/// The one value of a text, without the attributes before and the comments behind it.
fn only_value(text: &str) -> Result<&RawValue, ron::error::SpannedError> {
    let mut deserializer = ron::Deserializer::from_str(text)?;
    let from_value = deserializer.remainder();
    IgnoredAny::deserialize(&mut deserializer).map_err(|code| deserializer.span_error(code))?;
    let behind_value = deserializer.remainder();
    deserializer.end().map_err(|code| deserializer.span_error(code))?;
    RawValue::from_ron(&from_value[..from_value.len() - behind_value.len()])
}

fn syntax_problem(source: usize, text: &str, from: usize, error: &ron::error::SpannedError) -> Problem {
    let start = offset(text, from, error.span.start);
    let end = offset(text, from, error.span.end).max(start);
    let end =
        if end > start { end } else { text[start..].chars().next().map_or(start, |next| start + next.len_utf8()) };
    let span = Span { source, start, end };
    if error.code == ron::Error::ExceededRecursionLimit {
        return too_deep(span);
    }
    let message = error.code.to_string();
    let mut letters = message.chars();
    let message = letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect());
    Problem::new(span, "", format!("not valid RON: {message}"))
}

/// Whether a name is short enough to be repeated; a problem where it is not.
fn is_sayable(name: &str, span: Span, found: &mut Found) -> bool {
    if name.len() > NAME_BYTES_MAX {
        let problem = Problem::new(span, "", format!("a name of {} bytes", name.len()));
        found.add(problem.expected(format!("at most {NAME_BYTES_MAX}")));
    }
    name.len() <= NAME_BYTES_MAX
}

fn too_deep(span: Span) -> Problem {
    Problem::new(span, "", "the text is nested too deeply").expected(format!("at most {DEPTH_MAX} levels"))
}

/// The byte a position (line and column from 1, columns in characters) of `text[from..]` stands for.
fn offset(text: &str, from: usize, position: ron::error::Position) -> usize {
    let body = &text[from..];
    let lines = body.split_inclusive('\n').take(position.line.saturating_sub(1));
    let line_start: usize = lines.map(str::len).sum();
    let column = body[line_start..].char_indices().nth(position.col.saturating_sub(1)).map(|(at, _)| at);
    from + column.map_or(body.len(), |at| line_start + at)
}

/// One level of a container, its parts still text.
enum Level<'t> {
    Fields(Vec<(&'t str, &'t RawValue)>),
    Items(Vec<&'t RawValue>),
    Pairs(Vec<(&'t RawValue, &'t RawValue)>),
}

/// Takes a container apart. Keys of records are identifiers, keys of maps are values.
struct LevelVisitor {
    is_map: bool,
}

impl<'de> Visitor<'de> for LevelVisitor {
    type Value = Level<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record, a list or a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Level<'de>, A::Error> {
        if self.is_map {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry::<&RawValue, &RawValue>()? {
                pairs.push(pair);
            }
            return Ok(Level::Pairs(pairs));
        }
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry::<&str, &RawValue>()? {
            fields.push(field);
        }
        Ok(Level::Fields(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Level<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element::<&RawValue>()? {
            items.push(item);
        }
        Ok(Level::Items(items))
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Level<'de>, D::Error> {
        Ok(Level::Items(vec![<&RawValue>::deserialize(inner)?]))
    }

    fn visit_none<E>(self) -> Result<Level<'de>, E> {
        Ok(Level::Items(Vec::new()))
    }

    fn visit_unit<E>(self) -> Result<Level<'de>, E> {
        Ok(Level::Items(Vec::new()))
    }
}

/// Without the comments before and behind a value. `ron` has cut the plain whitespace off already and would parse the
/// value once more, so it is asked only where there can be a comment.
fn without_comments(raw: &RawValue) -> &RawValue {
    let text = raw.get_ron();
    let is_bare = !text.starts_with(char::is_whitespace) && !text.ends_with(char::is_whitespace);
    if is_bare && !text.contains("//") && !text.contains("/*") { raw } else { raw.trim() }
}

struct Parser<'t> {
    source: usize,
    text: &'t str,
}

impl<'t> Parser<'t> {
    /// The place of a slice of the text, by its address.
    fn span(&self, slice: &str) -> Span {
        let start = slice.as_ptr() as usize - self.text.as_ptr() as usize;
        Span { source: self.source, start, end: start + slice.len() }
    }

    fn node(&self, raw: &'t RawValue, depth: usize, found: &mut Found) -> Node {
        let text = without_comments(raw).get_ron();
        let span = self.span(text);
        if depth > DEPTH_MAX {
            found.add(too_deep(span));
            return Node { span, kind: Kind::Other("...".to_owned()) };
        }
        Node { span, kind: self.kind(text, depth, found) }
    }

    /// The first token decides what a value is; `ron` has checked the text, so the token cannot mislead.
    fn kind(&self, text: &'t str, depth: usize, found: &mut Found) -> Kind {
        let name = leading_name(text);
        match (name, text.chars().next()) {
            (Some("true"), _) => Kind::Bool(true),
            (Some("false"), _) => Kind::Bool(false),
            (Some("inf" | "inff32" | "inff64" | "NaN" | "NaNf32" | "NaNf64"), _) => number(text),
            (Some(name), _) if name.len() == text.trim_start_matches("r#").len() => {
                self.record(Some(name), None, depth, found)
            }
            (Some(name), _) => self.record(Some(name), Some(text), depth, found),
            (None, Some('(')) => self.record(None, Some(text), depth, found),
            (None, Some('[' | '{')) => self.container(text, depth, found),
            (None, Some('"' | 'r')) => ron::from_str(text).map_or_else(|_| Kind::Other(text.to_owned()), Kind::Text),
            (None, Some('0'..='9' | '+' | '-' | '.')) => number(text),
            (None, _) => Kind::Other(text.to_owned()),
        }
    }

    fn level(&self, text: &'t str, is_map: bool, found: &mut Found) -> Option<Level<'t>> {
        let opened = ron::Deserializer::from_str(text).and_then(|mut inner| {
            inner.deserialize_any(LevelVisitor { is_map }).map_err(|code| inner.span_error(code))
        });
        match opened {
            Ok(level) => Some(level),
            Err(error) => {
                let at = self.span(text).start;
                let message = syntax_problem(self.source, text, 0, &error);
                let span = Span { start: at + message.span.start, end: at + message.span.end, ..message.span };
                found.add(Problem { span, ..message });
                None
            }
        }
    }

    fn record(&self, name: Option<&'t str>, inside: Option<&'t str>, depth: usize, found: &mut Found) -> Kind {
        let (mut fields, mut items, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        match inside.and_then(|text| self.level(text, false, found)) {
            Some(Level::Fields(raw_fields)) => {
                for (name, raw) in raw_fields {
                    if !is_sayable(name, self.span(name), found) {
                        continue;
                    }
                    let field = Field {
                        name: name.to_owned(),
                        span: self.span(name),
                        value: Arc::new(self.node(raw, depth + 1, found)),
                    };
                    if seen.insert(name) {
                        fields.push(field);
                    } else {
                        found.add(Problem::new(field.span, "", format!("field `{name}` is given twice")));
                    }
                }
            }
            Some(Level::Items(raw_items)) => items = self.nodes(raw_items, depth, found),
            Some(Level::Pairs(_)) | None => {}
        }
        let name = name.filter(|name| is_sayable(name, self.span(name), found));
        Kind::Record { name: name.map(str::to_owned), fields, items }
    }

    fn nodes(&self, raw_items: Vec<&'t RawValue>, depth: usize, found: &mut Found) -> Vec<Arc<Node>> {
        raw_items.into_iter().map(|raw| Arc::new(self.node(raw, depth + 1, found))).collect()
    }

    fn container(&self, text: &'t str, depth: usize, found: &mut Found) -> Kind {
        let is_map = text.starts_with('{');
        match self.level(text, is_map, found) {
            Some(Level::Pairs(raw_pairs)) => {
                let (mut pairs, mut seen) = (Vec::new(), BTreeSet::new());
                for (key, value) in raw_pairs {
                    let (key, value) =
                        (Arc::new(self.node(key, depth + 1, found)), Arc::new(self.node(value, depth + 1, found)));
                    if seen.insert(key.to_string()) {
                        pairs.push((key, value));
                    } else {
                        found.add(Problem::new(key.span, "", format!("key `{}` is given twice", key.short())));
                    }
                }
                Kind::Map(pairs)
            }
            Some(Level::Items(items)) => Kind::List(self.nodes(items, depth, found)),
            Some(Level::Fields(_)) | None if is_map => Kind::Map(Vec::new()),
            Some(Level::Fields(_)) | None => Kind::List(Vec::new()),
        }
    }
}

/// The identifier a text starts with; none where `r` or `b` open a string.
fn leading_name(text: &str) -> Option<&str> {
    let is_string = ["r\"", "r#\"", "r##", "b\"", "b'", "br\"", "br#"].iter().any(|open| text.starts_with(open));
    let bare = text.strip_prefix("r#").unwrap_or(text);
    let end = bare.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(bare.len());
    let is_name = bare.starts_with(|letter: char| letter.is_alphabetic() || letter == '_');
    (is_name && !is_string).then(|| &bare[..end])
}

fn number(text: &str) -> Kind {
    let whole = ron::from_str::<u64>(text).map(Literal::Whole);
    let negative = || ron::from_str::<i64>(text).map(Literal::Negative);
    let real = || ron::from_str::<f64>(text).ok().filter(|value| *value != 0.0 || is_zero(text)).map(Literal::Real);
    let literal = whole.or_else(|_| negative()).ok().or_else(real).unwrap_or(Literal::Unreadable);
    Kind::Number { text: text.to_owned(), literal }
}

/// Whether a real number is spelled as zero: `1e-999` is not, though no type holds it.
fn is_zero(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    !mantissa.contains(|digit: char| matches!(digit, '1'..='9'))
}
