//! The format of an experiment file: text and overrides in, a checked and resolved [`Experiment`] out, or every mistake
//! at once. Field order is free, and whatever a file leaves out takes a default: `format.ron`, beside this file, spells
//! all of them out.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::Arc;

use crate::experiment::grid::{Expanded, Grid, GridBases};
use crate::experiment::layout::{Shape, layout};
use crate::experiment::overrides::{self, Override, check_overwritten};
use crate::experiment::preset::{self, Bases, preset};
use crate::experiment::problem::{Found, Problem, Problems, Source, Span};
use crate::experiment::read::scalar::{text, whole};
use crate::experiment::read::sweep::{Factor, SECTIONS, Sweep, TableSection, sweep, table};
use crate::experiment::read::{At, Fields, Path, Placed, list, record};
use crate::experiment::recipe::{Backend, Dataset, Split};
use crate::experiment::run::DataFacts;
use crate::experiment::tree::{Kind, Node, parse};
use crate::experiment::{AxisInfo, Experiment, smoke};

/// What the command line adds to a file.
pub struct LoadOptions<'a> {
    /// `train.batch=512`, `seeds=[0]`, `evaluate[0].k=20`: a path and the RON that replaces what stands there.
    pub overrides: &'a [String],
    /// Shrinks every run to seconds.
    pub smoke: bool,
    pub backend: Backend,
    /// Takes the place of every data set's root.
    pub data_root: Option<&'a str>,
    /// The recipe as written, one cell, whatever the sweep says.
    pub ignore_sweep: bool,
    /// Looks at a data set. The first line of an error says what is wrong, the others what to do.
    pub facts: &'a dyn Fn(&Dataset, Split) -> Result<DataFacts, String>,
}

/// Cells × seeds, unless `max_cells` says otherwise.
const RUNS_MAX: u64 = 10_000;
const RUNS_MAX_MAX: u64 = 1_000_000;

/// Reads an experiment. `shown_path` names it in messages, and its stem names the experiment.
pub fn load(shown_path: &str, text: &str, options: &LoadOptions) -> Result<Experiment, Problems> {
    // Some editors put a byte-order mark before the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Found::default();
    let experiment = parse(0, text, 0, &mut found).and_then(|root| {
        let overrides = overrides::parsed(options.overrides, &mut found);
        let bases = Bases::new(&root, &overrides, options.ignore_sweep, &mut found);
        experiment(shown_path, &bases, &overrides, options, &mut found)
    });
    match experiment {
        Some(experiment) if found.is_empty() => Ok(experiment),
        Some(_) | None => Err(found.into_problems(sources(shown_path, text, options.overrides))),
    }
}

fn sources(shown_path: &str, text: &str, overrides: &[String]) -> Vec<Source> {
    let file = Source { shown: shown_path.to_owned(), text: text.to_owned() };
    let others = overrides
        .iter()
        .enumerate()
        .map(|(index, text)| Source { shown: format!("command line, override {}", index + 1), text: text.clone() });
    std::iter::once(file).chain(others).collect()
}

/// All but the sections that describe a run.
struct Frame {
    question: Option<String>,
    seeds: Option<Vec<u64>>,
    /// Neither there nor misspelt; a sweep may still bring it.
    lacks_dataset: bool,
    sweep: Option<Placed<Sweep>>,
    runs_max: Option<u64>,
    table: Option<TableSection>,
}

fn experiment(
    shown_path: &str,
    bases: &Bases,
    overrides: &[Override],
    options: &LoadOptions,
    found: &mut Found,
) -> Option<Experiment> {
    let root = &bases.roots[0];
    let frame = record(&At { node: root, path: Path::Root }, found, "Experiment", |fields| Some(frame(fields)))?;
    let sections: Vec<_> = bases.roots.iter().map(|root| sections(root)).collect();
    let asked_seeds = frame.seeds.clone().unwrap_or_else(|| vec![0]);
    let seeds = if options.smoke { smoke::seeds(&asked_seeds) } else { asked_seeds.clone() };
    let placed = frame.sweep.as_ref();
    let factors = if options.ignore_sweep { &[] } else { placed.map_or(&[][..], |placed| &placed.value.factors) };
    let is_sweep_known = options.ignore_sweep || placed.is_some_and(|placed| !placed.value.lacks_some);
    check_overwritten(overrides, factors, found);
    check_presets(factors, found);
    if frame.lacks_dataset && is_sweep_known {
        check_dataset(root.span, factors, found);
    }
    let bases = GridBases { sections: &sections, of_pick: &bases.of_pick };
    let grid = Grid { span: root.span, bases, factors, seeds: &seeds, options };
    let runs_max = frame.runs_max.unwrap_or(RUNS_MAX);
    let n_runs = grid.n_cells().saturating_mul(asked_seeds.len() as u128);
    let is_too_large = n_runs > u128::from(runs_max);
    if is_too_large {
        let span = placed.map_or(root.span, |placed| placed.span);
        let message = format!("{n_runs} runs are more than the limit of {runs_max}");
        let problem = Problem::new(span, "sweep", message);
        found.add(
            problem.expected(format!("cells × seeds of at most {runs_max}")).help("raise `max_cells`, or sweep less"),
        );
    }
    let Expanded { cells, metrics } = if is_too_large { Expanded::default() } else { grid.expanded(found) };
    let axes: Vec<AxisInfo> = grid
        .axes()
        .map(|axis| AxisInfo {
            path: axis.path.to_string(),
            labels: axis.values.iter().map(|value| value.label.clone()).collect(),
        })
        .collect();
    let name = name(shown_path, root.span, found);
    let known_axes = is_sweep_known.then_some(axes.as_slice());
    let shape = Shape { axes: known_axes, cells: &cells, metrics: &metrics };
    let table = layout(frame.table?, &shape, options.ignore_sweep, root.span, found);
    Some(Experiment {
        name,
        question: frame.question?,
        axes,
        cells,
        seeds: frame.seeds.and(Some(seeds))?,
        table: table?,
        smoke: options.smoke,
    })
}

/// The stem, which names the results. Those of `x.history` would lie where the history of `x` does.
fn name(shown_path: &str, span: Span, found: &mut Found) -> String {
    let name = FilePath::new(shown_path).file_stem().map_or("experiment".into(), |stem| stem.to_string_lossy());
    if let Some(other) = name.strip_suffix(".history") {
        let message = format!("the results of `{name}` would be taken for the history of `{other}`");
        found.add(Problem::new(span, "", message).help("give the file a name that does not end in `.history`"));
    }
    name.into_owned()
}

/// What an axis of presets names has to be one.
fn check_presets(factors: &[Factor], found: &mut Found) {
    let axes = factors.iter().flat_map(|factor| &factor.axes).filter(|axis| axis.path.section() == preset::FIELD);
    for value in axes.flat_map(|axis| &axis.values) {
        preset(&At { node: &value.node, path: Path::Field(&Path::Root, preset::FIELD) }, found);
    }
}

/// Every file has to name its data, or sweep them.
fn check_dataset(span: Span, factors: &[Factor], found: &mut Found) {
    if factors.iter().flat_map(|factor| &factor.axes).any(|axis| axis.path.section() == "dataset") {
        return;
    }
    let problem = Problem::new(span, "dataset", "`Experiment` lacks the field `dataset`");
    found.add(problem.expected("`Builtin`, `Cifar10(root: ...)`, `Cifar100(root: ...)` or `ImageFolder(root: ...)`"));
}

fn frame(fields: &mut Fields) -> Frame {
    let question = fields.required("question", "what the experiment is to find out, in double quotes", |at, found| {
        let question = text(at, found)?;
        if question.trim().is_empty() {
            found.add(at.problem("the question is empty").expected("what the experiment is to find out"));
            return None;
        }
        Some(question)
    });
    fields.given(preset::FIELD, preset);
    for name in SECTIONS {
        fields.given(name, |_, _| Some(()));
    }
    let seeds = fields.optional("seeds", vec![0, 1, 2], seeds);
    let sweep = fields.placed("sweep", Sweep::default(), sweep);
    let runs_max = fields.optional("max_cells", RUNS_MAX, |at, found| whole(at, found, 1..=RUNS_MAX_MAX));
    let table = fields.optional("table", TableSection::default(), table);
    let lacks_dataset = fields.lacks("dataset");
    Frame { question, seeds, lacks_dataset, sweep, runs_max, table }
}

fn sections(root: &Node) -> BTreeMap<&'static str, Arc<Node>> {
    let Kind::Record { fields, .. } = &root.kind else { return BTreeMap::new() };
    let section = |name: &'static str| {
        fields.iter().find(|field| field.name == name).map(|field| (name, Arc::clone(&field.value)))
    };
    SECTIONS.into_iter().filter_map(section).collect()
}

/// Replicates: at least one, none twice.
fn seeds(at: &At, found: &mut Found) -> Option<Vec<u64>> {
    let seeds = list(at, found, "a list of whole numbers, `[0, 1, 2]`", |at, found| {
        whole(at, found, 0..=u64::MAX).map(|value| Placed { value, span: at.node.span })
    })?;
    if seeds.is_empty() {
        found.add(at.problem("there are no seeds").expected("at least one seed, `[0]`"));
        return None;
    }
    let mut seen = std::collections::BTreeSet::new();
    for seed in &seeds {
        if !seen.insert(seed.value) {
            let problem = at.problem(format!("seed `{}` is given twice", seed.value));
            found.add(Problem { span: seed.span, ..problem }.expected("every seed once"));
        }
    }
    Some(seeds.into_iter().map(|seed| seed.value).collect())
}
