//! The experiments in the repository: each loads, whole and shrunk, and the two of Lightly say what Lightly's code says.

use super::{options, sound};
use crate::experiment::recipe::{
    Augmentation, Backbone, BatchNormScope, BlurKind, DecayScope, Head, HueKind, Initialization, LearningRate, Model,
    Numerics, Optimizer, Scaling, Schedule, Stem, Train,
};
use crate::experiment::run::Run;
use crate::experiment::{Experiment, LoadOptions, load};

const SHIPPED: [(&str, &str, usize); 7] = [
    ("smoke", include_str!("../../../experiments/smoke.ron"), 4),
    ("batchsize", include_str!("../../../experiments/batchsize.ron"), 10),
    ("temperature", include_str!("../../../experiments/temperature.ron"), 8),
    ("augmentations", include_str!("../../../experiments/augmentations.ron"), 7),
    ("projection_head", include_str!("../../../experiments/projection_head.ron"), 7),
    ("lightly_pytorch", include_str!("../../../experiments/lightly_pytorch.ron"), 1),
    ("lightly_lightning", include_str!("../../../experiments/lightly_lightning.ron"), 1),
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
                !smoke || experiment.cells.iter().flat_map(|cell| &cell.runs).all(|run| run.train.length_steps <= 4)
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
fn smoke_trains_at_most_six_thousand_pairs() {
    let experiment = experiment("smoke", false);
    let runs = experiment.cells.iter().flat_map(|cell| &cell.runs);
    let n_pairs: u64 = runs.map(|run| run.train.length_steps * u64::from(run.train.batch)).sum();
    assert_eq!(n_pairs, 5_760);
}

fn lightly_train() -> Train {
    Train {
        length_steps: 10 * (50_000 / 256),
        batch: 256,
        temperature: 0.5,
        batch_norm_scope: BatchNormScope::View,
        optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0, decay: DecayScope::All },
        learning_rate: LearningRate { base: 0.06, scaling: Scaling::None },
        schedule: Schedule::Constant,
        numerics: Numerics::F32,
    }
}

fn lightly_views(blur: bool) -> Vec<Augmentation> {
    let mut views = vec![
        Augmentation::RandomResizedCrop { scale: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0) },
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
        head: Head::Mlp { layers: 2, hidden, output, batch_norm: true, bias: false },
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

#[test]
fn the_defaults_are_lightlys() {
    let run = &sound("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"))").cells[0].runs[0];
    assert_eq!(run.train, lightly_train());
    assert_eq!(run.views, lightly_views(true));
    assert_eq!(run.model, lightly_model(512, 128));
}
