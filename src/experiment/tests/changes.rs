//! A run that uses everything, and every way to change it, with the keys that the change must move.

use crate::content::Key;
use crate::experiment::recipe::{
    Augmentation, Backbone, Backend, BatchNormScope, BlurKind, Builtin, Dataset, DecayScope, Evaluation, Filter, Head,
    HueKind, Initialization, Knn, LarsFlavour, LearningRate, LinearProbe, Loss, Metric, Model, Numerics, Optimizer,
    Scaling, Schedule, Split, Stem, Train, WarmupForm,
};
use crate::experiment::run::{Bookkeeping, DataFacts, Run};

const LARS: Optimizer = Optimizer::Lars {
    flavour: LarsFlavour::Google,
    momentum: 0.9,
    weight_decay: 1e-4,
    trust_coefficient: 0.001,
    decay: DecayScope::Weights,
};

fn augmentations() -> Vec<Augmentation> {
    vec![
        Augmentation::RandomResizedCrop { scale: (0.08, 1.0), ratio: (0.75, 4.0 / 3.0), filter: Filter::Bilinear },
        Augmentation::HorizontalFlip { p: 0.5 },
        Augmentation::VerticalFlip { p: 0.25 },
        Augmentation::Rotate90 { p: 0.25 },
        Augmentation::Rotate { p: 0.25, degrees: (-10.0, 10.0) },
        Augmentation::ColorJitter {
            p: 0.8,
            brightness: 0.4,
            contrast: 0.3,
            saturation: 0.2,
            hue: 0.1,
            hue_kind: HueKind::Float,
        },
        Augmentation::Grayscale { p: 0.2 },
        Augmentation::GaussianBlur { p: 0.5, sigma: (0.1, 2.0), kind: BlurKind::Gaussian },
        Augmentation::Solarize { p: 0.1, threshold: 0.5 },
        Augmentation::Normalize { mean: [0.5, 0.4, 0.3], std: [0.3, 0.2, 0.1] },
    ]
}

/// One of everything.
pub fn rich_run() -> Run {
    Run {
        dataset: Dataset::Builtin(Builtin { n_classes: 10, train_per_class: 32, test_per_class: 8, seed: 0 }),
        facts: DataFacts { n_train: 288, n_test: 32, n_classes: 10, digest: Key::of_bytes(b"data") },
        split: Split::HeldOut { fraction: 0.1, seed: 5 },
        model: Model {
            backbone: Backbone::ResNet18 { stem: Stem::Cifar },
            side: 32,
            head: Head::Mlp { layers: 2, hidden: 512, output: 128, batch_norm: true, bias: false, output_shift: true },
            initialization: Initialization::Torchvision,
        },
        views: augmentations(),
        train: Train {
            length_steps: 100,
            batch: 64,
            micro_batch: None,
            loss: Loss::NT_XENT,
            temperature: 0.5,
            batch_norm_scope: BatchNormScope::View,
            optimizer: LARS,
            learning_rate: LearningRate { base: 0.3, scaling: Scaling::Linear { per: 256 } },
            schedule: Schedule::WarmupCosine { warmup_steps: 10, form: WarmupForm::Lightly { end: 0.001 } },
            numerics: Numerics::F32,
            snapshots_every_steps: None,
        },
        evaluate: vec![
            Evaluation::Knn(Knn { k: 20, temperature: 0.1, metric: Metric::Cosine, ..Knn::DEFAULT }),
            Evaluation::LinearProbe(LinearProbe {
                epochs: 90,
                batch: 256,
                learning_rate: 0.1,
                momentum: 0.9,
                weight_decay: 0.0,
                seed: 0,
                ..LinearProbe::DEFAULT
            }),
        ],
        seed: 3,
        backend: Backend::Cpu,
        plans: None,
        code: None,
        smoke: false,
        bookkeeping: Bookkeeping { metrics_every_steps: 50, checkpoint_every_steps: 100 },
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moves {
    /// The training's key, and with it those of its evaluations.
    Pretrain,
    /// The key of an evaluation alone.
    Evaluation,
    /// No key: cannot change a result, or is held by another field that is in the key.
    Nothing,
}

pub type Change = (&'static str, Moves, fn(&mut Run));

fn jitter(change: fn(&mut [f64; 5], &mut HueKind)) -> Augmentation {
    let (mut numbers, mut hue_kind) = ([0.8, 0.4, 0.3, 0.2, 0.1], HueKind::Float);
    change(&mut numbers, &mut hue_kind);
    let [p, brightness, contrast, saturation, hue] = numbers;
    Augmentation::ColorJitter { p, brightness, contrast, saturation, hue, hue_kind }
}

fn lars(change: fn(&mut [f64; 3], &mut LarsFlavour, &mut DecayScope)) -> Optimizer {
    let (mut numbers, mut flavour, mut decay) = ([0.9, 1e-4, 0.001], LarsFlavour::Google, DecayScope::Weights);
    change(&mut numbers, &mut flavour, &mut decay);
    let [momentum, weight_decay, trust_coefficient] = numbers;
    Optimizer::Lars { flavour, momentum, weight_decay, trust_coefficient, decay }
}

fn probe(run: &mut Run) -> &mut LinearProbe {
    match &mut run.evaluate[1] {
        Evaluation::LinearProbe(probe) => probe,
        Evaluation::Knn(_)
        | Evaluation::Health(_)
        | Evaluation::Robustness(_)
        | Evaluation::Transfer(_)
        | Evaluation::FineTune(_) => {
            panic!("the second evaluation is a probe")
        }
    }
}

fn knn(run: &mut Run) -> &mut Knn {
    match &mut run.evaluate[0] {
        Evaluation::Knn(knn) => knn,
        Evaluation::LinearProbe(_)
        | Evaluation::Health(_)
        | Evaluation::Robustness(_)
        | Evaluation::Transfer(_)
        | Evaluation::FineTune(_) => {
            panic!("the first evaluation is a k-NN")
        }
    }
}

fn mlp(layers: u32, hidden: u32, output: u32, batch_norm: bool, bias: bool) -> Head {
    Head::Mlp { layers, hidden, output, batch_norm, bias, output_shift: true }
}

fn warmup(warmup_steps: u64, end: f64) -> Schedule {
    Schedule::WarmupCosine { warmup_steps, form: WarmupForm::Lightly { end } }
}

/// Data, model and everything beside training.
pub const CHANGES: [Change; 30] = [
    ("dataset: where the data lie", Moves::Nothing, |run| run.dataset = Dataset::Cifar10 { root: "r".to_owned() }),
    ("facts.n_train: follows from digest and split", Moves::Nothing, |run| run.facts.n_train += 1),
    ("facts.n_test", Moves::Nothing, |run| run.facts.n_test += 1),
    ("facts.n_classes", Moves::Nothing, |run| run.facts.n_classes += 1),
    ("facts.digest", Moves::Pretrain, |run| run.facts.digest = Key::of_bytes(b"other")),
    ("split", Moves::Pretrain, |run| run.split = Split::Official),
    ("split.fraction", Moves::Pretrain, |run| run.split = Split::HeldOut { fraction: 0.2, seed: 5 }),
    ("split.seed", Moves::Pretrain, |run| run.split = Split::HeldOut { fraction: 0.1, seed: 6 }),
    ("stem", Moves::Pretrain, |run| run.model.backbone = Backbone::ResNet18 { stem: Stem::ImageNet }),
    ("side", Moves::Pretrain, |run| run.model.side = 64),
    ("head", Moves::Pretrain, |run| run.model.head = Head::None),
    ("layers", Moves::Pretrain, |run| run.model.head = mlp(3, 512, 128, true, false)),
    ("hidden", Moves::Pretrain, |run| run.model.head = mlp(2, 1024, 128, true, false)),
    ("output", Moves::Pretrain, |run| run.model.head = mlp(2, 512, 64, true, false)),
    ("batch_norm", Moves::Pretrain, |run| run.model.head = mlp(2, 512, 128, false, false)),
    ("bias", Moves::Pretrain, |run| run.model.head = mlp(2, 512, 128, true, true)),
    ("output_shift", Moves::Pretrain, |run| {
        let (layers, hidden, output) = (2, 512, 128);
        run.model.head = Head::Mlp { layers, hidden, output, batch_norm: true, bias: false, output_shift: false };
    }),
    ("initialization", Moves::Pretrain, |run| run.model.initialization = Initialization::PyTorchDefault),
    ("new stem", Moves::Pretrain, |run| run.model.initialization = Initialization::TorchvisionNewStem),
    ("Google's", Moves::Pretrain, |run| run.model.initialization = Initialization::Google),
    ("seed", Moves::Pretrain, |run| run.seed += 1),
    ("backend", Moves::Pretrain, |run| run.backend = Backend::Reference),
    ("plans", Moves::Pretrain, |run| run.plans = Some(Key::of_bytes(b"lock"))),
    ("code", Moves::Pretrain, |run| run.code = Some(Key::of_bytes(b"source"))),
    ("smoke", Moves::Pretrain, |run| run.smoke = true),
    ("metrics_every", Moves::Nothing, |run| run.bookkeeping.metrics_every_steps += 1),
    ("checkpoint_every", Moves::Nothing, |run| run.bookkeeping.checkpoint_every_steps += 1),
    ("order of the views", Moves::Pretrain, |run| run.views.swap(1, 2)),
    ("reverse order of the views", Moves::Pretrain, |run| run.views.reverse()),
    ("number of the views", Moves::Pretrain, |run| run.views.truncate(9)),
];

pub const VIEW_CHANGES: [Change; 32] = [
    ("scale.0", Moves::Pretrain, |run| run.views[0] = crop((0.1, 1.0), (0.75, 4.0 / 3.0))),
    ("scale.1", Moves::Pretrain, |run| run.views[0] = crop((0.08, 0.9), (0.75, 4.0 / 3.0))),
    ("ratio.0", Moves::Pretrain, |run| run.views[0] = crop((0.08, 1.0), (0.7, 4.0 / 3.0))),
    ("ratio.1", Moves::Pretrain, |run| run.views[0] = crop((0.08, 1.0), (0.75, 1.3))),
    ("filter", Moves::Pretrain, |run| {
        let (scale, ratio) = ((0.08, 1.0), (0.75, 4.0 / 3.0));
        run.views[0] = Augmentation::RandomResizedCrop { scale, ratio, filter: Filter::Bicubic };
    }),
    ("kind of view", Moves::Pretrain, |run| run.views[0] = Augmentation::Grayscale { p: 0.1 }),
    ("flip", Moves::Pretrain, |run| run.views[1] = Augmentation::HorizontalFlip { p: 0.0 }),
    ("vertical flip", Moves::Pretrain, |run| run.views[2] = Augmentation::VerticalFlip { p: 0.5 }),
    ("rotate 90", Moves::Pretrain, |run| run.views[3] = Augmentation::Rotate90 { p: 0.5 }),
    ("rotate", Moves::Pretrain, |run| run.views[4] = Augmentation::Rotate { p: 0.5, degrees: (-10.0, 10.0) }),
    ("degrees.0", Moves::Pretrain, |run| run.views[4] = Augmentation::Rotate { p: 0.25, degrees: (-9.0, 10.0) }),
    ("degrees.1", Moves::Pretrain, |run| run.views[4] = Augmentation::Rotate { p: 0.25, degrees: (-10.0, 9.0) }),
    ("jitter", Moves::Pretrain, |run| run.views[5] = jitter(|numbers, _| numbers[0] = 0.7)),
    ("brightness", Moves::Pretrain, |run| run.views[5] = jitter(|numbers, _| numbers[1] = 0.7)),
    ("contrast", Moves::Pretrain, |run| run.views[5] = jitter(|numbers, _| numbers[2] = 0.7)),
    ("saturation", Moves::Pretrain, |run| run.views[5] = jitter(|numbers, _| numbers[3] = 0.7)),
    ("hue", Moves::Pretrain, |run| run.views[5] = jitter(|numbers, _| numbers[4] = 0.2)),
    ("hue_kind", Moves::Pretrain, |run| run.views[5] = jitter(|_, kind| *kind = HueKind::Pillow)),
    ("grayscale", Moves::Pretrain, |run| run.views[6] = Augmentation::Grayscale { p: 0.1 }),
    ("blur", Moves::Pretrain, |run| run.views[7] = blur(0.4, (0.1, 2.0), BlurKind::Gaussian)),
    ("sigma.0", Moves::Pretrain, |run| run.views[7] = blur(0.5, (0.2, 2.0), BlurKind::Gaussian)),
    ("sigma.1", Moves::Pretrain, |run| run.views[7] = blur(0.5, (0.1, 1.0), BlurKind::Gaussian)),
    ("blur kind", Moves::Pretrain, |run| run.views[7] = blur(0.5, (0.1, 2.0), BlurKind::PillowBoxes)),
    ("solarize", Moves::Pretrain, |run| run.views[8] = Augmentation::Solarize { p: 0.2, threshold: 0.5 }),
    ("threshold", Moves::Pretrain, |run| run.views[8] = Augmentation::Solarize { p: 0.1, threshold: 0.6 }),
    ("no normalisation", Moves::Pretrain, |run| run.views[9] = Augmentation::Grayscale { p: 0.2 }),
    ("mean.0", Moves::Pretrain, |run| run.views[9] = normalize([0.6, 0.4, 0.3], [0.3, 0.2, 0.1])),
    ("mean.1", Moves::Pretrain, |run| run.views[9] = normalize([0.5, 0.5, 0.3], [0.3, 0.2, 0.1])),
    ("mean.2", Moves::Pretrain, |run| run.views[9] = normalize([0.5, 0.4, 0.4], [0.3, 0.2, 0.1])),
    ("std.0", Moves::Pretrain, |run| run.views[9] = normalize([0.5, 0.4, 0.3], [0.4, 0.2, 0.1])),
    ("std.1", Moves::Pretrain, |run| run.views[9] = normalize([0.5, 0.4, 0.3], [0.3, 0.3, 0.1])),
    ("std.2", Moves::Pretrain, |run| run.views[9] = normalize([0.5, 0.4, 0.3], [0.3, 0.2, 0.2])),
];

pub const TRAIN_CHANGES: [Change; 31] = [
    ("length", Moves::Pretrain, |run| run.train.length_steps += 1),
    ("batch", Moves::Pretrain, |run| run.train.batch += 1),
    ("loss", Moves::Pretrain, |run| run.train.loss = Loss::Dcl),
    ("temperature", Moves::Pretrain, |run| run.train.temperature = 0.1),
    ("batch_norm_scope", Moves::Pretrain, |run| run.train.batch_norm_scope = BatchNormScope::Joint),
    ("scope of micro-batches", Moves::Pretrain, |run| run.train.batch_norm_scope = BatchNormScope::MicroBatchJoint),
    ("micro_batch", Moves::Pretrain, |run| run.train.micro_batch = Some(32)),
    ("numerics", Moves::Pretrain, |run| run.train.numerics = Numerics::Bf16),
    ("snapshots", Moves::Pretrain, |run| run.train.snapshots_every_steps = Some(30)),
    ("optimizer", Moves::Pretrain, |run| run.train.optimizer = adam(0.9, 0.999, 1e-8, 1e-4)),
    ("flavour", Moves::Pretrain, |run| run.train.optimizer = lars(|_, flavour, _| *flavour = LarsFlavour::Popular)),
    ("momentum", Moves::Pretrain, |run| run.train.optimizer = lars(|numbers, _, _| numbers[0] = 0.8)),
    ("weight_decay", Moves::Pretrain, |run| run.train.optimizer = lars(|numbers, _, _| numbers[1] = 0.0)),
    ("trust_coefficient", Moves::Pretrain, |run| run.train.optimizer = lars(|numbers, _, _| numbers[2] = 0.02)),
    ("decay", Moves::Pretrain, |run| run.train.optimizer = lars(|_, _, decay| *decay = DecayScope::All)),
    ("base", Moves::Pretrain, |run| run.train.learning_rate.base = 0.4),
    ("scaling", Moves::Pretrain, |run| run.train.learning_rate.scaling = Scaling::Sqrt),
    ("per", Moves::Pretrain, |run| run.train.learning_rate.scaling = Scaling::Linear { per: 128 }),
    ("schedule", Moves::Pretrain, |run| run.train.schedule = Schedule::Cosine),
    ("warmup", Moves::Pretrain, |run| run.train.schedule = warmup(11, 0.001)),
    ("end", Moves::Pretrain, |run| run.train.schedule = warmup(10, 0.0)),
    ("form", Moves::Pretrain, |run| {
        run.train.schedule = Schedule::WarmupCosine { warmup_steps: 10, form: WarmupForm::Google };
    }),
    ("k", Moves::Evaluation, |run| knn(run).k += 1),
    ("metric", Moves::Evaluation, |run| knn(run).metric = Metric::Euclidean),
    ("knn.temperature", Moves::Evaluation, |run| knn(run).temperature = 0.2),
    ("probe.epochs", Moves::Evaluation, |run| probe(run).epochs += 1),
    ("probe.batch", Moves::Evaluation, |run| probe(run).batch += 1),
    ("probe.learning_rate", Moves::Evaluation, |run| probe(run).learning_rate = 0.2),
    ("probe.momentum", Moves::Evaluation, |run| probe(run).momentum = 0.8),
    ("probe.weight_decay", Moves::Evaluation, |run| probe(run).weight_decay = 1e-4),
    ("probe.seed", Moves::Evaluation, |run| probe(run).seed += 1),
];

fn crop(scale: (f64, f64), ratio: (f64, f64)) -> Augmentation {
    Augmentation::RandomResizedCrop { scale, ratio, filter: Filter::Bilinear }
}

fn blur(p: f64, sigma: (f64, f64), kind: BlurKind) -> Augmentation {
    Augmentation::GaussianBlur { p, sigma, kind }
}

fn normalize(mean: [f64; 3], std: [f64; 3]) -> Augmentation {
    Augmentation::Normalize { mean, std }
}

fn adam(beta1: f64, beta2: f64, epsilon: f64, weight_decay: f64) -> Optimizer {
    Optimizer::Adam { beta1, beta2, epsilon, weight_decay, decay: DecayScope::All }
}
