//! A head for 256 features on a backbone of 512.

use ablate::model::layers::UnbiasedLinear;
use ablate::model::plan::Plan;
use ablate::model::projection_head::LinearHead;
use ablate::model::resnet18::ResNet18Cifar;
use ablate::model::typed;

pub fn head() -> Plan {
    let backbone = typed::backbone::<ResNet18Cifar, 32, 512>();
    typed::plan(&backbone, Some(&typed::head::<LinearHead<UnbiasedLinear<256, 128>>, 512, 128>()))
}
