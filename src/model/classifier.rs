//! A linear classifier: the one head whose width the compiler does not know, for it is the number of the data's classes.
//!
//! Its parameters go by torchvision's names, `fc.weight` and `fc.bias`.

use dfdx::shapes::{Axes2, Axis, Const, HasShape};
use dfdx::tensor::{Cpu, CpuError, Tensor, ZerosTensor};
use dfdx::tensor_ops::{BroadcastTo, PermuteTo, TryAdd, TryMatMul};

use crate::model::lowering::Lowering;
use crate::model::plan::{Op, ParameterKind, Shape, ValueId};
use crate::model::tape::{Recorded, Recording};
use crate::model::tensors::{FlatTensor, Role, Tensors, tensors};
use crate::model::typed::{CompiledHead, Features, Head};

const NAME: &str = "fc";

/// W·x + b of F features, as many outputs as there are classes.
struct Classifier<const F: usize> {
    weight: Tensor<(usize, Const<F>), f32, Cpu>,
    bias: Tensor<(usize,), f32, Cpu>,
}

tensors!([const F: usize] Classifier<F> { Parameter weight, Parameter bias });

impl<const F: usize> Head<F> for Classifier<F> {
    fn record(&mut self, features: Features<F, Recording>) -> Result<Recorded, CpuError> {
        let columns = self.weight.retaped::<Recording>().try_permute::<(Const<F>, usize), Axes2<1, 0>>()?;
        let products = features.try_matmul(columns)?;
        let shape = *products.shape();
        products.try_add(self.bias.retaped::<Recording>().try_broadcast_like::<_, Axis<0>>(&shape)?)
    }
}

/// The head of that many classes, for a backbone of F features.
pub fn classifier<const F: usize>(n_classes: usize) -> CompiledHead<F> {
    CompiledHead::new(
        move |lowering, input| lower(lowering, input, F, n_classes),
        move || {
            let device = Cpu::default();
            Box::new(Classifier::<F> {
                weight: device.zeros_like(&(n_classes, Const)),
                bias: device.zeros_like(&(n_classes,)),
            })
        },
    )
}

fn lower(lowering: &mut Lowering, input: ValueId, n_features: usize, n_classes: usize) -> ValueId {
    lowering.enter(NAME.to_owned());
    let weight = lowering.parameter("weight", &[n_classes, n_features], ParameterKind::LinearWeight);
    let bias = lowering.parameter("bias", &[n_classes], ParameterKind::LinearBias { fan_in: n_features });
    lowering.leave();
    let output = lowering.value(Shape::Vector { width: n_classes });
    lowering.push(Op::Linear { input, output, weight, bias: Some(bias) })
}
