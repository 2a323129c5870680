//! `ablate status FILE`: how much of an experiment is there, for every backend.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::json;

use crate::commands::arguments::OutputArguments;
use crate::commands::error::CommandError;
use crate::commands::look::{LookArguments, mixes};
use crate::commands::survey::Standing;
use crate::commands::{Ending, count, gather, in_work, print, print_json, survey};
use crate::content::Key;
use crate::experiment::Experiment;
use crate::experiment::recipe::Backend;
use crate::explain::{CodeCensus, Verdict};
use crate::store::Store;

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub look: LookArguments,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Runs of one backend by what became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Count {
    backend: Backend,
    complete: usize,
    /// Some stages are stored.
    partial: usize,
    failed: usize,
    missing: usize,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let experiments = arguments.look.experiments()?;
    let store = arguments.look.store()?;
    let (mut census, mut seen) = (CodeCensus::default(), BTreeSet::new());
    let mut of = |(backend, experiment): &(Backend, Experiment)| {
        counted(store.as_ref(), (*backend, experiment), &mut census, &mut seen)
    };
    let counts: Vec<Count> = experiments.iter().map(&mut of).collect::<Result<_, _>>()?;
    let in_work = in_work::of(store.as_ref(), &experiments)?;
    arguments.look.code.tell(&census);
    let name = &experiments[0].1.name;
    if arguments.output.json {
        let backend = |count: &Count| json!({ "backend": count.backend.name(), "complete": count.complete, "partial": count.partial, "failed": count.failed, "missing": count.missing });
        print_json(
            &json!({ "experiment": name, "backends": counts.iter().map(backend).collect::<Vec<_>>(), "in_work": in_work::as_json(&in_work) }),
        )?;
        return Ok(Ending::Complete);
    }
    let mut text = format!("{name}: {}\n", count(experiments[0].1.cells.len() * experiments[0].1.seeds.len(), "run"));
    for count in counts.iter().filter(|count| count.complete + count.partial + count.failed > 0 || counts.len() == 1) {
        let Count { backend, complete, partial, failed, missing } = count;
        let backend = backend.name();
        text.push_str(&format!(
            "  {backend:<10} {complete} complete, {partial} in part, {failed} failed, {missing} missing\n"
        ));
    }
    if counts.len() > 1 && counts.iter().all(|count| count.complete + count.partial + count.failed == 0) {
        text.push_str("  nothing is stored yet\n");
    }
    let with_results: Vec<Backend> =
        counts.iter().filter(|count| count.complete > 0).map(|count| count.backend).collect();
    text.push_str(&in_work::text(&in_work));
    text.push_str(&mixes(&with_results));
    print(&text)?;
    Ok(Ending::Complete)
}

/// `census` and `seen` as [`survey::survey`] has them.
fn counted(
    store: Option<&Store>,
    (backend, experiment): (Backend, &Experiment),
    census: &mut CodeCensus,
    seen: &mut BTreeSet<Key>,
) -> Result<Count, CommandError> {
    let mut damage = Vec::new();
    let mut count = Count { backend, complete: 0, partial: 0, failed: 0, missing: 0 };
    for line in survey::survey(store, experiment, census, seen)? {
        damage.extend(line.stages().filter_map(|verdict| match verdict {
            Verdict::Again { damage } => Some(damage.clone()),
            Verdict::Stored | Verdict::New | Verdict::Failed { .. } => None,
        }));
        let place = match line.standing() {
            Standing::Complete => &mut count.complete,
            Standing::Failed => &mut count.failed,
            Standing::Partial => &mut count.partial,
            Standing::Missing => &mut count.missing,
        };
        *place += 1;
    }
    gather::tell_damage(&damage);
    Ok(count)
}
