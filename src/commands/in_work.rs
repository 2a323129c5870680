//! What of an experiment is in work now, by whom and since when: from the claims in the store.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::HumanDuration;
use serde_json::json;

use crate::commands::error::CommandError;
use crate::commands::progress::names;
use crate::content::Key;
use crate::experiment::recipe::Backend;
use crate::experiment::{Experiment, asked_names};
use crate::runner::Place;
use crate::store::{Owner, Store};

/// Lines that are shown; a batch of processes has some work each.
const SHOWN: usize = 10;

/// A stage that a living process has claimed.
pub struct InWork {
    run: String,
    /// `training`, or the evaluation's name.
    stage: String,
    key: Key,
    owner: Owner,
}

/// The claimed stages of an experiment on any of its backends, in the order of their keys. A training that runs share is
/// named once.
pub fn of(store: Option<&Store>, experiments: &[(Backend, Experiment)]) -> Result<Vec<InWork>, CommandError> {
    let claims = store.map_or_else(|| Ok(Vec::new()), Store::claims)?;
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let mut stages: BTreeMap<Key, (String, String)> = BTreeMap::new();
    for (_, experiment) in experiments {
        let names = names(experiment);
        for (cell, runs) in experiment.cells.iter().enumerate() {
            for run in &runs.runs {
                let (keys, name) = (run.keys(), &names[&Place { cell, seed: run.seed }]);
                let evaluations = keys.evaluations.into_iter().zip(asked_names(run));
                for (key, stage) in [(keys.pretrain, "training".to_owned())].into_iter().chain(evaluations) {
                    stages.entry(key).or_insert_with(|| (name.clone(), stage));
                }
            }
        }
    }
    let in_work = claims.into_iter().filter(|claim| claim.is_alive).filter_map(|claim| {
        let (run, stage) = stages.remove(&claim.key)?;
        Some(InWork { run, stage, key: claim.key, owner: claim.owner })
    });
    Ok(in_work.collect())
}

/// A line a stage; nothing where nothing is in work.
pub fn text(in_work: &[InWork]) -> String {
    let mut text = String::new();
    for InWork { run, stage, key, owner } in in_work.iter().take(SHOWN) {
        let since = HumanDuration(since(owner));
        text.push_str(&format!("  in work: {run}, {stage} ({}): {owner}, for {since}\n", key.short()));
    }
    if in_work.len() > SHOWN {
        text.push_str(&format!("  in work: and {} more\n", in_work.len() - SHOWN));
    }
    text
}

fn since(owner: &Owner) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(owner.since_unix_s()))
}

pub fn as_json(in_work: &[InWork]) -> serde_json::Value {
    let stage = |of: &InWork| {
        let InWork { run, stage, key, owner } = of;
        json!({ "run": run, "stage": stage, "key": key, "host": owner.host(), "pid": owner.pid(), "since_unix_s": owner.since_unix_s() })
    };
    in_work.iter().map(stage).collect()
}
