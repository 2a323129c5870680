//! Batch normalisation with an optional residual and activation behind it (Ioffe and Szegedy, 2015; PyTorch's `BatchNorm2d`).
//!
//! z = scale · (x − mean)/√(var + ε) + shift [+ residual], y = activation(z), per channel; mean and biased variance over
//! the images and positions of a group: one view, or the whole batch.
//!
//! With dz = dy · activation′(z), x̂ = (x − mean)/√(var + ε) and n numbers a channel and group:
//! dshift = Σ dz, dscale = Σ dz · x̂, dresidual = dz, dx = scale/√(var + ε) · (dz − Σdz/n − x̂ · Σ(dz · x̂)/n).
//!
//! Sums are f64, a partial for each block, added in block order.

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod cuda_tests;
pub mod input_gradient;
mod partition;
#[cfg(test)]
mod tests;

use crate::experiment::recipe::BatchNormScope;
use crate::ops::batch::Batch;

/// Added to the variance (PyTorch's default).
pub const EPSILON: f64 = 1e-5;

/// Weight of the new statistic in the running one (PyTorch's default).
pub const MOMENTUM: f32 = 0.1;

/// What one batch norm keeps between its passes.
#[derive(Debug, Clone)]
pub struct Normalization {
    pub batch: Batch,
    /// Groups with statistics of their own: 1, or one a view.
    pub n_groups: usize,
    /// Blocks × 2 × channels: sums over a block, of x and x² or of dz and dz · x̂.
    pub partials: Vec<f64>,
    /// Groups × channels.
    pub statistics: Statistics,
    /// Groups × channels: means of dz and of dz · x̂, left by the first backward pass for the second.
    pub mean_dz: Vec<f32>,
    pub mean_product: Vec<f32>,
}

/// Statistics of every channel of every group.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    pub mean: Vec<f32>,
    /// 1/√(var + ε), biased variance.
    pub inverse_std: Vec<f32>,
}

impl Normalization {
    pub fn new(batch: Batch, scope: BatchNormScope) -> Normalization {
        let n_groups = match scope {
            BatchNormScope::View | BatchNormScope::MicroBatchView => batch.views,
            BatchNormScope::Joint | BatchNormScope::MicroBatchJoint => 1,
        };
        Normalization {
            batch,
            n_groups,
            partials: vec![0.0; 2 * batch.n_blocks() * batch.channels],
            statistics: Statistics::new(n_groups * batch.channels),
            mean_dz: vec![0.0; n_groups * batch.channels],
            mean_product: vec![0.0; n_groups * batch.channels],
        }
    }

    /// Bytes that `new` allocates.
    pub fn bytes(batch: &Batch) -> u64 {
        let partials = 2 * batch.n_blocks() * batch.channels * size_of::<f64>();
        (partials + 4 * batch.views * batch.channels * size_of::<f32>()) as u64
    }

    /// Numbers a channel and group.
    fn count(&self) -> usize {
        self.batch.height * self.batch.width * self.batch.images / self.n_groups
    }

    fn group(&self, view: usize) -> usize {
        if self.n_groups == 1 { 0 } else { view }
    }

    /// Where a view's channels lie in what is groups × channels.
    fn channels_of(&self, view: usize) -> std::ops::Range<usize> {
        let start = self.group(view) * self.batch.channels;
        start..start + self.batch.channels
    }

    /// Adds the partials of one group's channel in block order.
    fn total(&self, group: usize, channel: usize) -> [f64; 2] {
        let mut total = [0.0; 2];
        for (index, sums) in self.partials.chunks_exact(2 * self.batch.channels).enumerate() {
            if self.group(self.batch.view_of_block(index)) == group {
                total[0] += sums[channel];
                total[1] += sums[self.batch.channels + channel];
            }
        }
        total
    }

    /// Turns the partial sums of x and x² into statistics and moves the `running` means and variances, where they are to
    /// move, group after group. The variance of a single number is taken as 0.
    pub fn finish_statistics(&mut self, mut running: Option<[&mut [f32]; 2]>) {
        let n = self.count() as f64;
        let channels = self.batch.channels;
        for group in 0..self.n_groups {
            for channel in 0..channels {
                let [sum, squares] = self.total(group, channel);
                let mean = sum / n;
                let var = (squares / n - mean * mean).max(0.0);
                self.statistics.mean[group * channels + channel] = mean as f32;
                self.statistics.inverse_std[group * channels + channel] = inverse_std(var);
                let unbiased = (var * n / (n - 1.0).max(1.0)) as f32;
                if let Some([running_mean, running_var]) = &mut running {
                    running_mean[channel] += MOMENTUM * (mean as f32 - running_mean[channel]);
                    running_var[channel] += MOMENTUM * (unbiased - running_var[channel]);
                }
            }
        }
    }

    /// Turns the partial sums of dz and dz · x̂ into the gradients of scale and shift and the means of the second pass.
    pub fn finish_gradients(&mut self, d_scale: &mut [f32], d_shift: &mut [f32]) {
        let n = self.count() as f64;
        let channels = self.batch.channels;
        for channel in 0..channels {
            let mut all = [0.0; 2];
            for group in 0..self.n_groups {
                let sums = self.total(group, channel);
                self.mean_dz[group * channels + channel] = (sums[0] / n) as f32;
                self.mean_product[group * channels + channel] = (sums[1] / n) as f32;
                all[0] += sums[0];
                all[1] += sums[1];
            }
            d_shift[channel] = all[0] as f32;
            d_scale[channel] = all[1] as f32;
        }
    }
}

impl Statistics {
    pub fn new(len: usize) -> Statistics {
        Statistics { mean: vec![0.0; len], inverse_std: vec![0.0; len] }
    }

    /// Statistics of evaluation: the running ones, for all images alike.
    pub fn set_running(&mut self, running_mean: &[f32], running_var: &[f32]) {
        self.mean.clear();
        self.mean.extend_from_slice(running_mean);
        self.inverse_std.clear();
        self.inverse_std.extend(running_var.iter().map(|var| inverse_std(f64::from(*var))));
    }
}

fn inverse_std(var: f64) -> f32 {
    (1.0 / (var + EPSILON).sqrt()) as f32
}
