//! A typed model's tensors one by one, in the order of its Plan, and as flat buffers.
//!
//! dfdx's own visitors can do the same, but are compiled anew for every layer of every model and every purpose; here each
//! layer is compiled once for all purposes.

use dfdx::nn::modules::{AvgPoolGlobal, GeneralizedResidual, Linear, ReLU, Residual, UnbiasedLinear};
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Cpu, Gradients, Tensor};

use crate::model::batch_norm::BuiltBatchNorm;
use crate::model::conv2d::BuiltConv2D;
use crate::model::named::Named;
use crate::model::pooling::{AveragePool2D, MaxPool2D};
use crate::model::silu::SiLU;

/// Whether a tensor is trained or moved by batch norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Parameter,
    Buffer,
}

/// A tensor of whatever shape.
pub trait FlatTensor {
    fn values(&self) -> Vec<f32>;

    /// Takes its values from the front of `values`.
    ///
    /// # Panics
    /// When there are too few.
    fn take(&mut self, values: &mut &[f32]);

    /// # Panics
    /// When the tensor had no part in what the gradients are of.
    fn gradient(&self, gradients: &Gradients<f32, Cpu>) -> Vec<f32>;
}

impl<S: Shape> FlatTensor for Tensor<S, f32, Cpu> {
    fn values(&self) -> Vec<f32> {
        self.as_vec()
    }

    fn take(&mut self, values: &mut &[f32]) {
        let taken = values.split_off(..self.shape().num_elements()).expect("as many numbers as the model has");
        self.copy_from(taken);
    }

    fn gradient(&self, gradients: &Gradients<f32, Cpu>) -> Vec<f32> {
        gradients.get(self).as_vec()
    }
}

/// Something made of tensors.
pub trait Tensors {
    /// Calls `each` with every tensor in order.
    fn visit(&self, each: &mut dyn FnMut(Role, &dyn FlatTensor));
    fn visit_mut(&mut self, each: &mut dyn FnMut(Role, &mut dyn FlatTensor));
}

/// Implements [`Tensors`] for a layer: its own tensors by role, or the layers it holds.
macro_rules! tensors {
    ([$($generics:tt)*] $layer:ty { $($role:ident $field:ident),* }) => {
        impl<$($generics)*> Tensors for $layer {
            fn visit(&self, _each: &mut dyn FnMut(Role, &dyn FlatTensor)) {
                $(_each(Role::$role, &self.$field);)*
            }

            fn visit_mut(&mut self, _each: &mut dyn FnMut(Role, &mut dyn FlatTensor)) {
                $(_each(Role::$role, &mut self.$field);)*
            }
        }
    };
    ([$($generics:tt)*] $layer:ty [ $($field:tt),* ]) => {
        impl<$($generics)*> Tensors for $layer {
            fn visit(&self, each: &mut dyn FnMut(Role, &dyn FlatTensor)) {
                $(self.$field.visit(each);)*
            }

            fn visit_mut(&mut self, each: &mut dyn FnMut(Role, &mut dyn FlatTensor)) {
                $(self.$field.visit_mut(each);)*
            }
        }
    };
}

pub(crate) use tensors;

tensors!([] ReLU {});
tensors!([] SiLU {});
tensors!([] AvgPoolGlobal {});
tensors!([const K: usize, const S: usize, const P: usize] MaxPool2D<K, S, P> {});
tensors!([const K: usize, const S: usize, const P: usize] AveragePool2D<K, S, P> {});
tensors!([const I: usize, const O: usize, const K: usize, const S: usize, const P: usize]
    BuiltConv2D<I, O, K, S, P, f32, Cpu> { Parameter weight });
tensors!([const C: usize] BuiltBatchNorm<C, f32, Cpu> {
    Parameter weight, Parameter bias, Buffer running_mean, Buffer running_var
});
tensors!([const I: usize, const O: usize] UnbiasedLinear<I, O, f32, Cpu> { Parameter weight });
tensors!([const I: usize, const O: usize] Linear<I, O, f32, Cpu> { Parameter weight, Parameter bias });
tensors!([N, M: Tensors] Named<N, M> [layer]);
tensors!([F: Tensors] Residual<F> [0]);
tensors!([F: Tensors, R: Tensors] GeneralizedResidual<F, R> [f, r]);
tensors!([A: Tensors, B: Tensors] (A, B) [0, 1]);
tensors!([A: Tensors, B: Tensors, C: Tensors] (A, B, C) [0, 1, 2]);
tensors!([A: Tensors, B: Tensors, C: Tensors, D: Tensors] (A, B, C, D) [0, 1, 2, 3]);
tensors!([A: Tensors, B: Tensors, C: Tensors, D: Tensors, E: Tensors] (A, B, C, D, E) [0, 1, 2, 3, 4]);
tensors!([A: Tensors, B: Tensors, C: Tensors, D: Tensors, E: Tensors, F: Tensors] (A, B, C, D, E, F) [0, 1, 2, 3, 4, 5]);
