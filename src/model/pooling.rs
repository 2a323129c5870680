//! `MaxPool2D` and `AveragePool2D`: pooling layers as dfdx modules, their backward on the tape.

use dfdx::nn::{Module, NonMutableModule, ZeroSizedModule};
use dfdx::shapes::{Const, HasShape};
use dfdx::tensor::{Cpu, CpuError, PutTape, SplitTape, Tape, Tensor, TensorFromVec};

use crate::model::plan::{self, PoolKind};
use crate::model::tape::add_onto;
use crate::model::unfold::Sliding;

/// The largest value of every K×K window: n × C × H × W → n × C × H' × W'. Padding never wins; the first of equal
/// values does. Source: PyTorch, `torch.nn.MaxPool2d`.
#[derive(Debug, Clone, Copy, Default)]
pub struct MaxPool2D<const K: usize, const S: usize, const P: usize>;

/// The mean over the kernel's area, padding counted as zeros. Source: PyTorch, `torch.nn.AvgPool2d`.
#[derive(Debug, Clone, Copy, Default)]
pub struct AveragePool2D<const K: usize, const S: usize, const P: usize>;

/// What a pooling layer is in the Plan.
pub trait Pooling {
    const KIND: PoolKind;
    const WINDOW: plan::Window;
}

type Images<const C: usize, T> = Tensor<(usize, Const<C>, usize, usize), f32, Cpu, T>;

macro_rules! pooling {
    ($layer:ident, $kind:expr) => {
        impl<const K: usize, const S: usize, const P: usize> ZeroSizedModule for $layer<K, S, P> {}
        impl<const K: usize, const S: usize, const P: usize> NonMutableModule for $layer<K, S, P> {}

        impl<const K: usize, const S: usize, const P: usize> Pooling for $layer<K, S, P> {
            const KIND: PoolKind = $kind;
            const WINDOW: plan::Window = plan::Window { kernel: K, stride: S, padding: P };
        }

        impl<const K: usize, const S: usize, const P: usize, const C: usize, T> Module<Images<C, T>> for $layer<K, S, P>
        where
            T: 'static + Tape<f32, Cpu>,
        {
            type Output = Images<C, T>;
            type Error = CpuError;

            fn try_forward(&self, input: Images<C, T>) -> Result<Self::Output, CpuError> {
                let (input, mut tape) = input.split_tape();
                let (n, _, height, width) = *input.shape();
                let sliding = Sliding::new(1, height, width, Self::WINDOW);
                let shape = (n, Const, sliding.out_height, sliding.out_width);
                let (values, chosen) = forward(&input.as_vec(), &sliding, Self::KIND);
                let output = input.device().try_tensor_from_vec(values, shape)?;
                let (input_key, output_key) = (input.ghost(), output.ghost());
                tape.add_backward_op(move |gradients| {
                    let of_output = gradients.get_or_alloc_mut(&output_key)?.to_vec();
                    let of_input = backward(&of_output, &chosen, &sliding, Self::KIND);
                    add_onto(gradients.get_or_alloc_mut(&input_key)?, &of_input);
                    Ok(())
                });
                Ok(output.put_tape(tape))
            }
        }
    };
}

pooling!(MaxPool2D, PoolKind::Max);
pooling!(AveragePool2D, PoolKind::Average);

/// Calls `each(output, input)` with the places of every pair that a window joins, row by row inside a window.
fn joined(sliding: &Sliding, n_maps: usize, mut each: impl FnMut(usize, usize)) {
    let plan::Window { kernel, stride, padding } = sliding.window;
    for map in 0..n_maps {
        for position in 0..sliding.positions() {
            let (out_y, out_x) = (position / sliding.out_width, position % sliding.out_width);
            for tap in 0..kernel * kernel {
                let (y, x) = (out_y * stride + tap / kernel, out_x * stride + tap % kernel);
                let (Some(y), Some(x)) = (y.checked_sub(padding), x.checked_sub(padding)) else { continue };
                if y < sliding.height && x < sliding.width {
                    each(map * sliding.positions() + position, (map * sliding.height + y) * sliding.width + x);
                }
            }
        }
    }
}

/// The pooled maps and, for `Max`, which input won each window.
fn forward(input: &[f32], sliding: &Sliding, kind: PoolKind) -> (Vec<f32>, Vec<usize>) {
    let n_maps = input.len() / sliding.image_len();
    let n_outputs = n_maps * sliding.positions();
    match kind {
        PoolKind::Max => {
            let mut chosen = vec![usize::MAX; n_outputs];
            joined(sliding, n_maps, |output, place| {
                if chosen[output] == usize::MAX || input[place] > input[chosen[output]] {
                    chosen[output] = place;
                }
            });
            (chosen.iter().map(|&place| input[place]).collect(), chosen)
        }
        PoolKind::Average => {
            let area = (sliding.window.kernel * sliding.window.kernel) as f32;
            let mut sums = vec![0.0; n_outputs];
            joined(sliding, n_maps, |output, place| sums[output] += input[place]);
            (sums.iter().map(|sum| sum / area).collect(), Vec::new())
        }
    }
}

fn backward(of_output: &[f32], chosen: &[usize], sliding: &Sliding, kind: PoolKind) -> Vec<f32> {
    let n_maps = of_output.len() / sliding.positions();
    let mut of_input = vec![0.0; n_maps * sliding.image_len()];
    match kind {
        PoolKind::Max => {
            for (&place, gradient) in chosen.iter().zip(of_output) {
                of_input[place] += gradient;
            }
        }
        PoolKind::Average => {
            let area = (sliding.window.kernel * sliding.window.kernel) as f32;
            joined(sliding, n_maps, |output, place| of_input[place] += of_output[output] / area);
        }
    }
    of_input
}
