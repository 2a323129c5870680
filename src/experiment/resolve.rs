//! From sections, each right by itself, to a run: lengths become steps, `Native` becomes a kind of numbers, and what
//! only shows when sections meet is checked.

use crate::experiment::file::LoadOptions;
use crate::experiment::length::Length;
use crate::experiment::problem::{Found, Problem, Span};
use crate::experiment::read::Placed;
use crate::experiment::read::evaluate::PlacedEvaluation;
use crate::experiment::read::model::ModelSection;
use crate::experiment::read::train::{ScheduleSection, TrainSection};
use crate::experiment::recipe::{
    Augmentation, Backend, Classification, Dataset, Evaluation, FineTune, Head, Layer, LinearProbe, Loss, Model,
    Numerics, Robustness, Schedule, Split, Train,
};
use crate::experiment::run::{Bookkeeping, DataFacts, Run};
use crate::experiment::smoke;

/// The data of a cell and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct DataPart {
    pub dataset: Dataset,
    pub split: Split,
    /// `None` where the data could not be looked at, which is a problem of its own.
    pub facts: Option<DataFacts>,
    /// Height and width that all images of the data set in the file share.
    pub native_side: Option<u32>,
}

impl DataPart {
    /// Looks at the data, unless `--smoke` replaces them.
    pub fn new(dataset: Placed<Dataset>, split: Placed<Split>, options: &LoadOptions, found: &mut Found) -> DataPart {
        let native_side = match dataset.value {
            Dataset::Builtin(_) | Dataset::Cifar10 { .. } | Dataset::Cifar100 { .. } => Some(32),
            Dataset::ImageFolder { .. } => None,
        };
        let (dataset, span) = (dataset.value, dataset.span);
        let (dataset, split, split_span) = if options.smoke {
            (smoke::DATASET, smoke::SPLIT, span)
        } else {
            (rooted(dataset, options.data_root), split.value, split.span)
        };
        let facts = (options.facts)(&dataset, split).map_err(|error| {
            // What goes wrong with the official split as well is not the split's fault.
            let is_of_split = split != Split::Official && (options.facts)(&dataset, Split::Official).is_ok();
            let (span, path) = if is_of_split { (split_span, "split") } else { (span, "dataset") };
            found.add(facts_problem(span, path, &error));
        });
        DataPart { dataset, split, facts: facts.ok(), native_side }
    }
}

fn rooted(mut dataset: Dataset, data_root: Option<&str>) -> Dataset {
    let Some(given) = data_root else { return dataset };
    match &mut dataset {
        Dataset::Builtin(_) => {}
        Dataset::Cifar10 { root } | Dataset::Cifar100 { root } | Dataset::ImageFolder { root } => {
            given.clone_into(root);
        }
    }
    dataset
}

fn facts_problem(span: Span, path: &str, error: &str) -> Problem {
    let (message, help) = error.split_once('\n').unwrap_or((error, ""));
    let problem = Problem::new(span, path, message);
    if help.trim().is_empty() { problem } else { problem.help(help) }
}

/// The sections of one cell; a section with mistakes is `None`, and what needs it is not checked.
pub struct Parts<'a> {
    pub data: Option<&'a DataPart>,
    pub model: Option<&'a ModelSection>,
    pub views: Option<&'a Placed<Vec<Augmentation>>>,
    pub train: Option<&'a TrainSection>,
    pub evaluate: Option<&'a Vec<PlacedEvaluation>>,
}

impl Parts<'_> {
    /// The run of these sections, with seed 0; its replicates differ in the seed alone.
    pub fn run(&self, options: &LoadOptions, found: &mut Found) -> Option<Run> {
        let numerics = self.train.and_then(|train| numerics(train.numerics, options.backend, found));
        let are_pieces_right = self.train.is_none_or(|train| check_pieces(train.micro_batch, options.backend, found));
        let are_met = self.model.zip(self.train).is_none_or(|(model, train)| check_head(model, train.loss, found));
        self.check_size(found);
        let facts = self.data.and_then(|data| data.facts);
        let trained = self.train.zip(facts).and_then(|(train, facts)| {
            let (steps, bookkeeping) = steps(train, facts.n_train, options.smoke, found)?;
            (are_pieces_right && are_met)
                .then_some((train_recipe(train, &steps, numerics?, options.smoke), bookkeeping))
        });
        let head = self.model.map(|section| section.model.head);
        let evaluate = self
            .evaluate
            .zip(facts)
            .and_then(|(placed, facts)| evaluations(placed, facts.n_train, head, options.smoke, found));
        let (data, (train, bookkeeping)) = (self.data?, trained?);
        Some(Run {
            dataset: data.dataset.clone(),
            facts: facts?,
            split: data.split,
            model: with_classes(&self.model?.model, facts?.n_classes),
            views: self.views?.value.clone(),
            train,
            evaluate: evaluate?,
            seed: 0,
            backend: options.backend,
            plans: None,
            code: None,
            smoke: options.smoke,
            bookkeeping,
        })
    }

    /// Without a crop nothing brings an image to the model's side.
    fn check_size(&self, found: &mut Found) {
        let (Some(data), Some(section), Some(views)) = (self.data, self.model, self.views) else { return };
        let model = &section.model;
        let has_crop = views.value.iter().any(|view| matches!(view, Augmentation::RandomResizedCrop { .. }));
        if has_crop || data.native_side == Some(model.side) {
            return;
        }
        let images = data.native_side.map_or("images of any size".to_owned(), |side| format!("{side}×{side} images"));
        let message = format!("these views leave {images} as they are, but the model's side is {}", model.side);
        found.add(Problem::new(views.span, "views", message).expected("a `RandomResizedCrop`"));
    }
}

fn numerics(asked: Placed<Option<Numerics>>, backend: Backend, found: &mut Found) -> Option<Numerics> {
    match (asked.value, backend) {
        (None | Some(Numerics::F32), Backend::Cpu | Backend::Reference) | (Some(Numerics::F32), Backend::Cuda) => {
            Some(Numerics::F32)
        }
        (None | Some(Numerics::Bf16), Backend::Cuda) => Some(Numerics::Bf16),
        (Some(Numerics::Bf16), Backend::Cpu | Backend::Reference) => {
            let problem = Problem::new(asked.span, "train.numerics", "`Bf16` needs the device `cuda`");
            found.add(problem.expected("`Native` or `F32` on this device"));
            None
        }
    }
}

/// The tape of `reference` holds a whole batch.
fn check_pieces(micro_batch: Placed<Option<u32>>, backend: Backend, found: &mut Found) -> bool {
    match (micro_batch.value, backend) {
        (None, Backend::Cpu | Backend::Cuda | Backend::Reference) | (Some(_), Backend::Cpu | Backend::Cuda) => true,
        (Some(_), Backend::Reference) => {
            let message = "`reference` sees a batch in one piece";
            let problem = Problem::new(micro_batch.span, "train.micro_batch", message);
            found.add(problem.expected("`None` on this device"));
            false
        }
    }
}

/// Encoders of a training that are kept before its last; each is evaluated.
const SNAPSHOTS_MAX: u64 = 1_000;

/// A loss of labels takes a classifier's logits, and no other loss does.
fn check_head(section: &ModelSection, loss: Placed<Loss>, found: &mut Found) -> bool {
    let is_classifier = matches!(section.model.head, Head::Classifier { .. });
    match (loss.value.has_labels(), is_classifier) {
        (true, true) | (false, false) => return true,
        (true, false) => {
            let message = "`CrossEntropy` learns the classes of the data, and this head has other outputs";
            found.add(Problem::new(loss.span, "train.loss", message).expected("`head: Classifier` in `model`"));
        }
        (false, true) => {
            let message = "a `Classifier` needs a loss of labels, and this one contrasts views";
            found.add(Problem::new(section.head, "model.head", message).expected("`loss: CrossEntropy` in `train`"));
        }
    }
    false
}

/// A classifier is as wide as the data have classes.
fn with_classes(model: &Model, n_classes: u32) -> Model {
    let head = match model.head {
        Head::Classifier { n_classes: _ } => Head::Classifier { n_classes },
        other @ (Head::None | Head::Linear { .. } | Head::Mlp { .. }) => other,
    };
    Model { head, ..model.clone() }
}

/// What lengths come to.
struct Steps {
    batch: u32,
    micro_batch: Option<u32>,
    length: u64,
    schedule: Schedule,
    snapshots_every: Option<u64>,
}

fn steps(train: &TrainSection, n_train: u32, is_smoke: bool, found: &mut Found) -> Option<(Steps, Bookkeeping)> {
    let (batch, micro_batch) = match (is_smoke, train.micro_batch.value) {
        (false, micro_batch) => (train.batch.value, micro_batch),
        (true, None) => (smoke::batch(train.batch.value, n_train), None),
        (true, Some(_)) => {
            let (batch, half) = smoke::batch_in_pieces(train.batch.value, n_train);
            (batch, Some(half))
        }
    };
    if batch > n_train {
        let message = format!("a batch of {batch} is larger than the {n_train} training images");
        found.add(Problem::new(train.batch.span, "train.batch", message).expected(format!("at most {n_train}")));
        return None;
    }
    let in_steps = |length: Length| length.steps(batch, n_train);
    let full = in_steps(train.length.value);
    let length = if is_smoke { smoke::length_steps(full) } else { full };
    let schedule = match train.schedule.value {
        ScheduleSection::Constant => Schedule::Constant,
        ScheduleSection::Cosine => Schedule::Cosine,
        ScheduleSection::WarmupCosine { warmup, form } => {
            let mut warmup_steps = in_steps(warmup);
            if is_smoke {
                warmup_steps = smoke::warmup_steps(warmup_steps, full, length);
            }
            if length > 0 && warmup_steps >= length {
                let message =
                    format!("a warm-up of {warmup_steps} steps does not end within the {length} of the training");
                let problem = Problem::new(train.schedule.span, "train.schedule.warmup", message);
                found.add(problem.expected("a warm-up shorter than `train.length`"));
                return None;
            }
            Schedule::WarmupCosine { warmup_steps, form }
        }
    };
    let snapshots_every = snapshots_every(train.snapshots, in_steps, (full, length), is_smoke, found)?;
    let bookkeeping = Bookkeeping {
        metrics_every_steps: in_steps(train.metrics_every).max(1),
        checkpoint_every_steps: in_steps(train.checkpoint_every).max(1),
    };
    let steps = Steps { batch, micro_batch, length, schedule, snapshots_every };
    Some((steps, if is_smoke { smoke::BOOKKEEPING } else { bookkeeping }))
}

/// Steps from one snapshot to the next; the inner `None` where none comes before the end, whatever the file says.
fn snapshots_every(
    asked: Placed<Option<Length>>,
    in_steps: impl Fn(Length) -> u64,
    (full, length): (u64, u64),
    is_smoke: bool,
    found: &mut Found,
) -> Option<Option<u64>> {
    let Some(every) = asked.value.map(|every| in_steps(every).max(1)) else { return Some(None) };
    let n_snapshots = full.saturating_sub(1) / every;
    if n_snapshots > SNAPSHOTS_MAX {
        let message = format!("{n_snapshots} snapshots of {full} steps are more than the limit of {SNAPSHOTS_MAX}");
        let least = full.saturating_sub(1).div_ceil(SNAPSHOTS_MAX);
        found.add(
            Problem::new(asked.span, "train.snapshots", message).expected(format!("`Every` of at least {least} steps")),
        );
        return None;
    }
    let every = if is_smoke { smoke::snapshots_every(every, full, length) } else { every };
    Some(Some(every).filter(|every| *every < length))
}

fn train_recipe(train: &TrainSection, steps: &Steps, numerics: Numerics, is_smoke: bool) -> Train {
    Train {
        length_steps: steps.length,
        batch: steps.batch,
        micro_batch: steps.micro_batch,
        loss: if is_smoke { smoke::loss(train.loss.value) } else { train.loss.value },
        temperature: train.temperature,
        batch_norm_scope: train.batch_norm_scope,
        optimizer: train.optimizer,
        learning_rate: train.learning_rate,
        schedule: steps.schedule,
        numerics,
        snapshots_every_steps: steps.snapshots_every,
    }
}

/// The evaluations that the data and the head allow, shrunk where it is asked for.
fn evaluations(
    placed: &[PlacedEvaluation],
    n_train: u32,
    head: Option<Head>,
    is_smoke: bool,
    found: &mut Found,
) -> Option<Vec<Evaluation>> {
    let mut is_right = true;
    let mut evaluations = Vec::with_capacity(placed.len());
    for asked in placed {
        let n_bank = n_bank(&asked.value, n_train);
        let evaluation = if is_smoke { smoke::evaluation(&asked.value, n_bank) } else { asked.value.clone() };
        if let Some((field, size)) = size(&evaluation).filter(|(_, size)| *size > n_bank) {
            let message = format!("`{field}` is {size}, more than the {n_bank} training images");
            let problem = Problem::new(asked.size, format!("evaluate[{}].{field}", asked.index), message);
            found.add(problem.expected(format!("at most {n_bank}")));
            is_right = false;
        }
        is_right &= head.is_none_or(|head| check_layer(asked, head, found));
        evaluations.push(evaluation);
    }
    is_right.then_some(evaluations)
}

/// Images that it learns from.
fn n_bank(evaluation: &Evaluation, n_train: u32) -> u32 {
    match evaluation {
        Evaluation::Transfer(transfer) => transfer.facts.map_or(n_train, |facts| facts.n_train),
        Evaluation::Knn(_)
        | Evaluation::LinearProbe(_)
        | Evaluation::Health(_)
        | Evaluation::Robustness(_)
        | Evaluation::FineTune(_) => n_train,
    }
}

/// The field that may not be beyond the images it learns from.
fn size(evaluation: &Evaluation) -> Option<(&'static str, u32)> {
    match evaluation {
        Evaluation::Knn(knn) | Evaluation::Robustness(Robustness { knn }) => Some(("k", knn.k)),
        Evaluation::LinearProbe(LinearProbe { batch, .. }) | Evaluation::FineTune(FineTune { batch, .. }) => {
            Some(("batch", *batch))
        }
        Evaluation::Health(_) => None,
        Evaluation::Transfer(transfer) => match &transfer.protocol {
            Classification::Knn(knn) => Some(("protocol.k", knn.k)),
            Classification::LinearProbe(probe) => Some(("protocol.batch", probe.batch)),
        },
    }
}

/// Looks at the data that evaluations transfer to, unless `--smoke` replaces them; none where one could not be looked at.
pub fn with_facts(
    placed: Vec<PlacedEvaluation>,
    options: &LoadOptions,
    found: &mut Found,
) -> Option<Vec<PlacedEvaluation>> {
    let mut looked_at = |mut placed: PlacedEvaluation| {
        let Evaluation::Transfer(transfer) = &mut placed.value else { return Some(placed) };
        transfer.dataset =
            if options.smoke { smoke::OTHER_DATASET } else { rooted(transfer.dataset.clone(), options.data_root) };
        let facts = (options.facts)(&transfer.dataset, Split::Official).map_err(|error| {
            found.add(facts_problem(placed.dataset, &format!("evaluate[{}].dataset", placed.index), &error));
        });
        transfer.facts = Some(facts.ok()?);
        Some(placed)
    };
    let all: Vec<Option<PlacedEvaluation>> = placed.into_iter().map(&mut looked_at).collect();
    all.into_iter().collect()
}

fn check_layer(asked: &PlacedEvaluation, head: Head, found: &mut Found) -> bool {
    let depth = match head {
        Head::None => 0,
        Head::Linear { .. } | Head::Classifier { .. } => 1,
        Head::Mlp { layers, .. } => layers,
    };
    let number = match asked.value.layer() {
        Layer::Backbone | Layer::Projection => return true,
        Layer::Head(number) => number,
    };
    if number <= depth {
        return true;
    }
    let has = match depth {
        0 => "there is no head".to_owned(),
        1 => "the head has 1 layer".to_owned(),
        depth => format!("the head has {depth} layers"),
    };
    let problem =
        Problem::new(asked.layer, format!("evaluate[{}].layer", asked.index), format!("`Head({number})`, but {has}"));
    let numbered: Vec<String> = (1..=depth).map(|number| format!("`Head({number})`")).collect();
    let known = [vec!["`Backbone`".to_owned(), "`Projection`".to_owned()], numbered].concat();
    found.add(problem.expected(format!("one of {}", known.join(", "))));
    false
}
