//! What a finished stage says of itself: numbers, costs and where they came from. The store keeps it as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::content::Key;

/// Written into every record; a reader refuses what it does not know.
pub const FORMAT: u32 = 1;

/// A finished stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub format: u32,
    pub key: Key,
    pub stage: Stage,
    pub provenance: Provenance,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Stage {
    Pretrain(Pretrain),
    Evaluation(Evaluation),
    Failure(Failure),
}

/// A trained encoder. Blobs: `checkpoint` (safetensors), `history` (Parquet), `views` (PNG), and a blob a snapshot
/// (safetensors).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    pub n_parameters: u64,
    pub steps: u64,
    /// Mean loss over the first and the last epoch, in nats; absent for a run of no steps.
    pub loss_first_epoch: Option<f64>,
    pub loss_last_epoch: Option<f64>,
    /// The last epoch's loss as a share of ln(2N − 1), the loss of embeddings that are all equal.
    pub loss_ratio: Option<f64>,
    pub epochs: Vec<EpochCost>,
    /// Encoders kept before the last, in order; absent where none were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<Snapshot>,
    pub peak_memory_bytes: Option<u64>,
}

/// The encoder as it was on the way: weights and running statistics, without the optimizer's slots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Updates behind it.
    pub step: u64,
    /// Passes over the training images behind it; whole where it was kept at the end of one.
    pub epoch: f64,
    /// Names the blob.
    pub blob: String,
}

/// Where an epoch's time went. Differs from run to run, so it is kept out of the history.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochCost {
    pub epoch: u32,
    pub steps: u64,
    /// Pairs of views a second.
    pub images_per_s: f64,
    /// Waiting for views.
    pub views_s: f64,
    /// Forward, loss and backward.
    pub gradient_s: f64,
    pub update_s: f64,
    /// Metrics and checkpoints.
    pub other_s: f64,
}

impl EpochCost {
    pub fn seconds(&self) -> f64 {
        self.views_s + self.gradient_s + self.update_s + self.other_s
    }
}

impl Pretrain {
    /// Time of the training loop over all its sittings.
    pub fn train_s(&self) -> f64 {
        self.epochs.iter().map(EpochCost::seconds).sum()
    }

    /// Pairs of views a second: all images over all time. Absent for a run of no steps.
    pub fn images_per_s(&self) -> Option<f64> {
        let images: f64 = self.epochs.iter().map(|cost| cost.images_per_s * cost.seconds()).sum();
        Some(images / self.train_s()).filter(|speed| speed.is_finite())
    }
}

/// Names of the blobs beside a record.
pub mod blob {
    /// Weights, running statistics and the optimizer's slots (safetensors).
    pub const CHECKPOINT: &str = "checkpoint";
    /// Opens the names of snapshots: `snapshot-390` is the encoder after 390 steps.
    pub const SNAPSHOT: &str = "snapshot";
    /// What training measured, step by step (Parquet).
    pub const HISTORY: &str = "history";
    /// The contact sheet (PNG).
    pub const VIEWS: &str = "views";
    /// Which engine a GPU's libraries took for each convolution and product (JSON: description to plan).
    pub const ENGINES: &str = "engines";
    /// One little-endian u16 a test image: the class it was taken for.
    pub const PREDICTIONS: &str = "predictions";
    /// As `predictions`: the class it is of. All runs on one data set share these bytes.
    pub const LABELS: &str = "labels";
    /// Features and labels of the first test images (safetensors).
    pub const FEATURES: &str = "features";

    /// The encoder after so many steps.
    pub fn snapshot(steps: u64) -> String {
        format!("{SNAPSHOT}-{steps}")
    }

    /// Whether an encoder goes by this name, the final one or a snapshot.
    pub fn is_encoder(name: &str) -> bool {
        name == CHECKPOINT || name.strip_prefix(SNAPSHOT).is_some_and(|rest| rest.starts_with('-'))
    }
}

/// An evaluated encoder. Blobs: `predictions` and `labels` (one little-endian u16 a test image each, where they were told
/// apart), `features` (safetensors).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// The training it hangs on.
    pub pretrain: Key,
    /// Digest of the very checkpoint it saw; another checkpoint under the same key makes this record a miss.
    pub checkpoint: Key,
    pub kind: String,
    /// What it did, in one line; absent in records of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    pub metrics: Vec<Metric>,
    /// Share of each class's test images that were right, in the order of the class names; empty where none were told apart.
    pub per_class_top1: Vec<f64>,
    pub class_names: Vec<String>,
    pub n_test: u64,
    /// What a reader of the numbers must know: that the representation has collapsed, for one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// `top1`, `top5`.
    pub name: String,
    pub value: f64,
    /// `fraction`, `nats`, `1`.
    pub unit: String,
}

/// A stage that gave no result. Never a hit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
    /// The step it happened at, counted from 0.
    pub step: Option<u64>,
    /// What the run told last before it failed, a line each, with the seconds since it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl Failure {
    /// One that no step is to blame for, and nothing was told before.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), step: None, log: Vec::new() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// A loss, norm or parameter that is not finite: repeats itself, so it runs again only when asked to.
    NotFinite,
    /// A panic in a worker.
    Panic,
    OutOfMemory,
    /// Asked to leave by the system, and could not keep where it stood.
    Preempted,
    /// No space or no quota is left where the store is.
    DiskFull,
    /// Any other input or output.
    Storage,
    Other,
}

impl FailureKind {
    /// Whether computing again gives the same failure.
    pub fn is_deterministic(self) -> bool {
        match self {
            FailureKind::NotFinite => true,
            FailureKind::Panic
            | FailureKind::OutOfMemory
            | FailureKind::Preempted
            | FailureKind::DiskFull
            | FailureKind::Storage
            | FailureKind::Other => false,
        }
    }

    /// Whether it says something of the place where results are kept, and nothing of the run.
    pub fn is_of_the_store(self) -> bool {
        match self {
            FailureKind::DiskFull | FailureKind::Storage => true,
            FailureKind::NotFinite
            | FailureKind::Panic
            | FailureKind::OutOfMemory
            | FailureKind::Preempted
            | FailureKind::Other => false,
        }
    }

    /// What it is called in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            FailureKind::NotFinite => "not finite",
            FailureKind::Panic => "panicked",
            FailureKind::OutOfMemory => "out of memory",
            FailureKind::Preempted => "preempted without a checkpoint",
            FailureKind::DiskFull => "disk full",
            FailureKind::Storage => "input or output",
            FailureKind::Other => "other",
        }
    }
}

/// What cannot be in a key but may explain a difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    pub ablate_version: String,
    /// Digest of the program's own source, fixed when it was built.
    pub code: String,
    pub backend: String,
    /// The processor's name.
    pub device: String,
    /// What of it was used: instruction sets, library versions.
    pub details: BTreeMap<String, String>,
    pub threads: u32,
    pub host: String,
    pub started_unix_s: u64,
    pub seconds: f64,
    pub command: String,
}

/// What must be equal for two computations of one key to give equal bits: the backend, the target, the instruction sets, and
/// of a GPU its architecture and the versions of its libraries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineClass(BTreeMap<String, String>);

impl Provenance {
    /// Details of the sitting that change no bit: how many runs shared the device, and the processor beside a GPU.
    const OF_THE_SITTING: [&str; 2] = ["jobs", "processor"];

    pub fn machine_class(&self) -> MachineClass {
        let counts = |(name, _): &(&String, &String)| !Provenance::OF_THE_SITTING.contains(&name.as_str());
        let details = self.details.iter().filter(counts).map(|(name, value)| (name.clone(), value.clone()));
        MachineClass(details.chain([("backend".to_owned(), self.backend.clone())]).collect())
    }
}

impl std::fmt::Display for MachineClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(name, value)| format!("{name} {value}")).collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The fuzzer found that a reader of JSON may miss a number by its last bit.
        #[test]
        fn a_metric_is_read_as_it_was_written(value in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL) {
            let metric = Metric { name: "top1".to_owned(), value, unit: "fraction".to_owned() };
            let text = serde_json::to_string(&metric).expect("plain data");
            prop_assert_eq!(serde_json::from_str::<Metric>(&text).expect("what was written"), metric);
        }
    }

    #[test]
    fn digits_beyond_a_number_are_rounded_once() {
        let text = format!("0.{}10248191152060861970", "0".repeat(99));
        let value: f64 = serde_json::from_str(&text).expect("a number");
        assert_eq!(Ok(value), text.parse::<f64>());
        assert_eq!(serde_json::from_str::<f64>(&value.to_string()).expect("a number"), value);
    }
}
