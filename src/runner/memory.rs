//! What trainings on the processor take of its memory, known before they run.

use crate::executor::cpu::Memory;
use crate::executor::{ExecutorError, Setting};
use crate::experiment::recipe::{Backend, Model};
use crate::experiment::run::Run;
use crate::model::registry;
use crate::runner::training::setting_on;

/// The training of some that takes the most.
#[derive(Debug, Clone, PartialEq)]
pub struct Largest {
    pub needed_bytes: u64,
    /// Where the system says.
    pub available_bytes: Option<u64>,
    /// The largest batch that fits, where this one does not; 0 when none does.
    pub refused_above: Option<usize>,
}

/// The largest of the `cpu` trainings among `runs`; nothing where there is none, or none whose model was compiled.
pub fn largest<'a>(runs: impl IntoIterator<Item = &'a Run>, threads: usize) -> Option<Largest> {
    // Runs of a sweep are few of a kind; what plays no part in their size is made equal.
    let mut kinds: Vec<(Model, Setting)> = Vec::new();
    for run in runs.into_iter().filter(|run| run.backend == Backend::Cpu) {
        let setting = Setting { temperature: 1.0, ..setting_on(run, threads, 0) };
        let is_known = |(model, known): &(Model, Setting)| *model == run.model && *known == setting;
        if !kinds.iter().any(is_known) {
            kinds.push((run.model.clone(), setting));
        }
    }
    let size = |(model, setting): (Model, Setting)| {
        let plan = registry::plan(&model).ok()?;
        let memory = Memory::of(&plan, &setting);
        let refused_above = match memory.ensure_available(&plan, &setting) {
            Err(ExecutorError::OutOfMemory { largest_batch, .. }) => Some(largest_batch),
            Ok(()) | Err(_) => None,
        };
        Some(Largest { needed_bytes: memory.needed_bytes, available_bytes: memory.available_bytes, refused_above })
    };
    kinds.into_iter().filter_map(size).max_by_key(|largest| largest.needed_bytes)
}
