//! What trainings take of their device's memory, known before they run.

use crate::executor::cpu::Memory;
use crate::executor::{ExecutorError, Setting, cuda};
use crate::experiment::recipe::{Backend, Model, Numerics};
use crate::experiment::run::Run;
use crate::model::registry;
use crate::ops::{contrastive, optimizer};
use crate::runner::training::setting_on;

/// The training of some that takes the most.
#[derive(Debug, Clone, PartialEq)]
pub struct Largest {
    /// Whose memory it is.
    pub backend: Backend,
    /// On a GPU without the data set and the libraries' workspace.
    pub needed_bytes: u64,
    /// Where the system says; a GPU is not asked, it need not be here.
    pub available_bytes: Option<u64>,
    /// The largest batch that fits, where this one does not; 0 when none does.
    pub refused_above: Option<usize>,
}

/// The largest of the `cpu` and `cuda` trainings among `runs`; nothing where there is none, or none whose model was compiled.
pub fn largest<'a>(runs: impl IntoIterator<Item = &'a Run>, threads: usize) -> Option<Largest> {
    // Many runs of a sweep, few sizes.
    let mut kinds: Vec<(Model, Setting, Backend)> = Vec::new();
    for run in runs.into_iter().filter(|run| run.backend != Backend::Reference) {
        let setting = setting_on(run, threads, 0);
        let same = |(model, known, backend): &(Model, Setting, Backend)| {
            (*backend, size(known)) == (run.backend, size(&setting)) && *model == run.model
        };
        if !kinds.iter().any(same) {
            kinds.push((run.model.clone(), setting, run.backend));
        }
    }
    let measured = |(model, setting, backend): (Model, Setting, Backend)| {
        let plan = registry::plan(&model).ok()?;
        if backend == Backend::Cuda {
            let needed_bytes = cuda::planned_bytes(&plan, &setting)?;
            return Some(Largest { backend, needed_bytes, available_bytes: None, refused_above: None });
        }
        let memory = Memory::of(&plan, &setting);
        let refused_above = match memory.ensure_available(&plan, &setting) {
            Err(ExecutorError::OutOfMemory { largest_batch, .. }) => Some(largest_batch),
            Ok(()) | Err(_) => None,
        };
        Some(Largest {
            backend,
            needed_bytes: memory.needed_bytes,
            available_bytes: memory.available_bytes,
            refused_above,
        })
    };
    kinds.into_iter().filter_map(measured).max_by_key(|largest| largest.needed_bytes)
}

/// All of a setting that memory depends on, beside the model: images, views, how activations are stored, slots of the
/// optimizer, rows of a bank.
fn size(setting: &Setting) -> ([usize; 5], Numerics) {
    let Setting { batch, n_views, loss, numerics, .. } = *setting;
    let slots = optimizer::slots(&setting.optimizer, 0).len();
    ([batch, setting.piece(), n_views, slots, contrastive::bank_len(loss, 1)], numerics)
}
