//! The meaning of a stage, read back from the printable pre-image of its key.
//!
//! A pre-image is one or more parts; each is its domain on a line of its own, then a line a leaf, then a blank line before
//! the next part. It is read as a tree, so that meanings are compared by field and not by line.

/// Deeper than any recipe; what is deeper is not one.
const DEPTH_MAX: usize = 32;

/// Digits of a key that are shown.
const KEY_DIGITS: usize = 12;

/// Which stage a pre-image is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageKind {
    Pretrain,
    Evaluation,
}

impl StageKind {
    /// The stage that a pre-image opens with.
    pub fn of_preimage(preimage: &str) -> Option<StageKind> {
        match PartKind::of_domain(preimage.lines().next()?)? {
            PartKind::Pretrain => Some(StageKind::Pretrain),
            PartKind::Evaluation => Some(StageKind::Evaluation),
            PartKind::Data => None,
        }
    }

    pub fn noun(self) -> &'static str {
        match self {
            StageKind::Pretrain => "training",
            StageKind::Evaluation => "evaluation",
        }
    }
}

/// What a part of a pre-image speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    Evaluation,
    Pretrain,
    Data,
}

impl PartKind {
    /// Of `ablate/pretrain/k1`, whatever the form of its keys.
    pub fn of_domain(domain: &str) -> Option<PartKind> {
        let (stage, form) = domain.strip_prefix("ablate/")?.split_once('/')?;
        let is_form = form.strip_prefix('k').is_some_and(|digits| digits.parse::<u32>().is_ok());
        match stage {
            "evaluation" if is_form => Some(PartKind::Evaluation),
            "pretrain" if is_form => Some(PartKind::Pretrain),
            "data" if is_form => Some(PartKind::Data),
            _ => None,
        }
    }
}

/// A pre-image as trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub domain: String,
    pub root: Node,
}

/// A value, a list or a variant with fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// The leaf's text: a number, a tag, `[2]` for a list of two. Empty for a record without a tag.
    pub text: String,
    pub fields: Vec<(String, Node)>,
    pub items: Vec<Node>,
}

impl Meaning {
    /// Undoes [`Value::preimage`](crate::content::Value::preimage), for one or several parts. `None` for a text that no
    /// meaning is written as.
    pub fn read(preimage: &str) -> Option<Meaning> {
        let mut parts: Vec<Part> = Vec::new();
        let mut is_new_part = true;
        for line in preimage.strip_suffix('\n')?.split('\n') {
            if is_new_part {
                parts.push(Part { domain: line.to_owned(), root: Node::default() });
                is_new_part = false;
            } else if line.is_empty() {
                is_new_part = true;
            } else {
                let (path, text) = line.split_once(" = ")?;
                let node = parts.last_mut()?.root.at(path)?;
                text.clone_into(&mut node.text);
            }
        }
        let meaning = Meaning { parts };
        // Whatever the lines hid, a line twice for one, does not come out again.
        (meaning.write() == preimage).then_some(meaning)
    }

    /// The text it was read from.
    pub fn write(&self) -> String {
        let part = |part: &Part| {
            let mut text = format!("{}\n", part.domain);
            part.root.leaves("", &mut |path, leaf| text.push_str(&format!("{path} = {leaf}\n")));
            text
        };
        self.parts.iter().map(part).collect::<Vec<_>>().join("\n")
    }

    /// What a file would say of it, a path and a value each, the evaluation first and the data last.
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        for part in &self.parts {
            let kind = PartKind::of_domain(&part.domain);
            for (name, node) in &part.root.fields {
                match (kind, name.as_str()) {
                    // A key that stands for a part of its own.
                    (Some(PartKind::Pretrain), "data") | (Some(PartKind::Evaluation), "pretrain") => {}
                    (Some(PartKind::Evaluation), "evaluation") => rows.push(("evaluate".to_owned(), node.render())),
                    (Some(PartKind::Data), "digest") => rows.push(("dataset (content)".to_owned(), node.render())),
                    (Some(PartKind::Pretrain), "backend") => {
                        rows.push(("device".to_owned(), node.render().to_lowercase()));
                    }
                    (_, "version") => {}
                    (_, "train" | "model" | "views") => node.settings_below(name, &mut rows),
                    (_, _) => rows.push((name.clone(), node.render())),
                }
            }
        }
        rows
    }

    /// The part of a kind.
    pub fn part(&self, kind: PartKind) -> Option<&Part> {
        self.parts.iter().find(|part| PartKind::of_domain(&part.domain) == Some(kind))
    }
}

impl Node {
    /// The node of a path, made where it is missing. List items come in their order.
    fn at(&mut self, path: &str) -> Option<&mut Node> {
        let (mut node, mut rest) = (self, path);
        for depth in 0.. {
            if rest.is_empty() {
                return Some(node);
            }
            if depth == DEPTH_MAX {
                break;
            }
            if let Some(inner) = rest.strip_prefix('[') {
                let (index, after) = inner.split_once(']')?;
                let index: usize = index.parse().ok()?;
                if index == node.items.len() {
                    node.items.push(Node::default());
                }
                (node, rest) = (node.items.get_mut(index)?, after);
            } else {
                let named = if depth == 0 { rest } else { rest.strip_prefix('.')? };
                let (name, after) = named.split_at(named.find(['.', '[']).unwrap_or(named.len()));
                let known = node.fields.iter().position(|(field, _)| field == name);
                let index = known.unwrap_or_else(|| {
                    node.fields.push((name.to_owned(), Node::default()));
                    node.fields.len() - 1
                });
                (node, rest) = (&mut node.fields[index].1, after);
            }
        }
        None
    }

    fn leaves(&self, path: &str, tell: &mut impl FnMut(&str, &str)) {
        if !self.text.is_empty() {
            tell(path, &self.text);
        }
        for (name, node) in &self.fields {
            node.leaves(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, tell);
        }
        for (index, node) in self.items.iter().enumerate() {
            node.leaves(&format!("{path}[{index}]"), tell);
        }
    }

    fn settings_below(&self, path: &str, rows: &mut Vec<(String, String)>) {
        for (name, node) in &self.fields {
            match (path, name.as_str()) {
                ("train", "length_steps") => {
                    rows.push(("train.length".to_owned(), format!("Steps({})", node.render())));
                }
                ("train", "snapshots_every_steps") => {
                    rows.push(("train.snapshots".to_owned(), format!("Every(Steps({}))", node.render())));
                }
                (_, _) => rows.push((format!("{path}.{name}"), node.render())),
            }
        }
        for (index, node) in self.items.iter().enumerate() {
            rows.push((format!("{path}[{index}]"), node.render()));
        }
    }

    pub fn is_list(&self) -> bool {
        self.text.starts_with('[')
    }

    fn is_plain(&self) -> bool {
        self.fields.is_empty() && !self.is_list()
    }

    /// A list of numbers: a range, a mean a channel.
    pub fn is_tuple(&self) -> bool {
        self.is_list() && self.items.iter().all(Node::is_plain)
    }

    pub fn field(&self, name: &str) -> Option<&Node> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, node)| node)
    }

    /// As an experiment file would have it: `RandomResizedCrop(scale: (0.08, 1.0))`. Keys are cut short.
    pub fn render(&self) -> String {
        if self.is_list() {
            let items = self.items.iter().map(Node::render).collect::<Vec<_>>().join(", ");
            return if self.is_tuple() && !self.items.is_empty() { format!("({items})") } else { format!("[{items}]") };
        }
        if self.fields.is_empty() {
            return short(&self.text).to_owned();
        }
        let fields = self.fields.iter().map(|(name, node)| format!("{name}: {}", node.render()));
        // A file writes this struct without its name.
        let tag = if self.text == "LearningRate" { "" } else { &self.text };
        format!("{tag}({})", fields.collect::<Vec<_>>().join(", "))
    }
}

/// A key's first digits, anything else whole.
fn short(text: &str) -> &str {
    let is_key = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_key { &text[..KEY_DIGITS] } else { text }
}
