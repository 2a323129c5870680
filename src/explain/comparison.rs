//! Two stored stages side by side: what they mean, what came out, where they came from.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::content::Key;
use crate::explain::change::{Change, changes};
use crate::explain::meaning::Meaning;
use crate::record::{Evaluation, Pretrain, Provenance, Record, Stage};
use crate::store::Entry;

/// A stored stage with its text read.
#[derive(Debug, Clone)]
pub struct Side {
    pub entry: Entry,
    pub record: Record,
    pub meaning: Meaning,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Fields of the meaning, in the words of a file.
    pub meaning: Vec<Change>,
    /// Every number that came out, equal or not.
    pub metrics: Vec<Numbers>,
    /// What came out and is no number: a failure's message, the checkpoint that was evaluated. Only what differs.
    pub outcome: Vec<Words>,
    pub blobs: Vec<Blobs>,
    /// Only what differs; never a reason to call two stages different.
    pub provenance: Vec<Words>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Numbers {
    pub name: String,
    pub a: Option<f64>,
    pub b: Option<f64>,
}

impl Numbers {
    pub fn is_equal(&self) -> bool {
        self.a == self.b
    }

    /// From the first to the second.
    pub fn difference(&self) -> Option<f64> {
        Some(self.b? - self.a?)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Words {
    pub name: String,
    pub a: Option<String>,
    pub b: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blobs {
    pub name: String,
    pub a: Option<Blob>,
    pub b: Option<Blob>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blob {
    pub digest: Key,
    pub bytes: u64,
}

impl Comparison {
    pub fn of(a: &Side, b: &Side) -> Comparison {
        Comparison {
            meaning: changes(&a.meaning, &b.meaning),
            metrics: paired(numbers(&a.record.stage), numbers(&b.record.stage))
                .map(|(name, a, b)| Numbers { name, a, b })
                .collect(),
            outcome: differing(outcome(&a.record.stage), outcome(&b.record.stage)),
            blobs: paired(blobs(&a.entry), blobs(&b.entry)).map(|(name, a, b)| Blobs { name, a, b }).collect(),
            provenance: differing(
                provenance(&a.record.provenance, &a.record.stage),
                provenance(&b.record.provenance, &b.record.stage),
            ),
        }
    }

    /// The same meaning with the same results to the bit, whoever computed them.
    pub fn is_equal(&self) -> bool {
        self.meaning.is_empty()
            && self.outcome.is_empty()
            && self.metrics.iter().all(Numbers::is_equal)
            && self.blobs.iter().all(|blob| blob.a == blob.b)
    }
}

/// Both sides of each name, in the order of the first side, then what only the second has.
fn paired<T: Clone>(a: Vec<(String, T)>, b: Vec<(String, T)>) -> impl Iterator<Item = (String, Option<T>, Option<T>)> {
    let of_b: BTreeMap<String, T> = b.iter().cloned().collect();
    let names_of_a: BTreeSet<String> = a.iter().map(|(name, _)| name.clone()).collect();
    let first: Vec<_> = a.into_iter().map(|(name, value)| (of_b.get(&name).cloned(), name, value)).collect();
    let only_b = b.into_iter().filter(move |(name, _)| !names_of_a.contains(name));
    let both = first.into_iter().map(|(other, name, value)| (name, Some(value), other));
    both.chain(only_b.map(|(name, value)| (name, None, Some(value))))
}

fn differing(a: Vec<(String, String)>, b: Vec<(String, String)>) -> Vec<Words> {
    paired(a, b).filter(|(_, a, b)| a != b).map(|(name, a, b)| Words { name, a, b }).collect()
}

fn numbers(stage: &Stage) -> Vec<(String, f64)> {
    match stage {
        Stage::Pretrain(pretrain) => pretrain_numbers(pretrain),
        Stage::Evaluation(evaluation) => evaluation_numbers(evaluation),
        Stage::Failure(failure) => {
            failure.step.map(|step| ("failed at step".to_owned(), step as f64)).into_iter().collect()
        }
    }
}

fn pretrain_numbers(pretrain: &Pretrain) -> Vec<(String, f64)> {
    let numbers = [
        ("n_parameters", Some(pretrain.n_parameters as f64)),
        ("steps", Some(pretrain.steps as f64)),
        ("loss_first_epoch", pretrain.loss_first_epoch),
        ("loss_last_epoch", pretrain.loss_last_epoch),
        ("loss_ratio", pretrain.loss_ratio),
    ];
    numbers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn evaluation_numbers(evaluation: &Evaluation) -> Vec<(String, f64)> {
    let metrics =
        evaluation.metrics.iter().map(|metric| (format!("{}.{}", evaluation.kind, metric.name), metric.value));
    let classes = evaluation.class_names.iter().zip(&evaluation.per_class_top1);
    let classes = classes.map(|(name, value)| (format!("{}.top1 of class {name}", evaluation.kind), *value));
    metrics.chain(classes).chain([("n_test".to_owned(), evaluation.n_test as f64)]).collect()
}

fn outcome(stage: &Stage) -> Vec<(String, String)> {
    match stage {
        Stage::Pretrain(_) => Vec::new(),
        Stage::Evaluation(evaluation) => vec![("checkpoint evaluated".to_owned(), evaluation.checkpoint.short())],
        Stage::Failure(failure) => vec![("failure".to_owned(), failure.message.clone())],
    }
}

fn blobs(entry: &Entry) -> Vec<(String, Blob)> {
    let blob = |(name, blob): (&String, &crate::store::BlobRef)| {
        (name.clone(), Blob { digest: blob.digest, bytes: blob.bytes })
    };
    entry.blobs.iter().map(blob).collect()
}

fn provenance(provenance: &Provenance, stage: &Stage) -> Vec<(String, String)> {
    let Provenance { ablate_version, code, backend, device, details, threads, host, started_unix_s, seconds, command } =
        provenance;
    let mut told: Vec<(String, String)> = [
        ("code", code.clone()),
        ("ablate", ablate_version.clone()),
        ("backend", backend.clone()),
        ("device", device.trim().to_owned()),
        ("threads", threads.to_string()),
        ("host", host.clone()),
        ("started", crate::explain::code::date(*started_unix_s)),
        ("seconds", format!("{seconds:.1}")),
        ("command", command.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    told.extend(details.iter().map(|(name, value)| (name.clone(), value.clone())));
    if let Stage::Pretrain(pretrain) = stage {
        let speed = pretrain.images_per_s().map(|speed| ("images_per_s".to_owned(), format!("{speed:.1}")));
        let peak = pretrain.peak_memory_bytes.map(|bytes| ("peak_memory_bytes".to_owned(), bytes.to_string()));
        told.extend(speed.into_iter().chain(peak));
    }
    told
}
