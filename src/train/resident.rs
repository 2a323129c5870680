//! The loop around an executor that runs whole steps by itself: some steps at a time, losses read back in between.

use std::time::Instant;

use crate::data::LabelledImages;
use crate::executor::{Executor, ExecutorError, Feed, Resident, Steps};
use crate::ops::cross_entropy::top1;
use crate::train::course::{Course, learning_rate};
use crate::train::{TrainError, Watcher, metrics};
use crate::views::Pipeline;

/// Steps between two looks at the loss and at whether to leave, at most.
const STEPS_AT_ONCE: u64 = 64;

/// Trains from `start` on.
pub fn train(
    course: &mut Course,
    data: &LabelledImages,
    executor: &mut dyn Executor,
    start: u64,
    watcher: &mut dyn Watcher,
) -> Result<(), TrainError> {
    let run = course.run;
    let pipeline = Pipeline::new(&run.views, run.model.side as usize, run.seed);
    let learning_rates: Vec<f64> = (0..run.train.length_steps).map(|step| learning_rate(run, step)).collect();
    let steps_per_epoch = run.steps_per_epoch();
    let LabelledImages { images, labels } = data;
    let feed = Feed { images, labels, pipeline: &pipeline, steps_per_epoch, learning_rates: &learning_rates };
    resident(executor)?.attach(&feed)?;
    let mut step = start;
    while step < run.train.length_steps {
        let began = Instant::now();
        let (epoch, measured, n) = (course.order.epoch_of(step), course.is_measured(step), stretch(course, step));
        let order = course.order.of_epoch(epoch);
        let Steps { losses, detail } = resident(executor)?.steps(epoch, order, n as usize, measured)?;
        // A measured step runs alone, so that the projections are still its own.
        let train_top1 = detail.is_some().then(|| accuracy(course, labels, executor, step)).flatten();
        let mut detail = detail.map(|(norms, embeddings)| metrics::detail(norms, embeddings, train_top1));
        let mut last = f64::NAN;
        for (index, loss) in losses.iter().enumerate() {
            last = f64::from(*loss);
            let detail = if index + 1 == losses.len() { detail.take() } else { None };
            course.note(step + index as u64, last, detail)?;
        }
        course.cost.steps(epoch, run.train.batch, n, began.elapsed());
        step += n;
        course.pause(executor, step, last, watcher)?;
    }
    Ok(())
}

/// On the training views of `step`, the last that ran; none for a loss without labels.
fn accuracy(course: &mut Course, labels: &[u32], executor: &dyn Executor, step: u64) -> Option<f64> {
    if !course.run.train.loss.has_labels() {
        return None;
    }
    let labels: Vec<u32> = course.order.examples(step).iter().map(|&example| labels[example as usize]).collect();
    let logits = executor.projections();
    Some(top1(&logits, &labels, logits.len() / (2 * labels.len())))
}

fn resident(executor: &mut dyn Executor) -> Result<&mut dyn Resident, ExecutorError> {
    executor.resident().ok_or_else(|| ExecutorError::Device("an executor that takes its views from outside".to_owned()))
}

/// How many steps run at once: one that is measured runs alone; none goes past an epoch, a measured step, a checkpoint, a
/// snapshot or the end.
fn stretch(course: &Course, step: u64) -> u64 {
    if course.is_measured(step) {
        return 1;
    }
    let until_multiple = |every: u64| every - step % every;
    let bookkeeping = course.run.bookkeeping;
    [
        STEPS_AT_ONCE,
        course.order.left_in_epoch(step),
        until_multiple(bookkeeping.metrics_every_steps),
        until_multiple(bookkeeping.checkpoint_every_steps),
        course.run.train.snapshots_every_steps.map_or(u64::MAX, until_multiple),
        course.run.train.length_steps - step,
    ]
    .into_iter()
    .fold(u64::MAX, u64::min)
}
