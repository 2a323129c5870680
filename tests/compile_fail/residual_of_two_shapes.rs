//! A residual whose shortcut has twice the channels of its branch.

use ablate::model::batch_norm::BatchNorm;
use ablate::model::conv2d::Conv2D;
use ablate::model::layers::{AvgPoolGlobal, GeneralizedResidual};
use ablate::model::named::{At, Named};
use ablate::model::plan::Plan;
use ablate::model::typed;

type Branch = (Named<At<0>, Conv2D<3, 8, 3, 2, 1>>, Named<At<1>, BatchNorm<8>>);
type Shortcut = Named<At<2>, Conv2D<3, 16, 1, 2, 0>>;

pub fn residual() -> Plan {
    typed::plan(&typed::backbone::<(GeneralizedResidual<Branch, Shortcut>, AvgPoolGlobal), 32, 8>(), None)
}
