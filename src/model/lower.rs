//! Lowering: the compiler walks a model's type with the shape of its input, and the walk writes the Plan.
//!
//! A type that cannot be walked is a model whose layers do not fit, and does not compile.

use dfdx::nn::builders::{AvgPoolGlobal, GeneralizedResidual, Linear, ReLU, Residual, UnbiasedLinear};
use dfdx::shapes::{Const, ConstDim};

use crate::model::batch_norm::BatchNorm;
use crate::model::conv2d::Conv2D;
use crate::model::lowering::Lowering;
use crate::model::named::{Name, Named};
use crate::model::plan::{self, Activation, Op, ParameterKind, ValueId};
use crate::model::pooling::{AveragePool2D, MaxPool2D, Pooling};
use crate::model::silu::SiLU;
use crate::model::window::Window;

/// The shape of one image's value, known to the compiler: `(Const<C>, Const<H>, Const<W>)` or `(Const<WIDTH>,)`.
pub trait Extent: dfdx::shapes::ConstShape {
    fn of_image() -> plan::Shape;
}

impl<const C: usize, H: ConstDim, W: ConstDim> Extent for (Const<C>, H, W) {
    fn of_image() -> plan::Shape {
        plan::Shape::Map { channels: C, height: H::SIZE, width: W::SIZE }
    }
}

impl<const WIDTH: usize> Extent for (Const<WIDTH>,) {
    fn of_image() -> plan::Shape {
        plan::Shape::Vector { width: WIDTH }
    }
}

/// A layer that takes an input of shape `In`.
#[diagnostic::on_unimplemented(
    message = "the layer `{Self}` does not fit its input of shape `{In}`",
    label = "this model does not fit together",
    note = "what a layer gives must be what the next one takes: the channels of a map, or the width of a vector",
    note = "a projection head takes the features of its backbone: 512 of a ResNet-18"
)]
pub trait Lower<In: Extent> {
    type Out: Extent;

    /// Appends this layer's operations and gives the value they end in.
    fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId;
}

/// Two branches of a residual that can be added.
#[diagnostic::on_unimplemented(
    message = "the branches of a residual differ: one gives `{Self}`, the other `{Other}`",
    label = "these branches cannot be added",
    note = "both branches must give the same channels and the same side"
)]
pub trait SameShape<Other> {}

impl<S> SameShape<S> for S {}

impl<X: Extent, N: Name, M: Lower<X>> Lower<X> for Named<N, M> {
    type Out = M::Out;

    fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId {
        lowering.enter(N::name());
        let output = M::lower(lowering, input);
        lowering.leave();
        output
    }
}

impl<const I: usize, const O: usize, const K: usize, const S: usize, const P: usize, H, W> Lower<(Const<I>, H, W)>
    for Conv2D<I, O, K, S, P>
where
    H: Window<K, S, P>,
    W: Window<K, S, P>,
{
    type Out = (Const<O>, H::Out, W::Out);

    fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId {
        let weight = lowering.parameter("weight", &[O, I, K, K], ParameterKind::ConvWeight);
        let window = plan::Window { kernel: K, stride: S, padding: P };
        let output = lowering.value(Self::Out::of_image());
        lowering.push(Op::Conv2d { input, output, weight, window })
    }
}

fn lower_batch_norm(lowering: &mut Lowering, input: ValueId, channels: usize, shape: plan::Shape) -> ValueId {
    let scale = lowering.parameter("weight", &[channels], ParameterKind::NormScale);
    let shift = lowering.parameter("bias", &[channels], ParameterKind::NormShift);
    let running_mean = lowering.buffer("running_mean", channels, 0.0);
    let running_var = lowering.buffer("running_var", channels, 1.0);
    let output = lowering.value(shape);
    let (residual, activation) = (None, Activation::Identity);
    lowering.push(Op::BatchNorm { input, residual, output, scale, shift, running_mean, running_var, activation })
}

impl<const C: usize, H: ConstDim, W: ConstDim> Lower<(Const<C>, H, W)> for BatchNorm<C> {
    type Out = (Const<C>, H, W);

    fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId {
        lower_batch_norm(lowering, input, C, Self::Out::of_image())
    }
}

impl<const C: usize> Lower<(Const<C>,)> for BatchNorm<C> {
    type Out = (Const<C>,);

    fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId {
        lower_batch_norm(lowering, input, C, Self::Out::of_image())
    }
}

fn lower_activation(lowering: &mut Lowering, input: ValueId, activation: Activation) -> ValueId {
    let output = lowering.value(lowering.shape(input));
    lowering.push(Op::Activate { input, output, activation })
}

impl<X: Extent> Lower<X> for ReLU {
    type Out = X;

    fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId {
        lower_activation(lowering, input, Activation::Relu)
    }
}

impl<X: Extent> Lower<X> for SiLU {
    type Out = X;

    fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId {
        lower_activation(lowering, input, Activation::Silu)
    }
}

macro_rules! lower_pooling {
    ($($layer:ident),*) => { $(
        impl<const K: usize, const S: usize, const P: usize, const C: usize, H, W> Lower<(Const<C>, H, W)>
            for $layer<K, S, P>
        where
            H: Window<K, S, P>,
            W: Window<K, S, P>,
        {
            type Out = (Const<C>, H::Out, W::Out);

            fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId {
                let output = lowering.value(Self::Out::of_image());
                lowering.push(Op::Pool2d { input, output, window: Self::WINDOW, kind: Self::KIND })
            }
        }
    )* };
}

lower_pooling!(MaxPool2D, AveragePool2D);

impl<const C: usize, H: ConstDim, W: ConstDim> Lower<(Const<C>, H, W)> for AvgPoolGlobal {
    type Out = (Const<C>,);

    fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId {
        let output = lowering.value(Self::Out::of_image());
        lowering.push(Op::GlobalAveragePool { input, output })
    }
}

impl<const I: usize, const O: usize> Lower<(Const<I>,)> for UnbiasedLinear<I, O> {
    type Out = (Const<O>,);

    fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId {
        let weight = lowering.parameter("weight", &[O, I], ParameterKind::LinearWeight);
        let output = lowering.value(Self::Out::of_image());
        lowering.push(Op::Linear { input, output, weight, bias: None })
    }
}

impl<const I: usize, const O: usize> Lower<(Const<I>,)> for Linear<I, O> {
    type Out = (Const<O>,);

    fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId {
        let weight = lowering.parameter("weight", &[O, I], ParameterKind::LinearWeight);
        let bias = lowering.parameter("bias", &[O], ParameterKind::LinearBias { fan_in: I });
        let output = lowering.value(Self::Out::of_image());
        lowering.push(Op::Linear { input, output, weight, bias: Some(bias) })
    }
}

impl<X: Extent, F: Lower<X>> Lower<X> for Residual<F>
where
    F::Out: SameShape<X>,
{
    type Out = F::Out;

    fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId {
        let left = F::lower(lowering, input);
        let output = lowering.value(Self::Out::of_image());
        lowering.push(Op::Add { left, right: input, output })
    }
}

impl<X: Extent, F: Lower<X>, R: Lower<X>> Lower<X> for GeneralizedResidual<F, R>
where
    F::Out: SameShape<R::Out>,
{
    type Out = F::Out;

    fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId {
        let left = F::lower(lowering, input);
        let right = R::lower(lowering, input);
        let output = lowering.value(Self::Out::of_image());
        lowering.push(Op::Add { left, right, output })
    }
}

/// One layer behind another.
macro_rules! lower_sequence {
    ($first:ident $(, $layer:ident: $before:ident)*; $last:ident) => {
        impl<X: Extent, $first: Lower<X> $(, $layer: Lower<$before::Out>)*> Lower<X> for ($first, $($layer,)*) {
            type Out = $last::Out;

            fn lower(lowering: &mut Lowering, input: ValueId) -> ValueId {
                let value = $first::lower(lowering, input);
                $(let value = $layer::lower(lowering, value);)*
                value
            }
        }
    };
}

lower_sequence!(A; A);
lower_sequence!(A, B: A; B);
lower_sequence!(A, B: A, C: B; C);
lower_sequence!(A, B: A, C: B, D: C; D);
lower_sequence!(A, B: A, C: B, D: C, E: D; E);
lower_sequence!(A, B: A, C: B, D: C, E: D, F: E; F);
