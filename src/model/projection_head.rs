//! The projection heads g(·): features → projection, as nested types.
//!
//! `L`, `L0`, … are the linear layers, `Linear` with a bias or `UnbiasedLinear` without. A head with batch norm has one
//! behind every linear layer, the last included. Sources: SimCLR paper, section 2.1; Lightly's `SimCLRProjectionHead`,
//! whose numbering of layers is kept (`projection_head.layers.3.weight`).

use dfdx::nn::builders::ReLU;

use crate::model::batch_norm::BatchNorm;
use crate::model::named::{At, Named, ProjectionHeadLayers};

/// A head whose layers bear Lightly's names.
pub type Head<M> = Named<ProjectionHeadLayers, M>;

/// Layer number INDEX, with a batch norm of O channels behind it.
type Normalised<const INDEX: usize, const NEXT: usize, L, const O: usize> =
    (Named<At<INDEX>, L>, Named<At<NEXT>, BatchNorm<O>>);

pub type LinearHead<L> = Head<Named<At<0>, L>>;
pub type LinearNormHead<L, const O: usize> = Head<Normalised<0, 1, L, O>>;

pub type Mlp2Head<L0, L1> = Head<(Named<At<0>, L0>, ReLU, Named<At<2>, L1>)>;
pub type Mlp2NormHead<L0, L1, const H: usize, const O: usize> =
    Head<(Normalised<0, 1, L0, H>, ReLU, Normalised<3, 4, L1, O>)>;

pub type Mlp3Head<L0, L1, L2> = Head<(Named<At<0>, L0>, ReLU, Named<At<2>, L1>, ReLU, Named<At<4>, L2>)>;
pub type Mlp3NormHead<L0, L1, L2, const H: usize, const O: usize> =
    Head<(Normalised<0, 1, L0, H>, ReLU, Normalised<3, 4, L1, H>, ReLU, Normalised<6, 7, L2, O>)>;
