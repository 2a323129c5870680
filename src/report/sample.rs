//! Small experiments and rows for the tests of this module.

use crate::content::Key;
use crate::experiment::recipe::{
    Augmentation, Backbone, Backend, BatchNormScope, Builtin, Dataset, DecayScope, Evaluation, Head, Initialization,
    Knn, LearningRate, LinearProbe, Loss, Metric, Model, Numerics, Optimizer, Scaling, Schedule, Split, Stem, Train,
};
use crate::experiment::run::{Bookkeeping, DataFacts, Run};
use crate::experiment::{AxisInfo, Cell, Experiment, Table};
use crate::report::row::{EncoderKind, Row, Status};

/// A run told from others by its batch and seed.
pub fn run(batch: u32, seed: u64) -> Run {
    Run {
        dataset: Dataset::Builtin(Builtin { n_classes: 10, train_per_class: 64, test_per_class: 8, seed: 0 }),
        facts: DataFacts { n_train: 640, n_test: 80, n_classes: 10, digest: Key::of_bytes(b"pixels") },
        split: Split::Official,
        model: Model {
            backbone: Backbone::ResNet18 { stem: Stem::Cifar },
            side: 32,
            head: Head::Linear { output: 128, batch_norm: false, bias: true },
            initialization: Initialization::Torchvision,
        },
        views: vec![Augmentation::HorizontalFlip { p: 0.5 }],
        train: Train {
            length_steps: 100,
            batch,
            micro_batch: None,
            loss: Loss::NT_XENT,
            temperature: 0.5,
            batch_norm_scope: BatchNormScope::View,
            optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 1e-4, decay: DecayScope::All },
            learning_rate: LearningRate { base: 0.3, scaling: Scaling::None },
            schedule: Schedule::Constant,
            numerics: Numerics::F32,
            snapshots_every_steps: None,
        },
        evaluate: vec![
            Evaluation::Knn(Knn { k: 20, temperature: 0.1, metric: Metric::Cosine, ..Knn::DEFAULT }),
            Evaluation::LinearProbe(LinearProbe {
                epochs: 5,
                batch: 64,
                learning_rate: 0.1,
                momentum: 0.9,
                weight_decay: 0.0,
                seed: 0,
                ..LinearProbe::DEFAULT
            }),
        ],
        seed,
        backend: Backend::Cpu,
        plans: None,
        code: None,
        smoke: false,
        bookkeeping: Bookkeeping { metrics_every_steps: 10, checkpoint_every_steps: 50 },
    }
}

/// The full grid of the axes, the last fastest. Axes not named in `columns` stand in the rows.
pub fn experiment(axes: &[(&str, &[&str])], columns: &[&str], seeds: &[u64]) -> Experiment {
    let mut grid: Vec<Vec<String>> = vec![Vec::new()];
    for (_, labels) in axes {
        let extended = |cell: &Vec<String>| {
            let cell = cell.clone();
            labels.iter().map(move |label| [cell.clone(), vec![(*label).to_owned()]].concat()).collect::<Vec<_>>()
        };
        grid = grid.iter().flat_map(extended).collect();
    }
    let cell = |(index, labels): (usize, Vec<String>)| {
        let runs = seeds.iter().map(|seed| run(8 + index as u32, *seed)).collect();
        Cell { labels, runs }
    };
    let path = |(path, _): &(&str, &[&str])| (*path).to_owned();
    Experiment {
        name: "batchsize".to_owned(),
        question: "Does the batch matter?".to_owned(),
        axes: axes
            .iter()
            .map(|(path, labels)| AxisInfo {
                path: (*path).to_owned(),
                labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            })
            .collect(),
        cells: grid.into_iter().enumerate().map(cell).collect(),
        seeds: seeds.to_vec(),
        table: Table {
            rows: axes.iter().filter(|(path, _)| !columns.contains(path)).map(path).collect(),
            columns: columns.iter().map(|path| (*path).to_owned()).collect(),
            metric: "knn.top1".to_owned(),
            baseline: Vec::new(),
        },
        smoke: false,
    }
}

/// A finished row of the experiment's `knn.top1`.
pub fn row(experiment: &Experiment, cell: u32, seed: u64, value: f64) -> Row {
    Row {
        experiment: experiment.name.clone(),
        smoke: experiment.smoke,
        cell,
        labels: experiment.cells[cell as usize].labels.clone(),
        seed,
        evaluation: "knn".to_owned(),
        protocol: None,
        metric: "top1".to_owned(),
        encoder: EncoderKind::Final,
        encoder_step: Some(100),
        encoder_epoch: Some(2.5),
        status: Status::Done,
        value: Some(value),
        unit: Some("fraction".to_owned()),
        backend: Backend::Cpu,
        numerics: Numerics::F32,
        pretrain_key: Key::of_bytes(format!("pretrain {cell} {seed}").as_bytes()),
        evaluation_key: Key::of_bytes(format!("evaluation {cell} {seed}").as_bytes()),
        n_parameters: Some(11_000_000),
        steps: Some(100),
        train_s: Some(12.5),
        images_per_s: Some(512.0),
        device: Some("Processor A".to_owned()),
        code: Some("0123456789abcdef".to_owned()),
        ablate_version: Some("0.1.0".to_owned()),
        host: Some("node1".to_owned()),
        started_unix_s: Some(1_700_000_000),
        message: None,
    }
}

pub fn missing(experiment: &Experiment, cell: u32, seed: u64) -> Row {
    let Row { experiment, smoke, labels, evaluation, metric, pretrain_key, evaluation_key, backend, numerics, .. } =
        row(experiment, cell, seed, 0.0);
    let blank = Row::blank(pretrain_key, backend, numerics);
    Row { experiment, smoke, cell, labels, seed, evaluation, metric, evaluation_key, ..blank }
}

pub fn failed(experiment: &Experiment, cell: u32, seed: u64, message: &str) -> Row {
    Row { status: Status::Failed, message: Some(message.to_owned()), ..missing(experiment, cell, seed) }
}

/// A result for every cell and seed: cell c has mean (50 + 2.5c) %, seeds 0.5 % apart.
pub fn complete(experiment: &Experiment) -> Vec<Row> {
    let mut rows = Vec::new();
    for cell in 0..experiment.cells.len() as u32 {
        for (index, seed) in experiment.seeds.iter().enumerate() {
            let offset = 0.005 * (index as f64 - (experiment.seeds.len() - 1) as f64 / 2.0);
            rows.push(row(experiment, cell, *seed, 0.5 + 0.025 * f64::from(cell) + offset));
        }
    }
    rows
}
