//! Pairs of views a second of the whole step: views, both forwards, loss, backward, update.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::bench::{model, setting};
use crate::data::Images;
use crate::device::Pool;
use crate::executor::{self, Executor, ExecutorError, Feed, Phases};
use crate::experiment::recipe::{Augmentation, Backend, Numerics, Stem};
use crate::model::initialize::initialize;
use crate::random::{Address, Purpose, Stream};
use crate::views::Pipeline;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subject {
    pub stem: Stem,
    /// Images a step.
    pub batch: usize,
    pub numerics: Numerics,
    pub backend: Backend,
    pub device: usize,
    pub threads: usize,
    /// Trainings side by side.
    pub jobs: usize,
    /// Time to spend after the warm-up, at least; in seconds.
    pub seconds: f64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Speed {
    /// Pairs of views a second, all jobs together.
    pub pairs_per_s: f64,
    /// Of one job, the middle of all.
    pub step_ms: f64,
    pub steps: usize,
    /// Parts of `step_ms`, where the step comes in parts: on a GPU it is one graph.
    pub views_ms: Option<f64>,
    /// Forward, loss and backward together.
    pub gradient_ms: Option<f64>,
    /// Of both views; this one and the next two where the executor times them.
    pub forward_ms: Option<f64>,
    pub loss_ms: Option<f64>,
    pub backward_ms: Option<f64>,
    pub update_ms: Option<f64>,
    pub loss_first: f32,
    pub loss_last: f32,
}

const LEARNING_RATE: f64 = 0.06;
const SEED: u64 = 0;
/// Steps before the clock starts.
const WARM_UP: usize = 3;
/// Steps of a GPU between two looks.
const STEPS_AT_ONCE: usize = 20;
const STEPS_MAX: usize = 1 << 20;

/// Times trainings on `images` with these augmentations.
///
/// # Errors
/// The executor's. There must be at least `batch` images.
pub fn train(subject: &Subject, images: &Images, augmentations: &[Augmentation]) -> Result<Speed, ExecutorError> {
    if images.len() < subject.batch {
        return Err(ExecutorError::Device(format!("{} images are no batch of {}", images.len(), subject.batch)));
    }
    let barrier = Barrier::new(subject.jobs);
    let results: Vec<Result<Timed, ExecutorError>> = std::thread::scope(|scope| {
        let work = || scope.spawn(|| one(subject, images, augmentations, &barrier));
        let workers: Vec<_> = (0..subject.jobs).map(|_| work()).collect();
        let failed = || ExecutorError::Device("a training panicked".to_owned());
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(failed()))).collect()
    });
    let timed = results.into_iter().collect::<Result<Vec<Timed>, _>>()?;
    let pairs_per_s = timed.iter().map(|job| (job.step_s.len() * subject.batch) as f64 / job.seconds).sum();
    let job = timed.into_iter().next().ok_or_else(|| ExecutorError::Device("0 jobs have no speed".to_owned()))?;
    let part = |of: &dyn Fn(&Parts) -> Option<Duration>| {
        let seconds: Option<Vec<f64>> =
            job.parts.iter().map(|parts| of(parts).map(|part| part.as_secs_f64())).collect();
        seconds.filter(|seconds| !seconds.is_empty()).map(|seconds| 1e3 * middle(seconds))
    };
    Ok(Speed {
        pairs_per_s,
        step_ms: 1e3 * middle(job.step_s.clone()),
        steps: job.step_s.len(),
        views_ms: part(&|parts| Some(parts.views)),
        gradient_ms: part(&|parts| Some(parts.gradient)),
        forward_ms: part(&|parts| parts.phases.map(|phases| phases.forward)),
        loss_ms: part(&|parts| parts.phases.map(|phases| phases.loss)),
        backward_ms: part(&|parts| parts.phases.map(|phases| phases.backward)),
        update_ms: part(&|parts| Some(parts.update)),
        loss_first: job.losses[0],
        loss_last: job.losses[1],
    })
}

/// What one job took.
struct Timed {
    seconds: f64,
    step_s: Vec<f64>,
    /// Of every step that comes in parts.
    parts: Vec<Parts>,
    losses: [f32; 2],
}

struct Parts {
    views: Duration,
    /// Forward, loss and backward.
    gradient: Duration,
    phases: Option<Phases>,
    update: Duration,
}

pub(super) fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Meets the others at the barrier whatever happens, so that nobody waits for a job that failed.
fn one(
    subject: &Subject,
    images: &Images,
    augmentations: &[Augmentation],
    barrier: &Barrier,
) -> Result<Timed, ExecutorError> {
    let setting = setting(subject.batch, subject.numerics, subject.threads, subject.device);
    let model = model(subject.stem);
    let built = executor::build(&model, &setting, subject.backend).map(|mut executor| {
        let (parameters, buffers) = initialize(executor.plan(), model.initialization, SEED);
        let state = executor::State { parameters, buffers, ..executor.save() };
        executor.load(&state);
        executor
    });
    let pipeline = Pipeline::new(augmentations, model.side as usize, SEED);
    let mut executor = match built {
        Ok(executor) => executor,
        Err(error) => {
            barrier.wait();
            return Err(error);
        }
    };
    if executor.resident().is_some() {
        resident(subject, images, &pipeline, executor.as_mut(), barrier)
    } else {
        step_by_step(subject, images, &pipeline, executor.as_mut(), barrier)
    }
}

fn order(images: &Images, epoch: u32) -> Vec<u32> {
    let place = Address { epoch, ..Address::of(Purpose::Shuffle) };
    Stream::new(SEED, place).permutation(images.len() as u32)
}

fn step_by_step(
    subject: &Subject,
    images: &Images,
    pipeline: &Pipeline,
    executor: &mut dyn Executor,
    barrier: &Barrier,
) -> Result<Timed, ExecutorError> {
    let pool = Pool::new(subject.threads);
    let mut views = vec![0.0; 2 * subject.batch * pipeline.view_len()];
    let steps_per_epoch = images.len() / subject.batch;
    let (mut step_s, mut parts, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    barrier.wait();
    let mut began_all = Instant::now();
    let mut examples = order(images, 0);
    for step in 0..STEPS_MAX {
        if step == WARM_UP {
            began_all = Instant::now();
        } else if step > WARM_UP && began_all.elapsed().as_secs_f64() > subject.seconds {
            break;
        }
        let (epoch, at) = ((step / steps_per_epoch) as u32, step % steps_per_epoch * subject.batch);
        let began = Instant::now();
        if at == 0 {
            examples = order(images, epoch);
        }
        pipeline.batch(images, &examples[at..at + subject.batch], epoch, &pool, &mut views);
        let (viewed, before) = (Instant::now(), executor.phases());
        losses.push(executor.forward_backward(&views)?);
        let differentiated = Instant::now();
        executor.update(LEARNING_RATE);
        if step >= WARM_UP {
            parts.push(Parts {
                views: viewed - began,
                gradient: differentiated - viewed,
                phases: before.zip(executor.phases()).map(|(before, now)| now.since(&before)),
                update: differentiated.elapsed(),
            });
            step_s.push(began.elapsed().as_secs_f64());
        }
    }
    let losses = [losses[0], losses[losses.len() - 1]];
    Ok(Timed { seconds: began_all.elapsed().as_secs_f64(), step_s, parts, losses })
}

fn resident(
    subject: &Subject,
    images: &Images,
    pipeline: &Pipeline,
    executor: &mut dyn Executor,
    barrier: &Barrier,
) -> Result<Timed, ExecutorError> {
    let steps_per_epoch = images.len() / subject.batch;
    let rates = vec![LEARNING_RATE; 1 << 16];
    let feed = Feed { images, labels: &[], pipeline, steps_per_epoch: steps_per_epoch as u64, learning_rates: &rates };
    let none = || ExecutorError::Device("an executor that takes its views from outside".to_owned());
    let attached = executor.resident().ok_or_else(none).and_then(|resident| resident.attach(&feed));
    barrier.wait();
    attached?;
    let (mut step, mut step_s, mut losses) = (0, Vec::new(), Vec::new());
    let (mut examples, mut seen) = (order(images, 0), 0);
    let mut began_all = Instant::now();
    while step < rates.len() {
        if step_s.is_empty() && step >= WARM_UP {
            began_all = Instant::now();
        } else if began_all.elapsed().as_secs_f64() > subject.seconds && step > WARM_UP {
            break;
        }
        let epoch = (step / steps_per_epoch) as u32;
        let n = STEPS_AT_ONCE.min(steps_per_epoch - step % steps_per_epoch).min(rates.len() - step);
        let began = Instant::now();
        if epoch != seen {
            (examples, seen) = (order(images, epoch), epoch);
        }
        let done = executor.resident().ok_or_else(none)?.steps(epoch, &examples, n, false)?;
        losses.extend(done.losses);
        if step >= WARM_UP {
            step_s.extend(std::iter::repeat_n(began.elapsed().as_secs_f64() / n as f64, n));
        }
        step += n;
    }
    let losses = [losses[0], losses[losses.len() - 1]];
    Ok(Timed { seconds: began_all.elapsed().as_secs_f64(), step_s, parts: Vec::new(), losses })
}
