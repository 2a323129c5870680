//! A whole fine-tuning against PyTorch 2.15 and torchvision 0.29 in f64: `tests/golden/fine_tune.json`, made by `fine_tune.py`
//! beside it. Losses and rates of six steps, how far every tensor and running statistic moved, the test images' logits.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::content::Key;
use crate::data::{Dataset, Images, LabelledImages};
use crate::device::Pool;
use crate::evaluate::Outcome;
use crate::evaluate::answer_tests::{encoder, run};
use crate::evaluate::asking::Asking;
use crate::evaluate::fine_tune::{Course, tuned};
use crate::executor::cpu::CpuExecutor;
use crate::executor::{Executor, State};
use crate::experiment::recipe::{Augmentation, Backbone, FineTune, Layer, ProbeViews, Stem};
use crate::experiment::run::Run;
use crate::model::plan::{ParameterKind, Plan};
use crate::ops::nt_xent::golden::{values, values_f32};

/// What f32 may be off by in a loss; found: 2e-8 in the first step, which is ln(classes) whatever the encoder, 5e-6 in the last.
const LOSS_OFF: f64 = 1e-5;

/// And in how far a tensor moved, as a share of that; found: 3e-3. A variance that is not Bessel's is off by 1e-2 to 1e-1.
const MOVED_OFF: f64 = 1e-2;

/// And in a logit, as a share of their root mean square.
const LOGIT_OFF: f64 = 1e-2;

#[derive(Deserialize)]
struct Golden {
    data: Data,
    tuning: Tuning,
    steps: Vec<Step>,
    moved: BTreeMap<String, Probe>,
    logits: Vec<f64>,
}

#[derive(Deserialize)]
struct Data {
    side: u32,
    classes: u32,
    train: u32,
    test: u32,
    mean: [f64; 3],
    std: [f64; 3],
}

#[derive(Deserialize)]
struct Tuning {
    epochs: u32,
    batch: u32,
    learning_rate: f64,
    momentum: f64,
    weight_decay: f64,
    seed: u64,
    labels: f64,
}

#[derive(Deserialize)]
struct Step {
    loss: f64,
    learning_rate: f64,
}

#[derive(Deserialize)]
struct Probe {
    norm: f64,
    index: Vec<usize>,
    value: Vec<f64>,
}

impl Probe {
    /// How far `found` is off: in its norm, or in a value, as a share of the norm.
    fn off(&self, found: &[f64]) -> f64 {
        let norm = found.iter().map(|value| value * value).sum::<f64>().sqrt();
        let values = self.index.iter().zip(&self.value).map(|(&index, value)| (found[index] - value).abs());
        values.fold((norm - self.norm).abs(), f64::max) / self.norm
    }
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../tests/golden/fine_tune.json")).expect("what `fine_tune.py` wrote")
}

/// Noise around the colour of a class, in 8 bits.
fn pixels(side: u32, seed: u64, label: u32) -> Vec<u8> {
    let colour = values(5000 + u64::from(label), 3, 1.0);
    let noise = values(seed, 3 * (side * side) as usize, 1.0);
    let pixel = |(index, noise): (usize, f64)| (128.0 + 60.0 * noise + 50.0 * colour[index % 3]).floor() as u8;
    noise.into_iter().enumerate().map(pixel).collect()
}

fn part(data: &Data, n: u32, seed: u64, label: impl Fn(u32) -> u32) -> LabelledImages {
    let mut images = Images::default();
    let labels: Vec<u32> = (0..n).map(|index| label(index) % data.classes).collect();
    for (index, &label) in (0..).zip(&labels) {
        images.push(data.side, data.side, &pixels(data.side, seed + index, label));
    }
    LabelledImages { images, labels }
}

fn dataset(data: &Data) -> Dataset {
    Dataset {
        train: part(data, data.train, 3000, |index| 3 * index + 1),
        test: part(data, data.test, 4000, |index| 2 * index),
        class_names: (0..data.classes).map(|class| format!("class {class}")).collect(),
        digest: Key::of_bytes(b"made here"),
    }
}

/// Weights and running statistics of an encoder that is not fresh; what its head has plays no part.
fn start(plan: &Plan, blank: State) -> State {
    let mut parameters = Vec::with_capacity(plan.n_parameters());
    for (index, parameter) in (0..).zip(&plan.parameters) {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let scale = match parameter.kind {
            ParameterKind::ConvWeight | ParameterKind::LinearWeight => (6.0 / fan_in as f64).sqrt(),
            ParameterKind::NormScale | ParameterKind::NormShift => 0.25,
            ParameterKind::LinearBias { .. } => 0.125,
            ParameterKind::HeldNormShift => 0.0,
        };
        let around = if parameter.kind == ParameterKind::NormScale { 1.0 } else { 0.0 };
        parameters.extend(values_f32(1000 + index, parameter.len(), scale).iter().map(|value| around + value));
    }
    let mut buffers = Vec::with_capacity(plan.n_buffers());
    for (index, buffer) in (0..).zip(&plan.buffers) {
        buffers.extend(values_f32(2000 + index, buffer.len, 0.25).iter().map(|value| buffer.initial + value));
    }
    State { parameters, buffers, ..blank }
}

struct Setup {
    golden: Golden,
    tuning: FineTune,
    run: Run,
    dataset: Dataset,
    encoder: CpuExecutor,
}

fn setup() -> Setup {
    let golden = golden();
    let mut run = run("[FineTune(batch: 8)]");
    run.model.backbone = Backbone::ResNet18 { stem: Stem::ImageNet };
    run.model.side = golden.data.side;
    run.views = vec![Augmentation::Normalize { mean: golden.data.mean, std: golden.data.std }];
    let Tuning { epochs, batch, learning_rate, momentum, weight_decay, seed, labels } = golden.tuning;
    let augment = ProbeViews::Plain;
    let tuning = FineTune { epochs, batch, learning_rate, momentum, weight_decay, seed, augment, labels };
    let mut encoder = encoder(&run);
    let state = start(encoder.plan(), encoder.save());
    encoder.load(&state);
    let dataset = dataset(&golden.data);
    Setup { golden, tuning, run, dataset, encoder }
}

#[test]
fn a_whole_fine_tuning_is_pytorchs() {
    let Setup { golden, tuning, run, dataset, mut encoder } = setup();
    let (pool, mut kernels, mut go_on) = (Pool::new(2), Default::default(), || true);
    let mut asking = Asking {
        run: &run,
        dataset: &dataset,
        pool: &pool,
        layer: Layer::Backbone,
        state: None,
        executor: &mut encoder,
        kernels: &mut kernels,
        go_on: &mut go_on,
    };
    let mut course = Course::new(&mut asking, &tuning).expect("an executor");
    let before = course.executor.save();
    assert_eq!(golden.steps.len(), 6);
    for (step, wanted) in golden.steps.iter().enumerate() {
        assert!(!course.is_over(), "step {step}");
        let rate = course.learning_rate();
        assert!(
            (rate - wanted.learning_rate).abs() < 1e-12,
            "step {step}: rate {rate}, {} wanted",
            wanted.learning_rate
        );
        let loss = f64::from(course.step(&asking).expect("a loss"));
        assert!(
            (loss - wanted.loss).abs() <= LOSS_OFF * wanted.loss,
            "step {step}: loss {loss}, {} wanted",
            wanted.loss
        );
    }
    assert!(course.is_over());
    check_moved(course.executor.plan(), &before, &course.executor.save(), &golden.moved);
    let logits = course.logits(&mut asking).expect("numbers").expect("nobody asks to leave");
    let spread =
        golden.logits.iter().map(|logit| logit * logit).sum::<f64>().sqrt() / (golden.logits.len() as f64).sqrt();
    assert_eq!(logits.values.len(), golden.logits.len());
    for (found, wanted) in logits.values.iter().zip(&golden.logits) {
        assert!((f64::from(*found) - wanted).abs() <= LOGIT_OFF * spread, "logit {found}, {wanted} wanted");
    }
    let outcome = tuned(&mut asking, &tuning).expect("numbers").expect("nobody asks to leave");
    check_outcome(&outcome, &golden, &dataset.test.labels);
}

/// Every tensor and running statistic: its change, so that what did not move does not hide it.
fn check_moved(plan: &Plan, before: &State, after: &State, moved: &BTreeMap<String, Probe>) {
    let change = |range: std::ops::Range<usize>, before: &[f32], after: &[f32]| -> Vec<f64> {
        range.map(|index| f64::from(after[index]) - f64::from(before[index])).collect()
    };
    let parameters = plan
        .parameters
        .iter()
        .map(|parameter| (&parameter.name, change(parameter.range(), &before.parameters, &after.parameters)));
    let buffers = plan.buffers.iter().map(|buffer| {
        (&buffer.name, change(buffer.offset..buffer.offset + buffer.len, &before.buffers, &after.buffers))
    });
    let found: BTreeMap<&String, Vec<f64>> = parameters.chain(buffers).collect();
    assert!(found.keys().copied().eq(moved.keys()), "{:?}\n{:?}", found.keys(), moved.keys());
    for (name, probe) in moved {
        let off = probe.off(&found[name]);
        assert!(off <= MOVED_OFF, "{name} moved otherwise by {off}");
    }
}

fn check_outcome(outcome: &Outcome, golden: &Golden, labels: &[u32]) {
    let classes = golden.data.classes as usize;
    let best = |logits: &[f64]| (0..classes).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("a class") as u16;
    let wanted: Vec<u16> = golden.logits.chunks_exact(classes).map(best).collect();
    assert_eq!(outcome.predictions, wanted);
    let n_right = wanted.iter().zip(labels).filter(|&(class, label)| u32::from(*class) == *label).count();
    assert_eq!(outcome.top1, n_right as f64 / labels.len() as f64);
}
