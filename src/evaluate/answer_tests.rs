//! Every evaluation of one encoder, from images to answers: what is measured, on any number of threads, and interrupted.

use std::sync::Arc;

use super::answer::{Answer, AnswerError, LoadOther, Subject};
use crate::data;
use crate::device::Pool;
use crate::device::emulator::Emulator;
use crate::executor::cpu::CpuExecutor;
use crate::executor::cpu::tests::build::resnet18;
use crate::executor::cuda::CudaExecutor;
use crate::executor::{Executor, Setting};
use crate::experiment::recipe::{
    Backend, Builtin, Classification, Dataset, Evaluation, Knn, Layer, Loss, Split, Stem, Transfer,
};
use crate::experiment::run::Run;
use crate::experiment::{LoadOptions, evaluation_names, load, metrics};
use crate::model::initialize::initialize;
use crate::model::registry;

const EVALUATIONS: &str =
    "[Knn(k: 5), Knn(k: 5, vote: Majority), Knn(k: 5, layer: Head(1)), Knn(k: 5, layer: Projection),
    KnnGrid(k: [1, 3], temperature: [0.07, 0.5]), Health, Health(layer: Head(2)), Robustness(k: 5),
    Robustness(k: 5, layer: Head(1)), LinearProbe(epochs: 2, batch: 8),
    LinearProbe(epochs: 2, batch: 8, labels: 0.1), LinearProbe(epochs: 2, batch: 8, layer: Head(2)),
    LinearProbe(epochs: 2, batch: 8, augment: CropAndFlip),
    LinearProbe(epochs: 2, batch: 8, augment: CropAndFlip, labels: 0.5, layer: Head(1))]";

pub(super) fn run(evaluate: &str) -> Run {
    let text = format!(
        "Experiment(question: \"q\", dataset: Builtin(n_classes: 4, train_per_class: 6, test_per_class: 3), seeds: [3],
         model: (head: Mlp(output: 64)), train: (batch: 4, length: Steps(1)), evaluate: {evaluate},
         views: [RandomResizedCrop, HorizontalFlip, ColorJitter, Grayscale, HorizontalFlip, Normalize(Cifar10)])"
    );
    let facts = |dataset: &_, split| data::facts(dataset, split, None).map_err(|error| error.to_string());
    let options = LoadOptions {
        overrides: &[],
        smoke: false,
        backend: Backend::Cpu,
        data_root: None,
        ignore_sweep: false,
        facts: &facts,
    };
    load("x.ron", &text, &options).unwrap_or_else(|problems| panic!("{problems}")).cells[0].runs[0].clone()
}

pub(super) fn others<'a>() -> Box<LoadOther<'a>> {
    let load = |transfer: &Transfer| data::load(&transfer.dataset, Split::Official);
    Box::new(move |transfer| load(transfer).map(Arc::new).map_err(|error| error.to_string()))
}

fn setting(run: &Run) -> Setting {
    Setting {
        batch: 4,
        n_views: 2,
        micro_batch: None,
        loss: Loss::NT_XENT,
        temperature: 0.5,
        batch_norm_scope: run.train.batch_norm_scope,
        optimizer: run.train.optimizer,
        numerics: run.train.numerics,
        threads: 2,
        device: 0,
    }
}

/// An encoder that nobody trained.
pub(super) fn encoder(run: &Run) -> CpuExecutor {
    let plan = registry::plan(&run.model).expect("a compiled model");
    let mut executor = CpuExecutor::new(plan, &setting(run)).expect("an executor");
    let mut state = executor.save();
    (state.parameters, state.buffers) = initialize(executor.plan(), run.model.initialization, run.seed);
    executor.load(&state);
    executor
}

pub(super) fn answers(run: &Run, dataset: &data::Dataset, threads: usize) -> Vec<Answer> {
    let pool = Pool::new(threads);
    let (mut executor, mut subject) = (encoder(run), Subject::new(run, dataset, &pool, others()));
    let mut answer = |evaluation| subject.answer(evaluation, &mut executor, &mut || true).expect("an answer");
    run.evaluate.iter().map(|evaluation| answer(evaluation).expect("nobody interrupts")).collect()
}

#[test]
fn every_evaluation_measures_what_it_names() {
    let run = run(EVALUATIONS);
    let dataset = data::load(&run.dataset, run.split).expect("the built-in set");
    let found = answers(&run, &dataset, 1);
    assert_eq!(found.len(), 17);
    for ((answer, evaluation), name) in found.iter().zip(&run.evaluate).zip(evaluation_names(&run.evaluate)) {
        let names: Vec<String> = answer.metrics.iter().map(|metric| metric.name.clone()).collect();
        assert_eq!(names, metrics(evaluation, &run.views), "{name}");
        for metric in &answer.metrics {
            let is_right = match (metric.unit.as_str(), metric.name.as_str()) {
                ("fraction", _) => (0.0..=1.0).contains(&metric.value),
                (_, "rankme") => (0.99..=12.0).contains(&metric.value),
                (_, "uniformity") => (-8.0..=1e-6).contains(&metric.value),
                (_, "alignment") => (0.0..=4.0).contains(&metric.value),
                (_, "feature_std") => (0.0..=1.0).contains(&metric.value),
                (_, name) => name.ends_with("cosine") && (-1.0..=1.0 + 1e-6).contains(&metric.value),
            };
            assert!(is_right, "{name}.{}: {}", metric.name, metric.value);
        }
        let tells_apart = evaluation.classification().is_some();
        assert_eq!(answer.told_apart.as_ref().map(|told| told.predictions.len()), tells_apart.then_some(12), "{name}");
    }
    let robust = &found[10].metrics;
    assert!(robust.iter().any(|metric| metric.name == "horizontal_flip_2_cosine"));
    let value = |name: &str| robust.iter().find(|metric| metric.name == name).expect("a metric").value;
    assert_eq!(
        value("horizontal_flip_cosine"),
        value("horizontal_flip_2_cosine"),
        "a flip draws nothing but its chance"
    );
    assert!(value("crop_cosine") < 0.999_999 && value("color_jitter_cosine") < 0.999_999);
    assert_eq!(found, answers(&run, &dataset, 3), "threads changed an answer");
}

#[test]
fn few_and_augmented_labels_are_other_questions() {
    let run = run(EVALUATIONS);
    let dataset = data::load(&run.dataset, run.split).expect("the built-in set");
    let found = answers(&run, &dataset, 2);
    let told: Vec<_> = found[12..].iter().map(|answer| answer.told_apart.clone().expect("a probe")).collect();
    assert_eq!(told.len(), 5);
    for (index, one) in told.iter().enumerate() {
        assert!(told[..index].iter().all(|other| other != one), "probe {index} answers as an earlier one does");
    }
}

/// Whoever asks to leave is heard before every chunk of images, and the next attempt starts from what is there.
#[test]
fn every_evaluation_can_be_left_and_asked_again() {
    let run = run("[Health, Robustness(k: 5), LinearProbe(epochs: 2, batch: 8, augment: CropAndFlip)]");
    let dataset = data::load(&run.dataset, run.split).expect("the built-in set");
    let expected = answers(&run, &dataset, 1);
    let pool = Pool::new(1);
    let (mut executor, mut subject) = (encoder(&run), Subject::new(&run, &dataset, &pool, others()));
    for (evaluation, expected) in run.evaluate.iter().zip(&expected) {
        let mut asked_max = 0;
        loop {
            let mut asked = 0;
            let go_on = &mut || {
                asked += 1;
                asked <= asked_max
            };
            match subject.answer(evaluation, &mut executor, go_on).expect("no failure") {
                None => asked_max += 1,
                Some(answer) => {
                    assert_eq!(answer, *expected);
                    break;
                }
            }
        }
        assert!(asked_max >= 3, "{evaluation:?} was asked {asked_max} times only");
    }
}

#[test]
fn a_layer_that_is_not_there_is_no_panic() {
    let mut run = run("[Knn(k: 5)]");
    let dataset = data::load(&run.dataset, run.split).expect("the built-in set");
    let Evaluation::Knn(knn) = &mut run.evaluate[0] else { panic!("a k-NN") };
    knn.layer = Layer::Head(9);
    let (pool, mut executor) = (Pool::new(1), encoder(&run));
    let found = Subject::new(&run, &dataset, &pool, others()).answer(&run.evaluate[0], &mut executor, &mut || true);
    assert_eq!(found, Err(AnswerError::Layer(Layer::Head(9))));
}

#[test]
fn a_transfer_asks_about_the_other_images() {
    let other = "Builtin(n_classes: 6, train_per_class: 5, test_per_class: 2, seed: 9)";
    let text = format!(
        "[Transfer(dataset: {other}, protocol: Knn(k: 3)), Knn(k: 3),
          Transfer(dataset: {other}, protocol: LinearProbe(epochs: 2, batch: 8, augment: CropAndFlip, labels: 0.5))]"
    );
    let run = run(&text);
    let dataset = data::load(&run.dataset, run.split).expect("the built-in set");
    let found = answers(&run, &dataset, 1);
    for (answer, (n_test, n_classes)) in found.iter().zip([(12, 6), (12, 4), (12, 6)]) {
        let told = answer.told_apart.as_ref().expect("images told apart");
        assert_eq!((told.predictions.len() as u64, answer.n_test), (n_test, n_test));
        let n_right = told.predictions.iter().zip(&told.labels).filter(|(found, label)| found == label).count();
        assert_eq!((told.labels.len() as u64, n_right as f64 / n_test as f64), (n_test, told.top1));
        assert_eq!((answer.class_names.len(), told.per_class_top1.len()), (n_classes, n_classes));
    }
    assert_eq!(found, answers(&run, &dataset, 2));
    // A transfer to the run's own data is the evaluation itself.
    let protocol = Classification::Knn(Knn { k: 3, ..Knn::DEFAULT });
    let own = Evaluation::Transfer(Transfer { dataset: run.dataset.clone(), facts: Some(run.facts), protocol });
    let (pool, mut executor) = (Pool::new(1), encoder(&run));
    let answer = Subject::new(&run, &dataset, &pool, others()).answer(&own, &mut executor, &mut || true);
    assert_eq!(answer.expect("an answer").as_ref(), Some(&found[1]));
    let gone: Box<LoadOther> = Box::new(|_| Err("gone".to_owned()));
    let refused = Subject::new(&run, &dataset, &pool, gone).answer(&own, &mut executor, &mut || true);
    assert_eq!(refused, Err(AnswerError::Data("gone".to_owned())));
}

/// Views made by the processor, features by the device: what comes out is the processor's but for roundings.
#[test]
fn a_device_gives_the_processors_answers() {
    let mut run = run("[Health(layer: Projection), LinearProbe(epochs: 1, batch: 8, augment: CropAndFlip)]");
    run.dataset = Dataset::Builtin(Builtin { n_classes: 4, train_per_class: 2, test_per_class: 2, seed: 1 });
    run.model.side = 8;
    run.views.truncate(2);
    let dataset = data::load(&run.dataset, run.split).expect("the built-in set");
    let plan = resnet18(Stem::Cifar, 8, 8, 8, 8);
    let pool = Pool::new(1);
    let mut cpu = CpuExecutor::new(plan.clone(), &setting(&run)).expect("an executor");
    let mut state = cpu.save();
    (state.parameters, state.buffers) = initialize(&plan, run.model.initialization, run.seed);
    cpu.load(&state);
    let mut cuda =
        CudaExecutor::new(Box::new(Emulator::with_memory(1 << 30)), plan, &setting(&run)).expect("an executor");
    cuda.load(&state);
    let (mut here, mut there) =
        (Subject::new(&run, &dataset, &pool, others()), Subject::new(&run, &dataset, &pool, others()));
    for evaluation in &run.evaluate {
        let wanted = here.answer(evaluation, &mut cpu, &mut || true).expect("an answer").expect("nobody interrupts");
        let found = there.answer(evaluation, &mut cuda, &mut || true).expect("an answer").expect("nobody interrupts");
        for (found, wanted) in found.metrics.iter().zip(&wanted.metrics) {
            let bound = if wanted.unit == "fraction" { 0.1 } else { 1e-3 * wanted.value.abs().max(1.0) };
            let off = (found.value - wanted.value).abs();
            assert!(found.name == wanted.name && off <= bound, "{evaluation:?}: {found:?}, {wanted:?} wanted");
        }
    }
}
