//! A stage's record against the same stage computed again, value by value.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::content::Key;
use crate::record::{Evaluation, Pretrain, Provenance, Record, Stage, blob};
use crate::store::Entry;

/// Far above the rounding of a difference of two shares, far below a test image in a million.
const ROUNDING: f64 = 1e-12;

/// Something a stage left behind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    Number(f64),
    Text(String),
    Digest(Key),
    Absent,
}

/// What it means for a value to be another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// It is wrong on every machine.
    Exact,
    /// It must agree within the tolerance; on a machine of the same class, to the bit.
    Metric,
    /// It must be the same on a machine of the same class.
    Bits,
    /// It says how, not what.
    Remark,
}

/// A value that came out another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// `top1`, `blob predictions`.
    pub name: String,
    pub stored: Value,
    pub again: Value,
    /// Whether this alone makes it a divergence.
    pub decides: bool,
}

impl Difference {
    /// How far apart two numbers are.
    pub fn distance(&self) -> Option<f64> {
        match (&self.stored, &self.again) {
            (Value::Number(stored), Value::Number(again)) => Some((stored - again).abs()),
            (Value::Number(_) | Value::Text(_) | Value::Digest(_) | Value::Absent, _) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every value and every blob is the same.
    Equal,
    /// They differ as they may: the machine is of another class, and the metrics agree within the tolerance.
    Agrees,
    Diverged,
}

/// A stage and the same stage computed again.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub key: Key,
    /// Of the record, and of the second computation.
    pub stored: Provenance,
    pub again: Provenance,
    pub same_machine_class: bool,
    /// What is not equal, by name.
    pub differences: Vec<Difference>,
}

impl Comparison {
    pub fn verdict(&self) -> Verdict {
        match (self.differences.is_empty(), self.differences.iter().any(|difference| difference.decides)) {
            (true, _) => Verdict::Equal,
            (false, false) => Verdict::Agrees,
            (false, true) => Verdict::Diverged,
        }
    }
}

/// Compares two sound records of one key. `tolerance` is absolute and of metrics that are a share of 1; losses in nats differ
/// in scale from batch to batch, and their ratio to the loss of equal embeddings stands for them.
pub fn compare(stored: (&Entry, &Record), again: (&Entry, &Record), tolerance: f64) -> Comparison {
    let (first, second) = (&stored.1.provenance, &again.1.provenance);
    let same_machine_class = first.machine_class() == second.machine_class();
    let (mut left, mut right) = (values(stored), values(again));
    let names: BTreeSet<String> = left.keys().chain(right.keys()).cloned().collect();
    let difference = |name: String| {
        let (stored, again) = (left.remove(&name), right.remove(&name));
        let weight = stored.as_ref().or(again.as_ref()).map_or(Weight::Exact, |(_, weight)| *weight);
        let (stored, again) = (stored.map_or(Value::Absent, value), again.map_or(Value::Absent, value));
        if same(&stored, &again) {
            return None;
        }
        let mut difference = Difference { name, stored, again, decides: true };
        difference.decides = match weight {
            Weight::Exact => true,
            Weight::Remark => false,
            Weight::Bits => same_machine_class,
            Weight::Metric => {
                // A difference such as 0.52 − 0.5 = 0.020000000000000018 is meant to be 0.02.
                let beyond = |distance: f64| distance - tolerance > ROUNDING;
                same_machine_class || difference.distance().is_none_or(beyond)
            }
        };
        Some(difference)
    };
    let differences = names.into_iter().filter_map(difference).collect();
    Comparison { key: stored.0.key, stored: first.clone(), again: second.clone(), same_machine_class, differences }
}

fn value((value, _): (Value, Weight)) -> Value {
    value
}

/// Numbers by their bits, so that nothing close passes for equal.
fn same(stored: &Value, again: &Value) -> bool {
    match (stored, again) {
        (Value::Number(stored), Value::Number(again)) => stored.to_bits() == again.to_bits(),
        (Value::Number(_) | Value::Text(_) | Value::Digest(_) | Value::Absent, _) => stored == again,
    }
}

type Values = BTreeMap<String, (Value, Weight)>;

/// All a record says of its result; times and costs are of the sitting and left out.
fn values((entry, record): (&Entry, &Record)) -> Values {
    let mut values = match &record.stage {
        Stage::Pretrain(pretrain) => of_training(pretrain),
        Stage::Evaluation(evaluation) => of_evaluation(evaluation),
        Stage::Failure(failure) => {
            Values::from([("failure".to_owned(), (Value::Text(failure.message.clone()), Weight::Exact))])
        }
    };
    for (name, reference) in &entry.blobs {
        // Which engines a GPU's libraries took explains bits and is none; labels are the data's, which the key holds.
        let is_remark = [blob::ENGINES, blob::LABELS].contains(&name.as_str());
        let weight = if is_remark { Weight::Remark } else { Weight::Bits };
        values.insert(format!("blob {name}"), (Value::Digest(reference.digest), weight));
    }
    values
}

fn of_training(pretrain: &Pretrain) -> Values {
    let counts = [("n_parameters", pretrain.n_parameters), ("steps", pretrain.steps)];
    let counts = counts.map(|(name, count)| (name, Some(count as f64), Weight::Exact));
    let losses = [
        ("loss_first_epoch", pretrain.loss_first_epoch, Weight::Bits),
        ("loss_last_epoch", pretrain.loss_last_epoch, Weight::Bits),
        ("loss_ratio", pretrain.loss_ratio, Weight::Metric),
    ];
    let value = |(name, number, weight): (&str, Option<f64>, Weight)| {
        (name.to_owned(), (number.map_or(Value::Absent, Value::Number), weight))
    };
    counts.into_iter().chain(losses).map(value).collect()
}

fn of_evaluation(evaluation: &Evaluation) -> Values {
    let mut values = Values::from([
        ("kind".to_owned(), (Value::Text(evaluation.kind.clone()), Weight::Exact)),
        ("training".to_owned(), (Value::Digest(evaluation.pretrain), Weight::Exact)),
        ("checkpoint seen".to_owned(), (Value::Digest(evaluation.checkpoint), Weight::Bits)),
        ("class_names".to_owned(), (Value::Text(evaluation.class_names.join(", ")), Weight::Exact)),
        ("n_test".to_owned(), (Value::Number(evaluation.n_test as f64), Weight::Exact)),
    ]);
    for metric in &evaluation.metrics {
        let weight = if metric.unit == "fraction" { Weight::Metric } else { Weight::Bits };
        values.insert(metric.name.clone(), (Value::Number(metric.value), weight));
    }
    let classes = evaluation.class_names.iter().map(Some).chain(std::iter::repeat(None));
    for (index, (share, class)) in evaluation.per_class_top1.iter().zip(classes).enumerate() {
        let class = class.cloned().unwrap_or_else(|| index.to_string());
        values.insert(format!("top1 of {class}"), (Value::Number(*share), Weight::Bits));
    }
    values
}
