//! What differs between two meanings, in the words of an experiment file.

use serde::Serialize;

use crate::explain::meaning::{Meaning, Node, Part, PartKind};

/// Longer lists are compared as a whole: no recipe has one.
const ALIGNED_MAX: usize = 64;

/// What a meaning says nothing of because it is what it always was, by the last word of its path.
const NEUTRAL: [(&str, &str); 6] = [
    ("filter", "Bilinear"),
    ("labels", "1.0"),
    ("layer", "Backbone"),
    ("loss", "NtXent"),
    ("output_shift", "true"),
    ("vote", "Weighted"),
];

fn unsaid(path: &str) -> &'static str {
    let last = path.rsplit('.').next().unwrap_or(path);
    NEUTRAL.iter().find(|(name, _)| *name == last).map_or("none", |(_, value)| value)
}

/// One difference, from the first meaning to the second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where a file says it: `train.temperature`.
    pub path: String,
    /// Absent where the first meaning says nothing of it.
    pub from: Option<String>,
    pub to: Option<String>,
    /// The difference in words.
    pub text: String,
}

impl Change {
    fn new(path: &str, from: Option<String>, to: Option<String>) -> Change {
        let word = |text: &Option<String>| text.clone().unwrap_or_else(|| unsaid(path).to_owned());
        let text = format!("{path} {} → {}", word(&from), word(&to));
        Change { path: path.to_owned(), from, to, text }
    }

    fn worded(self, text: String) -> Change {
        Change { text, ..self }
    }
}

/// Every difference, the evaluation's first, then the training's, then the data's.
pub fn changes(from: &Meaning, to: &Meaning) -> Vec<Change> {
    let of = |kind, below: &[Change]| match (from.part(kind), to.part(kind)) {
        (Some(from), Some(to)) => part_changes(kind, from, to, below),
        (None, None) | (Some(_), None) | (None, Some(_)) => Vec::new(),
    };
    let data = of(PartKind::Data, &[]);
    let below = [of(PartKind::Pretrain, &data), data].concat();
    [of(PartKind::Evaluation, &below), below].concat()
}

/// A key stands for the part below it, which says more; it is told where that part says nothing.
fn part_changes(kind: PartKind, from: &Part, to: &Part, below: &[Change]) -> Vec<Change> {
    let mut found = Vec::new();
    compare("", &from.root, &to.root, &mut found);
    let stands_for_below = |path: &str| match kind {
        PartKind::Evaluation => path == "pretrain",
        PartKind::Pretrain => path == "data",
        PartKind::Data => false,
    };
    let told = found.into_iter().filter(|change| below.is_empty() || !stands_for_below(&change.path));
    let form = (from.domain != to.domain).then(|| {
        let change = Change::new("key", Some(from.domain.clone()), Some(to.domain.clone()));
        change.worded(format!("the form of keys {} → {}", from.domain, to.domain))
    });
    form.into_iter().chain(told.map(|change| in_file_words(kind, change))).collect()
}

fn compare(path: &str, from: &Node, to: &Node, found: &mut Vec<Change>) {
    if from == to {
        return;
    }
    let is_aligned = from.is_list() && to.is_list() && !(from.is_tuple() && to.is_tuple());
    if is_aligned && from.items.len().max(to.items.len()) <= ALIGNED_MAX {
        return compare_lists(path, &from.items, &to.items, found);
    }
    let is_same_variant = from.text == to.text && !from.is_list() && !(from.fields.is_empty() && to.fields.is_empty());
    if !is_same_variant {
        return found.push(Change::new(path, Some(from.render()), Some(to.render())));
    }
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for (name, node) in &to.fields {
        match from.field(name) {
            Some(before) => compare(&join(name), before, node, found),
            None => found.push(Change::new(&join(name), None, Some(node.render()))),
        }
    }
    for (name, node) in from.fields.iter().filter(|(name, _)| to.field(name).is_none()) {
        found.push(Change::new(&join(name), Some(node.render()), None));
    }
}

/// Items of one tag, in their order, are the same item with other fields; the rest came or went.
fn compare_lists(path: &str, from: &[Node], to: &[Node], found: &mut Vec<Change>) {
    let (mut i, mut j) = (0, 0);
    let matched = aligned(from, to).into_iter().chain([(from.len(), to.len())]);
    for (next_i, next_j) in matched {
        for node in &from[i..next_i] {
            let change = Change::new(path, Some(node.render()), None);
            found.push(change.worded(format!("{path} without {}", node.render())));
        }
        for node in &to[j..next_j] {
            let change = Change::new(path, None, Some(node.render()));
            found.push(change.worded(format!("{path} with {}", node.render())));
        }
        if let (Some(before), Some(after)) = (from.get(next_i), to.get(next_j)) {
            compare(&format!("{path}[{next_j}]"), before, after, found);
        }
        (i, j) = (next_i + 1, next_j + 1);
    }
}

/// The longest common subsequence by tag; an equal item weighs more than one that is only of the same kind.
fn aligned(from: &[Node], to: &[Node]) -> Vec<(usize, usize)> {
    let weight = |i: usize, j: usize| match (&from[i], &to[j]) {
        (before, after) if before == after => 3,
        (before, after) if before.text == after.text && !before.fields.is_empty() => 2,
        (_, _) => 0,
    };
    let mut best = vec![vec![0; to.len() + 1]; from.len() + 1];
    for i in (0..from.len()).rev() {
        for j in (0..to.len()).rev() {
            let pair = weight(i, j);
            let together = if pair > 0 { pair + best[i + 1][j + 1] } else { 0 };
            best[i][j] = together.max(best[i + 1][j]).max(best[i][j + 1]);
        }
    }
    let (mut pairs, mut i, mut j) = (Vec::new(), 0, 0);
    while i < from.len() && j < to.len() {
        let pair = weight(i, j);
        if pair > 0 && best[i][j] == pair + best[i + 1][j + 1] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if best[i][j] == best[i + 1][j] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

/// Names of keys are frozen and short; a file says some of them otherwise.
fn in_file_words(kind: PartKind, change: Change) -> Change {
    let Change { path, from, to, text } = change;
    let told = |text: &str, path: &str| Change {
        path: path.to_owned(),
        from: from.clone(),
        to: to.clone(),
        text: text.to_owned(),
    };
    let steps = |path: &str| {
        let steps = |text: &Option<String>| text.as_ref().map(|steps| format!("Steps({steps})"));
        Change::new(path, steps(&from), steps(&to))
    };
    let version = |what: &str, effect: &str| {
        let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        told(&format!("{what}'s version {} → {}: {effect}", word(&from), word(&to)), "version")
    };
    match (kind, path.as_str()) {
        (PartKind::Pretrain, "version") => version("training", "its numbers changed"),
        (PartKind::Evaluation, "version") => version("evaluation", "its numbers changed"),
        (PartKind::Data, "version") => version("data", "its reading or splitting changed"),
        (PartKind::Data, "digest") => told("data set: other content", "dataset"),
        (PartKind::Pretrain, "data") => told("data set: another, whose record says no more", "dataset"),
        (PartKind::Evaluation, "pretrain") => told("its training: another, whose record says no more", "train"),
        (PartKind::Pretrain, "train.length_steps") => steps("train.length"),
        (PartKind::Pretrain, "train.snapshots_every_steps") => {
            let every = |text: &Option<String>| text.as_ref().map(|steps| format!("Every(Steps({steps}))"));
            Change::new("train.snapshots", every(&from), every(&to))
        }
        (PartKind::Evaluation, "snapshot_step") => {
            let word = |text: &Option<String>| {
                text.as_ref().map_or("the final encoder".to_owned(), |step| format!("the snapshot after step {step}"))
            };
            told(&format!("of {} → of {}", word(&from), word(&to)), "evaluate")
        }
        (PartKind::Pretrain, "train.schedule.warmup_steps") => steps("train.schedule.warmup"),
        (PartKind::Pretrain, "train.plans") => Change::new("plan lock", from, to),
        (PartKind::Pretrain, "backend") => {
            let lower = |text: Option<String>| text.map(|text| text.to_lowercase());
            Change::new("device", lower(from), lower(to))
        }
        (PartKind::Pretrain | PartKind::Evaluation, "code") => match (&from, &to) {
            (None, _) => told("counts for this program's code alone (`--code strict`)", "code"),
            (Some(_), None) => told("stored for one program's code alone (`--code strict`)", "code"),
            (Some(_), Some(_)) => told("stored for other code (`--code strict`)", "code"),
        },
        (PartKind::Evaluation, inner) if inner == "evaluation" || inner.starts_with("evaluation.") => {
            Change::new(&inner.replacen("evaluation", "evaluate", 1), from, to)
        }
        (PartKind::Evaluation | PartKind::Pretrain | PartKind::Data, _) => Change { path, from, to, text },
    }
}
