//! What is asked of a trained encoder: every protocol with all of its settings.

use crate::experiment::recipe::Dataset;
use crate::experiment::run::DataFacts;

/// One question to a trained encoder; each has a key and a record of its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Evaluation {
    Knn(Knn),
    LinearProbe(LinearProbe),
    Health(Health),
    Robustness(Robustness),
    Transfer(Transfer),
    FineTune(FineTune),
}

/// What learns from labelled features and tells others apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Classification {
    Knn(Knn),
    LinearProbe(LinearProbe),
}

/// Which of the network's outputs are the features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// h, the backbone's output.
    Backbone,
    /// The output of the head's block of this number, from 1: the linear layer, its batch norm where the head has them,
    /// and the ReLU of all blocks but the last.
    Head(u32),
    /// z, the output of the whole head before it is normalised; the backbone's output where there is no head.
    Projection,
}

/// k-nearest-neighbour vote on frozen features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knn {
    pub k: u32,
    pub temperature: f64,
    pub metric: Metric,
    pub vote: Vote,
    pub layer: Layer,
    /// Of a point of a grid the k as the file says it, for a name in tables that says its settings. In no key: it cannot change
    /// a result.
    pub grid_k: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Weight exp(cos/T).
    Cosine,
    /// Weight 1/(distance + 1e-5) (solo-learn); the temperature is not used.
    Euclidean,
}

/// What each of the k neighbours counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    /// As the metric says.
    Weighted,
    /// One each, and of equal counts the lower class wins (scikit-learn's `KNeighborsClassifier`); no temperature.
    Majority,
}

/// A linear classifier on frozen features: SGD with Nesterov momentum, cosine learning rate, features standardised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearProbe {
    pub epochs: u32,
    pub batch: u32,
    /// Peak rate, scaled linearly by batch/256.
    pub learning_rate: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    pub seed: u64,
    pub layer: Layer,
    pub augment: ProbeViews,
    /// Share of each class's training images whose labels may be used, at least one a class.
    pub labels: f64,
}

/// What the training images of a probe or a fine-tuning look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeViews {
    /// As evaluations see them: features are computed once.
    Plain,
    /// A random crop of 8 to 100 % of the area and a flip, anew every epoch (SimCLR paper, appendix B.6).
    CropAndFlip,
}

/// All of the encoder trained on with a linear classifier behind it, from the run's weights and a classifier of zeros: SGD with
/// Nesterov momentum, cosine learning rate, cross entropy on the labels of one view an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FineTune {
    pub epochs: u32,
    pub batch: u32,
    /// Peak rate, scaled linearly by batch/256.
    pub learning_rate: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    pub seed: u64,
    pub augment: ProbeViews,
    /// Share of each class's training images whose labels may be used, at least one a class.
    pub labels: f64,
}

/// How far features use the space they have, and an alarm where they do not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Health {
    pub layer: Layer,
    /// Collapsed where RankMe is below.
    pub rankme_min: f64,
    /// Collapsed where the standard deviation of normalised features, times the root of their width, is below.
    pub feature_std_min: f64,
}

/// A protocol on the official parts of another data set, with the encoder as the run trained it.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    pub dataset: Dataset,
    /// What is known of that data set; nothing until somebody looked at it.
    pub facts: Option<DataFacts>,
    pub protocol: Classification,
}

/// How much each augmentation of the run, alone and always applied, moves the features of the images asked about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Robustness {
    /// Asks about the augmented images; its bank is not augmented.
    pub knn: Knn,
}

impl Evaluation {
    /// What tells the run's own images apart, where it is one.
    pub fn classification(&self) -> Option<Classification> {
        match *self {
            Evaluation::Knn(knn) => Some(Classification::Knn(knn)),
            Evaluation::LinearProbe(probe) => Some(Classification::LinearProbe(probe)),
            Evaluation::Health(_) | Evaluation::Robustness(_) | Evaluation::Transfer(_) | Evaluation::FineTune(_) => {
                None
            }
        }
    }

    /// Whether it is made of every snapshot, or of the final encoder alone.
    pub fn is_of_snapshots(&self) -> bool {
        match self {
            Evaluation::Knn(_) | Evaluation::LinearProbe(_) | Evaluation::Health(_) | Evaluation::Transfer(_) => true,
            Evaluation::Robustness(_) | Evaluation::FineTune(_) => false,
        }
    }

    /// Which features it sees.
    pub fn layer(&self) -> Layer {
        match self {
            Evaluation::Knn(knn) | Evaluation::Robustness(Robustness { knn }) => knn.layer,
            Evaluation::LinearProbe(probe) => probe.layer,
            Evaluation::Health(health) => health.layer,
            Evaluation::Transfer(transfer) => transfer.protocol.layer(),
            Evaluation::FineTune(_) => Layer::Backbone,
        }
    }
}

impl Classification {
    /// Which features it sees.
    pub fn layer(&self) -> Layer {
        match self {
            Classification::Knn(knn) => knn.layer,
            Classification::LinearProbe(probe) => probe.layer,
        }
    }
}

impl Knn {
    /// Lightly's.
    pub const DEFAULT: Knn = Knn {
        k: 200,
        temperature: 0.1,
        metric: Metric::Cosine,
        vote: Vote::Weighted,
        layer: Layer::Backbone,
        grid_k: None,
    };

    /// Whether the temperature has an effect.
    pub fn has_temperature(&self) -> bool {
        match (self.metric, self.vote) {
            (Metric::Cosine, Vote::Weighted) => true,
            (Metric::Euclidean, Vote::Weighted) | (Metric::Cosine | Metric::Euclidean, Vote::Majority) => false,
        }
    }
}

impl LinearProbe {
    /// The linear protocol of the SimCLR paper, appendix B.6, at Lightly's batch, without its augmentation.
    pub const DEFAULT: LinearProbe = LinearProbe {
        epochs: 90,
        batch: 256,
        learning_rate: 0.1,
        momentum: 0.9,
        weight_decay: 0.0,
        seed: 0,
        layer: Layer::Backbone,
        augment: ProbeViews::Plain,
        labels: 1.0,
    };
}

impl FineTune {
    /// The SimCLR paper, appendix B.5: Nesterov momentum 0.9, rate 0.05 · batch/256, no warm-up, no weight decay, crops and flips
    /// alone; 30 epochs as there for a tenth of the labels, where a hundredth has 60. The paper's batch is 4096; 256 is what
    /// Lightly's benchmark has, and the cosine, which the paper does not mention, is both Lightly's and
    /// google-research/simclr's. `evaluate::fine_tune` lists every difference.
    pub const DEFAULT: FineTune = FineTune {
        epochs: 30,
        batch: 256,
        learning_rate: 0.05,
        momentum: 0.9,
        weight_decay: 0.0,
        seed: 0,
        augment: ProbeViews::CropAndFlip,
        labels: 1.0,
    };
}

impl Health {
    /// A rank of 8 is below what ten classes need; features spread evenly over the sphere have a standard deviation of 1.
    pub const DEFAULT: Health = Health { layer: Layer::Backbone, rankme_min: 8.0, feature_std_min: 0.05 };
}
