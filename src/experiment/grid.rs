//! From the sections of a file and the axes of its sweep to cells. Expansion is a pure, ordered, limited product, the
//! last axis fastest; a section is read once for every choice of the axes that touch it, not once a cell.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::content::{Key, Value};
use crate::experiment::defaults::left_out;
use crate::experiment::file::LoadOptions;
use crate::experiment::path::replaced;
use crate::experiment::preset;
use crate::experiment::problem::{Found, Problem, Span};
use crate::experiment::read::evaluate::{self, PlacedEvaluation};
use crate::experiment::read::model::{self, ModelSection};
use crate::experiment::read::sweep::{Axis, Factor, same_value};
use crate::experiment::read::train::{self, TrainSection};
use crate::experiment::read::{At, Path, Placed, dataset, views};
use crate::experiment::recipe::{Augmentation, Evaluation, Split};
use crate::experiment::resolve::{DataPart, Parts, with_facts};
use crate::experiment::run::Run;
use crate::experiment::tree::Node;
use crate::experiment::{self, Cell, evaluation_names, meaning};

/// A section's readings by the choice of the axes that touch it.
type Readings<T> = BTreeMap<Vec<usize>, Option<Rc<T>>>;

/// The file's sections and what varies in them.
pub struct Grid<'a> {
    /// Of the whole experiment, to point at what is missing.
    pub span: Span,
    pub bases: GridBases<'a>,
    pub factors: &'a [Factor],
    pub seeds: &'a [u64],
    pub options: &'a LoadOptions<'a>,
}

/// What the file and a preset say together, for every preset in use.
pub struct GridBases<'a> {
    /// The sections that there are, by name; one map for every base.
    pub sections: &'a [BTreeMap<&'static str, Arc<Node>>],
    /// The base of each value of the axis of presets; empty without one.
    pub of_pick: &'a [usize],
}

/// What a grid comes to.
#[derive(Default)]
pub struct Expanded {
    pub cells: Vec<Cell>,
    /// What is measured, `knn.top1`: once for every sound reading of `evaluate` and of the views it measures, whether the
    /// cells are sound or not.
    pub metrics: Vec<Vec<String>>,
}

#[derive(Default)]
struct Memory {
    data: Readings<DataPart>,
    model: Readings<ModelSection>,
    views: Readings<Placed<Vec<Augmentation>>>,
    train: Readings<TrainSection>,
    evaluate: Readings<Vec<PlacedEvaluation>>,
}

fn metrics(memory: &Memory) -> Vec<Vec<String>> {
    let views: Vec<&[Augmentation]> = memory.views.values().flatten().map(|views| views.value.as_slice()).collect();
    let has_snapshots = memory.train.values().flatten().any(|train| train.snapshots.value.is_some());
    let of = |placed: &[PlacedEvaluation], views: &[Augmentation]| -> Vec<String> {
        let evaluations: Vec<Evaluation> = placed.iter().map(|placed| placed.value.clone()).collect();
        let named = evaluation_names(&evaluations).into_iter().zip(&evaluations);
        let metrics = named.map(|(name, evaluation)| {
            let best = experiment::metrics_of_best(evaluation).iter().filter(|_| has_snapshots);
            let best = best.flat_map(|metric| experiment::best_names(metric));
            let metrics = experiment::metrics(evaluation, views).into_iter().chain(best);
            metrics.map(|metric| format!("{name}.{metric}")).collect::<Vec<_>>()
        });
        metrics.collect::<Vec<_>>().concat()
    };
    let readings = memory.evaluate.values().flatten();
    let all = readings.flat_map(|placed| {
        let views = if views.is_empty() { &[&[][..]][..] } else { &views };
        views.iter().map(|views| of(placed, views)).collect::<Vec<_>>()
    });
    all.collect()
}

impl Grid<'_> {
    pub fn axes(&self) -> impl Iterator<Item = &Axis> {
        self.factors.iter().flat_map(|factor| &factor.axes)
    }

    /// Without building them.
    pub fn n_cells(&self) -> u128 {
        self.factors.iter().fold(1, |cells: u128, factor| cells.saturating_mul(factor.n_values() as u128))
    }

    /// Every cell in order. Cells with mistakes are left out; their mistakes are in `found`.
    pub fn expanded(&self, found: &mut Found) -> Expanded {
        let mut memory = Memory::default();
        let mut cells = Vec::new();
        let mut meanings = BTreeMap::new();
        let mut choice = vec![0; self.factors.len()];
        loop {
            let picks = self.picks(&choice);
            if let Some(run) = self.run(&picks, &mut memory, found) {
                self.check_duplicate(&run, &picks, &mut meanings, found);
                cells.push(self.cell(&run, &picks));
            }
            if !self.advance(&mut choice) {
                return Expanded { cells, metrics: metrics(&memory) };
            }
        }
    }

    /// Counts on like an odometer; false behind the last choice.
    fn advance(&self, choice: &mut [usize]) -> bool {
        for (place, factor) in choice.iter_mut().zip(self.factors).rev() {
            *place += 1;
            if *place < factor.n_values() {
                return true;
            }
            *place = 0;
        }
        false
    }

    /// The chosen value of every axis; zipped ones share theirs.
    fn picks(&self, choice: &[usize]) -> Vec<usize> {
        let repeated = self.factors.iter().zip(choice).map(|(factor, pick)| vec![*pick; factor.axes.len()]);
        repeated.flatten().collect()
    }

    fn labels(&self, picks: &[usize]) -> Vec<String> {
        self.axes().zip(picks).map(|(axis, pick)| axis.values[*pick].label.clone()).collect()
    }

    fn cell(&self, run: &Run, picks: &[usize]) -> Cell {
        let runs = self.seeds.iter().map(|&seed| Run { seed, ..run.clone() }).collect();
        Cell { labels: self.labels(picks), runs }
    }

    /// Two cells that mean the same would be one run shown as two results. Shrunk cells may coincide.
    fn check_duplicate(&self, run: &Run, picks: &[usize], meanings: &mut BTreeMap<Key, Vec<usize>>, found: &mut Found) {
        if self.options.smoke || picks.is_empty() || !found.is_empty() {
            return;
        }
        let mut parts = vec![run.pretrain_meaning()];
        parts.extend(run.evaluate.iter().map(meaning::evaluation));
        let key = Key::of_value("ablate/cell/k1", &Value::List(parts));
        let Some(earlier) = meanings.insert(key, picks.to_vec()) else { return };
        let differs = picks.iter().zip(&earlier).position(|(pick, other)| pick != other).unwrap_or(0);
        let Some(axis) = self.axes().nth(differs) else { return };
        found.add(same_value(&axis.path, &axis.values[picks[differs]], &axis.values[earlier[differs]].label));
    }

    fn run(&self, picks: &[usize], memory: &mut Memory, found: &mut Found) -> Option<Run> {
        let data = self.reading(&["dataset", "split"], picks, &mut memory.data, found, Self::read_data);
        let model = self.reading(&["model"], picks, &mut memory.model, found, Self::read_model);
        let views = self.reading(&["views"], picks, &mut memory.views, found, Self::read_views);
        let train = self.reading(&["train"], picks, &mut memory.train, found, Self::read_train);
        let evaluate = self.reading(&["evaluate"], picks, &mut memory.evaluate, found, Self::read_evaluate);
        let parts = Parts {
            data: data.as_deref(),
            model: model.as_deref(),
            views: views.as_deref(),
            train: train.as_deref(),
            evaluate: evaluate.as_deref(),
        };
        parts.run(self.options, found)
    }

    fn reading<T>(
        &self,
        names: &[&'static str],
        picks: &[usize],
        readings: &mut Readings<T>,
        found: &mut Found,
        read: fn(&Self, &[usize], &mut Found) -> Option<T>,
    ) -> Option<Rc<T>> {
        // Presets say nothing of the data.
        let is_of_presets = |section: &str| section == preset::FIELD && !names.contains(&"dataset");
        let touching = self.axes().zip(picks).filter(|(axis, _)| {
            let section = axis.path.section();
            names.contains(&section) || is_of_presets(section)
        });
        let choice: Vec<usize> = touching.map(|(_, pick)| *pick).collect();
        if let Some(known) = readings.get(&choice) {
            return known.clone();
        }
        let value = read(self, picks, found).map(Rc::new);
        readings.insert(choice, value.clone());
        value
    }

    /// A section with the chosen values in place; `Some(None)` where the file leaves it out.
    fn section(&self, name: &'static str, picks: &[usize], found: &mut Found) -> Option<Option<Arc<Node>>> {
        let preset = self.axes().zip(picks).find(|(axis, _)| axis.path.section() == preset::FIELD);
        let base = preset.and_then(|(_, pick)| self.bases.of_pick.get(*pick)).copied().unwrap_or(0);
        let mut section = self.bases.sections[base].get(name).cloned();
        for (axis, pick) in self.axes().zip(picks).filter(|(axis, _)| axis.path.section() == name) {
            let node = section.unwrap_or_else(|| Arc::new(left_out(&axis.path.0[..1], None, axis.path_span)));
            match replaced(&node, &axis.path.0, 1, &axis.values[*pick].node, axis.path_span) {
                Ok(node) => section = Some(node),
                Err(error) => {
                    let problem = Problem::new(axis.path_span, &axis.path, error.to_string());
                    found.add(problem.help(format!("write out `{name}` in the file, so that the axis has a place")));
                    return None;
                }
            }
        }
        Some(section)
    }

    /// Reads a section, or takes its default.
    fn section_or<T>(
        &self,
        name: &'static str,
        picks: &[usize],
        found: &mut Found,
        default: T,
        read: fn(&At, &mut Found) -> Option<T>,
    ) -> Option<Placed<T>> {
        let Some(node) = self.section(name, picks, found)? else {
            return Some(Placed { value: default, span: self.span });
        };
        let value = read(&At { node: &node, path: Path::Field(&Path::Root, name) }, found)?;
        Some(Placed { value, span: node.span })
    }

    fn read_data(&self, picks: &[usize], found: &mut Found) -> Option<DataPart> {
        let split = self.section_or("split", picks, found, Split::Official, dataset::split);
        // A file without data is a mistake that is known by now.
        let node = self.section("dataset", picks, found)??;
        let value = dataset::dataset(&At { node: &node, path: Path::Field(&Path::Root, "dataset") }, found)?;
        Some(DataPart::new(Placed { value, span: node.span }, split?, self.options, found))
    }

    fn read_model(&self, picks: &[usize], found: &mut Found) -> Option<ModelSection> {
        self.section_or("model", picks, found, model::default(self.span), model::model).map(|model| model.value)
    }

    fn read_views(&self, picks: &[usize], found: &mut Found) -> Option<Placed<Vec<Augmentation>>> {
        self.section_or("views", picks, found, views::default(), views::views)
    }

    fn read_train(&self, picks: &[usize], found: &mut Found) -> Option<TrainSection> {
        let node = self.section("train", picks, found)?.unwrap_or_else(|| Arc::new(Node::empty_record(self.span)));
        train::train(&At { node: &node, path: Path::Field(&Path::Root, "train") }, found)
    }

    fn read_evaluate(&self, picks: &[usize], found: &mut Found) -> Option<Vec<PlacedEvaluation>> {
        let default = evaluate::default(self.span);
        self.section_or("evaluate", picks, found, default, evaluate::evaluate)
            .and_then(|evaluate| with_facts(evaluate.value, self.options, found))
    }
}
