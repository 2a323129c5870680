//! What every command on an experiment does first: choose the backend, read the file, open the store.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::commands::arguments::{DeviceArguments, DeviceChoice, ExperimentArguments, PlaceArguments};
use crate::commands::error::CommandError;
use crate::content::Key;
use crate::data::{self, DataError, DigestCache};
use crate::device::cuda::libraries::{self, Library};
use crate::device::{Pool, cuda};
use crate::experiment::recipe::{Backend, Dataset, Split};
use crate::experiment::{self, Experiment, LoadOptions};
use crate::runner::provenance::Origin;
use crate::store::Store;

/// The folder all of a smoke run's files go to.
const SMOKE: &str = "smoke";

/// The backend a choice means on this machine, and which GPU; what it computes with is there.
pub fn backend(choice: DeviceChoice) -> Result<(Backend, usize), CommandError> {
    match choice {
        DeviceChoice::Auto if auto() == Backend::Cuda => {
            libraries::load(&Library::ALL).map_err(|error| {
                let instead = "or compute without the GPU: `--device cpu`";
                CommandError::Usage(format!("there is a GPU, but it cannot compute here: {error}\n  {instead}"))
            })?;
            Ok((Backend::Cuda, 0))
        }
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok((Backend::Cpu, 0)),
        DeviceChoice::Reference => Ok((Backend::Reference, 0)),
        DeviceChoice::Cuda(ordinal) => {
            let lacking = |error| CommandError::Usage(format!("`--device cuda` cannot compute here: {error}"));
            // All that is missing at once, and before any run fails for want of it.
            libraries::load(&Library::ALL).map_err(lacking)?;
            match cuda::device_count().map_err(lacking)? {
                count if ordinal < count => Ok((Backend::Cuda, ordinal)),
                0 => Err(CommandError::Usage(
                    "`--device cuda` finds no GPU: the driver lists none; `ablate doctor` says more".to_owned(),
                )),
                count => Err(CommandError::Usage(format!(
                    "`--device cuda:{ordinal}` finds no such GPU: they are numbered from 0, and there {}",
                    if count == 1 { "is 1".to_owned() } else { format!("are {count}") }
                ))),
            }
        }
    }
}

fn auto() -> Backend {
    if matches!(cuda::device_count(), Ok(1..)) { Backend::Cuda } else { Backend::Cpu }
}

/// The backend a choice speaks of, for commands that only look: no device is needed to read its results.
pub fn named_backend(choice: DeviceChoice) -> Backend {
    match choice {
        DeviceChoice::Auto => auto(),
        DeviceChoice::Cpu => Backend::Cpu,
        DeviceChoice::Cuda(_) => Backend::Cuda,
        DeviceChoice::Reference => Backend::Reference,
    }
}

/// Where an experiment's tables go.
pub fn results_folder(places: &PlaceArguments, smoke: bool) -> PathBuf {
    if smoke { places.results.join(SMOKE) } else { places.results.clone() }
}

/// Where the records of an experiment are or would be.
pub fn store_folder(places: &PlaceArguments, smoke: bool) -> PathBuf {
    match &places.store {
        // Beside the real one, never inside it.
        Some(folder) if smoke => {
            let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            folder.with_file_name(format!("{name}-{SMOKE}"))
        }
        Some(folder) => folder.clone(),
        None => results_folder(places, smoke).join("store"),
    }
}

pub fn store(places: &PlaceArguments, smoke: bool) -> Result<Store, CommandError> {
    Ok(Store::open(&store_folder(places, smoke))?)
}

/// The store, where there is one: commands that only look create nothing.
pub fn existing_store(places: &PlaceArguments, smoke: bool) -> Result<Option<Store>, CommandError> {
    if store_folder(places, smoke).exists() { store(places, smoke).map(Some) } else { Ok(None) }
}

/// What a command reads an experiment for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// To compute all of it: the data set must be here.
    Compute,
    /// To compute the base recipe alone.
    ComputeBase,
    /// To see what is stored: a data set seen before will do, it need not be here now.
    Look,
}

/// What an experiment file says.
pub fn text(file: &Path) -> Result<String, CommandError> {
    String::from_utf8(read(file)?).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        CommandError::Usage(format!("`{}` is not text: byte {place} is not UTF-8", file.display()))
    })
}

/// Reads, checks and expands the file for `backend`.
pub fn experiment(
    arguments: &ExperimentArguments,
    backend: Backend,
    reading: Reading,
) -> Result<Experiment, CommandError> {
    let text = text(&arguments.file)?;
    let cache = DigestCache::at(results_folder(&arguments.places, arguments.smoke).join(".digests.json"));
    let facts = |dataset: &Dataset, split: Split| match data::facts(dataset, split, Some(&cache)) {
        Err(error @ DataError::Missing { .. }) => {
            let remembered = data::remembered(dataset, split, &cache).filter(|_| reading == Reading::Look);
            remembered.ok_or_else(|| missing(&error, &arguments.file))
        }
        known => known.map_err(|error| error.to_string()),
    };
    let data_root = arguments.data.as_ref().map(|root| root.to_string_lossy().into_owned());
    let options = LoadOptions {
        overrides: &arguments.overrides,
        smoke: arguments.smoke,
        backend,
        data_root: data_root.as_deref(),
        ignore_sweep: reading == Reading::ComputeBase,
        facts: &facts,
    };
    let loaded = experiment::load(&arguments.file.to_string_lossy(), &text, &options);
    let mut experiment = loaded.map_err(CommandError::Experiment)?;
    // Another question than the file's gets files of its own: it must not replace the file's results.
    if !arguments.overrides.is_empty() {
        let changed = Key::of_bytes(arguments.overrides.join("\n").as_bytes()).short();
        experiment.name.push_str(&format!("~{}", &changed[..8]));
    }
    Ok(experiment)
}

/// The bytes of an experiment file; a device that never ends is not read to its end.
fn read(file: &Path) -> Result<Vec<u8>, CommandError> {
    let failed = |source| CommandError::ReadExperiment { path: file.to_owned(), source };
    let mut bytes = Vec::new();
    let limit = experiment::TEXT_BYTES_MAX;
    File::open(file).and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() > limit {
        let problem = format!("`{}` is longer than {limit} bytes: expected an experiment file", file.display());
        return Err(CommandError::Usage(problem));
    }
    Ok(bytes)
}

/// The words for a data set that is not here, with the way to go on without it.
fn missing(error: &DataError, file: &Path) -> String {
    format!("{error}\nto try the experiment without the data set: ablate sweep {} --smoke", file.display())
}

fn threads(device: &DeviceArguments) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    device.threads.map_or(cores, usize::from)
}

pub fn pool(device: &DeviceArguments) -> Pool {
    Pool::new(threads(device))
}

/// Who computes on a backend and its device with these arguments, a run at a time.
pub fn origin((backend, device): (Backend, usize), arguments: &DeviceArguments) -> Origin {
    Origin {
        backend,
        device,
        threads: threads(arguments) as u32,
        jobs: 1,
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        command: command(),
    }
}

/// As typed, but for where the program lies.
fn command() -> String {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(program) = words.first_mut() {
        *program = program.rsplit('/').next().unwrap_or_default().to_owned();
    }
    words.join(" ")
}
