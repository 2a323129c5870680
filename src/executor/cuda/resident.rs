//! Whole steps on the device: images, order and rates lie there, a step is one graph, and the host looks at losses only.

use std::ops::Range;

use crate::data::Images;
use crate::device::gpu::{Address, Gpu, GpuError, Graph, Node};
use crate::executor::cuda::memory::{LOSSES, VIEW_CHANNELS, loss};
use crate::executor::cuda::network::{EVALUATION_IMAGES, N_VIEWS};
use crate::executor::cuda::CudaExecutor;
use crate::executor::{ExecutorError, Feed, Resident, Steps, UpdateNorms};
use crate::ops::nt_xent::{self, Metrics};
use crate::ops::optimizer::Step;
use crate::ops::optimizer::cuda::advance;
use crate::views::Pipeline;
use crate::views::cuda::{Batch, DeviceImages, Places};

/// A data set and a pipeline on the device.
struct OnDevice {
    images: DeviceImages,
    pixels: Address,
    image_table: Address,
    pipeline_table: Address,
    /// The views kernel's working memory; none where a block's own is enough.
    scratch: Address,
}

/// What a training takes to the device, and its graphs.
pub struct Attached {
    data: OnDevice,
    /// u32 an example of the epoch.
    order: Address,
    rates: Address,
    /// The epoch whose examples lie in `order`.
    epoch: Option<u32>,
    plain: Graph,
    measured: Graph,
}

impl OnDevice {
    fn new(
        gpu: &mut dyn Gpu,
        images: &Images,
        range: Range<usize>,
        pipeline: &Pipeline,
        views: usize,
    ) -> Result<OnDevice, GpuError> {
        let images = DeviceImages::of(images, range);
        let mut place = |bytes: &[u8]| {
            let address = gpu.allocate(bytes.len().max(1))?;
            gpu.upload(address, bytes)?;
            Ok::<_, GpuError>(address)
        };
        let (pixels, image_table) = (place(images.pixels())?, place(&images.table())?);
        let pipeline_table = place(&pipeline.device_table())?;
        let scratch_bytes = crate::views::cuda::scratch_bytes(pipeline, &images, views);
        let scratch = if scratch_bytes > 0 { gpu.allocate(scratch_bytes)? } else { Address::NONE };
        Ok(OnDevice { images, pixels, image_table, pipeline_table, scratch })
    }

    fn release(&self, gpu: &mut dyn Gpu) -> Result<(), GpuError> {
        [self.pixels, self.image_table, self.pipeline_table, self.scratch]
            .into_iter()
            .filter(|address| *address != Address::NONE)
            .try_for_each(|address| gpu.release(address))
    }

    fn places(&self, order: Address, step: Address, views: Address) -> Places {
        Places {
            pixels: self.pixels,
            images: self.image_table,
            operations: self.pipeline_table,
            order,
            step,
            views,
            scratch: self.scratch,
        }
    }
}

impl CudaExecutor {
    /// Views, gradients, update, and the counter's advance.
    fn step_nodes(&self, feed: &Feed, data: &OnDevice, order: Address, rates: Address, measured: bool) -> Vec<Node> {
        let places = data.places(order, self.memory.step, self.memory.views);
        let batch = Batch { batch: self.network.setting.batch, steps_per_epoch: feed.steps_per_epoch };
        let mut nodes = crate::views::cuda::training(feed.pipeline, &data.images, batch, VIEW_CHANNELS, &places);
        nodes.extend(self.gradient_nodes());
        nodes.extend(self.update_nodes(rates, self.memory.step, measured));
        if measured {
            let memory = &self.memory;
            let (projections, scratch) = (memory.projections, memory.loss_scratch);
            nodes.extend(nt_xent::cuda::metrics_nodes(&loss(&self.network), projections, scratch, memory.metrics));
        }
        nodes.push(advance(self.memory.step));
        nodes
    }

    fn try_attach(&mut self, feed: &Feed) -> Result<(), GpuError> {
        let gpu = self.gpu.get_mut().as_mut();
        let views = N_VIEWS * self.network.setting.batch;
        let data = OnDevice::new(gpu, feed.images, 0..feed.images.len(), feed.pipeline, views)?;
        let order = gpu.allocate(4 * feed.images.len())?;
        let rule = self.update_rule();
        let rate = |(number, rate): (usize, &f64)| rule.rate(Step { number: number as u64, learning_rate: *rate });
        let table: Vec<u8> = feed.learning_rates.iter().enumerate().flat_map(rate).collect();
        let gpu = self.gpu.get_mut().as_mut();
        let rates = gpu.allocate(table.len().max(8))?;
        gpu.upload(rates, &table)?;
        let nodes = [false, true].map(|measured| self.step_nodes(feed, &data, order, rates, measured));
        let gpu = self.gpu.get_mut().as_mut();
        let mut graph = |nodes: &[Node]| {
            gpu.prepare(nodes)?;
            gpu.record(nodes)
        };
        let (plain, measured) = (graph(&nodes[0])?, graph(&nodes[1])?);
        self.attached = Some(Attached { data, order, rates, epoch: None, plain, measured });
        Ok(())
    }

    fn try_steps(&mut self, epoch: u32, order: &[u32], n: usize, measured: bool) -> Result<Steps, GpuError> {
        let gpu = self.gpu.get_mut().as_mut();
        let attached = self.attached.as_mut().ok_or_else(|| GpuError::Call {
            call: "steps",
            reason: "no data set was attached".to_owned(),
        })?;
        if attached.epoch != Some(epoch) {
            let bytes: Vec<u8> = order.iter().flat_map(|example| example.to_le_bytes()).collect();
            gpu.upload(attached.order, &bytes)?;
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

    /// Images that lie on the device at once while features are taken, at most this many bytes of pixels.
    const PIXELS_AT_ONCE: usize = 1 << 28;

    fn try_features_of(
        &mut self,
        images: &Images,
        pipeline: &Pipeline,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Vec<f32>>, GpuError> {
        let mut features = Vec::with_capacity(images.len() * self.network.plan.feature_width());
        let mut start = 0;
        while start < images.len() {
            let end = start + images.fitting(start, Self::PIXELS_AT_ONCE).max(1);
            let data = OnDevice::new(self.gpu.get_mut().as_mut(), images, start..end, pipeline, EVALUATION_IMAGES)?;
            for first in (0..end - start).step_by(EVALUATION_IMAGES) {
                if !go_on() {
                    data.release(self.gpu.get_mut().as_mut())?;
                    return Ok(None);
                }
                let n = EVALUATION_IMAGES.min(end - start - first);
                let places = data.places(Address::NONE, Address::NONE, self.memory.input);
                let range = first..first + n;
                let nodes = crate::views::cuda::evaluation(pipeline, &data.images, range, VIEW_CHANNELS, &places);
                self.gpu.get_mut().run(&nodes)?;
                features.extend(self.evaluate(n)?);
            }
            data.release(self.gpu.get_mut().as_mut())?;
            start = end;
        }
        Ok(Some(features))
    }
}

impl Resident for CudaExecutor {
    fn attach(&mut self, feed: &Feed) -> Result<(), ExecutorError> {
        Ok(self.try_attach(feed)?)
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
        Ok(self.try_features_of(images, pipeline, go_on)?)
    }

    fn gpu(&mut self) -> &mut dyn Gpu {
        self.gpu.get_mut().as_mut()
    }
}
