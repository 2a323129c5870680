//! A pre-image as a set of hashed leaves: what nearness and speed are judged by, without reading it into trees.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::explain::meaning::PartKind;

/// One leaf: its part, its path and its value.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    pub part: PartKind,
    pub path: &'a str,
    pub value: &'a str,
    /// The list item it is in, by tag: a view counts wherever it stands in its list.
    item: Option<(&'a str, &'a str)>,
}

impl Leaf<'_> {
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.part as u8, self.value).hash(&mut hasher);
        match self.item {
            None => self.path.hash(&mut hasher),
            Some((list, tag)) => (list, tag, after_index(self.path)).hash(&mut hasher),
        }
        hasher.finish()
    }

    /// Whether it is a field of `path`, or `path` itself.
    pub fn is_below(&self, path: &str) -> bool {
        self.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

fn after_index(path: &str) -> &str {
    path.split_once(']').map_or("", |(_, rest)| rest)
}

/// The leaves of a pre-image in their order; keys that stand for another part are left out, its leaves say more.
pub fn leaves(preimage: &str) -> impl Iterator<Item = Leaf<'_>> {
    let mut part = None;
    let mut item: Option<(&str, &str)> = None;
    preimage.split('\n').filter_map(move |line| {
        let Some((path, value)) = line.split_once(" = ") else {
            (part, item) = (PartKind::of_domain(line), None);
            return None;
        };
        let part = part?;
        let stands_for_a_part =
            matches!((part, path), (PartKind::Pretrain, "data") | (PartKind::Evaluation, "pretrain"));
        if stands_for_a_part {
            return None;
        }
        match path.split_once('[') {
            None => item = None,
            Some((list, rest)) if rest.ends_with(']') && !rest.contains('[') && !rest.contains('.') => {
                item = Some((list, value));
            }
            Some(_) => {}
        }
        Some(Leaf { part, path, value, item })
    })
}
