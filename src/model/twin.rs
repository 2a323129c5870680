//! Smooth twins of the models: SiLU for ReLU and average for max pooling, so that gradients can be compared tightly.

use dfdx::nn::builders::{AvgPoolGlobal, UnbiasedLinear};

use crate::model::batch_norm::BatchNorm;
use crate::model::conv2d::Conv2D;
use crate::model::named::{At, Backbone, Bn1, Conv1, Layer1, Layer2, Named};
use crate::model::pooling::AveragePool2D;
use crate::model::projection_head::Head;
use crate::model::resnet18::{Encoder, HalvingBlock, ImageNetStem, KeepingBlock};
use crate::model::silu::SiLU;
use crate::model::typed::{self, CompiledBackbone, CompiledHead};

pub type SmallBackbone = Named<
    Backbone,
    (
        (Named<Conv1, Conv2D<3, 8, 7, 2, 3>>, Named<Bn1, BatchNorm<8>>, SiLU, AveragePool2D<3, 2, 1>),
        Named<Layer1, Named<At<0>, KeepingBlock<8, SiLU>>>,
        Named<Layer2, Named<At<0>, HalvingBlock<8, 16, SiLU>>>,
        AvgPoolGlobal,
    ),
>;

pub type SmallHead = Head<(
    (Named<At<0>, UnbiasedLinear<16, 12>>, Named<At<1>, BatchNorm<12>>),
    SiLU,
    (Named<At<3>, UnbiasedLinear<12, 8>>, Named<At<4>, BatchNorm<8>>),
)>;

/// Side of the small twin's views, in pixels.
pub const SMALL_SIDE: usize = 16;

/// Every kind of layer once or twice: 16 features, projections of 8.
pub fn small() -> (CompiledBackbone<16>, CompiledHead<16>) {
    (typed::backbone::<SmallBackbone, SMALL_SIDE, 16>(), typed::head::<SmallHead, 16, 8>())
}

/// ResNet-18 with the ImageNet stem for views of 32 pixels; its head is the features themselves.
pub fn resnet18() -> CompiledBackbone<512> {
    typed::backbone::<Encoder<ImageNetStem<SiLU, AveragePool2D<3, 2, 1>>, SiLU>, 32, 512>()
}
