//! The section `evaluate`: what is asked of a trained encoder.

use crate::experiment::meaning;
use crate::experiment::problem::{Found, Problem, Span};
use crate::experiment::read::scalar::{below_one, count, not_negative, positive, whole};
use crate::experiment::read::{At, Fields, Placed, list, unit, variant};
use crate::experiment::recipe::{Evaluation, Knn, LinearProbe, Metric};

/// Lightly's k-NN.
const KNN: Knn = Knn { k: 200, temperature: 0.1, metric: Metric::Cosine };

/// The linear protocol of the SimCLR paper, appendix B.6, at Lightly's batch.
const LINEAR_PROBE: LinearProbe =
    LinearProbe { epochs: 90, batch: 256, learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0, seed: 0 };

/// An evaluation and the place of its size, `k` or `batch`, which the data set bounds.
pub type PlacedEvaluation = Placed<Evaluation>;

/// A k-NN with Lightly's settings.
pub fn default(span: Span) -> Vec<PlacedEvaluation> {
    vec![Placed { value: Evaluation::Knn(KNN), span }]
}

pub fn evaluate(at: &At, found: &mut Found) -> Option<Vec<PlacedEvaluation>> {
    let evaluations = list(at, found, "a list of evaluations, `[Knn, LinearProbe]`", |at, found| {
        let evaluation = variant(at, found, &[("Knn", knn), ("LinearProbe", linear_probe)])?;
        Some((evaluation, at.node.span))
    })?;
    if evaluations.is_empty() {
        found.add(at.problem("nothing is evaluated").expected("at least one of `Knn`, `LinearProbe`"));
        return None;
    }
    for (index, (evaluation, span)) in evaluations.iter().enumerate() {
        let meaning = meaning::evaluation(&evaluation.value);
        if evaluations[..index].iter().any(|(earlier, _)| meaning::evaluation(&earlier.value) == meaning) {
            let problem = Problem { span: *span, ..at.problem("this evaluation is given twice") };
            found.add(problem.expected("every evaluation once"));
        }
    }
    Some(evaluations.into_iter().map(|(evaluation, _)| evaluation).collect())
}

fn knn(fields: &mut Fields) -> Option<PlacedEvaluation> {
    let k = fields.placed("k", KNN.k, |at, found| count(at, found, 1..=u32::MAX));
    let temperature = fields.optional("temperature", KNN.temperature, positive);
    let metric = fields.optional("metric", KNN.metric, |at, found| {
        unit(at, found, &[("Cosine", Metric::Cosine), ("Euclidean", Metric::Euclidean)])
    });
    let Placed { value: k, span } = k?;
    Some(Placed { value: Evaluation::Knn(Knn { k, temperature: temperature?, metric: metric? }), span })
}

fn linear_probe(fields: &mut Fields) -> Option<PlacedEvaluation> {
    let epochs = fields.optional("epochs", LINEAR_PROBE.epochs, |at, found| count(at, found, 1..=100_000));
    let batch = fields.placed("batch", LINEAR_PROBE.batch, |at, found| count(at, found, 1..=1 << 20));
    let learning_rate = fields.optional("learning_rate", LINEAR_PROBE.learning_rate, not_negative);
    let momentum = fields.optional("momentum", LINEAR_PROBE.momentum, below_one);
    let weight_decay = fields.optional("weight_decay", LINEAR_PROBE.weight_decay, not_negative);
    let seed = fields.optional("seed", LINEAR_PROBE.seed, |at, found| whole(at, found, 0..=u64::MAX));
    let Placed { value: batch, span } = batch?;
    let probe = LinearProbe {
        epochs: epochs?,
        batch,
        learning_rate: learning_rate?,
        momentum: momentum?,
        weight_decay: weight_decay?,
        seed: seed?,
    };
    Some(Placed { value: Evaluation::LinearProbe(probe), span })
}
