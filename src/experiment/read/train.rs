//! The section `train`. Defaults are those of Lightly's SimCLR example: SGD at 0.06, batch 256, temperature 0.5.

use crate::experiment::length::{Length, length};
use crate::experiment::problem::{Found, Problem};
use crate::experiment::read::scalar::{below_one, boolean, count, not_negative, positive, real};
use crate::experiment::read::{At, Fields, Placed, record, unit, variant};
use crate::experiment::recipe::{
    BatchNormScope, DecayScope, LarsFlavour, LearningRate, Loss, Numerics, Optimizer, Scaling, WarmupForm,
};
use crate::experiment::tree::{Kind, Literal, Node};

/// What the section says, before lengths become steps and `Native` a kind of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSection {
    pub length: Placed<Length>,
    pub batch: Placed<u32>,
    pub micro_batch: Placed<Option<u32>>,
    pub loss: Placed<Loss>,
    pub temperature: f64,
    pub batch_norm_scope: BatchNormScope,
    pub optimizer: Optimizer,
    pub learning_rate: LearningRate,
    pub schedule: Placed<ScheduleSection>,
    /// `None` is `Native`: what the device does best.
    pub numerics: Placed<Option<Numerics>>,
    pub metrics_every: Length,
    pub checkpoint_every: Length,
    pub snapshots: Placed<Option<Length>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScheduleSection {
    Constant,
    Cosine,
    WarmupCosine { warmup: Length, form: WarmupForm },
}

pub fn train(at: &At, found: &mut Found) -> Option<TrainSection> {
    record(at, found, "Train", |fields| {
        let length = fields.placed("length", Length::Epochs(10), |at, found| length(at, found, 0));
        let batch = fields.placed("batch", 256, |at, found| count(at, found, 2..=1 << 20));
        let loss = fields.placed("loss", Loss::NT_XENT, loss);
        let temperature = fields.optional("temperature", 0.5, positive);
        let batch_norm_scope = fields.placed("batch_norm_scope", BatchNormScope::View, batch_norm_scope);
        let micro_batch = fields.placed("micro_batch", None, micro_batch);
        let are_pieces_right = batch.zip(micro_batch).map(|(batch, pieces)| check_division(fields, batch, pieces));
        let is_scope_right =
            micro_batch.zip(batch_norm_scope).map(|(pieces, scope)| check_scope(fields, pieces, scope));
        let optimizer = fields.optional("optimizer", SGD, optimizer);
        let learning_rate = fields.optional("learning_rate", LEARNING_RATE, learning_rate);
        let schedule = fields.placed("schedule", ScheduleSection::Constant, schedule);
        let numerics = fields.placed("numerics", None, |at, found| {
            let table = [("Native", None), ("F32", Some(Numerics::F32)), ("Bf16", Some(Numerics::Bf16))];
            unit(at, found, &table)
        });
        let metrics_every = fields.optional("metrics_every", Length::Steps(50), every);
        let checkpoint_every = fields.optional("checkpoint_every", Length::Epochs(1), every);
        let snapshots = fields.placed("snapshots", None, snapshots);
        if !(are_pieces_right? && is_scope_right?) {
            return None;
        }
        Some(TrainSection {
            length: length?,
            batch: batch?,
            micro_batch: micro_batch?,
            loss: loss?,
            temperature: temperature?,
            batch_norm_scope: batch_norm_scope?.value,
            optimizer: optimizer?,
            learning_rate: learning_rate?,
            schedule: schedule?,
            numerics: numerics?,
            metrics_every: metrics_every?,
            checkpoint_every: checkpoint_every?,
            snapshots: snapshots?,
        })
    })
}

fn loss(at: &At, found: &mut Found) -> Option<Loss> {
    variant(
        at,
        found,
        &[
            ("NtXent", nt_xent),
            ("NtXentMemoryBank", memory_bank),
            ("Dcl", |_| Some(Loss::Dcl)),
            ("Dclw", dclw),
            ("NtLogistic", nt_logistic),
            ("MarginTriplet", margin_triplet),
            ("CrossEntropy", cross_entropy),
        ],
    )
}

fn nt_xent(fields: &mut Fields) -> Option<Loss> {
    let normalize = fields.optional("normalize", true, boolean);
    let scale = fields.optional("scale", 1.0, positive);
    Some(Loss::NtXent { normalize: normalize?, scale: scale? })
}

/// Default: the smaller of the two sizes that Lightly's documentation names.
fn memory_bank(fields: &mut Fields) -> Option<Loss> {
    let size = fields.optional("size", 4096, |at, found| count(at, found, 1..=1 << 20));
    Some(Loss::NtXentMemoryBank { size: size? })
}

/// Default: Lightly's.
fn dclw(fields: &mut Fields) -> Option<Loss> {
    let sigma = fields.optional("sigma", 0.5, positive);
    Some(Loss::Dclw { sigma: sigma? })
}

fn nt_logistic(fields: &mut Fields) -> Option<Loss> {
    let semi_hard = fields.optional("semi_hard", false, boolean);
    Some(Loss::NtLogistic { semi_hard: semi_hard? })
}

/// Default: the smallest above 0 of the margins that the SimCLR paper tries (appendix B.10). Cosines differ by 2 at most.
fn margin_triplet(fields: &mut Fields) -> Option<Loss> {
    let margin = fields.optional("margin", 0.4, |at, found| {
        real(at, found, "a number from 0 to 2", |margin| (0.0..=2.0).contains(&margin))
    });
    let semi_hard = fields.optional("semi_hard", false, boolean);
    Some(Loss::MarginTriplet { margin: margin?, semi_hard: semi_hard? })
}

fn cross_entropy(fields: &mut Fields) -> Option<Loss> {
    let label_smoothing = fields.optional("label_smoothing", 0.0, below_one);
    Some(Loss::CrossEntropy { label_smoothing: label_smoothing? })
}

fn batch_norm_scope(at: &At, found: &mut Found) -> Option<BatchNormScope> {
    let table = [
        ("View", BatchNormScope::View),
        ("Joint", BatchNormScope::Joint),
        ("MicroBatchView", BatchNormScope::MicroBatchView),
        ("MicroBatchJoint", BatchNormScope::MicroBatchJoint),
    ];
    unit(at, found, &table)
}

/// `None` or a number of images.
fn micro_batch(at: &At, found: &mut Found) -> Option<Option<u32>> {
    let images = match &at.node.kind {
        Kind::Record { name: Some(name), fields, items } if name == "None" && fields.is_empty() && items.is_empty() => {
            return Some(None);
        }
        Kind::Number { literal: Literal::Whole(images), .. } => u32::try_from(*images).ok(),
        Kind::Record { .. }
        | Kind::List(_)
        | Kind::Map(_)
        | Kind::Text(_)
        | Kind::Number { .. }
        | Kind::Bool(_)
        | Kind::Other(_) => None,
    };
    let images = images.filter(|images| *images >= 2);
    if images.is_none() {
        found.add(at.wrong("`None` or a whole number of at least 2"));
    }
    images.map(Some)
}

/// Pieces are of equal size and more than one.
fn check_division(fields: &mut Fields, batch: Placed<u32>, micro_batch: Placed<Option<u32>>) -> bool {
    let (batch, Some(images)) = (batch.value, micro_batch.value) else { return true };
    let is_part = |images: u32| images < batch && batch.is_multiple_of(images);
    if is_part(images) {
        return true;
    }
    let message = if images < batch {
        format!("a batch of {batch} is no whole number of micro-batches of {images}")
    } else {
        format!("a micro-batch of {images} is no smaller than the batch of {batch}")
    };
    let nearest = (2..=batch / 2).filter(|images| is_part(*images)).min_by_key(|part| part.abs_diff(images));
    let expected = match nearest {
        Some(part) => format!("`None` or a divisor of {batch} below it, such as {part}"),
        None => format!("`None`: {batch} has no divisor from 2 on below it"),
    };
    let problem = fields.problem_of("micro_batch", micro_batch.span, message);
    fields.found.add(problem.expected(expected));
    false
}

/// Batch norms cannot see beyond a piece, and a file says what they see.
fn check_scope(fields: &mut Fields, micro_batch: Placed<Option<u32>>, scope: Placed<BatchNormScope>) -> bool {
    let (message, expected) = match (micro_batch.value, scope.value) {
        (None, BatchNormScope::View | BatchNormScope::Joint)
        | (Some(_), BatchNormScope::MicroBatchView | BatchNormScope::MicroBatchJoint) => return true,
        (None, BatchNormScope::MicroBatchView) => ("`MicroBatchView` needs a `micro_batch`", "View"),
        (None, BatchNormScope::MicroBatchJoint) => ("`MicroBatchJoint` needs a `micro_batch`", "Joint"),
        (Some(_), BatchNormScope::View) => {
            ("with a `micro_batch`, batch norms see a view of a micro-batch, not of the batch", "MicroBatchView")
        }
        (Some(_), BatchNormScope::Joint) => {
            ("with a `micro_batch`, batch norms see both views of a micro-batch, not of the batch", "MicroBatchJoint")
        }
    };
    // A scope that is not there is lacking because of the micro-batch.
    let span = if fields.has("batch_norm_scope") { scope.span } else { micro_batch.span };
    let problem = fields.problem_of("batch_norm_scope", span, message);
    fields.found.add(problem.expected(format!("`batch_norm_scope: {expected}`")));
    false
}

fn every(at: &At, found: &mut Found) -> Option<Length> {
    length(at, found, 1)
}

fn snapshots(at: &At, found: &mut Found) -> Option<Option<Length>> {
    let periodic: fn(&mut Fields) -> Option<Option<Length>> =
        |fields| fields.item("a length, `Epochs(10)`", every).map(Some);
    variant(at, found, &[("None", |_| Some(None)), ("Every", periodic)])
}

/// torch.optim.SGD's defaults.
const SGD: Optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0, decay: DecayScope::All };

fn optimizer(at: &At, found: &mut Found) -> Option<Optimizer> {
    variant(at, found, &[("Sgd", sgd), ("Lars", lars), ("Adam", adam)])
}

fn decay(fields: &mut Fields, default: DecayScope) -> Option<DecayScope> {
    fields.optional("decay", default, |at, found| {
        unit(at, found, &[("All", DecayScope::All), ("Weights", DecayScope::Weights)])
    })
}

fn sgd(fields: &mut Fields) -> Option<Optimizer> {
    let momentum = fields.optional("momentum", 0.0, below_one);
    let nesterov = fields.placed("nesterov", false, boolean);
    let weight_decay = fields.optional("weight_decay", 0.0, not_negative);
    let decay = decay(fields, DecayScope::All);
    let (momentum, nesterov) = (momentum?, nesterov?);
    if nesterov.value && momentum == 0.0 {
        let problem = Problem { span: nesterov.span, ..fields.problem("`nesterov` needs a momentum above 0") };
        fields.found.add(problem.expected("`nesterov: false`, or a momentum such as 0.9"));
        return None;
    }
    Some(Optimizer::Sgd { momentum, nesterov: nesterov.value, weight_decay: weight_decay?, decay: decay? })
}

/// Defaults: google-research/simclr's, whose scope spares biases and batch norms.
fn lars(fields: &mut Fields) -> Option<Optimizer> {
    let flavour = fields.optional("flavour", LarsFlavour::Google, |at, found| {
        let table = [
            ("Google", LarsFlavour::Google),
            ("Popular", LarsFlavour::Popular),
            ("Lightly", LarsFlavour::Lightly),
            ("SoloLearn", LarsFlavour::SoloLearn),
            ("SoloLearnClipped", LarsFlavour::SoloLearnClipped),
        ];
        unit(at, found, &table)
    });
    let momentum = fields.optional("momentum", 0.9, below_one);
    let weight_decay = fields.optional("weight_decay", 1e-6, not_negative);
    let trust_coefficient = fields.optional("trust_coefficient", 0.001, positive);
    let decay = decay(fields, DecayScope::Weights);
    Some(Optimizer::Lars {
        flavour: flavour?,
        momentum: momentum?,
        weight_decay: weight_decay?,
        trust_coefficient: trust_coefficient?,
        decay: decay?,
    })
}

/// torch.optim.Adam's defaults.
fn adam(fields: &mut Fields) -> Option<Optimizer> {
    let beta1 = fields.optional("beta1", 0.9, below_one);
    let beta2 = fields.optional("beta2", 0.999, below_one);
    let epsilon = fields.optional("epsilon", 1e-8, positive);
    let weight_decay = fields.optional("weight_decay", 0.0, not_negative);
    let decay = decay(fields, DecayScope::All);
    Some(Optimizer::Adam {
        beta1: beta1?,
        beta2: beta2?,
        epsilon: epsilon?,
        weight_decay: weight_decay?,
        decay: decay?,
    })
}

const LEARNING_RATE: LearningRate = LearningRate { base: 0.06, scaling: Scaling::None };

/// A number, which no batch scales, or `(base: 0.3, scaling: Linear(per: 256))`.
fn learning_rate(at: &At, found: &mut Found) -> Option<LearningRate> {
    if is_number_like(at.node) {
        return Some(LearningRate { base: not_negative(at, found)?, scaling: Scaling::None });
    }
    record(at, found, "LearningRate", |fields| {
        let base = fields.optional("base", LEARNING_RATE.base, not_negative);
        let scaling = fields.optional("scaling", LEARNING_RATE.scaling, |at, found| {
            let none: fn(&mut Fields) -> Option<Scaling> = |_| Some(Scaling::None);
            variant(at, found, &[("None", none), ("Linear", linear), ("Sqrt", |_| Some(Scaling::Sqrt))])
        });
        Some(LearningRate { base: base?, scaling: scaling? })
    })
}

/// Besides numbers the words for what none is, which RON takes for names of variants.
fn is_number_like(node: &Node) -> bool {
    match &node.kind {
        Kind::Number { .. } => true,
        Kind::Record { name: Some(name), fields, items } if fields.is_empty() && items.is_empty() => {
            ["nan", "inf", "infinity"].contains(&name.to_lowercase().as_str())
        }
        Kind::Record { .. } | Kind::List(_) | Kind::Map(_) | Kind::Text(_) | Kind::Bool(_) | Kind::Other(_) => false,
    }
}

fn linear(fields: &mut Fields) -> Option<Scaling> {
    let per = fields.optional("per", 256, |at, found| count(at, found, 1..=1 << 20));
    Some(Scaling::Linear { per: per? })
}

fn schedule(at: &At, found: &mut Found) -> Option<ScheduleSection> {
    variant(
        at,
        found,
        &[
            ("Constant", |_| Some(ScheduleSection::Constant)),
            ("Cosine", |_| Some(ScheduleSection::Cosine)),
            ("WarmupCosine", warmup_cosine),
        ],
    )
}

/// Defaults: 10 epochs up, then Google's cosine to 0.
fn warmup_cosine(fields: &mut Fields) -> Option<ScheduleSection> {
    let warmup = fields.optional("warmup", Length::Epochs(10), |at, found| length(at, found, 0));
    let form = fields.optional("form", WarmupForm::Google, |at, found| {
        variant(at, found, &[("Google", |_| Some(WarmupForm::Google)), ("Lightly", lightly)])
    });
    Some(ScheduleSection::WarmupCosine { warmup: warmup?, form: form? })
}

fn lightly(fields: &mut Fields) -> Option<WarmupForm> {
    let end = fields.optional("end", 0.001, not_negative);
    Some(WarmupForm::Lightly { end: end? })
}
