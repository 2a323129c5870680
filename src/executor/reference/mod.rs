//! The typed model trained through dfdx's own tape: slow, obviously right, the oracle of the other executors.

mod cross_entropy;
mod loss;
mod nt_xent;

use dfdx::shapes::Axis;
use dfdx::tensor::CpuError;
use dfdx::tensor_ops::{Backward, TryConcatAlong};

use crate::device::Pool;
use crate::executor::{Executor, ExecutorError, Setting, State, UpdateNorms, check_labels};
use crate::experiment::recipe::{self, BatchNormScope};
use crate::model::plan::Plan;
use crate::model::registry::{self, NotCompiled};
use crate::model::tape::Recorded;
use crate::model::typed::TypedModel;
use crate::ops::contrastive;
use crate::ops::optimizer::{self, Step, Updater};

/// Pixels that go through an evaluation at once: 64 images of 32 × 32, which bounds its memory.
const EVALUATED_PIXELS: usize = 64 * 32 * 32;

/// A typed model, its optimizer and what the last step left behind.
pub struct ReferenceExecutor {
    model: Box<dyn TypedModel>,
    setting: Setting,
    pool: Pool,
    slots: Vec<(&'static str, Vec<f32>)>,
    /// The memory bank, where the loss has one.
    bank: Vec<f32>,
    step: u64,
    projections: Vec<f32>,
    gradients: Vec<f32>,
}

impl ReferenceExecutor {
    /// All parameters are 0 until a state is loaded.
    pub fn new(model: &recipe::Model, setting: &Setting) -> Result<ReferenceExecutor, NotCompiled> {
        Ok(ReferenceExecutor::of_model(registry::typed(model)?, setting))
    }

    /// For a model that no recipe names.
    pub fn of_model(model: Box<dyn TypedModel>, setting: &Setting) -> ReferenceExecutor {
        let slots = optimizer::slots(&setting.optimizer, model.plan().n_parameters());
        let bank = vec![0.0; contrastive::bank_len(setting.loss, model.plan().projection_width())];
        ReferenceExecutor {
            model,
            bank,
            setting: setting.clone(),
            pool: Pool::new(setting.threads),
            slots,
            step: 0,
            projections: Vec::new(),
            gradients: Vec::new(),
        }
    }
}

/// A forward and backward pass in numbers.
struct Pass {
    loss: f32,
    projections: Vec<f32>,
    gradients: Vec<f32>,
}

fn forward_backward(
    model: &mut dyn TypedModel,
    (views, labels): (&[f32], &[u32]),
    setting: &Setting,
    bank: &[f32],
) -> Result<Pass, CpuError> {
    let projections = project(model, views, setting.batch_norm_scope)?;
    let values = projections.as_vec();
    let (loss, recorded) = loss::record(projections, setting, (bank, labels))?;
    let gradients = model.gradients(&recorded.try_backward()?);
    Ok(Pass { loss, projections: values, gradients })
}

/// The projections of both views, first views first. Batch norm sees one view at a time or both at once; a batch is one piece.
fn project(model: &mut dyn TypedModel, views: &[f32], scope: BatchNormScope) -> Result<Recorded, CpuError> {
    match scope {
        BatchNormScope::Joint | BatchNormScope::MicroBatchJoint => model.forward(views),
        BatchNormScope::View | BatchNormScope::MicroBatchView => {
            let (first, second) = views.split_at(views.len() / 2);
            let (first, second) = (model.forward(first)?, model.forward(second)?);
            (first, second).try_concat_along(Axis::<0>)
        }
    }
}

fn device_error(error: CpuError) -> ExecutorError {
    ExecutorError::Device(format!("the reference executor failed: {error}"))
}

impl Executor for ReferenceExecutor {
    fn plan(&self) -> &Plan {
        self.model.plan()
    }

    fn load(&mut self, state: &State) {
        self.model.load(&state.parameters, &state.buffers);
        assert_eq!(state.bank.len(), self.bank.len(), "the memory bank of the state and of the setting");
        self.slots.clone_from(&state.optimizer);
        self.bank.copy_from_slice(&state.bank);
        self.step = state.step;
    }

    fn save(&self) -> State {
        let (parameters, buffers) = self.model.save();
        State { parameters, buffers, optimizer: self.slots.clone(), bank: self.bank.clone(), step: self.step }
    }

    fn forward_backward_labelled(&mut self, views: &[f32], labels: &[u32]) -> Result<f32, ExecutorError> {
        check_labels(self.setting.loss, labels, self.setting.batch, self.plan().projection_width())?;
        let (model, setting, bank) = (self.model.as_mut(), &self.setting, &self.bank);
        let views = (views, labels);
        let pass = self.pool.install(|| forward_backward(model, views, setting, bank)).map_err(device_error)?;
        if !self.bank.is_empty() {
            let width = self.model.plan().projection_width();
            contrastive::bank::enqueue(&mut self.bank, width, self.step, &pass.projections);
        }
        self.projections = pass.projections;
        self.gradients = pass.gradients;
        Ok(pass.loss)
    }

    fn update(&mut self, learning_rate: f64) {
        let (mut parameters, buffers) = self.model.save();
        let step = Step { number: self.step, learning_rate };
        let mut updater = Updater::new(&self.setting.optimizer, &self.model.plan().parameters);
        updater.update(&mut parameters, &self.gradients, &mut self.slots, step, &self.pool);
        self.model.load(&parameters, &buffers);
        self.step += 1;
    }

    fn update_measured(&mut self, learning_rate: f64) -> UpdateNorms {
        let (before, _) = self.model.save();
        self.update(learning_rate);
        UpdateNorms::of(&self.gradients, &before, &self.model.save().0)
    }

    fn projections(&self) -> Vec<f32> {
        self.projections.clone()
    }

    fn gradients(&self) -> Vec<f32> {
        self.gradients.clone()
    }

    fn features(&mut self, images: &[f32]) -> Result<Vec<f32>, ExecutorError> {
        let view = self.plan().shape(self.plan().input);
        let chunk = (EVALUATED_PIXELS / view.positions()).max(1) * view.len();
        let model = self.model.as_ref();
        let evaluate = || images.chunks(chunk).map(|images| model.features(images)).collect::<Result<Vec<_>, _>>();
        Ok(self.pool.install(evaluate).map_err(device_error)?.concat())
    }
}

#[cfg(test)]
mod tests;
