//! Whole steps on the device: images, order and rates lie there, a step is one graph, and the host looks at losses only.

use crate::data::Images;
use crate::device::gpu::{Address, Gpu, GpuError, Graph, Node, bytes_of_u32};
use crate::executor::cuda::CudaExecutor;
use crate::executor::cuda::memory::{LOSSES, Memory, VIEW_CHANNELS, loss};
use crate::executor::cuda::network::evaluation_images;
use crate::executor::{ExecutorError, Feed, N_VIEWS, Resident, Steps, UpdateNorms, check_labels};
use crate::ops::contrastive::cuda::{MetricsPlaces, metrics_nodes};
use crate::ops::cross_entropy::cuda::{StepLabels, labels_of_step};
use crate::ops::nt_xent::Metrics;
use crate::ops::optimizer::Step;
use crate::ops::optimizer::cuda::advance;
use crate::views::Pipeline;
use crate::views::cuda::{DeviceImages, DeviceViews, Inputs, Output, TrainingStep};

/// A data set and a pipeline on the device.
struct OnDevice {
    views: DeviceViews,
    inputs: Inputs,
}

/// What a training takes to the device, and its graphs.
pub struct Attached {
    data: OnDevice,
    /// u32 an example of the epoch.
    order: Address,
    rates: Address,
    /// For a loss of labels the class of every example, u32; else none.
    labels: Address,
    /// The epoch whose examples lie in `order`.
    epoch: Option<u32>,
    plain: Graph,
    measured: Graph,
}

impl OnDevice {
    /// Brings images and pipeline over, for launches of up to `n_views` views.
    fn new(
        gpu: &mut dyn Gpu,
        images: &DeviceImages,
        pipeline: &Pipeline,
        n_views: usize,
    ) -> Result<OnDevice, GpuError> {
        let views = DeviceViews::new(pipeline, images.largest);
        let mut inputs = Inputs::default();
        let placed = OnDevice::place(gpu, images, &views, n_views, &mut inputs);
        let data = OnDevice { views, inputs };
        if let Err(error) = placed {
            // A device that is full has still to serve the evaluations that follow.
            data.release(gpu)?;
            return Err(error);
        }
        Ok(data)
    }

    /// Whatever was allocated is in `inputs`, even after an error.
    fn place(
        gpu: &mut dyn Gpu,
        images: &DeviceImages,
        views: &DeviceViews,
        n_views: usize,
        inputs: &mut Inputs,
    ) -> Result<(), GpuError> {
        let Inputs { table, pixels, places, scratch } = inputs;
        for (place, bytes) in [(table, views.table()), (pixels, &images.pixels), (places, &images.places)] {
            *place = gpu.allocate(bytes.len().max(1))?;
            gpu.upload(*place, bytes)?;
        }
        let scratch_bytes = views.scratch_bytes(n_views);
        if scratch_bytes > 0 {
            *scratch = gpu.allocate(scratch_bytes)?;
        }
        Ok(())
    }

    fn release(&self, gpu: &mut dyn Gpu) -> Result<(), GpuError> {
        let Inputs { table, pixels, places, scratch } = self.inputs;
        let held = [table, pixels, places, scratch].into_iter().filter(|address| *address != Address::NONE);
        held.into_iter().try_for_each(|address| gpu.release(address))
    }
}

impl CudaExecutor {
    /// Views, gradients, update, and the counter's advance.
    fn step_nodes(
        &self,
        steps_per_epoch: u64,
        data: &OnDevice,
        [order, rates, labels]: [Address; 3],
        measured: bool,
    ) -> Vec<Node> {
        let batch = self.network.setting.batch;
        let step = TrainingStep { order, step: self.memory.step, steps_per_epoch, batch };
        let out = Output { address: self.memory.views, channels: VIEW_CHANNELS };
        let mut nodes = vec![data.views.training(&data.inputs, &step, &out)];
        if self.network.setting.loss.has_labels() {
            let from = StepLabels { labels, order, step: self.memory.step, steps_per_epoch, batch };
            nodes.push(labels_of_step(self.memory.labels, &from));
        }
        nodes.extend(self.gradient_nodes());
        nodes.extend(self.update_nodes(rates, self.memory.step, measured));
        if measured {
            let Memory { projections, metrics, loss_scratch, .. } = self.memory;
            let places = MetricsPlaces { projections, metrics, scratch: loss_scratch };
            nodes.extend(metrics_nodes(&loss(&self.network), &places));
        }
        nodes.push(advance(self.memory.step));
        nodes
    }

    fn try_attach(&mut self, feed: &Feed) -> Result<(), GpuError> {
        let gpu = self.gpu.get_mut().as_mut();
        if let Some(old) = self.attached.take() {
            old.data.release(gpu)?;
            let held = [old.order, old.rates, old.labels].into_iter().filter(|address| *address != Address::NONE);
            held.into_iter().try_for_each(|address| gpu.release(address))?;
        }
        let views = N_VIEWS * self.network.setting.batch;
        let data = OnDevice::new(gpu, &DeviceImages::new(feed.images), feed.pipeline, views)?;
        let order = gpu.allocate(4 * feed.images.len())?;
        let rule = self.update_rule();
        let rate = |(number, rate): (usize, &f64)| rule.rate(Step { number: number as u64, learning_rate: *rate });
        let table: Vec<u8> = feed.learning_rates.iter().enumerate().flat_map(rate).collect();
        let gpu = self.gpu.get_mut().as_mut();
        let rates = gpu.allocate(table.len().max(8))?;
        gpu.upload(rates, &table)?;
        let labels = self.place_labels(feed.labels)?;
        let step = |measured| self.step_nodes(feed.steps_per_epoch, &data, [order, rates, labels], measured);
        let nodes = [false, true].map(step);
        self.run_once(&nodes[1])?;
        let gpu = self.gpu.get_mut().as_mut();
        let mut graph = |nodes: &[Node]| {
            gpu.prepare(nodes)?;
            gpu.record(nodes)
        };
        let (plain, measured) = (graph(&nodes[0])?, graph(&nodes[1])?);
        self.attached = Some(Attached { data, order, rates, labels, epoch: None, plain, measured });
        Ok(())
    }

    /// The classes of all examples, where the loss is one of labels.
    fn place_labels(&mut self, labels: &[u32]) -> Result<Address, GpuError> {
        if !self.network.setting.loss.has_labels() {
            return Ok(Address::NONE);
        }
        let gpu = self.gpu.get_mut();
        let address = gpu.allocate(4 * labels.len())?;
        gpu.upload(address, &bytes_of_u32(labels))?;
        Ok(address)
    }

    /// Runs a step as it will be recorded and takes it back: what a driver loads at a kernel's first launch must be there
    /// before the recording.
    fn run_once(&mut self, nodes: &[Node]) -> Result<(), GpuError> {
        let state = self.try_save()?;
        let gpu = self.gpu.get_mut().as_mut();
        // The rates may end where the counter stands.
        gpu.upload(self.memory.step, &0u64.to_le_bytes())?;
        gpu.prepare(nodes)?;
        gpu.run(nodes)?;
        gpu.synchronize()?;
        self.try_load(&state)
    }

    fn try_steps(&mut self, epoch: u32, order: &[u32], n: usize, measured: bool) -> Result<Steps, GpuError> {
        let gpu = self.gpu.get_mut().as_mut();
        let attached = self
            .attached
            .as_mut()
            .ok_or_else(|| GpuError::Call { call: "steps", reason: "no data set was attached".to_owned() })?;
        if attached.epoch != Some(epoch) {
            gpu.upload(attached.order, &bytes_of_u32(order))?;
            attached.epoch = Some(epoch);
        }
        let first = self.step;
        let mut losses = Vec::with_capacity(n);
        for index in 0..n {
            let last = index + 1 == n;
            gpu.replay(if measured && last { attached.measured } else { attached.plain })?;
            self.step += 1;
            if last || (index + 1).is_multiple_of(LOSSES) {
                let mut ring = vec![0; 4 * LOSSES];
                gpu.download(self.memory.losses, &mut ring)?;
                let ring = crate::device::gpu::f32_of_bytes(&ring);
                let from = first + losses.len() as u64;
                losses.extend((from..self.step).map(|step| ring[(step % LOSSES as u64) as usize]));
            }
        }
        let detail = if measured { Some(self.detail()?) } else { None };
        Ok(Steps { losses, detail })
    }

    fn detail(&mut self) -> Result<(UpdateNorms, Metrics), GpuError> {
        let [alignment, uniformity, contrastive_top1] = self.read_f64s(self.memory.metrics)?;
        Ok((self.norms()?, Metrics { alignment, uniformity, contrastive_top1 }))
    }

    pub(super) fn norms(&mut self) -> Result<UpdateNorms, GpuError> {
        let [gradient, parameter, update] = self.read_f64s(self.memory.norms)?;
        Ok(UpdateNorms { gradient, parameter, update })
    }

    fn try_features_of(
        &mut self,
        images: &Images,
        pipeline: &Pipeline,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Vec<f32>>, GpuError> {
        let at_once = evaluation_images(&self.network.setting);
        let data = OnDevice::new(self.device(), &DeviceImages::new(images), pipeline, at_once)?;
        let features = self.features_of_placed(&data, images.len(), go_on);
        data.release(self.device())?;
        features
    }

    fn features_of_placed(
        &mut self,
        data: &OnDevice,
        n_images: usize,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Vec<f32>>, GpuError> {
        let out = Output { address: self.memory.input, channels: VIEW_CHANNELS };
        let mut features = Vec::with_capacity(n_images * self.network.plan.feature_width());
        let at_once = evaluation_images(&self.network.setting);
        for first in (0..n_images).step_by(at_once) {
            if !go_on() {
                return Ok(None);
            }
            let n = at_once.min(n_images - first);
            let node = data.views.evaluation(&data.inputs, first, n, &out);
            self.device().run(&[node])?;
            features.extend(self.evaluate(n)?);
        }
        Ok(Some(features))
    }
}

impl Resident for CudaExecutor {
    fn attach(&mut self, feed: &Feed) -> Result<(), ExecutorError> {
        let setting = &self.network.setting;
        if setting.n_views != N_VIEWS {
            let text = format!("whole steps of {} views an image: two are made on the device", setting.n_views);
            return Err(ExecutorError::Device(text));
        }
        check_labels(setting.loss, feed.labels, feed.images.len(), self.network.plan.projection_width())?;
        self.try_attach(feed).map_err(|error| self.refused(error))
    }

    fn steps(&mut self, epoch: u32, order: &[u32], n: usize, measured: bool) -> Result<Steps, ExecutorError> {
        Ok(self.try_steps(epoch, order, n, measured)?)
    }

    fn features_of(
        &mut self,
        images: &Images,
        pipeline: &Pipeline,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Vec<f32>>, ExecutorError> {
        self.try_features_of(images, pipeline, go_on).map_err(|error| self.refused(error))
    }

    fn gpu(&mut self) -> &mut dyn Gpu {
        self.gpu.get_mut().as_mut()
    }
}
