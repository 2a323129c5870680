//! `ablate pin`: keys that `gc` keeps whole.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::commands::arguments::{ExperimentArguments, PlaceArguments, PlanArguments};
use crate::commands::error::CommandError;
use crate::commands::look::{DeviceFilter, on_every_backend};
use crate::commands::{Ending, count, lookup, open, print, print_json};
use crate::content::Key;
use crate::experiment::run::Run;
use crate::report::render::text::printable;
use crate::store::{Pin, Store};

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Keys or their beginnings, as `plan` prints them, or experiment files, all of whose runs are meant; none lists the pins
    #[arg(value_name = "KEY|FILE")]
    pub targets: Vec<String>,
    /// Why, for whoever lists the pins
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub note: String,
    /// Take the pins back
    #[arg(long, requires = "targets")]
    pub remove: bool,
    #[command(flatten)]
    pub files: FileArguments,
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// How experiment files are read whose keys are meant, and where the store is.
#[derive(Debug, Clone, Args)]
pub struct FileArguments {
    #[command(flatten)]
    pub places: PlaceArguments,
    /// Among the results of `--smoke`
    #[arg(long)]
    pub smoke: bool,
    #[command(flatten)]
    pub plans: PlanArguments,
}

impl FileArguments {
    pub fn store(&self) -> Result<Store, CommandError> {
        open::existing_store(&self.places, self.smoke)?.ok_or_else(|| {
            CommandError::Usage("there is no store yet: run a sweep first, or name one with `--store DIR`".to_owned())
        })
    }

    /// The keys of every stage of every run of a file, on every backend; with a plan lock those it gives as well.
    pub fn keys(&self, file: &Path) -> Result<BTreeSet<Key>, CommandError> {
        let (places, smoke) = (self.places.clone(), self.smoke);
        let file = ExperimentArguments { file: file.to_owned(), overrides: Vec::new(), smoke, data: None, places };
        let every = DeviceFilter { device: None };
        let mut experiments = on_every_backend(&file, &every, &PlanArguments::default())?;
        if self.plans.plans.is_some() {
            experiments.extend(on_every_backend(&file, &every, &self.plans)?);
        }
        let cells = experiments.iter().flat_map(|(_, experiment)| &experiment.cells);
        let keys = cells.flat_map(|cell| &cell.runs).map(Run::keys);
        Ok(keys.flat_map(|keys| keys.evaluations.into_iter().chain([keys.pretrain])).collect())
    }
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let store = arguments.files.store()?;
    if arguments.targets.is_empty() {
        return list(&store.pins()?, arguments.json);
    }
    let mut keys = BTreeSet::new();
    for target in &arguments.targets {
        let file = PathBuf::from(target);
        if file.extension().is_some_and(|extension| extension == "ron") || file.is_file() {
            keys.extend(arguments.files.keys(&file)?);
        } else {
            keys.insert(named(&store, target, arguments.remove)?);
        }
    }
    let mut changed = 0;
    for key in &keys {
        if arguments.remove {
            changed += usize::from(store.unpin(key)?);
        } else {
            store.pin(key, &arguments.note)?;
            changed += 1;
        }
    }
    if arguments.json {
        print_json(&json!({ "keys": keys, "removed": arguments.remove, "changed": changed }))?;
        return Ok(Ending::Complete);
    }
    let done = if arguments.remove { "took back" } else { "pinned" };
    tell_line!(
        "{done} {}; `ablate pin` lists the pins",
        if arguments.remove { count(changed, "pin") } else { count(changed, "key") }
    );
    Ok(Ending::Complete)
}

/// A pin may be taken back whose key has no record.
fn named(store: &Store, prefix: &str, remove: bool) -> Result<Key, CommandError> {
    if let Ok(key) = prefix.parse() {
        return Ok(key);
    }
    let pinned: Vec<Key> =
        store.pins()?.into_iter().map(|pin| pin.key).filter(|key| key.to_string().starts_with(prefix)).collect();
    match pinned.as_slice() {
        [key] if remove => Ok(*key),
        _ => lookup::key(store, prefix),
    }
}

fn list(pins: &[Pin], as_json: bool) -> Result<Ending, CommandError> {
    if as_json {
        let pin = |pin: &Pin| json!({ "key": pin.key, "note": pin.note, "since_unix_s": pin.since_unix_s, "damage": pin.damage });
        print_json(&json!({ "pins": pins.iter().map(pin).collect::<Vec<_>>() }))?;
        return Ok(Ending::Complete);
    }
    if pins.is_empty() {
        tell_line!("nothing is pinned; `ablate pin KEY` or `ablate pin FILE.ron` keeps results whole");
        return Ok(Ending::Complete);
    }
    let mut text = String::new();
    for Pin { key, note, damage, .. } in pins {
        let note = damage
            .as_ref()
            .map_or_else(|| printable(note).to_string(), |what| format!("(the pin holds; its file {what})"));
        text.push_str(format!("{}  {note}", key.short()).trim_end());
        text.push('\n');
    }
    print(&text)?;
    Ok(Ending::Complete)
}
