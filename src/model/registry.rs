//! The compiled models: which recipes there is a type for.
//!
//! Backbones (stems × sides) and heads are compiled apart and joined by their feature width, so the compiler builds their
//! sum, not their product.

use dfdx::nn::builders::{Linear, UnbiasedLinear};

use crate::experiment::recipe::{self, Stem};
use crate::model::classifier::classifier;
use crate::model::plan::Plan;
use crate::model::projection_head::{LinearHead, LinearNormHead, Mlp2Head, Mlp2NormHead, Mlp3Head, Mlp3NormHead};
use crate::model::resnet18::{FEATURES, ResNet18Cifar, ResNet18CifarPadded, ResNet18ImageNet};
use crate::model::typed::{self, CompiledBackbone, CompiledHead, TypedModel};

/// Why there is no type for a recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCompiled {
    #[error(
        "no ResNet-18 with stem `{stem:?}` is compiled for views of `{side}` pixels: expected a side of {}; \
         crop to one of these or add the side to `model/registry.rs`",
        list(&SIDES)
    )]
    Side { stem: Stem, side: u32 },
    #[error(
        "the projection head `{head:?}` is not compiled: expected `None`, `Linear` with an output of {outputs}, \
         `Mlp` with 2 or 3 layers, hidden {hidden} and output {outputs}, or a `Classifier` of 1 to 65536 classes; take one \
         of these or add it to `model/registry.rs`",
        hidden = list(&HIDDEN),
        outputs = list(&OUTPUTS)
    )]
    Head { head: recipe::Head },
}

fn list(values: &[u32]) -> String {
    let (last, others) = values.split_last().expect("something is compiled");
    let others: Vec<String> = others.iter().map(u32::to_string).collect();
    format!("{} or {last}", others.join(", "))
}

/// Declares a list of compiled sizes and a function that takes a number to its type.
macro_rules! compiled {
    ($(#[$doc:meta])* $list:ident = [$($size:literal),*]; $with:ident!) => {
        $(#[$doc])*
        pub const $list: [u32; [$($size),*].len()] = [$($size),*];

        /// `$with!(value, SIZE => expression with SIZE constant)`: the expression of the matching size, or `None`.
        macro_rules! $with {
            ($value:expr, $constant:ident => $expression:expr) => {
                match $value {
                    $($size => {
                        const $constant: usize = $size;
                        Some($expression)
                    })*
                    _ => None,
                }
            };
        }
    };
}

compiled!(
    /// Sides of a view, in pixels.
    SIDES = [32, 64, 96, 128, 224]; with_side!
);
compiled!(
    /// Widths of an MLP head's hidden layers.
    HIDDEN = [512, 1024, 2048]; with_hidden!
);
compiled!(
    /// Widths of a projection.
    OUTPUTS = [64, 128, 256, 2048]; with_output!
);

/// The Plan of a model, fused.
pub fn plan(model: &recipe::Model) -> Result<Plan, NotCompiled> {
    Ok(planned(model, &backbone(model)?, head(model.head)?.as_ref()))
}

/// The model itself, on dfdx's tape.
pub fn typed(model: &recipe::Model) -> Result<Box<dyn TypedModel>, NotCompiled> {
    let (backbone, head) = (backbone(model)?, head(model.head)?);
    Ok(typed::build_as(planned(model, &backbone, head.as_ref()), &backbone, head.as_ref()))
}

fn planned(
    model: &recipe::Model,
    backbone: &CompiledBackbone<FEATURES>,
    head: Option<&CompiledHead<FEATURES>>,
) -> Plan {
    let plan = typed::plan(backbone, head);
    match model.head {
        recipe::Head::Mlp { output_shift: false, .. } => plan.with_held_output_shift(),
        recipe::Head::None
        | recipe::Head::Linear { .. }
        | recipe::Head::Mlp { .. }
        | recipe::Head::Classifier { .. } => plan,
    }
}

fn backbone(model: &recipe::Model) -> Result<CompiledBackbone<FEATURES>, NotCompiled> {
    let recipe::Backbone::ResNet18 { stem } = model.backbone;
    let compiled = match stem {
        Stem::ImageNet => with_side!(model.side, SIDE => typed::backbone::<ResNet18ImageNet, SIDE, FEATURES>()),
        Stem::Cifar => with_side!(model.side, SIDE => typed::backbone::<ResNet18Cifar, SIDE, FEATURES>()),
        Stem::CifarPadded => {
            with_side!(model.side, SIDE => typed::backbone::<ResNet18CifarPadded, SIDE, FEATURES>())
        }
    };
    compiled.ok_or(NotCompiled::Side { stem, side: model.side })
}

fn head(head: recipe::Head) -> Result<Option<CompiledHead<FEATURES>>, NotCompiled> {
    let compiled = match head {
        recipe::Head::None => return Ok(None),
        recipe::Head::Linear { output, batch_norm, bias } => {
            with_output!(output, O => linear_head::<O>(batch_norm, bias))
        }
        recipe::Head::Mlp { layers, hidden, output, batch_norm, bias, output_shift: _ } => with_hidden!(hidden, H => {
            with_output!(output, O => mlp_head::<H, O>(layers, batch_norm, bias)).flatten()
        })
        .flatten(),
        // Wide enough for the predictions of `evaluate`; a recipe that met no data has 0.
        recipe::Head::Classifier { n_classes } => {
            (1..=1 << 16).contains(&n_classes).then(|| classifier(n_classes as usize))
        }
    };
    compiled.map(Some).ok_or(NotCompiled::Head { head })
}

fn linear_head<const O: usize>(batch_norm: bool, bias: bool) -> CompiledHead<FEATURES> {
    type Biased<const O: usize> = Linear<FEATURES, O>;
    type Unbiased<const O: usize> = UnbiasedLinear<FEATURES, O>;
    match (batch_norm, bias) {
        (false, false) => typed::head::<LinearHead<Unbiased<O>>, FEATURES, O>(),
        (false, true) => typed::head::<LinearHead<Biased<O>>, FEATURES, O>(),
        (true, false) => typed::head::<LinearNormHead<Unbiased<O>, O>, FEATURES, O>(),
        (true, true) => typed::head::<LinearNormHead<Biased<O>, O>, FEATURES, O>(),
    }
}

fn mlp_head<const H: usize, const O: usize>(
    layers: u32,
    batch_norm: bool,
    bias: bool,
) -> Option<CompiledHead<FEATURES>> {
    type Biased<const I: usize, const O: usize> = Linear<I, O>;
    type Unbiased<const I: usize, const O: usize> = UnbiasedLinear<I, O>;
    Some(match (layers, batch_norm, bias) {
        (2, false, false) => typed::head::<Mlp2Head<Unbiased<FEATURES, H>, Unbiased<H, O>>, FEATURES, O>(),
        (2, false, true) => typed::head::<Mlp2Head<Biased<FEATURES, H>, Biased<H, O>>, FEATURES, O>(),
        (2, true, false) => typed::head::<Mlp2NormHead<Unbiased<FEATURES, H>, Unbiased<H, O>, H, O>, FEATURES, O>(),
        (2, true, true) => typed::head::<Mlp2NormHead<Biased<FEATURES, H>, Biased<H, O>, H, O>, FEATURES, O>(),
        (3, false, false) => {
            typed::head::<Mlp3Head<Unbiased<FEATURES, H>, Unbiased<H, H>, Unbiased<H, O>>, FEATURES, O>()
        }
        (3, false, true) => typed::head::<Mlp3Head<Biased<FEATURES, H>, Biased<H, H>, Biased<H, O>>, FEATURES, O>(),
        (3, true, false) => {
            typed::head::<Mlp3NormHead<Unbiased<FEATURES, H>, Unbiased<H, H>, Unbiased<H, O>, H, O>, FEATURES, O>()
        }
        (3, true, true) => {
            typed::head::<Mlp3NormHead<Biased<FEATURES, H>, Biased<H, H>, Biased<H, O>, H, O>, FEATURES, O>()
        }
        _ => return None,
    })
}
