//! What the command line replaces in a file: `train.batch=512` is a path and the RON that takes its place.

use std::sync::Arc;

use crate::experiment::path::{FieldPath, replaced};
use crate::experiment::problem::{Found, Problem, Span};
use crate::experiment::read::sweep::Factor;
use crate::experiment::tree::{Node, parse};

/// A path and what replaces it.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    pub path: FieldPath,
    pub path_span: Span,
    value: Arc<Node>,
}

/// The sound ones, in order; of the others there are problems.
pub fn parsed(texts: &[String], found: &mut Found) -> Vec<Override> {
    let overrides = texts.iter().enumerate().filter_map(|(index, text)| parsed_one(index + 1, text, found));
    overrides.collect()
}

fn parsed_one(source: usize, text: &str, found: &mut Found) -> Option<Override> {
    let whole = Span { source, start: 0, end: text.len() };
    let Some(equals) = text.find('=') else {
        let start: String = text.chars().take(80).collect();
        let message = format!("the override `{start}` has no `=`");
        found.add(Problem::new(whole, "", message).expected("a path and a value, `train.batch=512`"));
        return None;
    };
    let path_span = Span { end: equals, ..whole };
    let path: FieldPath = match text[..equals].trim().parse() {
        Ok(path) => path,
        Err(error) => {
            let problem = Problem::new(path_span, "", error.to_string());
            found.add(problem.expected("fields and indices, `train.batch` or `evaluate[0].k`"));
            return None;
        }
    };
    let mut syntax = Found::default();
    let Some(value) = parse(source, text, equals + 1, &mut syntax) else {
        for problem in syntax.into_problems(Vec::new()).list() {
            let help = "a value is written as in the file; a text needs double quotes of its own";
            found.add(Problem { path: path.to_string(), ..problem.clone() }.help(help));
        }
        return None;
    };
    syntax.into_problems(Vec::new()).list().iter().for_each(|problem| found.add(problem.clone()));
    Some(Override { path, path_span, value })
}

/// `root` with every override in order; one that has no place changes nothing but is a problem.
pub fn applied<'a>(
    mut root: Arc<Node>,
    overrides: impl IntoIterator<Item = &'a Override>,
    found: &mut Found,
) -> Arc<Node> {
    for Override { path, path_span, value } in overrides {
        match replaced(&root, &path.0, 0, value, *path_span) {
            Ok(with_override) => root = with_override,
            Err(error) => found.add(Problem::new(*path_span, path, error.to_string())),
        }
    }
    root
}

/// An override that an axis replaces in every cell would be ignored without a word.
pub fn check_overwritten(overrides: &[Override], factors: &[Factor], found: &mut Found) {
    for axis in factors.iter().flat_map(|factor| &factor.axes) {
        for Override { path, path_span, .. } in overrides.iter().filter(|given| axis.path.contains(&given.path)) {
            let message = format!("the sweep replaces `{}` in every cell, so this override has no effect", axis.path);
            let problem = Problem::new(*path_span, path, message);
            found.add(problem.help("override `sweep` (and `table`), or run the recipe alone"));
        }
    }
}
