//! One result: a metric of one cell and seed, with what it took and where it came from.

use crate::content::Key;
use crate::experiment::recipe::{Backend, Numerics};

/// One cell × seed × metric. What only a record knows is absent until there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The experiment's name.
    pub experiment: String,
    /// Shrunk by `--smoke`.
    pub smoke: bool,
    /// Index into `Experiment::cells`.
    pub cell: u32,
    /// One an axis, in the order of `Experiment::axes`.
    pub labels: Vec<String>,
    pub seed: u64,
    /// `knn`, `linear`, `knn_2`; `pretrain` for the training's own numbers.
    pub evaluation: String,
    /// What the evaluation does, in one line; absent for the training's own numbers.
    pub protocol: Option<String>,
    /// `top1`; `top1_best` and `top1_best_epoch` of the best encoder.
    pub metric: String,
    pub encoder: EncoderKind,
    /// Updates behind the encoder, and passes over the training images; absent of a best one that is not known yet.
    pub encoder_step: Option<u64>,
    pub encoder_epoch: Option<f64>,
    pub status: Status,
    /// In `unit`; there exactly when the status is `Done`.
    pub value: Option<f64>,
    /// `fraction`, `nats`, `1`.
    pub unit: Option<String>,
    pub backend: Backend,
    pub numerics: Numerics,
    pub pretrain_key: Key,
    /// The training's key again where `evaluation` is `pretrain`.
    pub evaluation_key: Key,
    pub n_parameters: Option<u64>,
    /// Steps trained.
    pub steps: Option<u64>,
    /// Wall-clock time of the training, in seconds.
    pub train_s: Option<f64>,
    /// Pairs of views a second, over the whole training.
    pub images_per_s: Option<f64>,
    /// This and the next four: of the training where its record is there, else of the evaluation.
    pub device: Option<String>,
    /// Digest of the program's source.
    pub code: Option<String>,
    pub ablate_version: Option<String>,
    pub host: Option<String>,
    pub started_unix_s: Option<u64>,
    /// Of a failure.
    pub message: Option<String>,
}

/// Which encoder of a run a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncoderKind {
    Final,
    /// One kept on the way.
    Snapshot,
    /// Of the final one and the snapshots, whichever came out best by this metric.
    Best,
}

impl EncoderKind {
    pub const ALL: [EncoderKind; 3] = [EncoderKind::Final, EncoderKind::Snapshot, EncoderKind::Best];

    pub fn name(self) -> &'static str {
        match self {
            EncoderKind::Final => "final",
            EncoderKind::Snapshot => "snapshot",
            EncoderKind::Best => "best",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Done,
    /// Not computed yet.
    Missing,
    /// Computed, without a result.
    Failed,
}

impl Row {
    /// Nothing but what runs it: no texts, no numbers, missing.
    pub fn blank(pretrain_key: Key, backend: Backend, numerics: Numerics) -> Row {
        Row {
            experiment: String::new(),
            smoke: false,
            cell: 0,
            labels: Vec::new(),
            seed: 0,
            evaluation: String::new(),
            protocol: None,
            metric: String::new(),
            encoder: EncoderKind::Final,
            encoder_step: None,
            encoder_epoch: None,
            status: Status::Missing,
            value: None,
            unit: None,
            backend,
            numerics,
            pretrain_key,
            evaluation_key: pretrain_key,
            n_parameters: None,
            steps: None,
            train_s: None,
            images_per_s: None,
            device: None,
            code: None,
            ablate_version: None,
            host: None,
            started_unix_s: None,
            message: None,
        }
    }

    /// `knn.top1`, as `Table::metric` spells it.
    pub fn full_metric(&self) -> String {
        format!("{}.{}", self.evaluation, self.metric)
    }

    /// Whether `full_metric` is the row's, and the row is one of a table: snapshots are what the best is chosen among.
    pub fn is_of(&self, full_metric: &str) -> bool {
        self.encoder != EncoderKind::Snapshot && self.is_named(full_metric)
    }

    /// Whether `full_metric` is the row's, of whatever encoder.
    pub fn is_named(&self, full_metric: &str) -> bool {
        let metric = full_metric.strip_prefix(self.evaluation.as_str()).and_then(|rest| rest.strip_prefix('.'));
        metric == Some(self.metric.as_str())
    }
}

impl Status {
    pub const ALL: [Status; 3] = [Status::Done, Status::Missing, Status::Failed];

    pub fn name(self) -> &'static str {
        match self {
            Status::Done => "done",
            Status::Missing => "missing",
            Status::Failed => "failed",
        }
    }
}

pub const NUMERICS: [Numerics; 2] = [Numerics::F32, Numerics::Bf16];

pub fn numerics_name(numerics: Numerics) -> &'static str {
    match numerics {
        Numerics::F32 => "f32",
        Numerics::Bf16 => "bf16",
    }
}
