//! What is wrong with a file and where: problems that point at their place, all of them at once.

use std::collections::BTreeSet;
use std::fmt;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// More problems than this are counted, not shown.
const SHOWN_AT_MOST: usize = 40;

/// A place in one of the texts: bytes `start..end` of source `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// 0 is the file, `i` the i-th override.
    pub source: usize,
    pub start: usize,
    pub end: usize,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub span: Span,
    /// What is wrong, with what was found.
    pub message: String,
    /// The field: `train.batch`; empty where no field is concerned.
    pub path: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    pub fn new(span: Span, path: impl fmt::Display, message: impl Into<String>) -> Problem {
        Problem { span, message: message.into(), path: path.to_string(), expected: None, help: None }
    }

    pub fn expected(mut self, expected: impl Into<String>) -> Problem {
        self.expected = Some(expected.into());
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    /// Says what is allowed and, where one is near, which was probably meant.
    pub fn expected_one_of(mut self, found: &str, allowed: &[&str]) -> Problem {
        if allowed.is_empty() {
            return self.expected("no fields");
        }
        self.help = nearest(found, allowed).map(|name| format!("did you mean `{name}`?"));
        self.expected(format!("one of {}", quoted(allowed)))
    }
}

/// `a`, `b`, `c`, each in backticks.
pub fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The allowed name that is at most a third of its letters (and at least one) away, if it is nearer than all others.
pub fn nearest<'a>(found: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let found = found.to_lowercase();
    let mut ranked: Vec<(usize, &str)> =
        allowed.iter().map(|name| (strsim::damerau_levenshtein(&found, &name.to_lowercase()), *name)).collect();
    ranked.sort_unstable();
    let (distance, name) = *ranked.first()?;
    let length = name.chars().count().max(found.chars().count());
    let is_near = distance <= (length / 3).max(1) && distance < length.min(name.chars().count());
    let is_alone = ranked.get(1).is_none_or(|(next, _)| *next > distance);
    (is_near && is_alone).then_some(name)
}

/// Collects problems, each once: a mistake in a part that a hundred cells share is one mistake.
#[derive(Debug, Default)]
pub struct Found {
    list: Vec<Problem>,
    seen: BTreeSet<(Span, String)>,
}

impl Found {
    pub fn add(&mut self, problem: Problem) {
        if self.seen.insert((problem.span, problem.message.clone())) {
            self.list.push(problem);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// In the order of the texts.
    pub fn into_problems(mut self, sources: Vec<Source>) -> Problems {
        self.list.sort_by_key(|problem| problem.span);
        Problems { sources, list: self.list }
    }
}

/// A text that problems point into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `experiments/batchsize.ron`, or `command line, override 1`.
    pub shown: String,
    pub text: String,
}

/// Every mistake of a file and its overrides, in the order of the texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    sources: Vec<Source>,
    list: Vec<Problem>,
}

impl Problems {
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// `file:line:column: message` of every problem, one a line.
    pub fn summary(&self) -> String {
        let lines = self.list.iter().map(|problem| {
            let source = &self.sources[problem.span.source];
            let (line, column) = line_and_column(&source.text, problem.span.start);
            format!("{}:{line}:{column}: {}", source.shown, problem.message)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// For people: every problem with its line, a caret and what to do.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut shown: Vec<String> =
            self.list.iter().take(SHOWN_AT_MOST).map(|problem| renderer.render(&[self.group(problem)])).collect();
        if let Some(more) = self.list.len().checked_sub(SHOWN_AT_MOST + 1) {
            shown.push(format!("... and {} more", more + 1));
        }
        shown.join("\n\n")
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let source = &self.sources[problem.span.source];
        let (line, range, number) = first_line(&source.text, problem.span);
        let snippet = Snippet::source(line)
            .path(source.shown.as_str())
            .line_start(number)
            .fold(false)
            .annotation(AnnotationKind::Primary.span(range));
        let mut group = Level::ERROR.primary_title(problem.message.as_str()).element(snippet);
        if !problem.path.is_empty() {
            group = group.element(Level::NOTE.with_name("field").message(problem.path.as_str()));
        }
        if let Some(expected) = &problem.expected {
            group = group.element(Level::NOTE.with_name("expected").message(expected.as_str()));
        }
        for help in problem.help.iter().flat_map(|help| help.lines()) {
            group = group.element(Level::HELP.message(help));
        }
        group
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

/// The line a span starts on, the span's part of it and its number. Only this line goes to the renderer:
/// a caret under a whole section helps nobody, and a long file would be scanned once a problem.
fn first_line(text: &str, span: Span) -> (&str, std::ops::Range<usize>, usize) {
    let start = span.start.min(text.len());
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let end = span.end.clamp(start, line_end);
    let number = text[..line_start].matches('\n').count() + 1;
    (&text[line_start..line_end], start - line_start..end - line_start, number)
}

/// Both from 1; the column counts characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
