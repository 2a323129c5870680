//! What trainings on the processor take of its memory, known before they run.

use crate::executor::cpu::Memory;
use crate::executor::{ExecutorError, Setting};
use crate::experiment::recipe::{Backend, Model};
use crate::experiment::run::Run;
use crate::model::registry;
use crate::ops::{contrastive, optimizer};
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
    // Many runs of a sweep, few sizes.
    let mut kinds: Vec<(Model, Setting)> = Vec::new();
    for run in runs.into_iter().filter(|run| run.backend == Backend::Cpu) {
        let setting = setting_on(run, threads, 0);
        if !kinds.iter().any(|(model, known)| *model == run.model && size(known) == size(&setting)) {
            kinds.push((run.model.clone(), setting));
        }
    }
    let measured = |(model, setting): (Model, Setting)| {
        let plan = registry::plan(&model).ok()?;
        let memory = Memory::of(&plan, &setting);
        let refused_above = match memory.ensure_available(&plan, &setting) {
            Err(ExecutorError::OutOfMemory { largest_batch, .. }) => Some(largest_batch),
            Ok(()) | Err(_) => None,
        };
        Some(Largest { needed_bytes: memory.needed_bytes, available_bytes: memory.available_bytes, refused_above })
    };
    kinds.into_iter().filter_map(measured).max_by_key(|largest| largest.needed_bytes)
}

/// All of a setting that memory depends on, beside the model: images, views, slots of the optimizer, rows of a bank.
fn size(setting: &Setting) -> [usize; 5] {
    let Setting { batch, n_views, loss, .. } = *setting;
    [batch, setting.piece(), n_views, optimizer::slots(&setting.optimizer, 0).len(), contrastive::bank_len(loss, 1)]
}
