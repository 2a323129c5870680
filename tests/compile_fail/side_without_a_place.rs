//! A view of 33 pixels, which the ImageNet stem cannot halve.

use ablate::model::plan::Plan;
use ablate::model::resnet18::ResNet18ImageNet;
use ablate::model::typed;

pub fn side() -> Plan {
    typed::plan(&typed::backbone::<ResNet18ImageNet, 33, 512>(), None)
}
