//! What will run: every field explicit and checked, and the keys that follow from it.

use crate::content::{Key, Value};
use crate::experiment::recipe::{Augmentation, Backend, Dataset, Evaluation, Model, Split, Train};
use crate::experiment::{Encoder, meaning};

/// One training and its evaluations.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub dataset: Dataset,
    pub facts: DataFacts,
    pub split: Split,
    pub model: Model,
    /// Applied in order; both views of an image use the same list with their own draws.
    pub views: Vec<Augmentation>,
    pub train: Train,
    pub evaluate: Vec<Evaluation>,
    pub seed: u64,
    pub backend: Backend,
    /// Digest of the lock that says how a GPU's convolutions are computed, where there is one.
    pub plans: Option<Key>,
    /// Digest of the program's own code, where results of other code shall not count.
    pub code: Option<Key>,
    /// Shrunk by `--smoke`: a leaf of every key, so that it can never stand in for the real run.
    pub smoke: bool,
    pub bookkeeping: Bookkeeping,
}

/// What is known of a data set before it is trained on, after the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataFacts {
    /// Images the encoder trains on, which are also the k-NN's bank.
    pub n_train: u32,
    /// Images asked about.
    pub n_test: u32,
    pub n_classes: u32,
    /// Digest of the whole decoded data set, before the split.
    pub digest: Key,
}

/// What is observed and kept on the way. Outside every key: it cannot change a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bookkeeping {
    /// Norms, alignment, uniformity and contrastive accuracy are measured every so many steps.
    pub metrics_every_steps: u64,
    /// A checkpoint to resume from is written every so many steps.
    pub checkpoint_every_steps: u64,
}

/// Bumped by hand when a stage's numbers change; a golden run in the tests says when that was forgotten.
pub const DATA_VERSION: i128 = 1;
pub const PRETRAIN_VERSION: i128 = 2;
pub const EVALUATION_VERSION: i128 = 2;

const DATA_DOMAIN: &str = "ablate/data/k1";
const PRETRAIN_DOMAIN: &str = "ablate/pretrain/k1";
const EVALUATION_DOMAIN: &str = "ablate/evaluation/k1";

impl Run {
    /// Steps of one pass over the training images; the last incomplete batch is dropped.
    pub fn steps_per_epoch(&self) -> u64 {
        u64::from(self.facts.n_train / self.train.batch)
    }

    /// Steps behind each snapshot, in order; the final encoder is none of them.
    pub fn snapshots(&self) -> Vec<u64> {
        let length_steps = self.train.length_steps;
        let every = self.train.snapshots_every_steps.filter(|every| *every > 0);
        let n = every.map_or(0, |every| length_steps.saturating_sub(1) / every);
        (1..=n).map(|index| index * every.unwrap_or(0)).collect()
    }

    /// Epochs behind so many steps.
    pub fn epoch_of(&self, steps: u64) -> f64 {
        steps as f64 / self.steps_per_epoch() as f64
    }

    /// Everything asked: of the final encoder in the file's order, then of one snapshot after another.
    pub fn asked(&self) -> Vec<Asked<'_>> {
        let of_final = self.evaluate.iter().map(|evaluation| Asked { evaluation, snapshot: None });
        let of_snapshot = |steps: u64| {
            let kept = self.evaluate.iter().filter(|evaluation| evaluation.is_of_snapshots());
            kept.map(move |evaluation| Asked { evaluation, snapshot: Some(steps) })
        };
        of_final.chain(self.snapshots().into_iter().flat_map(of_snapshot)).collect()
    }

    pub fn data_meaning(&self) -> Value {
        Value::Record(
            "Data",
            vec![
                ("version", Value::Integer(DATA_VERSION)),
                ("digest", Value::Key(self.facts.digest)),
                ("split", meaning::split(self.split)),
            ],
        )
    }

    pub fn data_key(&self) -> Key {
        Key::of_value(DATA_DOMAIN, &self.data_meaning())
    }

    /// Everything that can change the trained encoder, and nothing else.
    pub fn pretrain_meaning(&self) -> Value {
        let fields = vec![
            ("version", Value::Integer(PRETRAIN_VERSION)),
            ("smoke", Value::Bool(self.smoke)),
            ("data", Value::Key(self.data_key())),
            ("model", meaning::model(&self.model)),
            ("views", Value::List(self.views.iter().map(meaning::augmentation).collect())),
            ("train", meaning::train(&self.train, self.plans)),
            ("seed", Value::Integer(self.seed.into())),
            ("backend", meaning::backend(self.backend)),
        ];
        meaning::stage("Pretrain", fields, self.code)
    }

    /// What a file says of it, as printable text: without its seed, its device and what the data contain. No key comes of it.
    pub fn recipe_preimage(&self) -> String {
        let fields = vec![
            ("dataset", meaning::dataset(&self.dataset)),
            ("split", meaning::split(self.split)),
            ("model", meaning::model(&self.model)),
            ("views", Value::List(self.views.iter().map(meaning::augmentation).collect())),
            ("train", meaning::train(&self.train, None)),
            ("evaluate", Value::List(self.evaluate.iter().map(meaning::evaluation).collect())),
        ];
        Value::Record("Recipe", fields).preimage(PRETRAIN_DOMAIN)
    }

    pub fn pretrain_key(&self) -> Key {
        Key::of_value(PRETRAIN_DOMAIN, &self.pretrain_meaning())
    }

    pub fn pretrain_preimage(&self) -> String {
        format!("{}\n{}", self.pretrain_meaning().preimage(PRETRAIN_DOMAIN), self.data_meaning().preimage(DATA_DOMAIN))
    }

    /// An evaluation hangs on its training and adds nothing to it. It sees features, and of the views only the normalisation,
    /// which the training's key already holds.
    fn evaluation_meaning(&self, pretrain: Key, asked: Asked) -> Value {
        let mut fields = vec![
            ("version", Value::Integer(EVALUATION_VERSION)),
            ("pretrain", Value::Key(pretrain)),
            ("evaluation", meaning::evaluation(asked.evaluation)),
        ];
        // The final encoder, the only one there once was, says nothing of steps.
        fields.extend(asked.snapshot.map(|steps| ("snapshot_step", Value::Integer(steps.into()))));
        meaning::stage("Evaluate", fields, self.code)
    }

    /// Of the final encoder's evaluation.
    pub fn evaluation_key(&self, evaluation: &Evaluation) -> Key {
        let asked = Asked { evaluation, snapshot: None };
        Key::of_value(EVALUATION_DOMAIN, &self.evaluation_meaning(self.pretrain_key(), asked))
    }

    /// Of the final encoder's evaluation.
    pub fn evaluation_preimage(&self, evaluation: &Evaluation) -> String {
        self.asked_preimage(Asked { evaluation, snapshot: None })
    }

    pub fn asked_preimage(&self, asked: Asked) -> String {
        let meaning = self.evaluation_meaning(self.pretrain_key(), asked);
        format!("{}\n{}", meaning.preimage(EVALUATION_DOMAIN), self.pretrain_preimage())
    }

    /// Every key at once: the training's is hashed once and not again for each evaluation.
    pub fn keys(&self) -> RunKeys {
        let (pretrain, asked) = (self.pretrain_key(), self.asked());
        let of = |asked: &Asked| Key::of_value(EVALUATION_DOMAIN, &self.evaluation_meaning(pretrain, *asked));
        RunKeys {
            pretrain,
            evaluations: asked.iter().map(of).collect(),
            snapshots: asked.iter().map(|asked| asked.snapshot).collect(),
        }
    }
}

/// One question to one encoder of a run: a stage of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked<'a> {
    pub evaluation: &'a Evaluation,
    /// Steps behind the snapshot that it is asked of; `None` is the final encoder.
    pub snapshot: Option<u64>,
}

impl Asked<'_> {
    pub fn encoder(self) -> Encoder {
        self.snapshot.map_or(Encoder::Final, Encoder::Snapshot)
    }
}

/// The keys of a run's stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunKeys {
    pub pretrain: Key,
    /// In the order of `Run::asked`.
    pub evaluations: Vec<Key>,
    /// Of each evaluation the steps behind the snapshot it sees; `None` is the final encoder.
    pub snapshots: Vec<Option<u64>>,
}
