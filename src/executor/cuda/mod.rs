//! The `cuda` executor: a Plan as nodes on a GPU, in f32 or with bf16 activations, a whole step as one recorded graph.
//!
//! Parameters, their gradients, the optimizer's slots, statistics and the loss are f32 in both. Both views go through
//! every convolution as one batch of 2N. What the graph needs to know of a step it reads on the device: the step's number, its
//! examples, its learning rate.

mod convolutions;
mod memory;
mod network;
mod resident;
mod step;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use crate::device::cuda::CudaGpu;
use crate::device::cuda::plan_lock::PlanLock;
use crate::device::gpu::{
    Address, Gpu, GpuError, Graph, Node, Source, bytes_of_f32, bytes_of_u32, f32_of_bytes, loaded,
};
pub use crate::executor::cuda::convolutions::{convolutions, convolutions_of_model};
use crate::executor::cuda::memory::{LOSSES, Memory, VIEW_CHANNELS, largest_batch, needed_bytes, view_bytes};
use crate::executor::cuda::network::{Network, Pass, Placed, evaluation_images};
use crate::executor::cuda::resident::Attached;
use crate::executor::{Executor, ExecutorError, N_VIEWS, Resident, Setting, State, UpdateNorms, check, check_labels};
use crate::experiment::recipe::Model;
use crate::model::plan::Plan;
use crate::model::registry;
use crate::ops::optimizer::Step;
use crate::ops::optimizer::cuda::advance;
use crate::ops::{compute_weights, contrastive, optimizer, precision};

/// A Plan, its memory on the device and the graphs recorded for it.
pub struct CudaExecutor {
    /// Reading waits for the device and needs it whole, also where the executor is only looked at.
    gpu: RefCell<Box<dyn Gpu>>,
    network: Network,
    memory: Memory,
    slot_names: Vec<&'static str>,
    step: u64,
    evaluation: Option<Graph>,
    attached: Option<Attached>,
}

/// The executor on the GPU of the setting's number.
///
/// # Errors
/// `Gpu` without the libraries or the GPU, `OutOfGpuMemory` before anything is computed.
pub fn on_device(plan: Plan, setting: &Setting) -> Result<CudaExecutor, ExecutorError> {
    on_device_locked(plan, setting, &PlanLock::default())
}

/// [`on_device`], its convolutions computed as the lock says.
///
/// # Errors
/// As there, and a lock that does not work here.
pub fn on_device_locked(plan: Plan, setting: &Setting, lock: &PlanLock) -> Result<CudaExecutor, ExecutorError> {
    let mut gpu = CudaGpu::new(setting.device)?;
    gpu.lock_plans(lock);
    CudaExecutor::new(Box::new(gpu), plan, setting)
}

/// [`on_device`] for one of the compiled models.
pub fn of_model(model: &Model, setting: &Setting) -> Result<CudaExecutor, ExecutorError> {
    let plan = registry::plan(model).map_err(|error| ExecutorError::Device(error.to_string()))?;
    on_device(plan, setting)
}

impl CudaExecutor {
    /// A step but for its views, to be timed piece by piece.
    pub fn timed_nodes(&self) -> Vec<Node> {
        let single = self.memory.single_rate;
        let mut nodes = self.gradient_nodes();
        nodes.extend(self.update_nodes(single, single.offset(8), false));
        nodes
    }

    pub fn device(&mut self) -> &mut dyn Gpu {
        self.gpu.get_mut().as_mut()
    }

    /// Parameters are 0 until `load`.
    ///
    /// # Errors
    /// A Plan that contradicts itself, a batch that its pieces do not divide, too little memory, what the device says.
    pub fn new(mut gpu: Box<dyn Gpu>, plan: Plan, setting: &Setting) -> Result<CudaExecutor, ExecutorError> {
        ensure_sound(&plan, setting)?;
        ensure_free(gpu.as_ref(), &plan, setting)?;
        let network = Network::new(plan, setting);
        gpu.load(&sources(), network.element)?;
        let (_, bytes) = Memory::lay(&network, Address(0));
        let block = gpu.allocate(bytes).map_err(|error| memory::refusal(&network.plan, setting, 0, error))?;
        let (memory, _) = Memory::lay(&network, block);
        let slot_names = optimizer::slots(&setting.optimizer, 0).into_iter().map(|(name, _)| name).collect();
        let gpu = RefCell::new(gpu);
        let mut executor = CudaExecutor { gpu, network, memory, slot_names, step: 0, evaluation: None, attached: None };
        executor.fill_tables()?;
        let prepared = executor.prepare();
        prepared.map_err(|error| executor.refused(error))?;
        Ok(executor)
    }

    /// What never changes: the tables that kernels of many tensors read.
    fn fill_tables(&mut self) -> Result<(), GpuError> {
        let update_table = self.update_rule().table();
        let gpu = self.gpu.get_mut();
        gpu.upload(self.memory.weight_table, &self.network.weights.table())?;
        gpu.upload(self.memory.update_table, &update_table)?;
        let initial: Vec<f32> = self
            .network
            .plan
            .buffers
            .iter()
            .flat_map(|buffer| std::iter::repeat_n(buffer.initial, buffer.len))
            .collect();
        gpu.upload(self.memory.running, &bytes_of_f32(&initial))
    }

    /// Has the device choose engines for every convolution and product, and runs all once: what libraries load lazily must
    /// be there before anything is recorded. Nothing is trained yet, so what this leaves behind is overwritten by `load`.
    fn prepare(&mut self) -> Result<(), GpuError> {
        let training = self.gradient_nodes();
        let evaluation = self.evaluation_nodes();
        let gpu = self.gpu.get_mut();
        gpu.prepare(&training)?;
        gpu.prepare(&evaluation)?;
        gpu.run(&training)?;
        gpu.run(&evaluation)?;
        gpu.synchronize()?;
        self.evaluation = Some(gpu.record(&evaluation)?);
        Ok(())
    }

    /// The words for what the device says once the training's own block is there.
    fn refused(&self, error: GpuError) -> ExecutorError {
        let Network { plan, setting, .. } = &self.network;
        memory::refusal(plan, setting, needed_bytes(plan, setting) as u64, error)
    }

    fn placed(&self) -> Placed<'_> {
        Placed { network: &self.network, memory: &self.memory }
    }

    fn spread_weights(&self) -> Vec<Node> {
        let Memory { weight_table, parameters, weights, .. } = self.memory;
        compute_weights::cuda::spread(&self.network.weights, weight_table, parameters, weights)
    }

    fn evaluation_nodes(&self) -> Vec<Node> {
        let mut nodes = self.spread_weights();
        nodes.extend(self.placed().forward(Pass::Evaluation));
        nodes
    }

    /// Puts images × side × side × 3 of f32 into the padded maps at `to`.
    fn bring(&mut self, images: &[f32], to: Address) -> Result<(), GpuError> {
        let image_len = self.network.plan.shape(self.network.plan.input).len();
        let image_bytes = view_bytes(&self.network.plan, self.network.element);
        let at_once = evaluation_images(&self.network.setting);
        let gpu = self.gpu.get_mut();
        for (index, chunk) in images.chunks(at_once * image_len).enumerate() {
            gpu.upload(self.memory.arrivals, &bytes_of_f32(chunk))?;
            let to = to.offset(index * at_once * image_bytes);
            gpu.run(&[precision::cuda::pad(to, self.memory.arrivals, chunk.len() / 3, 3, VIEW_CHANNELS)])?;
            gpu.synchronize()?;
        }
        Ok(())
    }

    fn read_f32(&self, address: Address, n: usize) -> Result<Vec<f32>, GpuError> {
        let mut bytes = vec![0; 4 * n];
        self.gpu.borrow_mut().download(address, &mut bytes)?;
        Ok(f32_of_bytes(&bytes))
    }

    fn read_f64s<const N: usize>(&self, address: Address) -> Result<[f64; N], GpuError> {
        let mut bytes = vec![0; 8 * N];
        self.gpu.borrow_mut().download(address, &mut bytes)?;
        let (numbers, _) = bytes.as_chunks::<8>();
        Ok(std::array::from_fn(|index| f64::from_le_bytes(numbers[index])))
    }

    /// The features of the first `n` images of the input, which are there.
    fn evaluate(&mut self, n: usize) -> Result<Vec<f32>, GpuError> {
        let graph = self.evaluation.expect("recorded when the executor was built");
        let (plan, element) = (&self.network.plan, self.network.element);
        let place = self.network.evaluation.value(plan.features).start * element.bytes();
        let mut bytes = vec![0; n * plan.feature_width() * element.bytes()];
        let gpu = self.gpu.get_mut();
        gpu.replay(graph)?;
        gpu.download(self.memory.arena.offset(place), &mut bytes)?;
        Ok(loaded(&bytes, element))
    }

    /// A flat buffer in torch's order.
    fn read_flat(&self, address: Address) -> Result<Vec<f32>, GpuError> {
        let own = self.read_f32(address, self.network.plan.n_parameters())?;
        Ok(compute_weights::to_torch_order(&self.network.plan, &own))
    }

    fn try_load(&mut self, state: &State) -> Result<(), GpuError> {
        let plan = &self.network.plan;
        let flat = |torch: &[f32]| bytes_of_f32(&compute_weights::to_device_order(plan, torch));
        let gpu = self.gpu.get_mut();
        gpu.upload(self.memory.parameters, &flat(&state.parameters))?;
        for ((_, slot), address) in state.optimizer.iter().zip(self.memory.slots) {
            gpu.upload(address, &flat(slot))?;
        }
        gpu.upload(self.memory.running, &bytes_of_f32(&state.buffers))?;
        if !state.bank.is_empty() {
            let rows = contrastive::cuda::bank_on_device(&memory::loss(&self.network), &state.bank);
            gpu.upload(self.memory.bank, &bytes_of_f32(&rows))?;
        }
        gpu.upload(self.memory.step, &state.step.to_le_bytes())?;
        self.step = state.step;
        Ok(())
    }

    fn try_save(&self) -> Result<State, GpuError> {
        let slot = |(name, address): (&&'static str, Address)| Ok((*name, self.read_flat(address)?));
        Ok(State {
            parameters: self.read_flat(self.memory.parameters)?,
            buffers: self.read_f32(self.memory.running, self.network.plan.n_buffers())?,
            optimizer: self.slot_names.iter().zip(self.memory.slots).map(slot).collect::<Result<_, GpuError>>()?,
            bank: self.read_bank()?,
            step: self.step,
        })
    }

    fn read_bank(&self) -> Result<Vec<f32>, GpuError> {
        let loss = memory::loss(&self.network);
        match contrastive::cuda::bank_bytes(&loss) {
            0 => Ok(Vec::new()),
            bytes => Ok(contrastive::cuda::bank_from_device(&loss, &self.read_f32(self.memory.bank, bytes / 4)?)),
        }
    }

    fn try_forward_backward(&mut self, views: &[f32], labels: &[u32]) -> Result<f32, GpuError> {
        self.bring(views, self.memory.views)?;
        if self.network.setting.loss.has_labels() {
            self.gpu.get_mut().upload(self.memory.labels, &bytes_of_u32(labels))?;
        }
        let nodes = self.gradient_nodes();
        self.gpu.get_mut().run(&nodes)?;
        let losses = self.read_f32(self.memory.losses, LOSSES)?;
        Ok(losses[(self.step % LOSSES as u64) as usize])
    }

    fn try_update(&mut self, learning_rate: f64, measured: bool) -> Result<(), GpuError> {
        let rate = self.update_rule().rate(Step { number: self.step, learning_rate });
        let single = self.memory.single_rate;
        let mut nodes = self.update_nodes(single, single.offset(8), measured);
        nodes.push(advance(self.memory.step));
        let gpu = self.gpu.get_mut();
        gpu.upload(single, &rate)?;
        gpu.run(&nodes)?;
        self.step += 1;
        Ok(())
    }

    fn try_features(&mut self, images: &[f32]) -> Result<Vec<f32>, GpuError> {
        let image_len = self.network.plan.shape(self.network.plan.input).len();
        let mut features = Vec::with_capacity(images.len() / image_len * self.network.plan.feature_width());
        for chunk in images.chunks(evaluation_images(&self.network.setting) * image_len) {
            self.bring(chunk, self.memory.input)?;
            features.extend(self.evaluate(chunk.len() / image_len)?);
        }
        Ok(features)
    }
}

/// What a caller of an operation without a `Result` hears; a run that meets it is kept as failed.
const DEVICE_FAILS: &str = "the GPU answers";

impl Executor for CudaExecutor {
    fn plan(&self) -> &Plan {
        &self.network.plan
    }

    fn load(&mut self, state: &State) {
        assert_eq!(state.parameters.len(), self.network.plan.n_parameters(), "parameters of the state and the Plan");
        assert_eq!(state.buffers.len(), self.network.plan.n_buffers(), "running statistics of the state and the Plan");
        let names: Vec<&str> = state.optimizer.iter().map(|slot| slot.0).collect();
        assert_eq!(names, self.slot_names, "optimizer slots of the state and the setting");
        let n_bank = contrastive::bank_len(self.network.setting.loss, self.network.plan.projection_width());
        assert_eq!(state.bank.len(), n_bank, "the memory bank of the state and of the setting");
        self.try_load(state).expect(DEVICE_FAILS);
    }

    fn save(&self) -> State {
        self.try_save().expect(DEVICE_FAILS)
    }

    fn forward_backward_labelled(&mut self, views: &[f32], labels: &[u32]) -> Result<f32, ExecutorError> {
        let (plan, setting) = (&self.network.plan, &self.network.setting);
        let expected = setting.n_views * setting.batch * plan.shape(plan.input).len();
        if views.len() != expected {
            return Err(ExecutorError::Device(format!("expected {expected} numbers of views, found {}", views.len())));
        }
        check_labels(setting.loss, labels, setting.batch, plan.projection_width())?;
        Ok(self.try_forward_backward(views, labels)?)
    }

    fn update(&mut self, learning_rate: f64) {
        self.try_update(learning_rate, false).expect(DEVICE_FAILS);
    }

    fn update_measured(&mut self, learning_rate: f64) -> UpdateNorms {
        self.try_update(learning_rate, true).expect(DEVICE_FAILS);
        self.norms().expect(DEVICE_FAILS)
    }

    fn projections(&self) -> Vec<f32> {
        let n = self.network.setting.n_views * self.network.setting.batch * self.network.plan.projection_width();
        self.read_f32(self.memory.projections, n).expect(DEVICE_FAILS)
    }

    fn gradients(&self) -> Vec<f32> {
        self.read_flat(self.memory.gradients).expect(DEVICE_FAILS)
    }

    fn features(&mut self, images: &[f32]) -> Result<Vec<f32>, ExecutorError> {
        let image_len = self.network.plan.shape(self.network.plan.input).len();
        if image_len == 0 || !images.len().is_multiple_of(image_len) {
            return Err(ExecutorError::Device(format!("{} numbers are no images of {image_len}", images.len())));
        }
        Ok(self.try_features(images)?)
    }

    fn resident(&mut self) -> Option<&mut dyn Resident> {
        Some(self)
    }
}

/// Every kernel of a training.
pub fn sources() -> Vec<Source> {
    vec![
        crate::views::cuda::SOURCE,
        crate::ops::activation::cuda::SOURCE,
        crate::ops::batch_norm::cuda::SOURCE,
        crate::ops::compute_weights::cuda::SOURCE,
        crate::ops::contrastive::cuda::SOURCE,
        crate::ops::conv2d::cuda::SOURCE,
        crate::ops::cross_entropy::cuda::SOURCE,
        crate::ops::global_average_pool::cuda::SOURCE,
        crate::ops::linear::cuda::SOURCE,
        crate::ops::nt_xent::cuda::SOURCE,
        crate::ops::optimizer::cuda::SOURCE,
        crate::ops::pool2d::cuda::SOURCE,
        crate::ops::precision::cuda::SOURCE,
    ]
}

/// Refuses a Plan that contradicts itself and a batch that its pieces do not divide.
fn ensure_sound(plan: &Plan, setting: &Setting) -> Result<(), ExecutorError> {
    if setting.batch < 2 || setting.piece() == 0 || !setting.batch.is_multiple_of(setting.piece()) {
        let text = "expected a batch of at least 2 images, in pieces of equal size";
        return Err(ExecutorError::Device(text.to_owned()));
    }
    if setting.n_views == 0 || setting.n_views != N_VIEWS && !setting.loss.has_labels() {
        return Err(ExecutorError::Device(format!("a contrast of {} views an image", setting.n_views)));
    }
    check::refusal(plan).map_or(Ok(()), |refusal| Err(ExecutorError::Device(refusal)))
}

/// Bytes of a GPU that a training of this setting takes, data set and the libraries' workspace not counted; none for one that
/// it refuses anyway.
pub fn planned_bytes(plan: &Plan, setting: &Setting) -> Option<u64> {
    ensure_sound(plan, setting).ok().map(|()| needed_bytes(plan, setting) as u64)
}

/// Refuses what the device cannot hold, with the largest batch that it can.
fn ensure_free(gpu: &dyn Gpu, plan: &Plan, setting: &Setting) -> Result<(), ExecutorError> {
    let available_bytes = gpu.properties().free_bytes;
    let needed_bytes = needed_bytes(plan, setting) as u64;
    if needed_bytes <= available_bytes {
        return Ok(());
    }
    let largest_batch = largest_batch(plan, setting, available_bytes);
    Err(ExecutorError::OutOfGpuMemory { needed_bytes, available_bytes, largest_batch })
}
