//! The vocabulary of a recipe: plain data that says what a run is made of, every field explicit.
//!
//! This is the one thing both wings share. It holds no tensor, no file, no key and no behaviour beyond
//! arithmetic on its own fields. Closed enums are matched without `_` everywhere, so a new variant makes
//! the compiler list what must learn about it.

mod evaluation;

pub use evaluation::{
    Classification, Evaluation, FineTune, Health, Knn, Layer, LinearProbe, Metric, ProbeViews, Robustness, Transfer,
    Vote,
};

/// Where the images come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Dataset {
    /// Procedural 32×32 RGB images with real class structure; nothing to download.
    Builtin(Builtin),
    /// The official CIFAR-10 binary files in `root/cifar-10-batches-bin`.
    Cifar10 { root: String },
    /// The official CIFAR-100 binary files in `root/cifar-100-binary`, fine labels.
    Cifar100 { root: String },
    /// `root/train/<class>/*.{jpg,png,webp,bmp}` and `root/test/<class>/...`, any image size.
    ImageFolder { root: String },
}

/// Size and seed of the procedural data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builtin {
    pub n_classes: u32,
    pub train_per_class: u32,
    pub test_per_class: u32,
    pub seed: u64,
}

/// Which images train the encoder, fill the bank and are asked about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Split {
    /// Train on the training set, evaluate on the test set.
    Official,
    /// Hold `fraction` of the training set out (class-balanced, seeded) and evaluate on it; the test set is never touched.
    HeldOut { fraction: f64, seed: u64 },
}

/// The encoder f(·) and the projection head g(·).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub backbone: Backbone,
    /// Height and width of a view, in pixels.
    pub side: u32,
    pub head: Head,
    pub initialization: Initialization,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backbone {
    /// ResNet-18 without its classifier; 512 features.
    ResNet18 { stem: Stem },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stem {
    /// 7×7 convolution of stride 2 and a 3×3 max-pool of stride 2 (torchvision).
    ImageNet,
    /// 3×3 convolution of stride 1, no pooling (SimCLR paper, appendix B.9).
    Cifar,
    /// `Cifar` with a padding of 2, so that maps are two pixels larger than the view (solo-learn).
    CifarPadded,
}

/// The projection head. `batch_norm` puts one behind every linear layer, the last included
/// (Lightly's `SimCLRProjectionHead`); `bias` gives every linear layer a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// The loss sees the features themselves.
    None,
    Linear {
        output: u32,
        batch_norm: bool,
        bias: bool,
    },
    Mlp {
        /// Number of linear layers: 2 or 3.
        layers: u32,
        hidden: u32,
        output: u32,
        batch_norm: bool,
        bias: bool,
        /// Whether the last batch norm has a trained shift; without one it stays at 0 (google-research/simclr).
        output_shift: bool,
    },
    /// One linear layer with bias to the data's classes, for a loss of labels. Their number follows from the data, so no key
    /// holds it; 0 until somebody looked at them.
    Classifier {
        n_classes: u32,
    },
}

/// How parameters are drawn before the first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initialization {
    /// torchvision's `resnet18` and PyTorch's `nn.Linear` defaults: convolutions Kaiming normal (fan out),
    /// batch-norm scale 1 and shift 0, linear layers uniform in ±1/√fan_in.
    Torchvision,
    /// `Torchvision`, but the first convolution as `PyTorchDefault`: what is left when it is put into a finished
    /// `resnet18` (solo-learn, Kobak's cifar10-simclr).
    TorchvisionNewStem,
    /// PyTorch's own defaults, Kaiming uniform with a = √5: convolutions and linear layers uniform in ±1/√fan_in,
    /// batch-norm scale 1 and shift 0 (Lightly's `ResNetGenerator`).
    PyTorchDefault,
    /// google-research/simclr: convolutions truncated normal of variance 1/fan_in, linear weights normal of deviation
    /// 0.01, biases 0; batch-norm scale 1, but 0 for the last of a residual branch, and shift 0.
    Google,
}

/// One operation of the view pipeline. Values between operations are f32 in [0, 1].
#[derive(Debug, Clone, PartialEq)]
pub enum Augmentation {
    /// torchvision's `RandomResizedCrop` to the model's side, with antialias.
    RandomResizedCrop {
        /// Area of the crop as a fraction of the image.
        scale: (f64, f64),
        /// Width over height of the crop.
        ratio: (f64, f64),
        filter: Filter,
    },
    HorizontalFlip {
        p: f64,
    },
    VerticalFlip {
        p: f64,
    },
    /// Rotation by 90° counter-clockwise (Lightly with `rr_degrees: None`).
    Rotate90 {
        p: f64,
    },
    /// Rotation by an angle uniform in [`degrees.0`, `degrees.1`], nearest neighbour, zero fill (torchvision).
    Rotate {
        p: f64,
        degrees: (f64, f64),
    },
    /// The four operations in random order (torchvision's `ColorJitter`), applied with probability `p`.
    /// Factors are uniform in [max(0, 1 − x), 1 + x], the hue shift in [−hue, hue] turns.
    ColorJitter {
        p: f64,
        brightness: f64,
        contrast: f64,
        saturation: f64,
        hue: f64,
        hue_kind: HueKind,
    },
    Grayscale {
        p: f64,
    },
    /// Standard deviation uniform in [`sigma.0`, `sigma.1`], in pixels.
    GaussianBlur {
        p: f64,
        sigma: (f64, f64),
        kind: BlurKind,
    },
    /// Inverts values at or above `threshold` (in [0, 1]; Pillow's 128 is 128/255).
    Solarize {
        p: f64,
        threshold: f64,
    },
    /// Subtracts the mean and divides by the standard deviation, per channel.
    Normalize {
        mean: [f64; 3],
        std: [f64; 3],
    },
}

/// What a crop is resized with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// A triangle: two inputs an output of an enlarged crop.
    Bilinear,
    /// Keys' cubic with a = −½, clipped to [0, 1] (Pillow's `BICUBIC`): four inputs an output of an enlarged crop.
    Bicubic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HueKind {
    /// torchvision's tensor path, in float.
    Float,
    /// Pillow's 8-bit HSV round trip, up to 13 levels away.
    Pillow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlurKind {
    /// A true Gaussian, truncated at 4 σ (at least one pixel), edges replicated.
    Gaussian,
    /// Pillow's `GaussianBlur`: three extended-box passes an axis, 8 bits between passes.
    PillowBoxes,
}

/// How the encoder is trained. Lengths are steps: epochs and examples were turned into steps when the run was resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Train {
    pub length_steps: u64,
    /// Images a step; each gives two views.
    pub batch: u32,
    /// Images a piece, where the network sees the batch in pieces and the loss sees it whole; it divides `batch`.
    pub micro_batch: Option<u32>,
    pub loss: Loss,
    pub temperature: f64,
    pub batch_norm_scope: BatchNormScope,
    pub optimizer: Optimizer,
    pub learning_rate: LearningRate,
    pub schedule: Schedule,
    pub numerics: Numerics,
    /// The encoder is kept every so many steps, below `length_steps`; `None` keeps the final one alone.
    pub snapshots_every_steps: Option<u64>,
}

/// What training minimises, on 2N embeddings; formulas in `ops::nt_xent`, `ops::contrastive` and `ops::cross_entropy`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// SimCLR's, times `scale`; without `normalize` of dot products in place of cosines (SimCLR paper, table 5).
    NtXent { normalize: bool, scale: f64 },
    /// First views against their second ones and a queue of `size` second views of earlier batches (Lightly's memory bank).
    NtXentMemoryBank { size: u32 },
    /// Decoupled: NT-Xent without the positive in its denominator (Yeh et al. 2022).
    Dcl,
    /// DCL whose positives are weighted by how unlike they are, on a scale of `sigma`.
    Dclw { sigma: f64 },
    /// Logistic loss of each positive and each negative (SimCLR paper, table 2).
    NtLogistic { semi_hard: bool },
    /// Negatives may come no nearer than `margin` beyond the positive (SimCLR paper, table 2). It has no temperature.
    MarginTriplet { margin: f64, semi_hard: bool },
    /// Of the labels of all views, the embeddings taken for logits: no contrast but supervised learning. It has no temperature.
    CrossEntropy { label_smoothing: f64 },
}

impl Loss {
    pub const NT_XENT: Loss = Loss::NtXent { normalize: true, scale: 1.0 };

    pub fn has_temperature(self) -> bool {
        match self {
            Loss::NtXent { .. }
            | Loss::NtXentMemoryBank { .. }
            | Loss::Dcl
            | Loss::Dclw { .. }
            | Loss::NtLogistic { .. } => true,
            Loss::MarginTriplet { .. } | Loss::CrossEntropy { .. } => false,
        }
    }

    /// Whether it learns from labels, and not from pairs of views.
    pub fn has_labels(self) -> bool {
        matches!(self, Loss::CrossEntropy { .. })
    }
}

/// Whose statistics a batch norm sees during training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchNormScope {
    /// Each view of the batch on its own (Lightly, solo-learn).
    View,
    /// Both views at once (Google, VISSL).
    Joint,
    /// Each view of each micro-batch on its own.
    MicroBatchView,
    /// Both views of a micro-batch at once.
    MicroBatchJoint,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimizer {
    Sgd {
        momentum: f64,
        nesterov: bool,
        weight_decay: f64,
        decay: DecayScope,
    },
    Lars {
        flavour: LarsFlavour,
        momentum: f64,
        weight_decay: f64,
        trust_coefficient: f64,
        /// Parameters outside the scope get neither weight decay nor a trust ratio.
        decay: DecayScope,
    },
    Adam {
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        weight_decay: f64,
        decay: DecayScope,
    },
}

/// Which parameters weight decay touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecayScope {
    All,
    /// All but biases and batch-norm scales and shifts.
    Weights,
}

/// The four LARS families in use, solo-learn's with and without its clip, each with its own formula (see `ops::optimizer`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LarsFlavour {
    /// google-research/simclr: trust ratio of the decayed gradient, learning rate inside the momentum buffer.
    Google,
    /// VISSL and AndrewAtanov/simclr-pytorch: Google's ratio, learning rate outside the buffer.
    Popular,
    /// Lightly and Lightning Bolts: ratio ‖w‖/(‖g‖ + wd·‖w‖ + 1e-8) of the raw gradient, skipped where `weight_decay` is 0.
    Lightly,
    /// solo-learn without `clip_lr`: Lightly's ratio, applied even where `weight_decay` is 0.
    SoloLearn,
    /// solo-learn with `clip_lr`, as its CIFAR recipe: the ratio over the learning rate is at most 1 (LARC).
    SoloLearnClipped,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    pub base: f64,
    pub scaling: Scaling,
}

/// From the base rate and the batch to the peak rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    /// base
    None,
    /// base · batch / per
    Linear { per: u32 },
    /// base · √batch
    Sqrt,
}

impl LearningRate {
    /// The rate a schedule's multiplier is applied to.
    pub fn peak(&self, batch: u32) -> f64 {
        match self.scaling {
            Scaling::None => self.base,
            Scaling::Linear { per } => self.base * f64::from(batch) / f64::from(per),
            Scaling::Sqrt => self.base * f64::from(batch).sqrt(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    Constant,
    /// ½(1 + cos(π·step/length)).
    Cosine,
    WarmupCosine {
        warmup_steps: u64,
        form: WarmupForm,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WarmupForm {
    /// Warm-up (step + 1)/warmup, then a cosine that reaches `end` at the last step (Lightly's `CosineWarmupScheduler`).
    Lightly { end: f64 },
    /// Warm-up step/warmup from 0, then a cosine to 0 one step after the last (google-research/simclr).
    Google,
}

/// The arithmetic of a run. `Native` in a file has become one of these before anything is keyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numerics {
    /// f32 everywhere; no tf32.
    F32,
    /// bf16 storage, f32 accumulation, statistics, loss and master weights (CUDA).
    Bf16,
}

/// Which executor family computes a run; part of its key, since the bits depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Cpu,
    Cuda,
    /// The typed model on dfdx's own tape.
    Reference,
}

impl Backend {
    pub const ALL: [Backend; 3] = [Backend::Cpu, Backend::Cuda, Backend::Reference];

    pub fn name(self) -> &'static str {
        match self {
            Backend::Cpu => "cpu",
            Backend::Cuda => "cuda",
            Backend::Reference => "reference",
        }
    }
}
