//! The recipes of presets and of experiment files, told apart without a store and, but for image folders, without data.

use std::path::Path;

use crate::commands::diff::Arguments;
use crate::commands::error::CommandError;
use crate::commands::open;
use crate::content::Key;
use crate::data;
use crate::experiment::preset::Preset;
use crate::experiment::recipe::{Backend, Builtin, Dataset, Split};
use crate::experiment::run::{DataFacts, Run};
use crate::experiment::{LoadOptions, load};
use crate::explain::{Change, Meaning, changes};

const PRESET: &str = "preset:";

/// One side of a comparison of recipes.
pub struct Recipe {
    /// `preset Lightly`, or the file's path.
    pub name: String,
    run: Run,
}

/// Whether an argument names a recipe and no key.
pub fn names_recipe(argument: &str) -> bool {
    argument.starts_with(PRESET) || Path::new(argument).extension().is_some_and(|extension| extension == "ron")
}

/// `preset:Lightly`, or the base recipe of an experiment file.
pub fn recipe(argument: &str, arguments: &Arguments) -> Result<Recipe, CommandError> {
    let (name, shown, text) = match argument.strip_prefix(PRESET) {
        Some(asked) => {
            let preset = preset(asked)?.name();
            // Lengths in epochs need a number of images: a preset's are CIFAR-10's.
            let text =
                format!("Experiment(question: \"-\", dataset: Cifar10(root: \"-\"), preset: {preset}, seeds: [0])");
            (format!("preset {preset}"), format!("preset {preset}"), text)
        }
        None => (argument.to_owned(), argument.to_owned(), open::text(Path::new(argument))?),
    };
    let options = LoadOptions {
        overrides: &[],
        smoke: arguments.smoke,
        backend: Backend::Cpu,
        data_root: None,
        ignore_sweep: true,
        facts: &facts,
    };
    let experiment = load(&shown, &text, &options).map_err(CommandError::Experiment)?;
    let run = experiment.cells.into_iter().flat_map(|cell| cell.runs).next();
    let run = run.ok_or_else(|| CommandError::Usage(format!("{name} has no recipe")))?;
    Ok(Recipe { name, run })
}

fn preset(asked: &str) -> Result<Preset, CommandError> {
    Preset::ALL.into_iter().find(|preset| preset.name() == asked).ok_or_else(|| {
        let names = Preset::ALL.map(|preset| format!("`{PRESET}{}`", preset.name())).join(", ");
        CommandError::Usage(format!("there is no preset `{asked}`: expected one of {names}"))
    })
}

/// What a data set declares; only an image folder has to be looked at, or a set whose classes a split divides.
fn facts(dataset: &Dataset, split: Split) -> Result<DataFacts, String> {
    let sizes = match (dataset, split) {
        (Dataset::Cifar10 { .. }, Split::Official) => Some((50_000, 10_000, 10)),
        (Dataset::Cifar100 { .. }, Split::Official) => Some((50_000, 10_000, 100)),
        (Dataset::Builtin(Builtin { n_classes, train_per_class, test_per_class, .. }), Split::Official) => {
            Some((n_classes * train_per_class, n_classes * test_per_class, *n_classes))
        }
        (Dataset::Builtin(_) | Dataset::Cifar10 { .. } | Dataset::Cifar100 { .. }, Split::HeldOut { .. })
        | (Dataset::ImageFolder { .. }, Split::Official | Split::HeldOut { .. }) => None,
    };
    match sizes {
        Some((n_train, n_test, n_classes)) => {
            Ok(DataFacts { n_train, n_test, n_classes, digest: Key::of_bytes(b"declared") })
        }
        None => data::facts(dataset, split, None).map_err(|error| error.to_string()),
    }
}

/// Every field in which two recipes differ, as `diff` tells those of stages; lengths in epochs where they are whole ones.
pub fn differences(a: &Recipe, b: &Recipe) -> Result<Vec<Change>, CommandError> {
    let meaning = |recipe: &Recipe| {
        Meaning::read(&recipe.run.recipe_preimage())
            .ok_or_else(|| CommandError::Damaged(format!("{} has no meaning that can be read", recipe.name)))
    };
    let found = changes(&meaning(a)?, &meaning(b)?);
    Ok(found.into_iter().map(|change| in_epochs(change, &a.run, &b.run)).collect())
}

fn in_epochs(change: Change, a: &Run, b: &Run) -> Change {
    let told = |text: &Option<String>, run: &Run| {
        let steps: Option<u64> = text.as_ref()?.strip_prefix("Steps(")?.strip_suffix(')')?.parse().ok();
        let whole = steps.filter(|steps| steps.is_multiple_of(run.steps_per_epoch()));
        whole.map(|steps| format!("Epochs({})", steps / run.steps_per_epoch()))
    };
    match (told(&change.from, a), told(&change.to, b)) {
        (Some(from), Some(to)) if from == to => {
            let steps = change.text.split_once(' ').map_or("", |(_, steps)| steps).to_owned();
            let text = format!("{} {from}: {steps}", change.path);
            Change { text, ..change }
        }
        (Some(from), Some(to)) => {
            let text = format!("{} {from} → {to}", change.path);
            Change { from: Some(from), to: Some(to), text, ..change }
        }
        (Some(_) | None, Some(_) | None) => change,
    }
}
