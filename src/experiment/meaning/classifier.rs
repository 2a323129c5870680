//! The meaning of evaluations that train a classifier.

use super::whole;
use crate::content::Value;
use crate::experiment::recipe::{FineTune, LinearProbe, ProbeViews};

pub fn linear_probe(probe: LinearProbe) -> Value {
    let LinearProbe { epochs, batch, learning_rate, momentum, weight_decay, seed, layer, augment, labels } = probe;
    let mut fields = vec![
        ("epochs", whole(epochs)),
        ("batch", whole(batch)),
        ("learning_rate", Value::float(learning_rate)),
        ("momentum", Value::float(momentum)),
        ("weight_decay", Value::float(weight_decay)),
        ("seed", whole(seed)),
    ];
    match augment {
        ProbeViews::Plain => {}
        ProbeViews::CropAndFlip => fields.push(("augment", Value::tag("CropAndFlip"))),
    }
    if labels != 1.0 {
        fields.push(("labels", Value::float(labels)));
    }
    fields.extend(super::layer(layer));
    Value::Record("LinearProbe", fields)
}

pub fn fine_tune(tuning: FineTune) -> Value {
    let FineTune { epochs, batch, learning_rate, momentum, weight_decay, seed, augment, labels } = tuning;
    let augment = match augment {
        ProbeViews::Plain => "Plain",
        ProbeViews::CropAndFlip => "CropAndFlip",
    };
    Value::Record(
        "FineTune",
        vec![
            ("epochs", whole(epochs)),
            ("batch", whole(batch)),
            ("learning_rate", Value::float(learning_rate)),
            ("momentum", Value::float(momentum)),
            ("weight_decay", Value::float(weight_decay)),
            ("seed", whole(seed)),
            ("augment", Value::tag(augment)),
            ("labels", Value::float(labels)),
        ],
    )
}
