//! Recipes of other implementations under one name: `preset: Lightly`. A preset says what the file leaves out, and the
//! file says everything else: field by field in records and in variants of one name, whole where it is a list, a tuple or
//! another variant. What comes of it is a recipe like any other, and nothing in its keys tells of the preset.

use std::sync::{Arc, LazyLock};

use crate::experiment::defaults::standing_at;
use crate::experiment::overrides::{Override, applied};
use crate::experiment::path::Step;
use crate::experiment::problem::{Found, Span};
use crate::experiment::read::sweep::sweep;
use crate::experiment::read::{At, Path, unit};
use crate::experiment::tree::{Field, Kind, Node, parse};

/// The field, and the section that an axis of presets names.
pub const FIELD: &str = "preset";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Lightly's CIFAR-10 benchmark.
    Lightly,
    /// solo-learn's CIFAR recipe.
    SoloLearn,
    /// google-research/simclr on CIFAR-10.
    Google,
    /// Kobak's cifar10-simclr.
    Dkobak,
}

impl Preset {
    pub const ALL: [Preset; 4] = [Preset::Lightly, Preset::SoloLearn, Preset::Google, Preset::Dkobak];

    /// As a file calls it.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Lightly => "Lightly",
            Preset::SoloLearn => "SoloLearn",
            Preset::Google => "Google",
            Preset::Dkobak => "Dkobak",
        }
    }

    /// The recipe, with the source of every number.
    pub fn text(self) -> &'static str {
        match self {
            Preset::Lightly => include_str!("presets/lightly.ron"),
            Preset::SoloLearn => include_str!("presets/solo_learn.ron"),
            Preset::Google => include_str!("presets/google.ron"),
            Preset::Dkobak => include_str!("presets/dkobak.ron"),
        }
    }

    fn tree(self) -> Option<&'static Node> {
        static TREES: LazyLock<[Option<Arc<Node>>; 4]> =
            LazyLock::new(|| Preset::ALL.map(|preset| parse(0, preset.text(), 0, &mut Found::default())));
        TREES[self as usize].as_deref()
    }
}

/// Default: `None`.
pub fn preset(at: &At, found: &mut Found) -> Option<Option<Preset>> {
    let mut table = vec![("None", None)];
    table.extend(Preset::ALL.map(|preset| (preset.name(), Some(preset))));
    unit(at, found, &table)
}

/// The experiment as one choice of the presets has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Bases {
    /// One for every preset that is chosen somewhere, at least one.
    pub roots: Vec<Arc<Node>>,
    /// Which of them each value of the axis of presets takes; empty without such an axis.
    pub of_pick: Vec<usize>,
}

impl Bases {
    /// `root` as the file has it, on top of its presets and under the overrides. A preset that is none is a mistake for
    /// the readers to find.
    pub fn new(root: &Arc<Node>, overrides: &[Override], ignore_sweep: bool, found: &mut Found) -> Bases {
        let is_choice = |given: &&Override| [FIELD, "sweep"].contains(&given.path.section());
        // Mistakes in these are found where they are read for good.
        let mut unread = Found::default();
        let choosing = applied(Arc::clone(root), overrides.iter().filter(is_choice), &mut unread);
        let of = |node: &Node| {
            let at = At { node, path: Path::Field(&Path::Root, FIELD) };
            (preset(&at, &mut Found::default()).flatten(), node.span)
        };
        let axis: Vec<(Option<Preset>, Span)> = match field(&choosing, "sweep").filter(|_| !ignore_sweep) {
            Some(node) => swept(node).iter().map(|node| of(node)).collect(),
            None => Vec::new(),
        };
        let mut choices: Vec<(Option<Preset>, Span)> = Vec::new();
        let mut of_pick = Vec::with_capacity(axis.len());
        for choice in axis {
            let known = choices.iter().position(|(preset, _)| *preset == choice.0);
            of_pick.push(known.unwrap_or(choices.len()));
            if known.is_none() {
                choices.push(choice);
            }
        }
        if choices.is_empty() {
            choices.push(field(&choosing, FIELD).map_or((None, root.span), of));
        }
        let base = |(preset, span): (Option<Preset>, Span)| match preset.and_then(Preset::tree) {
            Some(tree) => merged(&standing_at(tree, span), root),
            None => Arc::clone(root),
        };
        let roots = choices.into_iter().map(|choice| applied(base(choice), overrides, found)).collect();
        Bases { roots, of_pick }
    }
}

fn field<'n>(root: &'n Node, name: &str) -> Option<&'n Node> {
    let Kind::Record { fields, .. } = &root.kind else { return None };
    fields.iter().find(|field| field.name == name).map(|field| &*field.value)
}

/// The values of the axis of presets, where a sweep has one.
fn swept(node: &Node) -> Vec<Arc<Node>> {
    let at = At { node, path: Path::Field(&Path::Root, "sweep") };
    let factors = sweep(&at, &mut Found::default()).unwrap_or_default().factors;
    let is_of_presets = |steps: &[Step]| *steps == [Step::Field(FIELD.to_owned())];
    let axis = factors.into_iter().flat_map(|factor| factor.axes).find(|axis| is_of_presets(&axis.path.0));
    axis.map_or_else(Vec::new, |axis| axis.values.into_iter().map(|value| value.node).collect())
}

/// `over`, and what `under` says where it is silent.
fn merged(under: &Node, over: &Arc<Node>) -> Arc<Node> {
    let Kind::Record { name: under_name, fields: under_fields, items: under_items } = &under.kind else {
        return Arc::clone(over);
    };
    let Kind::Record { name, fields, items } = &over.kind else { return Arc::clone(over) };
    let is_same = under_name.is_none() || under_name == name;
    if !is_same || !items.is_empty() || !under_items.is_empty() {
        return Arc::clone(over);
    }
    let below = |name: &str| under_fields.iter().find(|field| field.name == name);
    let mut all: Vec<Field> = fields
        .iter()
        .map(|field| match below(&field.name) {
            Some(under) => Field { value: merged(&under.value, &field.value), ..field.clone() },
            None => field.clone(),
        })
        .collect();
    let is_silent = |under: &&Field| !fields.iter().any(|field| field.name == under.name);
    all.extend(under_fields.iter().filter(is_silent).cloned());
    Arc::new(Node { span: over.span, kind: Kind::Record { name: name.clone(), fields: all, items: Vec::new() } })
}
