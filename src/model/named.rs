//! `Named`: a layer that bears a name, so that its parameters are called as torchvision calls them.

use std::marker::PhantomData;

use dfdx::dtypes::Dtype;
use dfdx::nn::{BuildOnDevice, Module, ModuleMut, ModuleVisitor, TensorCollection};
use dfdx::tensor_ops::Device;

/// A part of a parameter's name, `layer1` in `backbone.layer1.0.conv1.weight`.
pub trait Name: 'static {
    fn name() -> String;
}

/// `M` under the name `N`. Tuples only put layers one behind another; they name nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Named<N, M> {
    pub layer: M,
    name: PhantomData<fn() -> N>,
}

/// A place in a sequence, `0` in `backbone.layer1.0.conv1.weight`.
#[derive(Debug, Clone, Copy, Default)]
pub struct At<const INDEX: usize>;

impl<const INDEX: usize> Name for At<INDEX> {
    fn name() -> String {
        INDEX.to_string()
    }
}

macro_rules! names {
    ($($name:ident = $text:literal),* $(,)?) => { $(
        #[doc = concat!("`", $text, "`.")]
        #[derive(Debug, Clone, Copy, Default)]
        pub struct $name;

        impl Name for $name {
            fn name() -> String {
                $text.to_owned()
            }
        }
    )* };
}

names!(
    Backbone = "backbone",
    ProjectionHeadLayers = "projection_head.layers",
    Conv1 = "conv1",
    Bn1 = "bn1",
    Conv2 = "conv2",
    Bn2 = "bn2",
    Downsample = "downsample",
    Layer1 = "layer1",
    Layer2 = "layer2",
    Layer3 = "layer3",
    Layer4 = "layer4",
);

impl<E: Dtype, D: Device<E>, N: Name, M: BuildOnDevice<D, E>> BuildOnDevice<D, E> for Named<N, M> {
    type Built = Named<N, M::Built>;
}

impl<E: Dtype, D: Device<E>, N: Name, M: TensorCollection<E, D>> TensorCollection<E, D> for Named<N, M> {
    type To<E2: Dtype, D2: Device<E2>> = Named<N, M::To<E2, D2>>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(visitor: &mut V) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        visitor.visit_fields(Self::module(&N::name(), |named| &named.layer, |named| &mut named.layer), |layer| Named {
            layer,
            name: PhantomData,
        })
    }
}

impl<X, N, M: Module<X>> Module<X> for Named<N, M> {
    type Output = M::Output;
    type Error = M::Error;

    fn try_forward(&self, input: X) -> Result<M::Output, M::Error> {
        self.layer.try_forward(input)
    }
}

impl<X, N, M: ModuleMut<X>> ModuleMut<X> for Named<N, M> {
    type Output = M::Output;
    type Error = M::Error;

    fn try_forward_mut(&mut self, input: X) -> Result<M::Output, M::Error> {
        self.layer.try_forward_mut(input)
    }
}
