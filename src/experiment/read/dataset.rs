//! The sections `dataset` and `split`.

use crate::experiment::problem::Found;
use crate::experiment::read::scalar::{count, real, text, whole};
use crate::experiment::read::{At, Fields, variant};
use crate::experiment::recipe::{Builtin, Dataset, Split};

/// As many as the built-in set has forms.
const CLASSES_MAX: u32 = 100;

/// Every file has to name its data; nothing is assumed.
pub fn dataset(at: &At, found: &mut Found) -> Option<Dataset> {
    variant(
        at,
        found,
        &[("Builtin", builtin), ("Cifar10", cifar10), ("Cifar100", cifar100), ("ImageFolder", image_folder)],
    )
}

/// Defaults: 10 classes, 500 images a class to train on and 100 to ask about, seed 0.
fn builtin(fields: &mut Fields) -> Option<Dataset> {
    let n_classes = fields.optional("n_classes", 10, |at, found| count(at, found, 2..=CLASSES_MAX));
    let train_per_class = fields.optional("train_per_class", 500, |at, found| count(at, found, 1..=100_000));
    let test_per_class = fields.optional("test_per_class", 100, |at, found| count(at, found, 1..=100_000));
    let seed = fields.optional("seed", 0, |at, found| whole(at, found, 0..=u64::MAX));
    Some(Dataset::Builtin(Builtin {
        n_classes: n_classes?,
        train_per_class: train_per_class?,
        test_per_class: test_per_class?,
        seed: seed?,
    }))
}

fn root(fields: &mut Fields) -> Option<String> {
    fields.required("root", "the folder of the data, `root: \"data\"`", text)
}

fn cifar10(fields: &mut Fields) -> Option<Dataset> {
    Some(Dataset::Cifar10 { root: root(fields)? })
}

fn cifar100(fields: &mut Fields) -> Option<Dataset> {
    Some(Dataset::Cifar100 { root: root(fields)? })
}

fn image_folder(fields: &mut Fields) -> Option<Dataset> {
    Some(Dataset::ImageFolder { root: root(fields)? })
}

/// Default: `Official`.
pub fn split(at: &At, found: &mut Found) -> Option<Split> {
    variant(at, found, &[("Official", |_| Some(Split::Official)), ("HeldOut", held_out)])
}

/// Defaults: a tenth of the training set, seed 0.
fn held_out(fields: &mut Fields) -> Option<Split> {
    let fraction = fields.optional("fraction", 0.1, |at, found| {
        real(at, found, "a fraction between 0 and 1, both excluded", |value| value > 0.0 && value < 1.0)
    });
    let seed = fields.optional("seed", 0, |at, found| whole(at, found, 0..=u64::MAX));
    Some(Split::HeldOut { fraction: fraction?, seed: seed? })
}
