//! A classifier and its cross entropy on both executors: `cpu` by its kernels, `reference` on the tape.

use super::{BatchNormScope, Pair, SCOPES, assert_near, setting, start, views};
use crate::executor::cpu::CpuExecutor;
use crate::executor::{Executor, Setting};
use crate::experiment::recipe::Loss;
use crate::model::classifier::classifier;
use crate::model::typed::TypedModel;
use crate::model::{twin, typed};

const BATCH: usize = 12;
const N_CLASSES: usize = 5;

fn model() -> Box<dyn TypedModel> {
    typed::build(&twin::small().0, Some(&classifier(N_CLASSES)))
}

fn setting_of(label_smoothing: f64, scope: BatchNormScope) -> Setting {
    Setting { loss: Loss::CrossEntropy { label_smoothing }, ..setting(BATCH, scope) }
}

fn labels(salt: u32) -> Vec<u32> {
    (0..BATCH as u32).map(|image| (image * image + salt) % N_CLASSES as u32).collect()
}

#[test]
fn three_steps_agree() {
    for (smoothing, scope) in [(0.0, SCOPES[0]), (0.0, SCOPES[1]), (0.1, SCOPES[0])] {
        let model = model();
        let start = start(model.plan());
        let mut pair = Pair::new(model, &setting_of(smoothing, scope), &start);
        for step in 0..3 {
            let what = format!("smoothing {smoothing}, {scope:?}, step {step}");
            let (views, labels) = (views(pair.plan(), BATCH, 10 + step), labels(step));
            let cpu = pair.cpu.forward_backward_labelled(&views, &labels).expect("views fit");
            let reference = pair.reference.forward_backward_labelled(&views, &labels).expect("views fit");
            assert!((cpu - reference).abs() <= 2e-5 * reference, "{what}: {cpu}, {reference}");
            for (name, [cpu, reference]) in pair.gradients() {
                assert_near(&format!("{what}: gradients of {name}"), &cpu, &reference, 2e-4);
            }
            pair.update(0.02);
        }
        let [cpu, reference] = [pair.cpu.save(), pair.reference.save()];
        assert_near("parameters", &cpu.parameters, &reference.parameters, 1e-4);
        pair.assert_equal_running_statistics("after three steps", 1e-4);
        pair.assert_equal_features("after three steps", 1e-3);
    }
}

fn cpu(setting: &Setting) -> CpuExecutor {
    let plan = model().plan().clone();
    super::cpu_executor(&plan, setting, &start(&plan))
}

#[test]
fn labels_are_learnt_from_two_views_and_from_one() {
    for n_views in [1, 2] {
        let mut executor = cpu(&Setting { n_views, ..setting_of(0.0, BatchNormScope::View) });
        let views = views(executor.plan(), BATCH, 60);
        let views = &views[..n_views * views.len() / 2];
        let mut learn = || {
            let loss = executor.forward_backward_labelled(views, &labels(0)).expect("views fit");
            executor.update(0.02);
            loss
        };
        let first = learn();
        for _ in 0..40 {
            learn();
        }
        let last = learn();
        assert!(last < 0.5 * first, "{n_views} views: from {first} to {last}");
    }
}

/// An image twice is the image once: the mean over its views is that over itself.
#[test]
fn equal_views_are_one_view() {
    let mut one = cpu(&Setting { n_views: 1, ..setting_of(0.1, BatchNormScope::View) });
    let mut two = cpu(&setting_of(0.1, BatchNormScope::View));
    let views = views(one.plan(), BATCH, 61);
    let first = &views[..views.len() / 2];
    let loss = one.forward_backward_labelled(first, &labels(1)).expect("views fit");
    let of_two = two.forward_backward_labelled(&[first, first].concat(), &labels(1)).expect("views fit");
    assert!((loss - of_two).abs() <= 1e-6 * loss, "{loss}, {of_two}");
    assert_near("gradients", &two.gradients(), &one.gradients(), 1e-5);
}

/// With statistics of its own a piece is a batch: the gradient is the mean of the pieces'.
#[test]
fn pieces_add_up_to_the_batch() {
    let scope = BatchNormScope::MicroBatchView;
    let mut in_pieces = cpu(&Setting { micro_batch: Some(BATCH / 2), ..setting_of(0.0, scope) });
    let (views, labels) = (views(in_pieces.plan(), BATCH, 62), labels(2));
    let loss = in_pieces.forward_backward_labelled(&views, &labels).expect("views fit");
    let (mut sum, mut mean_loss) = (vec![0.0; in_pieces.gradients().len()], 0.0);
    for piece in 0..2 {
        let mut alone = cpu(&Setting { batch: BATCH / 2, ..setting_of(0.0, BatchNormScope::View) });
        let quarter = views.len() / 4;
        let own = [&views[piece * quarter..][..quarter], &views[(2 + piece) * quarter..][..quarter]].concat();
        let own_labels = &labels[piece * BATCH / 2..][..BATCH / 2];
        mean_loss += alone.forward_backward_labelled(&own, own_labels).expect("views fit") / 2.0;
        sum.iter_mut().zip(alone.gradients()).for_each(|(sum, part)| *sum += part / 2.0);
    }
    assert!((loss - mean_loss).abs() <= 1e-5 * loss, "{loss}, {mean_loss}");
    assert_near("gradients", &in_pieces.gradients(), &sum, 1e-5);
}

#[test]
fn what_cannot_be_learnt_is_refused() {
    let model = model();
    let (plan, setting) = (model.plan().clone(), setting_of(0.0, BatchNormScope::View));
    let start = start(&plan);
    let mut pair = Pair::new(model, &setting, &start);
    let views = views(&plan, BATCH, 63);
    let beyond: Vec<u32> = (0..BATCH as u32).map(|image| if image == 7 { N_CLASSES as u32 } else { 0 }).collect();
    let executors: [&mut dyn Executor; 2] = [&mut pair.cpu, &mut pair.reference];
    for executor in executors {
        let said = executor.forward_backward(&views).expect_err("no labels").to_string();
        assert_eq!(said, "expected the labels of 12 images, found 0");
        let said = executor.forward_backward_labelled(&views, &beyond).expect_err("no class").to_string();
        assert_eq!(said, "a label of 5: the classifier has 5 classes");
    }
    let one_view = Setting { n_views: 1, ..super::setting(BATCH, BatchNormScope::View) };
    let said = CpuExecutor::new(plan, &one_view).err().expect("no contrast").to_string();
    assert_eq!(said, "a contrast of 1 views an image");
}
