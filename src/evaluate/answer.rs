//! From a question to its answer, about one trained encoder and its data.

use crate::data::Dataset;
use crate::device::Pool;
use crate::evaluate::asking::Asking;
use crate::evaluate::cuda::LoadedKernels;
use crate::evaluate::features::extract;
use crate::evaluate::{EvaluateError, Features, Outcome, health, probing, robustness};
use crate::executor::{Executor, ExecutorError, State};
use crate::experiment::recipe::{Classification, Evaluation, Layer, Robustness};
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
}

/// What keeps an evaluation from its answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
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
}

impl<'a> Subject<'a> {
    pub fn new(run: &'a Run, dataset: &'a Dataset, pool: &'a Pool) -> Subject<'a> {
        Subject { run, dataset, pool, backbone: None, state: None, kernels: LoadedKernels::default() }
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
        if self.backbone.is_none() && go_on() {
            self.backbone = extract(self.run, self.dataset, executor, self.pool, go_on)?;
        }
        let layer = evaluation.layer();
        if layer != Layer::Backbone && self.state.is_none() {
            self.state = Some(executor.save());
        }
        let Some([bank, queries]) = self.backbone.as_ref().filter(|_| go_on()) else { return Ok(None) };
        let (run, dataset, pool) = (self.run, self.dataset, self.pool);
        let (state, kernels) = (self.state.as_ref(), &mut self.kernels);
        let mut asking = Asking { run, dataset, pool, layer, state, executor, kernels, go_on };
        let (bank, queries) = (asking.of_layer(bank)?, asking.of_layer(queries)?);
        match evaluation {
            Evaluation::Knn(knn) => {
                Ok(Some(Answer::of_outcome(asking.told_apart(&Classification::Knn(*knn), &bank, &queries)?)))
            }
            Evaluation::LinearProbe(probe) => {
                Ok(probing::probed(&mut asking, probe, &bank, &queries)?.map(Answer::of_outcome))
            }
            Evaluation::Health(limits) => health::asked(&mut asking, limits, &queries),
            Evaluation::Robustness(Robustness { knn }) => robustness::asked(&mut asking, knn, &bank, &queries),
        }
    }
}

impl Answer {
    fn of_outcome(outcome: Outcome) -> Answer {
        let metrics = [("top1", outcome.top1), ("top5", outcome.top5)];
        let metrics = metrics.map(|(name, value)| metric(name, value, "fraction")).to_vec();
        Answer { metrics, told_apart: Some(outcome), notes: Vec::new() }
    }
}

pub(super) fn metric(name: &str, value: f64, unit: &str) -> Metric {
    Metric { name: name.to_owned(), value, unit: unit.to_owned() }
}
