//! Evaluations on a GPU: what they need of it, and the search for neighbours. What is found is judged by the same code as
//! on the processor.

pub mod nearest;
#[cfg(test)]
mod tests;

use crate::device::gpu::{Element, Gpu, GpuError, Source};

/// The kernels that evaluations have loaded onto one GPU so far. A GPU takes every kernel once, so this is to be kept as
/// long as the GPU.
#[derive(Debug, Default)]
pub struct LoadedKernels {
    /// Names of sources.
    sources: Vec<&'static str>,
}

/// A GPU to evaluate on.
pub struct DeviceEvaluations<'a> {
    pub gpu: &'a mut dyn Gpu,
    /// Of this very GPU.
    pub loaded: &'a mut LoadedKernels,
}

impl<'a> DeviceEvaluations<'a> {
    /// The GPU with the kernels of `source`, which are loaded where they are not there yet. They must know floats alone.
    ///
    /// # Errors
    /// When they do not compile or do not load.
    pub(super) fn with(self, source: Source) -> Result<&'a mut dyn Gpu, GpuError> {
        if !self.loaded.sources.contains(&source.name) {
            self.gpu.load(&[source], Element::F32)?;
            self.loaded.sources.push(source.name);
        }
        Ok(self.gpu)
    }
}
