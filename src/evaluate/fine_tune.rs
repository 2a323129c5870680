//! Fine-tuning: the encoder's weights and running statistics, a linear classifier of zeros behind it, and all of it trained by
//! cross entropy on the labels of one view an image (SimCLR paper, section 6 and appendix B.5).
//!
//! The `cpu` executor computes it, in f32, whatever trained the encoder. SGD with Nesterov momentum; the rate falls from
//! learning_rate · batch/256 to 0 by a cosine over all steps; weight decay touches neither biases nor batch norms. Batch norms see
//! the batch while training and go on moving their running statistics, by which the test images are told apart. Few labels are
//! those of the linear probe ([`few_labels`]). Every epoch has an order of its own, one epoch's images behind the other's, and a
//! batch may reach from one into the next; a last batch that would not be full is left out. A batch beyond the labelled images is
//! cut to their number, and the rate is that of the batch as cut.
//!
//! # Against the paper and its peers
//!
//! Appendix B.5 has Nesterov momentum 0.9, a rate of 0.05 · batch/256 without warm-up, crops and flips alone, no weight decay, and
//! 60 epochs for 1 % of the labels, 30 for 10 %: so do the defaults, but for 30 epochs whatever the share. What differs:
//!
//! - The batch is 256, as in Lightly's `finetune_eval.py`, where the paper has 4096; hence its rate of 0.8 is 0.05 here.
//! - The paper says of neither the schedule nor the classifier's start what they are. google-research/simclr's code has the
//!   cosine over all steps for every training; its start is normal (deviation 0.01) unless `--zero_init_logits_layer`, which
//!   the commands of its README have. Its number of steps is one higher.
//! - Test images have their shorter side resized to the model's and the centre cut out; the paper resizes to 256 × 256 and
//!   cuts 224 × 224.
//! - Labels are balanced by class as the paper's are, but drawn by `seed`; its lists name ImageNet's images.
//! - google-research/simclr's weight decay, 0 here as there, would spare batch norms and decay the classifier's bias.
//!
//! Lightly's has the same rate, cosine and epochs, plain momentum without Nesterov's, PyTorch's random start, and reports the best
//! epoch on the validation images; VICReg's, and others', have rates of their own for encoder and classifier.

#[cfg(test)]
mod tests;

use crate::evaluate::answer::AnswerError;
use crate::evaluate::asking::Asking;
use crate::evaluate::features::of_part;
use crate::evaluate::head::Head;
use crate::evaluate::probing::CROP_AND_FLIP;
use crate::evaluate::{EvaluateError, Features, Outcome, Part, Ranking, check_numbers, few_labels, outcome};
use crate::executor::cpu::CpuExecutor;
use crate::executor::{Executor, ExecutorError, Setting, State};
use crate::experiment::recipe::{
    self, BatchNormScope, DecayScope, FineTune, Layer, Loss, Model, Numerics, Optimizer, ProbeViews, Schedule,
};
use crate::model::plan::Plan;
use crate::model::registry;
use crate::ops::schedule::multiplier;
use crate::random::{Address, Purpose, Stream};
use crate::views::{Pipeline, view};

/// The learning rate is given for a batch of so many.
const RATE_BATCH: f64 = 256.0;

/// Fewest images of a batch norm.
const BATCH_MIN: usize = 2;

/// Trains a copy of the encoder and tells the test images apart; none when asked to leave.
///
/// # Errors
/// The executor's, too little memory among them; a training that diverged; data without images.
pub fn tuned(asking: &mut Asking, tuning: &FineTune) -> Result<Option<Outcome>, AnswerError> {
    let mut course = Course::new(asking, tuning)?;
    while !course.is_over() {
        if !(asking.go_on)() {
            return Ok(None);
        }
        course.step(asking)?;
    }
    let Some(logits) = course.logits(asking)? else { return Ok(None) };
    let rankings: Vec<Ranking> = logits.values.chunks_exact(logits.width).map(Ranking::of_scores).collect();
    Ok(Some(outcome(&rankings, &logits.labels, asking.n_classes() as usize)))
}

/// One for the encoder with a classifier, in the state that fine-tuning starts from.
fn executor(
    asking: &mut Asking,
    tuning: &FineTune,
    n_classes: u32,
    batch: usize,
) -> Result<CpuExecutor, ExecutorError> {
    let model = Model { head: recipe::Head::Classifier { n_classes }, ..asking.run.model.clone() };
    let plan = registry::plan(&model).map_err(|error| ExecutorError::Device(error.to_string()))?;
    let FineTune { momentum, weight_decay, .. } = *tuning;
    let setting = Setting {
        batch,
        n_views: 1,
        micro_batch: None,
        loss: Loss::CrossEntropy { label_smoothing: 0.0 },
        temperature: 1.0,
        batch_norm_scope: BatchNormScope::View,
        optimizer: Optimizer::Sgd { momentum, nesterov: momentum > 0.0, weight_decay, decay: DecayScope::Weights },
        numerics: Numerics::F32,
        threads: asking.pool.threads(),
        device: 0,
    };
    let mut executor = CpuExecutor::new(plan, &setting)?;
    let state = start(executor.save(), executor.plan(), &asking.executor.save());
    executor.load(&state);
    Ok(executor)
}

/// The encoder's weights and statistics, which stand before those of any head in either Plan, and zeros for the rest.
fn start(blank: State, plan: &Plan, trained: &State) -> State {
    let n_classes = plan.projection_width();
    let n_encoder = plan.n_parameters() - n_classes * (plan.feature_width() + 1);
    let mut parameters = trained.parameters[..n_encoder].to_vec();
    parameters.resize(plan.n_parameters(), 0.0);
    State { parameters, buffers: trained.buffers[..plan.n_buffers()].to_vec(), step: 0, ..blank }
}

/// A fine-tuning under way.
struct Course {
    executor: CpuExecutor,
    pipeline: Pipeline,
    order: Order,
    tuning: FineTune,
    /// Images a step.
    batch: usize,
    n_steps: u64,
    /// Steps done.
    step: u64,
    views: Vec<f32>,
    labels: Vec<u32>,
}

impl Course {
    /// Before the first step.
    fn new(asking: &mut Asking, tuning: &FineTune) -> Result<Course, AnswerError> {
        let n_classes = asking.n_classes();
        let examples = few_labels::chosen(&asking.dataset.train.labels, n_classes, tuning.labels, tuning.seed);
        if examples.is_empty() {
            return Err(EvaluateError::Empty { part: Part::Bank }.into());
        }
        let batch = (tuning.batch as usize).min(examples.len()).max(BATCH_MIN);
        let augmentations = match tuning.augment {
            ProbeViews::Plain => &[][..],
            ProbeViews::CropAndFlip => &CROP_AND_FLIP[..],
        };
        let pipeline = asking.pipeline(augmentations, tuning.seed);
        Ok(Course {
            executor: executor(asking, tuning, n_classes, batch)?,
            n_steps: (u64::from(tuning.epochs) * examples.len() as u64 / batch as u64).max(1),
            step: 0,
            views: vec![0.0; batch * pipeline.view_len()],
            labels: Vec::with_capacity(batch),
            order: Order { examples, seed: tuning.seed, epoch: None, permuted: Vec::new() },
            pipeline,
            batch,
            tuning: *tuning,
        })
    }

    fn is_over(&self) -> bool {
        self.step >= self.n_steps
    }

    fn learning_rate(&self) -> f64 {
        let peak = self.tuning.learning_rate * self.batch as f64 / RATE_BATCH;
        peak * multiplier(&Schedule::Cosine, self.step, self.n_steps)
    }

    /// One step; its loss.
    fn step(&mut self, asking: &Asking) -> Result<f32, AnswerError> {
        let first = self.step * self.batch as u64;
        fill(asking, &self.pipeline, &mut self.order, first, (&mut self.views, &mut self.labels));
        let loss = self.executor.forward_backward_labelled(&self.views, &self.labels)?;
        if !loss.is_finite() {
            let (step, learning_rate) = (self.step, self.tuning.learning_rate);
            return Err(EvaluateError::TuningDiverged { step, learning_rate }.into());
        }
        self.executor.update(self.learning_rate());
        self.step += 1;
        Ok(loss)
    }

    /// The classifier's outputs for the test images, in evaluation mode; none when asked to leave.
    fn logits(&mut self, asking: &mut Asking) -> Result<Option<Features>, AnswerError> {
        let (pool, test) = (asking.pool, &asking.dataset.test);
        let Some(features) = of_part(asking.run, test, &mut self.executor, pool, asking.go_on)? else {
            return Ok(None);
        };
        check_numbers(Part::Queries, &features)?;
        let state = self.executor.save();
        let head = Head { plan: self.executor.plan(), state: &state };
        let logits = head.features(&features, Layer::Projection, pool).ok_or(AnswerError::Layer(Layer::Projection))?;
        check_numbers(Part::Queries, &logits)?;
        Ok(Some(logits))
    }
}

/// The views and labels of one batch, whose first image is the one at `position` of all epochs' images in a row.
fn fill(
    asking: &Asking,
    pipeline: &Pipeline,
    order: &mut Order,
    mut position: u64,
    (views, labels): (&mut [f32], &mut Vec<u32>),
) {
    let train = &asking.dataset.train;
    labels.clear();
    let mut rest = views;
    while !rest.is_empty() {
        let (epoch, chosen) = order.from(position, rest.len() / pipeline.view_len());
        let (own, behind) = rest.split_at_mut(chosen.len() * pipeline.view_len());
        pipeline.views(&train.images, chosen, (epoch, view::FINE_TUNE), asking.pool, own);
        labels.extend(chosen.iter().map(|&example| train.labels[example as usize]));
        position += chosen.len() as u64;
        rest = behind;
    }
}

/// The labelled images of one epoch behind those of the other, each epoch in an order of its own.
struct Order {
    examples: Vec<u32>,
    seed: u64,
    /// Whose images `permuted` holds.
    epoch: Option<u32>,
    permuted: Vec<u32>,
}

impl Order {
    /// At most `n` examples from `position` on, all of one epoch.
    fn from(&mut self, position: u64, n: usize) -> (u32, &[u32]) {
        let n_examples = self.examples.len();
        let (epoch, start) = ((position / n_examples as u64) as u32, (position % n_examples as u64) as usize);
        if self.epoch != Some(epoch) {
            let place = Address { epoch, ..Address::of(Purpose::FineTune) };
            let order = Stream::new(self.seed, place).permutation(n_examples as u32);
            self.permuted = order.into_iter().map(|place| self.examples[place as usize]).collect();
            self.epoch = Some(epoch);
        }
        (epoch, &self.permuted[start..(start + n).min(n_examples)])
    }
}
