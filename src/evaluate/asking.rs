//! One evaluation under way: the encoder it may ask for features of other images than its own, and of other layers.

use std::borrow::Cow;

use crate::data::{Dataset, LabelledImages};
use crate::device::Pool;
use crate::evaluate::answer::AnswerError;
use crate::evaluate::cuda::{DeviceEvaluations, LoadedKernels};
use crate::evaluate::features::of_views;
use crate::evaluate::head::Head;
use crate::evaluate::{EvaluateError, Features, Outcome, evaluate};
use crate::executor::{Executor, State};
use crate::experiment::recipe::{Augmentation, Classification, Layer};
use crate::experiment::run::Run;
use crate::views::Pipeline;

/// The encoder, the data, and the layer that is asked about.
pub struct Asking<'s> {
    pub run: &'s Run,
    pub dataset: &'s Dataset,
    pub pool: &'s Pool,
    pub layer: Layer,
    /// There where the layer is the head's.
    pub state: Option<&'s State>,
    pub executor: &'s mut dyn Executor,
    pub kernels: &'s mut LoadedKernels,
    pub go_on: &'s mut dyn FnMut() -> bool,
}

impl Asking<'_> {
    /// The layer's features of the images whose backbone features these are.
    ///
    /// # Errors
    /// A layer that the head does not have.
    pub fn of_layer<'f>(&self, backbone: &'f Features) -> Result<Cow<'f, Features>, AnswerError> {
        let Some(state) = self.state.filter(|_| self.layer != Layer::Backbone) else {
            return Ok(Cow::Borrowed(backbone));
        };
        let head = Head { plan: self.executor.plan(), state };
        let features = head.features(backbone, self.layer, self.pool).ok_or(AnswerError::Layer(self.layer))?;
        Ok(Cow::Owned(features))
    }

    /// The layer's features of one view, of the epoch and number in `place`, of these examples of a part; none when asked
    /// to leave.
    ///
    /// # Errors
    /// The executor's.
    pub fn of_views(
        &mut self,
        part: &LabelledImages,
        examples: &[u32],
        pipeline: &Pipeline,
        place: (u32, u8),
    ) -> Result<Option<Features>, AnswerError> {
        let images = (&part.images, examples);
        let Some(values) = of_views(images, pipeline, place, self.executor, self.pool, self.go_on)? else {
            return Ok(None);
        };
        let labels = examples.iter().map(|&example| part.labels[example as usize]).collect();
        let backbone = Features { values, width: self.executor.plan().feature_width(), labels };
        Ok(Some(self.of_layer(&backbone)?.into_owned()))
    }

    /// `augmentations` and then what the run normalises by, drawn by `seed`.
    pub fn pipeline(&self, augmentations: &[Augmentation], seed: u64) -> Pipeline {
        let normalizes = |view: &&Augmentation| matches!(view, Augmentation::Normalize { .. });
        let normalizations = self.run.views.iter().filter(normalizes);
        let all: Vec<Augmentation> = augmentations.iter().chain(normalizations).cloned().collect();
        Pipeline::new(&all, self.run.model.side as usize, seed)
    }

    /// Of the data asked about.
    pub fn n_classes(&self) -> u32 {
        self.dataset.class_names.len() as u32
    }

    /// What a protocol makes of features, on the executor's device where it has one.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn told_apart(
        &mut self,
        classification: &Classification,
        bank: &Features,
        queries: &Features,
    ) -> Result<Outcome, EvaluateError> {
        let (features, n_classes) = ([bank, queries], self.n_classes());
        let executor: &mut dyn Executor = &mut *self.executor;
        let device = (executor, &mut *self.kernels);
        evaluated(classification, features, n_classes, self.pool, device)
    }
}

/// [`evaluate`] on the executor's device, where it has one.
///
/// # Errors
/// As there.
pub fn evaluated(
    classification: &Classification,
    [bank, queries]: [&Features; 2],
    n_classes: u32,
    pool: &Pool,
    (executor, loaded): (&mut dyn Executor, &mut LoadedKernels),
) -> Result<Outcome, EvaluateError> {
    let device = executor.resident().map(|resident| DeviceEvaluations { gpu: resident.gpu(), loaded });
    evaluate(classification, bank, queries, n_classes, pool, device)
}
