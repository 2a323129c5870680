//! What the targets share: a scratch folder in memory, forged seals and the stand-in for a data set's facts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

use ablate::content::Key;
use ablate::experiment::LoadOptions;
use ablate::experiment::recipe::{Backend, Builtin, Dataset, Split};
use ablate::experiment::run::DataFacts;

/// A folder of this process, in memory where the system has such a place; `run.py` names one and removes it.
pub fn scratch(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let place = match std::env::var_os("ABLATE_FUZZ_SCRATCH") {
        Some(folder) => PathBuf::from(folder),
        None if memory.is_dir() => memory.to_owned(),
        None => std::env::temp_dir(),
    };
    let folder = place.join(format!("ablate-fuzz-{}", std::process::id())).join(name);
    fs::create_dir_all(&folder).expect("a writable scratch folder");
    folder
}

/// The decoders are others' code: the program catches their panics and calls the file broken. A panic of the program's
/// own code ends the process here as elsewhere.
pub fn forgive_panics_of_dependencies() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let strict = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_others = info.location().is_some_and(|place| place.file().contains("/registry/src/"));
            if !is_others {
                strict(info);
            }
        }));
    });
}

/// A sealed file with the first two words of `sample`'s header and the right digest of `payload`.
pub fn forged(sample: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = String::from_utf8_lossy(sample.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    let words: Vec<&str> = header.split(' ').take(2).collect();
    [format!("{} {}\n", words.join(" "), Key::of_bytes(payload)).as_bytes(), payload].concat()
}

/// What follows a sealed file's header.
pub fn payload(sealed: &[u8]) -> &[u8] {
    sealed.splitn(2, |byte| *byte == b'\n').nth(1).expect("a sealed file has a header")
}

/// The facts that a data set of the declared size would have.
fn facts(dataset: &Dataset, split: Split) -> Result<DataFacts, String> {
    let (n_train, n_test, n_classes) = match dataset {
        Dataset::Builtin(Builtin { n_classes, train_per_class, test_per_class, .. }) => {
            (n_classes.saturating_mul(*train_per_class), n_classes.saturating_mul(*test_per_class), *n_classes)
        }
        Dataset::Cifar10 { .. } => (50_000, 10_000, 10),
        Dataset::Cifar100 { .. } => (50_000, 10_000, 100),
        Dataset::ImageFolder { .. } => return Err("no such folder\nmake it".to_owned()),
    };
    let (n_train, n_test) = match split {
        Split::Official => (n_train, n_test),
        Split::HeldOut { fraction, .. } => {
            let held_out = (f64::from(n_train) * fraction) as u32;
            (n_train - held_out.min(n_train), held_out)
        }
    };
    Ok(DataFacts { n_train, n_test, n_classes, digest: Key::of_bytes(format!("{dataset:?}").as_bytes()) })
}

pub fn options(overrides: &[String], smoke: bool) -> LoadOptions<'_> {
    LoadOptions { overrides, smoke, backend: Backend::Cpu, data_root: None, ignore_sweep: false, facts: &facts }
}
