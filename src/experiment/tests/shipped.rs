//! The experiments in the repository: each loads, whole and shrunk, and the two of Lightly say what Lightly's code says.

use super::{options, sound};
use crate::experiment::recipe::{
    Augmentation, Backbone, BatchNormScope, BlurKind, DecayScope, Evaluation, Filter, Head, HueKind, Initialization,
    Knn, LearningRate, Loss, Metric, Model, Numerics, Optimizer, Scaling, Schedule, Stem, Train,
};
use crate::experiment::run::Run;
use crate::experiment::{Experiment, LoadOptions, load};

const SHIPPED: [(&str, &str, usize); 21] = [
    ("smoke", include_str!("../../../experiments/smoke.ron"), 2),
    ("batchsize", include_str!("../../../experiments/batchsize.ron"), 10),
    ("temperature", include_str!("../../../experiments/temperature.ron"), 8),
    ("augmentations", include_str!("../../../experiments/augmentations.ron"), 7),
    ("crop_and_colour", include_str!("../../../experiments/crop_and_colour.ron"), 3),
    ("losses", include_str!("../../../experiments/losses.ron"), 11),
    ("temperature_and_norm", include_str!("../../../experiments/temperature_and_norm.ron"), 6),
    ("projection_head", include_str!("../../../experiments/projection_head.ron"), 7),
    ("head_layers", include_str!("../../../experiments/head_layers.ron"), 8),
    ("record", include_str!("../../../experiments/record.ron"), 1),
    ("lightly_pytorch", include_str!("../../../experiments/lightly_pytorch.ron"), 1),
    ("lightly_lightning", include_str!("../../../experiments/lightly_lightning.ron"), 1),
    ("batchsize_epochs", include_str!("../../../experiments/batchsize_epochs.ron"), 18),
    ("augmentation_pairs", include_str!("../../../experiments/augmentation_pairs.ron"), 30),
    ("colour_strength", include_str!("../../../experiments/colour_strength.ron"), 5),
    ("batch_norm_scope", include_str!("../../../experiments/batch_norm_scope.ron"), 4),
    ("noise_floor", include_str!("../../../experiments/noise_floor.ron"), 1),
    ("best_epoch", include_str!("../../../experiments/best_epoch.ron"), 1),
    ("head_width", include_str!("../../../experiments/head_width.ron"), 8),
    ("presets", include_str!("../../../experiments/presets.ron"), 4),
    ("supervised", include_str!("../../../experiments/supervised.ron"), 3),
];

fn experiment(name: &str, smoke: bool) -> Experiment {
    let (_, text, _) = SHIPPED.iter().find(|(known, ..)| *known == name).expect("a shipped experiment");
    let loaded = load(&format!("experiments/{name}.ron"), text, &LoadOptions { smoke, ..options(&[]) });
    loaded.unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn every_file_loads_whole_and_shrunk() {
    for (name, text, n_cells) in SHIPPED {
        for smoke in [false, true] {
            let experiment = experiment(name, smoke);
            assert_eq!((experiment.name.as_str(), experiment.cells.len()), (name, n_cells));
            assert!(
                !smoke || experiment.cells.iter().flat_map(|cell| &cell.runs).all(|run| run.train.length_steps <= 3)
            );
        }
        for heading in ["// Question: ", "// Run:      just sweep experiments/", "// Cost:     ", "// Expect:   "] {
            assert!(text.contains(heading), "`{name}` lacks `{heading}`");
        }
    }
}

#[test]
fn no_shipped_file_is_forgotten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let files = std::fs::read_dir(folder).expect("the folder of experiments");
    let mut names: Vec<String> = files
        .filter_map(|file| Some(file.ok()?.file_name().to_str()?.strip_suffix(".ron")?.to_owned()))
        .filter(|name| !SHIPPED.iter().any(|(known, ..)| known == name))
        .collect();
    names.sort_unstable();
    assert_eq!(names, Vec::<String>::new(), "list these in the test as well");
}

#[test]
fn smoke_trains_at_most_seven_thousand_pairs() {
    let experiment = experiment("smoke", false);
    let runs = experiment.cells.iter().flat_map(|cell| &cell.runs);
    let n_pairs: u64 = runs.map(|run| run.train.length_steps * u64::from(run.train.batch)).sum();
    assert!((1..=7_000).contains(&n_pairs), "{n_pairs} pairs");
}

fn lightly_train() -> Train {
    Train {
        length_steps: 10 * (50_000 / 256),
        batch: 256,
        micro_batch: None,
        loss: Loss::NT_XENT,
        temperature: 0.5,
        batch_norm_scope: BatchNormScope::View,
        optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0, decay: DecayScope::All },
        learning_rate: LearningRate { base: 0.06, scaling: Scaling::None },
        schedule: Schedule::Constant,
        numerics: Numerics::F32,
        snapshots_every_steps: None,
    }
}

fn lightly_views(blur: bool) -> Vec<Augmentation> {
    let mut views = vec![
        Augmentation::RandomResizedCrop { scale: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), filter: Filter::Bilinear },
        Augmentation::HorizontalFlip { p: 0.5 },
        Augmentation::ColorJitter {
            p: 0.8,
            brightness: 0.8,
            contrast: 0.8,
            saturation: 0.8,
            hue: 0.2,
            hue_kind: HueKind::Pillow,
        },
        Augmentation::Grayscale { p: 0.2 },
    ];
    if blur {
        views.push(Augmentation::GaussianBlur { p: 0.5, sigma: (0.1, 2.0), kind: BlurKind::PillowBoxes });
    }
    views.push(Augmentation::Normalize { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] });
    views
}

fn lightly_model(hidden: u32, output: u32) -> Model {
    Model {
        backbone: Backbone::ResNet18 { stem: Stem::ImageNet },
        side: 32,
        head: Head::Mlp { layers: 2, hidden, output, batch_norm: true, bias: false, output_shift: true },
        initialization: Initialization::Torchvision,
    }
}

#[test]
fn the_lightly_files_say_what_lightly_does() {
    let check = |run: &Run, model: Model, blur: bool| {
        assert_eq!(run.train, lightly_train());
        assert_eq!(run.views, lightly_views(blur));
        assert_eq!(run.model, model);
    };
    check(&experiment("lightly_pytorch", false).cells[0].runs[0], lightly_model(512, 128), false);
    check(&experiment("lightly_lightning", false).cells[0].runs[0], lightly_model(2048, 2048), true);
}

/// The recipe of Kobak's cifar10-simclr at 500 epochs, which reports 90.3 ± 0.3 % k-NN.
#[test]
fn the_record_is_the_published_recipe() {
    let experiment = experiment("record", false);
    let run = &experiment.cells[0].runs[0];
    let train = Train {
        length_steps: 500 * (50_000 / 512),
        batch: 512,
        micro_batch: None,
        loss: Loss::NT_XENT,
        temperature: 0.5,
        batch_norm_scope: BatchNormScope::View,
        optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 5e-4, decay: DecayScope::All },
        learning_rate: LearningRate { base: 0.03, scaling: Scaling::Linear { per: 256 } },
        schedule: Schedule::Cosine,
        numerics: Numerics::F32,
        snapshots_every_steps: None,
    };
    assert_eq!(run.train, train);
    assert_eq!(run.model.backbone, Backbone::ResNet18 { stem: Stem::Cifar });
    assert_eq!(
        run.model.head,
        Head::Mlp { layers: 2, hidden: 1024, output: 128, batch_norm: false, bias: true, output_shift: true }
    );
    let (ratio, scale, by) = ((3.0 / 4.0, 4.0 / 3.0), (0.2, 1.0), 0.4);
    let (hue, hue_kind) = (0.1, HueKind::Pillow);
    let views = [
        Augmentation::RandomResizedCrop { scale, ratio, filter: Filter::Bilinear },
        Augmentation::HorizontalFlip { p: 0.5 },
        Augmentation::ColorJitter { p: 0.8, brightness: by, contrast: by, saturation: by, hue, hue_kind },
        Augmentation::Grayscale { p: 0.1 },
    ];
    assert_eq!(run.views, views);
    let knn = |k, temperature| Evaluation::Knn(Knn { k, temperature, metric: Metric::Cosine, ..Knn::DEFAULT });
    assert_eq!(run.evaluate, [knn(10, 1e6), knn(200, 0.1)]);
}

/// Cells of one recipe are one run, whichever file has them.
#[test]
fn files_share_the_runs_they_have_in_common() {
    let keys = |name: &str| {
        let experiment = experiment(name, false);
        let runs = experiment.cells.iter().flat_map(|cell| &cell.runs);
        runs.map(crate::experiment::run::Run::pretrain_key).collect::<std::collections::BTreeSet<_>>()
    };
    let shared = |a: &str, b: &str| keys(a).intersection(&keys(b)).count();
    // Three batches by two scalings, two seeds.
    assert_eq!(shared("batchsize_epochs", "batchsize"), 12);
    let of_the_recipe = ["colour_strength", "batch_norm_scope", "head_width", "projection_head", "augmentations"];
    assert_eq!(of_the_recipe.map(|other| shared("noise_floor", other)), [3; 5]);
}

#[test]
fn the_defaults_are_lightlys() {
    let run = &sound("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"))").cells[0].runs[0];
    assert_eq!(run.train, lightly_train());
    assert_eq!(run.views, lightly_views(true));
    assert_eq!(run.model, lightly_model(512, 128));
}

/// `format.ron` is the reference of the format: it must say the defaults, and each of its other choices must be one.
#[test]
fn the_reference_spells_out_the_defaults() {
    let text = include_str!("../format.ron");
    let spelled = sound(text);
    let left_out = sound(
        "Experiment(question: \"What does the default recipe reach on CIFAR-10?\", dataset: Cifar10(root: \"data\"))",
    );
    assert_eq!(spelled, left_out);
}

#[test]
fn every_other_choice_of_the_reference_is_one() {
    let check = |path: &str, values: &[&str]| {
        for value in values {
            let overrides = [format!("{path}={value}")];
            let loaded = load("x.ron", include_str!("../format.ron"), &options(&overrides));
            assert!(
                loaded.is_ok(),
                "{path}={value}: {}",
                loaded.err().map_or(String::new(), |error| error.to_string())
            );
        }
    };
    check("dataset", &["Builtin", "Builtin(n_classes: 10, train_per_class: 500, test_per_class: 100, seed: 0)"]);
    check("dataset", &["Cifar100(root: \"data\")", "ImageFolder(root: \"data\")"]);
    check("split", &["HeldOut(fraction: 0.1, seed: 0)"]);
    check("preset", &["Lightly", "SoloLearn", "Google", "Dkobak"]);
    check("model.backbone.stem", &["Cifar", "CifarPadded"]);
    check("model.initialization", &["TorchvisionNewStem", "PyTorchDefault", "Google"]);
    check("model.head.output_shift", &["false"]);
    check("views[0].filter", &["Bicubic"]);
    check("model.side", &["64", "96", "128", "224"]);
    check("model.head.layers", &["3"]);
    check("model.head.hidden", &["1024", "2048"]);
    check("model.head.output", &["64", "256", "2048"]);
    check("model.head", &["None", "Linear(output: 128, batch_norm: true, bias: false)"]);
    check("views[1]", &["VerticalFlip(p: 0.5)", "Rotate90(p: 0.5)", "Rotate(p: 0.5, degrees: (-30.0, 30.0))"]);
    check("views[1]", &["Solarize(p: 0.2, threshold: 0.5)"]);
    check("views[2]", &["ColorJitter(brightness: 0.1, contrast: 0.2, saturation: 0.3, hue: 0.4, hue_kind: Float)"]);
    check("views[4].kind", &["Gaussian"]);
    check("views[5]", &["Normalize(Cifar10)", "Normalize(Cifar100)", "Normalize(mean: (0, 0, 0), std: (1, 1, 1))"]);
    check("train.length", &["Steps(1)", "Examples(1)", "Epochs(0)"]);
    check("train.batch_norm_scope", &["Joint"]);
    check("train.loss", &["Dcl", "Dclw(sigma: 0.5)", "NtLogistic(semi_hard: false)", "NtXentMemoryBank(size: 4096)"]);
    check("train.loss", &["MarginTriplet(margin: 0.4, semi_hard: false)"]);
    check("train.loss.normalize", &["false"]);
    let supervised = ["model.head=Classifier", "train.loss=CrossEntropy(label_smoothing: 0.0)"].map(str::to_owned);
    assert!(load("x.ron", include_str!("../format.ron"), &options(&supervised)).is_ok());
    check("train.loss.scale", &["2.0"]);
    for scope in ["MicroBatchView", "MicroBatchJoint"] {
        check("train", &[&format!("(micro_batch: 64, batch_norm_scope: {scope})")]);
    }
    check("train.optimizer.decay", &["Weights"]);
    check("train.optimizer", &["Adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, decay: All)"]);
    for flavour in ["Google", "Popular", "Lightly", "SoloLearn", "SoloLearnClipped"] {
        let fields = "momentum: 0.9, weight_decay: 1e-6, trust_coefficient: 0.001, decay: Weights";
        check("train.optimizer", &[&format!("Lars(flavour: {flavour}, {fields})")]);
    }
    check("train.learning_rate", &["0.3"]);
    check("train.learning_rate.scaling", &["Linear(per: 256)", "Sqrt"]);
    check("train.schedule", &["Cosine", "WarmupCosine(warmup: Epochs(9), form: Lightly(end: 0.001))"]);
    check("train.numerics", &["F32"]);
    check("train.snapshots", &["Every(Epochs(10))", "Every(Steps(100))"]);
    check("evaluate[0].metric", &["Euclidean"]);
    check("evaluate[0].vote", &["Majority"]);
    check("evaluate[0].layer", &["Head(1)", "Head(2)", "Projection"]);
    let probe = "LinearProbe(epochs: 90, batch: 256, learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0, seed: 0, \
                 augment: None, labels: 1.0, layer: Backbone)";
    check("evaluate", &[&format!("[Knn, {probe}]"), "[Knn, LinearProbe(augment: CropAndFlip, labels: 0.01)]"]);
    let tuning = "epochs: 30, batch: 256, learning_rate: 0.05, momentum: 0.9, weight_decay: 0.0, seed: 0, \
                  augment: CropAndFlip, labels: 1.0";
    check("evaluate", &[&format!("[Knn, FineTune({tuning})]")]);
    let grid = "k: [20, 200], temperature: [0.07, 0.5], metric: [Cosine, Euclidean], vote: Weighted, layer: [Backbone, Head(1)]";
    check("evaluate", &[&format!("[Knn, KnnGrid({grid})]")]);
    check("evaluate", &["[Knn, Health(rankme_min: 8.0, feature_std_min: 0.05, layer: Backbone)]"]);
    let knn = "k: 200, temperature: 0.1, metric: Cosine, vote: Weighted, layer: Backbone";
    check("evaluate", &[&format!("[Knn, Robustness({knn})]")]);
    check("evaluate", &["[Knn, Transfer(dataset: Cifar100(root: \"data\"), protocol: Knn)]"]);
}
