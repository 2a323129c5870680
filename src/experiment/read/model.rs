//! The section `model`. Models are compiled types: the sizes listed here are those that were compiled.

use crate::experiment::problem::{Found, Span};
use crate::experiment::read::scalar::{boolean, whole};
use crate::experiment::read::{At, Fields, record, unit, variant};
use crate::experiment::recipe::{Backbone, Head, Initialization, Model, Stem};

pub const SIDES: [u32; 5] = [32, 64, 96, 128, 224];
pub const HIDDEN_WIDTHS: [u32; 3] = [512, 1024, 2048];
pub const OUTPUT_WIDTHS: [u32; 4] = [64, 128, 256, 2048];
pub const LAYER_COUNTS: [u32; 2] = [2, 3];

/// Lightly's `SimCLRProjectionHead(512, 512, 128)`.
const HEAD: Head = Head::Mlp { layers: 2, hidden: 512, output: 128, batch_norm: true, bias: false, output_shift: true };

/// Defaults: ResNet-18 with torchvision's stem at 32×32 and the head of Lightly's example.
pub const DEFAULT: Model = Model {
    backbone: Backbone::ResNet18 { stem: Stem::ImageNet },
    side: 32,
    head: HEAD,
    initialization: Initialization::Torchvision,
};

/// What the section says, before the data say how many classes there are, and where it says the head.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSection {
    pub model: Model,
    pub head: Span,
}

/// Where a file has no such section.
pub fn default(span: Span) -> ModelSection {
    ModelSection { model: DEFAULT, head: span }
}

pub fn model(at: &At, found: &mut Found) -> Option<ModelSection> {
    record(at, found, "Model", |fields| {
        let backbone = fields.optional("backbone", DEFAULT.backbone, backbone);
        let side = fields.optional("side", DEFAULT.side, |at, found| compiled(at, found, &SIDES));
        let head = fields.placed("head", DEFAULT.head, head);
        let initialization = fields.optional("initialization", DEFAULT.initialization, |at, found| {
            let table = [
                ("Torchvision", Initialization::Torchvision),
                ("TorchvisionNewStem", Initialization::TorchvisionNewStem),
                ("PyTorchDefault", Initialization::PyTorchDefault),
                ("Google", Initialization::Google),
            ];
            unit(at, found, &table)
        });
        let head = head?;
        let model = Model { backbone: backbone?, side: side?, head: head.value, initialization: initialization? };
        Some(ModelSection { model, head: head.span })
    })
}

fn backbone(at: &At, found: &mut Found) -> Option<Backbone> {
    variant(at, found, &[("ResNet18", resnet18)])
}

fn resnet18(fields: &mut Fields) -> Option<Backbone> {
    let stem = fields.optional("stem", Stem::ImageNet, |at, found| {
        let table = [("ImageNet", Stem::ImageNet), ("Cifar", Stem::Cifar), ("CifarPadded", Stem::CifarPadded)];
        unit(at, found, &table)
    });
    Some(Backbone::ResNet18 { stem: stem? })
}

fn head(at: &At, found: &mut Found) -> Option<Head> {
    let classifier: fn(&mut Fields) -> Option<Head> = |_| Some(Head::Classifier { n_classes: 0 });
    let none: fn(&mut Fields) -> Option<Head> = |_| Some(Head::None);
    variant(at, found, &[("None", none), ("Linear", linear), ("Mlp", mlp), ("Classifier", classifier)])
}

fn linear(fields: &mut Fields) -> Option<Head> {
    let output = fields.optional("output", 128, |at, found| compiled(at, found, &OUTPUT_WIDTHS));
    let batch_norm = fields.optional("batch_norm", true, boolean);
    let bias = fields.optional("bias", false, boolean);
    Some(Head::Linear { output: output?, batch_norm: batch_norm?, bias: bias? })
}

fn mlp(fields: &mut Fields) -> Option<Head> {
    let layers = fields.optional("layers", 2, |at, found| compiled(at, found, &LAYER_COUNTS));
    let hidden = fields.optional("hidden", 512, |at, found| compiled(at, found, &HIDDEN_WIDTHS));
    let output = fields.optional("output", 128, |at, found| compiled(at, found, &OUTPUT_WIDTHS));
    let batch_norm = fields.optional("batch_norm", true, boolean);
    let bias = fields.optional("bias", false, boolean);
    let output_shift = fields.placed("output_shift", true, boolean);
    let (batch_norm, output_shift) = (batch_norm?, output_shift?);
    if !batch_norm && !output_shift.value {
        let message = "`output_shift: false` is of the last batch norm, and this head has none";
        let problem = fields.problem_of("output_shift", output_shift.span, message);
        fields.found.add(problem.expected("`batch_norm: true`, or `output_shift` left out"));
        return None;
    }
    let (layers, hidden, output, bias, output_shift) = (layers?, hidden?, output?, bias?, output_shift.value);
    Some(Head::Mlp { layers, hidden, output, batch_norm, bias, output_shift })
}

/// One of the sizes that a model was compiled for.
fn compiled(at: &At, found: &mut Found, sizes: &[u32]) -> Option<u32> {
    let value = whole(at, found, 0..=u64::MAX)?;
    let size = sizes.iter().copied().find(|size| u64::from(*size) == value);
    if size.is_none() {
        let list = sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        found.add(
            at.problem(format!("no model of size `{value}` was compiled here")).expected(format!("one of {list}")),
        );
    }
    size
}

#[cfg(feature = "compute")]
#[cfg(test)]
mod tests {
    use super::{HIDDEN_WIDTHS, LAYER_COUNTS, OUTPUT_WIDTHS, SIDES};
    use crate::experiment::recipe::{Head, Model};
    use crate::model::registry;

    #[test]
    fn the_sizes_are_those_that_were_compiled() {
        assert_eq!(SIDES, registry::SIDES);
        assert_eq!(HIDDEN_WIDTHS, registry::HIDDEN);
        assert_eq!(OUTPUT_WIDTHS, registry::OUTPUTS);
        let is_compiled = |layers: u32| {
            let head =
                Head::Mlp { layers, hidden: 512, output: 128, batch_norm: true, bias: false, output_shift: true };
            registry::plan(&Model { head, ..super::DEFAULT }).is_ok()
        };
        let compiled: Vec<u32> = (0..8).filter(|layers| is_compiled(*layers)).collect();
        assert_eq!(compiled, LAYER_COUNTS);
    }
}
