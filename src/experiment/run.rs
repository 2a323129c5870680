//! What will run: every field explicit and checked, and the keys that follow from it.

use crate::content::{Key, Value};
use crate::experiment::meaning;
use crate::experiment::recipe::{Augmentation, Backend, Dataset, Evaluation, Model, Split, Train};

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
pub const PRETRAIN_VERSION: i128 = 1;
pub const EVALUATION_VERSION: i128 = 1;

const DATA_DOMAIN: &str = "ablate/data/k1";
const PRETRAIN_DOMAIN: &str = "ablate/pretrain/k1";
const EVALUATION_DOMAIN: &str = "ablate/evaluation/k1";

impl Run {
    /// Steps of one pass over the training images; the last incomplete batch is dropped.
    pub fn steps_per_epoch(&self) -> u64 {
        u64::from(self.facts.n_train / self.train.batch)
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
    fn evaluation_meaning(&self, pretrain: Key, evaluation: &Evaluation) -> Value {
        let fields = vec![
            ("version", Value::Integer(EVALUATION_VERSION)),
            ("pretrain", Value::Key(pretrain)),
            ("evaluation", meaning::evaluation(evaluation)),
        ];
        meaning::stage("Evaluate", fields, self.code)
    }

    pub fn evaluation_key(&self, evaluation: &Evaluation) -> Key {
        Key::of_value(EVALUATION_DOMAIN, &self.evaluation_meaning(self.pretrain_key(), evaluation))
    }

    pub fn evaluation_preimage(&self, evaluation: &Evaluation) -> String {
        let meaning = self.evaluation_meaning(self.pretrain_key(), evaluation);
        format!("{}\n{}", meaning.preimage(EVALUATION_DOMAIN), self.pretrain_preimage())
    }

    /// Every key at once: the training's is hashed once and not again for each evaluation.
    pub fn keys(&self) -> RunKeys {
        let pretrain = self.pretrain_key();
        let of = |evaluation| Key::of_value(EVALUATION_DOMAIN, &self.evaluation_meaning(pretrain, evaluation));
        RunKeys { pretrain, evaluations: self.evaluate.iter().map(of).collect() }
    }
}

/// The keys of a run's stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunKeys {
    pub pretrain: Key,
    /// In the order of `Run::evaluate`.
    pub evaluations: Vec<Key>,
}
