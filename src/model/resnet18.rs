//! ResNet-18 without its classifier, as nested types: a view of side × side × 3 becomes 512 features.
//!
//! Sources: He et al., "Deep Residual Learning for Image Recognition", 2015; torchvision's `resnet18`; the stem for small
//! images is that of the SimCLR paper, appendix B.9.

use dfdx::nn::builders::{AvgPoolGlobal, GeneralizedResidual, ReLU, Residual};

use crate::model::batch_norm::BatchNorm;
use crate::model::conv2d::Conv2D;
use crate::model::named::{At, Backbone, Bn1, Bn2, Conv1, Conv2, Downsample, Layer1, Layer2, Layer3, Layer4, Named};
use crate::model::pooling::MaxPool2D;

/// Features of an image.
pub const FEATURES: usize = 512;

/// Two 3×3 convolutions, the first of stride S.
pub type Branch<const I: usize, const O: usize, const S: usize, A> = (
    Named<Conv1, Conv2D<I, O, 3, S, 1>>,
    Named<Bn1, BatchNorm<O>>,
    A,
    Named<Conv2, Conv2D<O, O, 3, 1, 1>>,
    Named<Bn2, BatchNorm<O>>,
);

/// A residual block that keeps channels and side.
pub type KeepingBlock<const C: usize, A> = (Residual<Branch<C, C, 1, A>>, A);

/// A residual block that halves the side; its shortcut is a 1×1 convolution.
pub type HalvingBlock<const I: usize, const O: usize, A> =
    (GeneralizedResidual<Branch<I, O, 2, A>, Named<Downsample, Shortcut<I, O>>>, A);

pub type Shortcut<const I: usize, const O: usize> = (Named<At<0>, Conv2D<I, O, 1, 2, 0>>, Named<At<1>, BatchNorm<O>>);

/// Two blocks that keep channels and side.
pub type KeepingStage<const C: usize, A> = (Named<At<0>, KeepingBlock<C, A>>, Named<At<1>, KeepingBlock<C, A>>);

/// Two blocks, the first of which halves the side.
pub type HalvingStage<const I: usize, const O: usize, A> =
    (Named<At<0>, HalvingBlock<I, O, A>>, Named<At<1>, KeepingBlock<O, A>>);

/// torchvision's stem: a quarter of the side is left.
pub type ImageNetStem<A, Pool> = (Named<Conv1, Conv2D<3, 64, 7, 2, 3>>, Named<Bn1, BatchNorm<64>>, A, Pool);

/// The stem for small images: the side is kept.
pub type CifarStem<A> = (Named<Conv1, Conv2D<3, 64, 3, 1, 1>>, Named<Bn1, BatchNorm<64>>, A);

/// The stem for small images as solo-learn pads it: the side grows by 2.
pub type CifarPaddedStem<A> = (Named<Conv1, Conv2D<3, 64, 3, 1, 2>>, Named<Bn1, BatchNorm<64>>, A);

/// The stem and everything behind it, with activation A.
pub type Encoder<Stem, A> = Named<
    Backbone,
    (
        Stem,
        Named<Layer1, KeepingStage<64, A>>,
        Named<Layer2, HalvingStage<64, 128, A>>,
        Named<Layer3, HalvingStage<128, 256, A>>,
        Named<Layer4, HalvingStage<256, 512, A>>,
        AvgPoolGlobal,
    ),
>;

pub type ResNet18ImageNet = Encoder<ImageNetStem<ReLU, MaxPool2D<3, 2, 1>>, ReLU>;
pub type ResNet18Cifar = Encoder<CifarStem<ReLU>, ReLU>;
pub type ResNet18CifarPadded = Encoder<CifarPaddedStem<ReLU>, ReLU>;
