//! The section `train`. Defaults are those of Lightly's SimCLR example: SGD at 0.06, batch 256, temperature 0.5.

use crate::experiment::length::{Length, length};
use crate::experiment::problem::{Found, Problem};
use crate::experiment::read::scalar::{below_one, boolean, count, not_negative, positive};
use crate::experiment::read::{At, Fields, Placed, record, unit, variant};
use crate::experiment::recipe::{
    BatchNormScope, DecayScope, LarsFlavour, LearningRate, Numerics, Optimizer, Scaling, WarmupForm,
};
use crate::experiment::tree::{Kind, Node};

/// What the section says, before lengths become steps and `Native` a kind of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSection {
    pub length: Placed<Length>,
    pub batch: Placed<u32>,
    pub temperature: f64,
    pub batch_norm_scope: BatchNormScope,
    pub optimizer: Optimizer,
    pub learning_rate: LearningRate,
    pub schedule: Placed<ScheduleSection>,
    /// `None` is `Native`: what the device does best.
    pub numerics: Placed<Option<Numerics>>,
    pub metrics_every: Length,
    pub checkpoint_every: Length,
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
        let temperature = fields.optional("temperature", 0.5, positive);
        let batch_norm_scope = fields.optional("batch_norm_scope", BatchNormScope::View, |at, found| {
            unit(at, found, &[("View", BatchNormScope::View), ("Joint", BatchNormScope::Joint)])
        });
        let optimizer = fields.optional("optimizer", SGD, optimizer);
        let learning_rate = fields.optional("learning_rate", LEARNING_RATE, learning_rate);
        let schedule = fields.placed("schedule", ScheduleSection::Constant, schedule);
        let numerics = fields.placed("numerics", None, |at, found| {
            let table = [("Native", None), ("F32", Some(Numerics::F32)), ("Bf16", Some(Numerics::Bf16))];
            unit(at, found, &table)
        });
        let metrics_every = fields.optional("metrics_every", Length::Steps(50), every);
        let checkpoint_every = fields.optional("checkpoint_every", Length::Epochs(1), every);
        Some(TrainSection {
            length: length?,
            batch: batch?,
            temperature: temperature?,
            batch_norm_scope: batch_norm_scope?,
            optimizer: optimizer?,
            learning_rate: learning_rate?,
            schedule: schedule?,
            numerics: numerics?,
            metrics_every: metrics_every?,
            checkpoint_every: checkpoint_every?,
        })
    })
}

fn every(at: &At, found: &mut Found) -> Option<Length> {
    length(at, found, 1)
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
