//! The meaning of every part of a recipe, as keys see it: stable tags and names, free of Rust's and of how a file spelled it.
//!
//! A tag or name here is frozen: renaming one moves every key. What has no effect is left out, so that equal meanings
//! have equal keys. Destructuring without `..` makes a new field ask for its place.

mod classifier;

use crate::content::{Key, Value};
use crate::experiment::recipe::{
    Augmentation, Backbone, Backend, BatchNormScope, BlurKind, Builtin, Classification, Dataset, DecayScope,
    Evaluation, Filter, Head, Health, HueKind, Initialization, Knn, LarsFlavour, Layer, LearningRate, Loss, Metric,
    Model, Numerics, Optimizer, Robustness, Scaling, Schedule, Split, Stem, Train, Transfer, Vote, WarmupForm,
};

fn whole(number: impl Into<i128>) -> Value {
    Value::Integer(number.into())
}

fn pair((low, high): (f64, f64)) -> Value {
    floats(&[low, high])
}

fn floats(numbers: &[f64]) -> Value {
    Value::List(numbers.iter().map(|&number| Value::float(number)).collect())
}

/// A stage of these fields. `code`: the program that alone may compute it; without one there is no such leaf.
pub fn stage(tag: &'static str, mut fields: Vec<(&'static str, Value)>, code: Option<Key>) -> Value {
    fields.extend(code.map(|digest| ("code", Value::Key(digest))));
    Value::Record(tag, fields)
}

/// What a data set is called, wherever it lies; keys hold the digest of its content instead.
pub fn dataset(dataset: &Dataset) -> Value {
    match dataset {
        Dataset::Builtin(Builtin { n_classes, train_per_class, test_per_class, seed }) => Value::Record(
            "Builtin",
            vec![
                ("n_classes", whole(*n_classes)),
                ("train_per_class", whole(*train_per_class)),
                ("test_per_class", whole(*test_per_class)),
                ("seed", whole(*seed)),
            ],
        ),
        Dataset::Cifar10 { .. } => Value::tag("Cifar10"),
        Dataset::Cifar100 { .. } => Value::tag("Cifar100"),
        Dataset::ImageFolder { root } => Value::Record("ImageFolder", vec![("root", Value::text(root.clone()))]),
    }
}

pub fn split(split: Split) -> Value {
    match split {
        Split::Official => Value::tag("Official"),
        Split::HeldOut { fraction, seed } => {
            Value::Record("HeldOut", vec![("fraction", Value::float(fraction)), ("seed", whole(seed))])
        }
    }
}

pub fn model(model: &Model) -> Value {
    let Model { backbone, side, head, initialization } = *model;
    Value::Record(
        "Model",
        vec![
            ("backbone", self::backbone(backbone)),
            ("side", whole(side)),
            ("head", self::head(head)),
            ("initialization", self::initialization(initialization)),
        ],
    )
}

fn backbone(backbone: Backbone) -> Value {
    match backbone {
        Backbone::ResNet18 { stem } => {
            let stem = match stem {
                Stem::ImageNet => "ImageNet",
                Stem::Cifar => "Cifar",
                Stem::CifarPadded => "CifarPadded",
            };
            Value::Record("ResNet18", vec![("stem", Value::tag(stem))])
        }
    }
}

fn head(head: Head) -> Value {
    match head {
        Head::None => Value::tag("None"),
        Head::Linear { output, batch_norm, bias } => Value::Record(
            "Linear",
            vec![("output", whole(output)), ("batch_norm", Value::Bool(batch_norm)), ("bias", Value::Bool(bias))],
        ),
        Head::Mlp { layers, hidden, output, batch_norm, bias, output_shift } => {
            let mut fields = vec![
                ("layers", whole(layers)),
                ("hidden", whole(hidden)),
                ("output", whole(output)),
                ("batch_norm", Value::Bool(batch_norm)),
                ("bias", Value::Bool(bias)),
            ];
            // Every batch norm has a shift unless it is said.
            if !output_shift {
                fields.push(("output_shift", Value::Bool(false)));
            }
            Value::Record("Mlp", fields)
        }
        Head::Classifier { n_classes: _ } => Value::tag("Classifier"),
    }
}

fn initialization(initialization: Initialization) -> Value {
    Value::tag(match initialization {
        Initialization::Torchvision => "Torchvision",
        Initialization::TorchvisionNewStem => "TorchvisionNewStem",
        Initialization::PyTorchDefault => "PyTorchDefault",
        Initialization::Google => "Google",
    })
}

pub fn augmentation(augmentation: &Augmentation) -> Value {
    let chance = |tag, p| Value::Record(tag, vec![("p", Value::float(p))]);
    match *augmentation {
        Augmentation::RandomResizedCrop { scale, ratio, filter } => {
            let mut fields = vec![("scale", pair(scale)), ("ratio", pair(ratio))];
            match filter {
                // Older than the choice.
                Filter::Bilinear => {}
                Filter::Bicubic => fields.push(("filter", Value::tag("Bicubic"))),
            }
            Value::Record("RandomResizedCrop", fields)
        }
        Augmentation::HorizontalFlip { p } => chance("HorizontalFlip", p),
        Augmentation::VerticalFlip { p } => chance("VerticalFlip", p),
        Augmentation::Rotate90 { p } => chance("Rotate90", p),
        Augmentation::Rotate { p, degrees } => {
            Value::Record("Rotate", vec![("p", Value::float(p)), ("degrees", pair(degrees))])
        }
        Augmentation::ColorJitter { p, brightness, contrast, saturation, hue, hue_kind } => {
            let mut fields = vec![
                ("p", Value::float(p)),
                ("brightness", Value::float(brightness)),
                ("contrast", Value::float(contrast)),
                ("saturation", Value::float(saturation)),
                ("hue", Value::float(hue)),
            ];
            // A shift by 0 leaves the image as it is, without Pillow's round trip.
            if hue != 0.0 {
                fields.push(("hue_kind", self::hue_kind(hue_kind)));
            }
            Value::Record("ColorJitter", fields)
        }
        Augmentation::Grayscale { p } => chance("Grayscale", p),
        Augmentation::GaussianBlur { p, sigma, kind } => Value::Record(
            "GaussianBlur",
            vec![("p", Value::float(p)), ("sigma", pair(sigma)), ("kind", blur_kind(kind))],
        ),
        Augmentation::Solarize { p, threshold } => {
            Value::Record("Solarize", vec![("p", Value::float(p)), ("threshold", Value::float(threshold))])
        }
        Augmentation::Normalize { mean, std } => {
            Value::Record("Normalize", vec![("mean", floats(&mean)), ("std", floats(&std))])
        }
    }
}

fn hue_kind(kind: HueKind) -> Value {
    Value::tag(match kind {
        HueKind::Float => "Float",
        HueKind::Pillow => "Pillow",
    })
}

fn blur_kind(kind: BlurKind) -> Value {
    Value::tag(match kind {
        BlurKind::Gaussian => "Gaussian",
        BlurKind::PillowBoxes => "PillowBoxes",
    })
}

/// `plans`: what a lock of plans comes to; without one there is no such leaf.
pub fn train(train: &Train, plans: Option<Key>) -> Value {
    let Train {
        length_steps,
        batch,
        micro_batch,
        loss,
        temperature,
        batch_norm_scope,
        optimizer,
        learning_rate,
        schedule,
        numerics,
        snapshots_every_steps,
    } = *train;
    let scope = match batch_norm_scope {
        BatchNormScope::View => "View",
        BatchNormScope::Joint => "Joint",
        BatchNormScope::MicroBatchView => "MicroBatchView",
        BatchNormScope::MicroBatchJoint => "MicroBatchJoint",
    };
    let mut fields = vec![
        ("length_steps", whole(length_steps)),
        ("batch", whole(batch)),
        ("temperature", Value::float(temperature)),
        ("batch_norm_scope", Value::tag(scope)),
        ("optimizer", self::optimizer(optimizer)),
        ("learning_rate", self::learning_rate(learning_rate)),
        ("schedule", self::schedule(schedule)),
        ("numerics", self::numerics(numerics)),
    ];
    if !loss.has_temperature() {
        fields.retain(|(name, _)| *name != "temperature");
    }
    // SimCLR's own loss says nothing of losses, an undivided batch nothing of pieces, the final encoder alone nothing of
    // snapshots.
    fields.extend((loss != Loss::NT_XENT).then(|| ("loss", self::loss(loss))));
    fields.extend(micro_batch.map(|images| ("micro_batch", whole(images))));
    fields.extend(snapshots_every_steps.map(|steps| ("snapshots_every_steps", whole(steps))));
    fields.extend(plans.map(|digest| ("plans", Value::Key(digest))));
    Value::Record("Train", fields)
}

fn loss(loss: Loss) -> Value {
    match loss {
        Loss::NtXent { normalize, scale } => {
            Value::Record("NtXent", vec![("normalize", Value::Bool(normalize)), ("scale", Value::float(scale))])
        }
        Loss::NtXentMemoryBank { size } => Value::Record("NtXentMemoryBank", vec![("size", whole(size))]),
        Loss::Dcl => Value::tag("Dcl"),
        Loss::Dclw { sigma } => Value::Record("Dclw", vec![("sigma", Value::float(sigma))]),
        Loss::NtLogistic { semi_hard } => Value::Record("NtLogistic", vec![("semi_hard", Value::Bool(semi_hard))]),
        Loss::MarginTriplet { margin, semi_hard } => Value::Record(
            "MarginTriplet",
            vec![("margin", Value::float(margin)), ("semi_hard", Value::Bool(semi_hard))],
        ),
        Loss::CrossEntropy { label_smoothing } => {
            Value::Record("CrossEntropy", vec![("label_smoothing", Value::float(label_smoothing))])
        }
    }
}

/// Weight decay and, where it does something, its scope. LARS uses the scope for its trust ratio as well.
fn decay(fields: &mut Vec<(&'static str, Value)>, weight_decay: f64, scope: DecayScope, scope_matters: bool) {
    fields.push(("weight_decay", Value::float(weight_decay)));
    if scope_matters {
        let scope = match scope {
            DecayScope::All => "All",
            DecayScope::Weights => "Weights",
        };
        fields.push(("decay", Value::tag(scope)));
    }
}

fn optimizer(optimizer: Optimizer) -> Value {
    match optimizer {
        Optimizer::Sgd { momentum, nesterov, weight_decay, decay: scope } => {
            let mut fields = vec![("momentum", Value::float(momentum)), ("nesterov", Value::Bool(nesterov))];
            decay(&mut fields, weight_decay, scope, weight_decay != 0.0);
            Value::Record("Sgd", fields)
        }
        Optimizer::Lars { flavour, momentum, weight_decay, trust_coefficient, decay: scope } => {
            // Lightly's has no trust ratio without weight decay.
            let (flavour, has_ratio) = match flavour {
                LarsFlavour::Google => ("Google", true),
                LarsFlavour::Popular => ("Popular", true),
                LarsFlavour::Lightly => ("Lightly", weight_decay != 0.0),
                LarsFlavour::SoloLearn => ("SoloLearn", true),
                LarsFlavour::SoloLearnClipped => ("SoloLearnClipped", true),
            };
            let mut fields = vec![("flavour", Value::tag(flavour)), ("momentum", Value::float(momentum))];
            if has_ratio {
                fields.push(("trust_coefficient", Value::float(trust_coefficient)));
            }
            decay(&mut fields, weight_decay, scope, has_ratio);
            Value::Record("Lars", fields)
        }
        Optimizer::Adam { beta1, beta2, epsilon, weight_decay, decay: scope } => {
            let mut fields = vec![
                ("beta1", Value::float(beta1)),
                ("beta2", Value::float(beta2)),
                ("epsilon", Value::float(epsilon)),
            ];
            decay(&mut fields, weight_decay, scope, weight_decay != 0.0);
            Value::Record("Adam", fields)
        }
    }
}

fn learning_rate(rate: LearningRate) -> Value {
    let LearningRate { base, scaling } = rate;
    let scaling = match scaling {
        Scaling::None => Value::tag("None"),
        Scaling::Linear { per } => Value::Record("Linear", vec![("per", whole(per))]),
        Scaling::Sqrt => Value::tag("Sqrt"),
    };
    Value::Record("LearningRate", vec![("base", Value::float(base)), ("scaling", scaling)])
}

fn schedule(schedule: Schedule) -> Value {
    match schedule {
        Schedule::Constant => Value::tag("Constant"),
        Schedule::Cosine => Value::tag("Cosine"),
        Schedule::WarmupCosine { warmup_steps, form } => {
            let form = match form {
                WarmupForm::Lightly { end } => Value::Record("Lightly", vec![("end", Value::float(end))]),
                WarmupForm::Google => Value::tag("Google"),
            };
            Value::Record("WarmupCosine", vec![("warmup_steps", whole(warmup_steps)), ("form", form)])
        }
    }
}

fn numerics(numerics: Numerics) -> Value {
    Value::tag(match numerics {
        Numerics::F32 => "F32",
        Numerics::Bf16 => "Bf16",
    })
}

pub fn backend(backend: Backend) -> Value {
    Value::tag(match backend {
        Backend::Cpu => "Cpu",
        Backend::Cuda => "Cuda",
        Backend::Reference => "Reference",
    })
}

pub fn evaluation(evaluation: &Evaluation) -> Value {
    match *evaluation {
        Evaluation::Knn(knn) => Value::Record("Knn", self::knn(knn)),
        Evaluation::LinearProbe(probe) => classifier::linear_probe(probe),
        Evaluation::Health(Health { layer, rankme_min, feature_std_min }) => {
            let mut fields =
                vec![("rankme_min", Value::float(rankme_min)), ("feature_std_min", Value::float(feature_std_min))];
            fields.extend(self::layer(layer));
            Value::Record("Health", fields)
        }
        Evaluation::Robustness(Robustness { knn }) => Value::Record("Robustness", self::knn(knn)),
        Evaluation::Transfer(Transfer { dataset: _, facts, ref protocol }) => {
            let protocol = match *protocol {
                Classification::Knn(knn) => Value::Record("Knn", self::knn(knn)),
                Classification::LinearProbe(probe) => classifier::linear_probe(probe),
            };
            let mut fields = vec![("protocol", protocol)];
            // A run that can be computed has looked at its data.
            fields.extend(facts.map(|facts| ("data", Value::Key(facts.digest))));
            Value::Record("Transfer", fields)
        }
        Evaluation::FineTune(tuning) => classifier::fine_tune(tuning),
    }
}

fn knn(knn: Knn) -> Vec<(&'static str, Value)> {
    let Knn { k, temperature, metric, vote, layer, grid_k: _ } = knn;
    let metric = match metric {
        Metric::Cosine => "Cosine",
        Metric::Euclidean => "Euclidean",
    };
    let mut fields = vec![("k", whole(k)), ("metric", Value::tag(metric))];
    if knn.has_temperature() {
        fields.push(("temperature", Value::float(temperature)));
    }
    match vote {
        Vote::Weighted => {}
        Vote::Majority => fields.push(("vote", Value::tag("Majority"))),
    }
    fields.extend(self::layer(layer));
    fields
}

/// Evaluations of the backbone's features, the only ones there once were, say nothing of layers.
fn layer(layer: Layer) -> Option<(&'static str, Value)> {
    match layer {
        Layer::Backbone => None,
        Layer::Head(number) => Some(("layer", Value::Record("Head", vec![("number", whole(number))]))),
        Layer::Projection => Some(("layer", Value::tag("Projection"))),
    }
}
