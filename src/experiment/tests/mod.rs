//! The format as a whole: texts in, experiments, keys and messages out.

mod changes;
mod evaluations;
mod hostile;
mod keys;
mod losses;
mod messages;
mod presets;
mod robustness;
mod shipped;
mod snapshots;
mod supervised;
mod sweeps;
mod texts;

use crate::content::Key;
use crate::experiment::recipe::{Backend, Builtin, Dataset, Split};
use crate::experiment::run::{DataFacts, Run};
use crate::experiment::{Experiment, LoadOptions, Problems, load};

/// What a data set of the declared size would report; `missing` is a folder that is not there.
fn facts(dataset: &Dataset, split: Split) -> Result<DataFacts, String> {
    let (n_train, n_test, n_classes, name) = match dataset {
        Dataset::Builtin(Builtin { n_classes, train_per_class, test_per_class, seed }) => {
            (n_classes * train_per_class, n_classes * test_per_class, *n_classes, format!("builtin {seed}"))
        }
        Dataset::Cifar10 { root } | Dataset::Cifar100 { root } | Dataset::ImageFolder { root } if root == "missing" => {
            return Err("no data in `missing`\nfetch it with `ablate data fetch`".to_owned());
        }
        Dataset::Cifar10 { .. } => (50_000, 10_000, 10, "cifar10".to_owned()),
        Dataset::Cifar100 { .. } => (50_000, 10_000, 100, "cifar100".to_owned()),
        Dataset::ImageFolder { .. } => (1_000, 100, 5, "folder".to_owned()),
    };
    let (n_train, n_test) = match split {
        Split::Official => (n_train, n_test),
        Split::HeldOut { fraction, .. } => {
            let held_out = (f64::from(n_train) * fraction) as u32;
            (n_train - held_out, held_out)
        }
    };
    if n_train == 0 || n_test == 0 {
        return Err("the split leaves a part without images\ntake another fraction".to_owned());
    }
    Ok(DataFacts { n_train, n_test, n_classes, digest: Key::of_bytes(name.as_bytes()) })
}

fn options(overrides: &[String]) -> LoadOptions<'_> {
    LoadOptions { overrides, smoke: false, backend: Backend::Cpu, data_root: None, ignore_sweep: false, facts: &facts }
}

fn loaded(text: &str) -> Result<Experiment, Problems> {
    load("experiments/x.ron", text, &options(&[]))
}

/// # Panics
/// With the message a user would see.
fn sound(text: &str) -> Experiment {
    loaded(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// An experiment with these further fields, and the first run of it.
fn first_run(fields: &str) -> Run {
    let text = format!("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), {fields})");
    sound(&text).cells[0].runs[0].clone()
}
