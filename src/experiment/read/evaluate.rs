//! The section `evaluate`: what is asked of a trained encoder.

use crate::experiment::meaning;
use crate::experiment::problem::{Found, Problem, Span};
use crate::experiment::read::scalar::{below_one, count, not_negative, positive, real, whole};
use crate::experiment::read::{At, Fields, dataset, list, unit, variant};
use crate::experiment::recipe::{
    Classification, Evaluation, FineTune, Health, Knn, Layer, LinearProbe, Metric, ProbeViews, Robustness, Transfer,
    Vote,
};
use crate::experiment::tree::Kind;

/// Values an axis of a grid of k-NNs may have; what a run asks is listed wherever the run is.
const GRID_AXIS_MAX: usize = 64;

/// An evaluation, and where the file says what other sections bound.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacedEvaluation {
    pub value: Evaluation,
    /// Its place in the list; the points of a grid share theirs.
    pub index: usize,
    /// Of its size, `k` or `batch`, which the data set bounds.
    pub size: Span,
    /// Of its layer, which the head bounds.
    pub layer: Span,
    /// Of the data that it transfers to.
    pub dataset: Span,
}

/// What one item of the list asks, before it is known where in the list it stands.
type Asked = Vec<(Evaluation, [Span; 2])>;

/// Whether two evaluations ask the same. Data sets are not looked at yet, so they are told apart by what the file says.
fn are_same(one: &Evaluation, other: &Evaluation) -> bool {
    let dataset = |evaluation: &Evaluation| match evaluation {
        Evaluation::Transfer(transfer) => Some(transfer.dataset.clone()),
        Evaluation::Knn(_)
        | Evaluation::LinearProbe(_)
        | Evaluation::Health(_)
        | Evaluation::Robustness(_)
        | Evaluation::FineTune(_) => None,
    };
    meaning::evaluation(one) == meaning::evaluation(other) && dataset(one) == dataset(other)
}

/// A k-NN with Lightly's settings.
pub fn default(span: Span) -> Vec<PlacedEvaluation> {
    vec![PlacedEvaluation { value: Evaluation::Knn(Knn::DEFAULT), index: 0, size: span, layer: span, dataset: span }]
}

pub fn evaluate(at: &At, found: &mut Found) -> Option<Vec<PlacedEvaluation>> {
    let items = list(at, found, "a list of evaluations, `[Knn, LinearProbe]`", |at, found| {
        let asked = variant(
            at,
            found,
            &[
                ("Knn", |fields| knn(fields).map(|(knn, spans)| vec![(Evaluation::Knn(knn), spans)])),
                ("LinearProbe", linear_probe),
                ("KnnGrid", knn_grid),
                ("Health", health),
                ("Robustness", robustness),
                ("Transfer", transfer),
                ("FineTune", fine_tune),
            ],
        )?;
        Some((asked, at.node.span))
    })?;
    if items.is_empty() {
        found.add(at.problem("nothing is evaluated").expected("at least one of `Knn`, `LinearProbe`"));
        return None;
    }
    let mut evaluations: Vec<PlacedEvaluation> = Vec::new();
    for (index, (asked, span)) in items.into_iter().enumerate() {
        for (value, [size, layer]) in asked {
            if evaluations.iter().any(|earlier| are_same(&earlier.value, &value)) {
                let problem = Problem { span, ..at.problem("this evaluation is given twice") };
                found.add(problem.expected("every evaluation once"));
            }
            evaluations.push(PlacedEvaluation { value, index, size, layer, dataset: span });
        }
    }
    Some(evaluations)
}

fn metric(at: &At, found: &mut Found) -> Option<Metric> {
    unit(at, found, &[("Cosine", Metric::Cosine), ("Euclidean", Metric::Euclidean)])
}

fn vote(at: &At, found: &mut Found) -> Option<Vote> {
    unit(at, found, &[("Weighted", Vote::Weighted), ("Majority", Vote::Majority)])
}

/// `Head(1)` is the first; whether there are as many is judged where the head is known.
fn layer(at: &At, found: &mut Found) -> Option<Layer> {
    variant(
        at,
        found,
        &[
            ("Backbone", |_| Some(Layer::Backbone)),
            ("Head", |fields| {
                let number =
                    fields.item("the number of a layer of the head, from 1", |at, found| count(at, found, 1..=8));
                Some(Layer::Head(number?))
            }),
            ("Projection", |_| Some(Layer::Projection)),
        ],
    )
}

fn knn(fields: &mut Fields) -> Option<(Knn, [Span; 2])> {
    let k = fields.placed("k", Knn::DEFAULT.k, |at, found| count(at, found, 1..=u32::MAX));
    let temperature = fields.optional("temperature", Knn::DEFAULT.temperature, positive);
    let metric = fields.optional("metric", Knn::DEFAULT.metric, self::metric);
    let vote = fields.optional("vote", Knn::DEFAULT.vote, self::vote);
    let layer = fields.placed("layer", Knn::DEFAULT.layer, self::layer);
    let (k, layer) = (k?, layer?);
    let knn =
        Knn { k: k.value, temperature: temperature?, metric: metric?, vote: vote?, layer: layer.value, grid_k: None };
    Some((knn, [k.span, layer.span]))
}

fn robustness(fields: &mut Fields) -> Option<Asked> {
    let (knn, spans) = knn(fields)?;
    Some(vec![(Evaluation::Robustness(Robustness { knn }), spans)])
}

/// One value, or a list of several.
fn axis<T: PartialEq>(at: &At, found: &mut Found, read: impl Fn(&At, &mut Found) -> Option<T>) -> Option<Vec<T>> {
    let Kind::List(items) = &at.node.kind else { return Some(vec![read(at, found)?]) };
    if items.is_empty() || items.len() > GRID_AXIS_MAX {
        let message = format!("`{}` has {} values", at.path, items.len());
        found.add(at.problem(message).expected(format!("one value, or a list of 1 to {GRID_AXIS_MAX}")));
        return None;
    }
    let values = list(at, found, "a list of values", &read)?;
    for (index, value) in values.iter().enumerate() {
        if values[..index].contains(value) {
            let problem = Problem { span: items[index].span, ..at.problem("this value is given twice") };
            found.add(problem.expected("every value once"));
            return None;
        }
    }
    Some(values)
}

/// Every combination, the last field fastest. A temperature without an effect makes no second evaluation.
fn knn_grid(fields: &mut Fields) -> Option<Asked> {
    let base = Knn::DEFAULT;
    let k = fields.placed("k", vec![base.k], |at, found| axis(at, found, |at, found| count(at, found, 1..=u32::MAX)));
    let temperatures = fields.optional("temperature", vec![base.temperature], |at, found| axis(at, found, positive));
    let metrics = fields.optional("metric", vec![base.metric], |at, found| axis(at, found, metric));
    let votes = fields.optional("vote", vec![base.vote], |at, found| axis(at, found, vote));
    let layers = fields.placed("layer", vec![base.layer], |at, found| axis(at, found, layer));
    let (k, temperatures, metrics, votes, layers) = (k?, temperatures?, metrics?, votes?, layers?);
    let mut points: Vec<Knn> = vec![base];
    points = crossed(&points, &layers.value, |point, &layer| Knn { layer, ..point });
    points = crossed(&points, &votes, |point, &vote| Knn { vote, ..point });
    points = crossed(&points, &metrics, |point, &metric| Knn { metric, ..point });
    points = crossed(&points, &k.value, |point, &k| Knn { k, grid_k: Some(k), ..point });
    points = crossed(&points, &temperatures, |point, &temperature| Knn { temperature, ..point });
    let first = temperatures[0];
    points.retain(|point| point.has_temperature() || point.temperature == first);
    Some(points.into_iter().map(|knn| (Evaluation::Knn(knn), [k.span, layers.span])).collect())
}

fn crossed<T>(points: &[Knn], values: &[T], with: impl Fn(Knn, &T) -> Knn) -> Vec<Knn> {
    points.iter().flat_map(|point| values.iter().map(|value| with(*point, value)).collect::<Vec<_>>()).collect()
}

fn linear_probe(fields: &mut Fields) -> Option<Asked> {
    let (probe, spans) = probe(fields)?;
    Some(vec![(Evaluation::LinearProbe(probe), spans)])
}

fn probe(fields: &mut Fields) -> Option<(LinearProbe, [Span; 2])> {
    let default = LinearProbe::DEFAULT;
    let epochs = fields.optional("epochs", default.epochs, |at, found| count(at, found, 1..=100_000));
    let batch = fields.placed("batch", default.batch, |at, found| count(at, found, 1..=1 << 20));
    let learning_rate = fields.optional("learning_rate", default.learning_rate, not_negative);
    let momentum = fields.optional("momentum", default.momentum, below_one);
    let weight_decay = fields.optional("weight_decay", default.weight_decay, not_negative);
    let seed = fields.optional("seed", default.seed, |at, found| whole(at, found, 0..=u64::MAX));
    let augment = fields.optional("augment", default.augment, augment);
    let labels = fields.optional("labels", default.labels, share);
    let layer = fields.placed("layer", default.layer, self::layer);
    let (batch, layer) = (batch?, layer?);
    let probe = LinearProbe {
        epochs: epochs?,
        batch: batch.value,
        learning_rate: learning_rate?,
        momentum: momentum?,
        weight_decay: weight_decay?,
        seed: seed?,
        layer: layer.value,
        augment: augment?,
        labels: labels?,
    };
    Some((probe, [batch.span, layer.span]))
}

fn augment(at: &At, found: &mut Found) -> Option<ProbeViews> {
    unit(at, found, &[("None", ProbeViews::Plain), ("CropAndFlip", ProbeViews::CropAndFlip)])
}

/// Of the labels.
fn share(at: &At, found: &mut Found) -> Option<f64> {
    real(at, found, "a share above 0 and at most 1", |share| share > 0.0 && share <= 1.0)
}

fn fine_tune(fields: &mut Fields) -> Option<Asked> {
    let (default, span) = (FineTune::DEFAULT, fields.span());
    let epochs = fields.optional("epochs", default.epochs, |at, found| count(at, found, 1..=100_000));
    // A batch norm of one image has no statistics.
    let batch = fields.placed("batch", default.batch, |at, found| count(at, found, 2..=1 << 20));
    let learning_rate = fields.optional("learning_rate", default.learning_rate, not_negative);
    let momentum = fields.optional("momentum", default.momentum, below_one);
    let weight_decay = fields.optional("weight_decay", default.weight_decay, not_negative);
    let seed = fields.optional("seed", default.seed, |at, found| whole(at, found, 0..=u64::MAX));
    let augment = fields.optional("augment", default.augment, augment);
    let labels = fields.optional("labels", default.labels, share);
    let batch = batch?;
    let tuning = FineTune {
        epochs: epochs?,
        batch: batch.value,
        learning_rate: learning_rate?,
        momentum: momentum?,
        weight_decay: weight_decay?,
        seed: seed?,
        augment: augment?,
        labels: labels?,
    };
    Some(vec![(Evaluation::FineTune(tuning), [batch.span, span])])
}

fn health(fields: &mut Fields) -> Option<Asked> {
    let rankme_min = fields.optional("rankme_min", Health::DEFAULT.rankme_min, not_negative);
    let feature_std_min = fields.optional("feature_std_min", Health::DEFAULT.feature_std_min, not_negative);
    let layer = fields.placed("layer", Health::DEFAULT.layer, self::layer)?;
    let health = Health { layer: layer.value, rankme_min: rankme_min?, feature_std_min: feature_std_min? };
    Some(vec![(Evaluation::Health(health), [layer.span; 2])])
}

/// `Transfer(dataset: Cifar100(root: "data"), protocol: LinearProbe(epochs: 30))`; a k-NN where nothing else is said.
fn transfer(fields: &mut Fields) -> Option<Asked> {
    let span = fields.span();
    let expected = "`Builtin`, `Cifar10(root: ...)`, `Cifar100(root: ...)` or `ImageFolder(root: ...)`";
    let dataset = fields.required("dataset", expected, dataset::dataset);
    let default = (Classification::Knn(Knn::DEFAULT), [span; 2]);
    let protocol = fields.optional("protocol", default, |at, found| {
        variant(
            at,
            found,
            &[
                ("Knn", |fields| knn(fields).map(|(knn, spans)| (Classification::Knn(knn), spans))),
                ("LinearProbe", |fields| {
                    probe(fields).map(|(probe, spans)| (Classification::LinearProbe(probe), spans))
                }),
            ],
        )
    });
    let (protocol, spans) = protocol?;
    Some(vec![(Evaluation::Transfer(Transfer { dataset: dataset?, facts: None, protocol }), spans)])
}
