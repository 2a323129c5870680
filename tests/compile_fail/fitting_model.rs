//! Compiles: the twin of the models beside it that do not.

use ablate::model::batch_norm::BatchNorm;
use ablate::model::conv2d::Conv2D;
use ablate::model::layers::AvgPoolGlobal;
use ablate::model::layers::{GeneralizedResidual, UnbiasedLinear};
use ablate::model::named::{At, Named};
use ablate::model::plan::Plan;
use ablate::model::projection_head::LinearHead;
use ablate::model::resnet18::ResNet18Cifar;
use ablate::model::typed;

type Branch = (Named<At<0>, Conv2D<3, 8, 3, 2, 1>>, Named<At<1>, BatchNorm<8>>);
type Shortcut = Named<At<2>, Conv2D<3, 8, 1, 2, 0>>;

pub fn head() -> Plan {
    let backbone = typed::backbone::<ResNet18Cifar, 32, 512>();
    typed::plan(&backbone, Some(&typed::head::<LinearHead<UnbiasedLinear<512, 128>>, 512, 128>()))
}

pub fn residual() -> Plan {
    typed::plan(&typed::backbone::<(GeneralizedResidual<Branch, Shortcut>, AvgPoolGlobal), 32, 8>(), None)
}
