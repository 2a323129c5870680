//! `BatchNorm`: batch normalisation of vectors and maps as a dfdx module.
//!
//! y = scale · (x − mean)/√(var + ε) + shift, per channel. Training takes mean and (biased) variance from the batch it is
//! given and moves the running ones; evaluation takes the running ones. ε = 1e-5, momentum 0.1, and the running variance
//! is unbiased. Sums are kept in f64: the layer of dfdx adds in f32 and drifts over large batches.
//! Sources: Ioffe and Szegedy, "Batch Normalization", 2015; PyTorch, `torch.nn.BatchNorm2d`.

use dfdx::dtypes::Dtype;
use dfdx::nn::{BuildModule, BuildOnDevice, Module, ModuleMut, ModuleVisitor, TensorCollection, TensorOptions};
use dfdx::shapes::{Const, Dim, HasShape, Rank1, Shape};
use dfdx::tensor::{Cpu, CpuError, NoneTape, PutTape, SplitTape, Storage, Tape, Tensor, TensorFromVec};
use dfdx::tensor_ops::Device;

use crate::model::tape::{Recording, add_onto};

pub const EPSILON: f64 = 1e-5;
pub const MOMENTUM: f64 = 0.1;

/// Batch normalisation of C channels: n × C → n × C or n × C × H × W → n × C × H × W.
#[derive(Debug, Clone, Copy, Default)]
pub struct BatchNorm<const C: usize>;

/// [`BatchNorm`] with its scale (`weight`), shift (`bias`) and running statistics.
#[derive(Debug, Clone)]
pub struct BuiltBatchNorm<const C: usize, E: Dtype, D: Storage<E>> {
    pub weight: Tensor<Rank1<C>, E, D>,
    pub bias: Tensor<Rank1<C>, E, D>,
    pub running_mean: Tensor<Rank1<C>, E, D>,
    pub running_var: Tensor<Rank1<C>, E, D>,
}

impl<const C: usize> BuildOnDevice<Cpu, f32> for BatchNorm<C> {
    type Built = BuiltBatchNorm<C, f32, Cpu>;

    fn try_build_on_device(device: &Cpu) -> Result<Self::Built, CpuError> {
        Self::Built::try_build(device)
    }
}

impl<const C: usize> TensorCollection<f32, Cpu> for BuiltBatchNorm<C, f32, Cpu> {
    type To<E2: Dtype, D2: Device<E2>> = BuiltBatchNorm<C, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, f32, Cpu>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        let zeros: fn(&mut Tensor<Rank1<C>, f32, Cpu>) -> Result<(), CpuError> = |t| t.try_fill_with_zeros();
        let ones: fn(&mut Tensor<Rank1<C>, f32, Cpu>) -> Result<(), CpuError> = |t| t.try_fill_with_ones();
        visitor.visit_fields(
            (
                Self::tensor("weight", |norm| &norm.weight, |norm| &mut norm.weight, TensorOptions::reset_with(ones)),
                Self::tensor("bias", |norm| &norm.bias, |norm| &mut norm.bias, TensorOptions::reset_with(zeros)),
                Self::tensor(
                    "running_mean",
                    |norm| &norm.running_mean,
                    |norm| &mut norm.running_mean,
                    TensorOptions::detached(zeros),
                ),
                Self::tensor(
                    "running_var",
                    |norm| &norm.running_var,
                    |norm| &mut norm.running_var,
                    TensorOptions::detached(ones),
                ),
            ),
            |(weight, bias, running_mean, running_var)| BuiltBatchNorm { weight, bias, running_mean, running_var },
        )
    }
}

/// A batch whose second axis is C channels.
pub trait Channelled<const C: usize>: Shape {
    /// Numbers a channel of one image.
    fn positions(&self) -> usize;
}

impl<B: Dim, const C: usize> Channelled<C> for (B, Const<C>) {
    fn positions(&self) -> usize {
        1
    }
}

impl<B: Dim, const C: usize, H: Dim, W: Dim> Channelled<C> for (B, Const<C>, H, W) {
    fn positions(&self) -> usize {
        self.2.size() * self.3.size()
    }
}

impl<const C: usize, S: Channelled<C>> Module<Tensor<S, f32, Cpu, NoneTape>> for BuiltBatchNorm<C, f32, Cpu> {
    type Output = Tensor<S, f32, Cpu, NoneTape>;
    type Error = CpuError;

    fn try_forward(&self, input: Tensor<S, f32, Cpu, NoneTape>) -> Result<Self::Output, CpuError> {
        let shape = *input.shape();
        let layout = Layout { channels: C, positions: shape.positions() };
        let statistics = Statistics::running(&self.running_mean.as_vec(), &self.running_var.as_vec());
        let values = forward(&input.as_vec(), &self.weight.as_vec(), &self.bias.as_vec(), &statistics, layout);
        input.device().try_tensor_from_vec(values, shape)
    }
}

impl<const C: usize, S: Channelled<C>> ModuleMut<Tensor<S, f32, Cpu, Recording>> for BuiltBatchNorm<C, f32, Cpu> {
    type Output = Tensor<S, f32, Cpu, Recording>;
    type Error = CpuError;

    fn try_forward_mut(&mut self, input: Tensor<S, f32, Cpu, Recording>) -> Result<Self::Output, CpuError> {
        let (input, mut tape) = input.split_tape();
        let shape = *input.shape();
        let layout = Layout { channels: C, positions: shape.positions() };
        let values = input.as_vec();
        let statistics = Statistics::of_batch(&values, layout);
        self.running_mean.copy_from(&moved(&self.running_mean.as_vec(), &statistics.mean));
        self.running_var.copy_from(&moved(&self.running_var.as_vec(), &statistics.unbiased_variance()));
        let (scale, shift) = (self.weight.clone(), self.bias.ghost());
        let values = forward(&values, &scale.as_vec(), &self.bias.as_vec(), &statistics, layout);
        let output = input.device().try_tensor_from_vec(values, shape)?;
        let key = output.ghost();
        tape.add_backward_op(move |gradients| {
            let of_output = gradients.get_or_alloc_mut(&key)?.to_vec();
            let back = backward(&input.as_vec(), &of_output, &scale.as_vec(), &statistics, layout);
            add_onto(gradients.get_or_alloc_mut(&input)?, &back.of_input);
            add_onto(gradients.get_or_alloc_mut(&scale)?, &back.of_scale);
            add_onto(gradients.get_or_alloc_mut(&shift)?, &back.of_shift);
            Ok(())
        });
        Ok(output.put_tape(tape))
    }
}

/// Values are stored n × channels × positions.
#[derive(Debug, Clone, Copy)]
struct Layout {
    channels: usize,
    positions: usize,
}

impl Layout {
    /// `value(channel, index)` of every number.
    fn map(self, len: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        let mut values = Vec::with_capacity(len);
        for run in 0..len / self.positions {
            let channel = run % self.channels;
            values.extend((run * self.positions..(run + 1) * self.positions).map(|i| value(channel, i)));
        }
        values
    }

    /// The sum of `term(channel, index)` over every channel, one image after another.
    fn sums(self, len: usize, term: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels];
        for run in 0..len / self.positions {
            let channel = run % self.channels;
            sums[channel] += (run * self.positions..(run + 1) * self.positions).map(|i| term(channel, i)).sum::<f64>();
        }
        sums
    }
}

struct Statistics {
    mean: Vec<f64>,
    variance: Vec<f64>,
    /// Numbers a channel's statistics are taken over.
    count: usize,
}

impl Statistics {
    fn running(mean: &[f32], variance: &[f32]) -> Statistics {
        let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect();
        Statistics { mean: wide(mean), variance: wide(variance), count: 0 }
    }

    fn of_batch(values: &[f32], layout: Layout) -> Statistics {
        let count = values.len() / layout.channels;
        let mut mean = layout.sums(values.len(), |_, i| f64::from(values[i]));
        mean.iter_mut().for_each(|sum| *sum /= count as f64);
        let mut variance = layout.sums(values.len(), |c, i| (f64::from(values[i]) - mean[c]).powi(2));
        variance.iter_mut().for_each(|sum| *sum /= count as f64);
        Statistics { mean, variance, count }
    }

    fn unbiased_variance(&self) -> Vec<f64> {
        let correction = self.count as f64 / (self.count.max(2) - 1) as f64;
        self.variance.iter().map(|variance| variance * correction).collect()
    }

    fn inverse_deviation(&self) -> Vec<f64> {
        self.variance.iter().map(|variance| 1.0 / (variance + EPSILON).sqrt()).collect()
    }
}

/// A running statistic after one more batch.
fn moved(running: &[f32], of_batch: &[f64]) -> Vec<f32> {
    let step = |(&old, &new): (&f32, &f64)| ((1.0 - MOMENTUM) * f64::from(old) + MOMENTUM * new) as f32;
    running.iter().zip(of_batch).map(step).collect()
}

fn forward(values: &[f32], scale: &[f32], shift: &[f32], statistics: &Statistics, layout: Layout) -> Vec<f32> {
    let inverse_deviation = statistics.inverse_deviation();
    layout.map(values.len(), |c, i| {
        let normalised = (f64::from(values[i]) - statistics.mean[c]) * inverse_deviation[c];
        (f64::from(scale[c]) * normalised + f64::from(shift[c])) as f32
    })
}

struct Backward {
    of_input: Vec<f32>,
    of_scale: Vec<f32>,
    of_shift: Vec<f32>,
}

/// With x̂ the normalised input and g the gradient of y: ∂shift = Σg, ∂scale = Σg·x̂,
/// ∂x = scale/√(var + ε) · (g − mean(g) − x̂ · mean(g·x̂)).
fn backward(values: &[f32], of_output: &[f32], scale: &[f32], statistics: &Statistics, layout: Layout) -> Backward {
    let inverse_deviation = statistics.inverse_deviation();
    let normalised = |c: usize, i: usize| (f64::from(values[i]) - statistics.mean[c]) * inverse_deviation[c];
    let of_shift = layout.sums(values.len(), |_, i| f64::from(of_output[i]));
    let of_scale = layout.sums(values.len(), |c, i| f64::from(of_output[i]) * normalised(c, i));
    let count = statistics.count as f64;
    let of_input = layout.map(values.len(), |c, i| {
        let centred = f64::from(of_output[i]) - of_shift[c] / count - normalised(c, i) * of_scale[c] / count;
        (f64::from(scale[c]) * inverse_deviation[c] * centred) as f32
    });
    let narrow = |sums: &[f64]| sums.iter().map(|&sum| sum as f32).collect();
    Backward { of_input, of_scale: narrow(&of_scale), of_shift: narrow(&of_shift) }
}
