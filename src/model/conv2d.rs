//! `Conv2D`: a convolution as a dfdx module, its shapes checked by the compiler, its backward on the tape.

use dfdx::dtypes::Dtype;
use dfdx::nn::{BuildModule, BuildOnDevice, Module, ModuleVisitor, NonMutableModule, TensorCollection, TensorOptions};
use dfdx::shapes::{Const, HasShape, Rank4};
use dfdx::tensor::{Cpu, CpuError, PutTape, SplitTape, Storage, Tape, Tensor, TensorFromVec};
use dfdx::tensor_ops::Device;

use crate::model::convolution::{backward, forward};
use crate::model::plan;
use crate::model::tape::add_onto;
use crate::model::unfold::Sliding;

/// Cross-correlation of I into O channels without bias: n × I × H × W → n × O × H' × W', where H' is
/// [`Window::Out`](crate::model::window::Window) of H.
/// Source: PyTorch, `torch.nn.Conv2d`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conv2D<const I: usize, const O: usize, const K: usize, const S: usize, const P: usize>;

/// [`Conv2D`] with its weight, O × I × K × K.
#[derive(Debug, Clone)]
pub struct BuiltConv2D<
    const I: usize,
    const O: usize,
    const K: usize,
    const S: usize,
    const P: usize,
    E: Dtype,
    D: Storage<E>,
> {
    pub weight: Tensor<Rank4<O, I, K, K>, E, D>,
}

impl<const I: usize, const O: usize, const K: usize, const S: usize, const P: usize> BuildOnDevice<Cpu, f32>
    for Conv2D<I, O, K, S, P>
{
    type Built = BuiltConv2D<I, O, K, S, P, f32, Cpu>;

    fn try_build_on_device(device: &Cpu) -> Result<Self::Built, CpuError> {
        Self::Built::try_build(device)
    }
}

impl<const I: usize, const O: usize, const K: usize, const S: usize, const P: usize> TensorCollection<f32, Cpu>
    for BuiltConv2D<I, O, K, S, P, f32, Cpu>
{
    type To<E2: Dtype, D2: Device<E2>> = BuiltConv2D<I, O, K, S, P, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, f32, Cpu>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        visitor.visit_fields(
            Self::tensor("weight", |conv| &conv.weight, |conv| &mut conv.weight, TensorOptions::reset_to_zeros()),
            |weight| BuiltConv2D { weight },
        )
    }
}

impl<const I: usize, const O: usize, const K: usize, const S: usize, const P: usize> NonMutableModule
    for BuiltConv2D<I, O, K, S, P, f32, Cpu>
{
}

/// n × C × height × width. Sides are known to the compiler where a model is lowered; here they are plain numbers, so that
/// one stem's code serves all its sides.
type Images<const C: usize, T> = Tensor<(usize, Const<C>, usize, usize), f32, Cpu, T>;

impl<const I: usize, const O: usize, const K: usize, const S: usize, const P: usize, T> Module<Images<I, T>>
    for BuiltConv2D<I, O, K, S, P, f32, Cpu>
where
    T: 'static + Tape<f32, Cpu>,
{
    type Output = Images<O, T>;
    type Error = CpuError;

    fn try_forward(&self, input: Images<I, T>) -> Result<Self::Output, CpuError> {
        let (input, mut tape) = input.split_tape();
        let weight = self.weight.clone();
        let (n, _, height, width) = *input.shape();
        let sliding = Sliding::new(I, height, width, plan::Window { kernel: K, stride: S, padding: P });
        let values = forward(&input.as_vec(), &weight.as_vec(), &sliding)?;
        let shape = (n, Const, sliding.out_height, sliding.out_width);
        let output = input.device().try_tensor_from_vec(values, shape)?;
        let key = output.ghost();
        tape.add_backward_op(move |gradients| {
            let of_output = gradients.get_or_alloc_mut(&key)?.to_vec();
            let (of_input, of_weight) = backward(&input.as_vec(), &weight.as_vec(), &of_output, &sliding)?;
            add_onto(gradients.get_or_alloc_mut(&input)?, &of_input);
            add_onto(gradients.get_or_alloc_mut(&weight)?, &of_weight);
            Ok(())
        });
        Ok(output.put_tape(tape))
    }
}
