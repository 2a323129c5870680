//! From a question to its answer, about one trained encoder and its data.

use std::sync::Arc;

use crate::data::Dataset;
use crate::device::Pool;
use crate::evaluate::asking::Asking;
use crate::evaluate::cuda::LoadedKernels;
use crate::evaluate::features::extract;
use crate::evaluate::{EvaluateError, Features, Outcome, fine_tune, health, probing, robustness};
use crate::executor::{Executor, ExecutorError, State};
use crate::experiment::recipe::{Classification, Evaluation, Layer, Robustness, Transfer};
use crate::experiment::run::Run;
use crate::record::Metric;

/// What came of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Those that `experiment::metrics` names, in that order.
    pub metrics: Vec<Metric>,
    /// Where images were told apart.
    pub told_apart: Option<Outcome>,
    /// What a reader of the numbers must know, a sentence each.
    pub notes: Vec<String>,
    /// Of the data asked about.
    pub class_names: Vec<String>,
    /// Images asked about.
    pub n_test: u64,
}

/// What keeps an evaluation from its answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    #[error("the data to transfer to: {0}")]
    Data(String),
    /// An experiment's reader refuses these.
    #[error("the model has no layer `{0:?}` to evaluate")]
    Layer(Layer),
}

/// A run's data as evaluations see them. Features and weights are taken from the encoder once and kept.
pub struct Subject<'a> {
    run: &'a Run,
    dataset: &'a Dataset,
    pool: &'a Pool,
    /// Backbone features of the bank and the queries.
    backbone: Option<[Features; 2]>,
    /// Weights, for layers of the head.
    state: Option<State>,
    /// On the executor's device, where it has one.
    kernels: LoadedKernels,
    others: Box<LoadOther<'a>>,
}

/// Brings the data that an evaluation transfers to; an error says why they are not to be had.
pub type LoadOther<'a> = dyn Fn(&Transfer) -> Result<Arc<Dataset>, String> + 'a;

impl<'a> Subject<'a> {
    pub fn new(run: &'a Run, dataset: &'a Dataset, pool: &'a Pool, others: Box<LoadOther<'a>>) -> Subject<'a> {
        Subject { run, dataset, pool, backbone: None, state: None, kernels: LoadedKernels::default(), others }
    }

    /// Backbone features of the queries, once an evaluation needed them.
    pub fn queries(&self) -> Option<&Features> {
        self.backbone.as_ref().map(|[_, queries]| queries)
    }

    /// The answer from the encoder in `executor`, the same one every time. `go_on` is asked before every chunk of images;
    /// none when it says no.
    ///
    /// # Errors
    /// The executor's, and those of the evaluation itself.
    pub fn answer(
        &mut self,
        evaluation: &Evaluation,
        executor: &mut dyn Executor,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Answer>, AnswerError> {
        let layer = evaluation.layer();
        if layer != Layer::Backbone && self.state.is_none() {
            self.state = Some(executor.save());
        }
        let (run, pool) = (self.run, self.pool);
        let other = match evaluation {
            Evaluation::Transfer(transfer) => Some((self.others)(transfer).map_err(AnswerError::Data)?),
            Evaluation::Knn(_)
            | Evaluation::LinearProbe(_)
            | Evaluation::Health(_)
            | Evaluation::Robustness(_)
            | Evaluation::FineTune(_) => None,
        };
        let of_other = match &other {
            Some(other) => extract(run, other, executor, pool, go_on)?,
            None => None,
        };
        if other.is_none() && self.backbone.is_none() {
            self.backbone = extract(run, self.dataset, executor, pool, go_on)?;
        }
        let (dataset, features) = match &other {
            Some(other) => (&**other, &of_other),
            None => (self.dataset, &self.backbone),
        };
        let Some([bank, queries]) = features.as_ref().filter(|_| go_on()) else { return Ok(None) };
        let (state, kernels) = (self.state.as_ref(), &mut self.kernels);
        let mut asking = Asking { run, dataset, pool, layer, state, executor, kernels, go_on };
        let (bank, queries) = (asking.of_layer(bank)?, asking.of_layer(queries)?);
        match evaluation {
            Evaluation::Knn(knn) => asking.classified(&Classification::Knn(*knn), &bank, &queries),
            Evaluation::LinearProbe(probe) => asking.classified(&Classification::LinearProbe(*probe), &bank, &queries),
            Evaluation::Health(limits) => health::asked(&mut asking, limits, &queries),
            Evaluation::Robustness(Robustness { knn }) => robustness::asked(&mut asking, knn, &bank, &queries),
            Evaluation::Transfer(transfer) => asking.classified(&transfer.protocol, &bank, &queries),
            Evaluation::FineTune(tuning) => {
                let outcome = fine_tune::tuned(&mut asking, tuning)?;
                Ok(outcome.map(|outcome| asking.told(outcome)))
            }
        }
    }
}

impl Asking<'_> {
    fn classified(
        &mut self,
        protocol: &Classification,
        bank: &Features,
        queries: &Features,
    ) -> Result<Option<Answer>, AnswerError> {
        let outcome = match protocol {
            Classification::Knn(_) => Some(self.told_apart(protocol, bank, queries)?),
            Classification::LinearProbe(probe) => probing::probed(self, probe, bank, queries)?,
        };
        Ok(outcome.map(|outcome| self.told(outcome)))
    }

    fn told(&self, outcome: Outcome) -> Answer {
        let metrics = [("top1", outcome.top1), ("top5", outcome.top5)];
        let metrics = metrics.map(|(name, value)| metric(name, value, "fraction")).to_vec();
        Answer { told_apart: Some(outcome), ..self.answer(metrics, Vec::new()) }
    }

    /// An answer about the images of this data.
    pub(super) fn answer(&self, metrics: Vec<Metric>, notes: Vec<String>) -> Answer {
        let (class_names, n_test) = (self.dataset.class_names.clone(), self.dataset.test.labels.len() as u64);
        Answer { metrics, told_apart: None, notes, class_names, n_test }
    }
}

pub(super) fn metric(name: &str, value: f64, unit: &str) -> Metric {
    Metric { name: name.to_owned(), value, unit: unit.to_owned() }
}
