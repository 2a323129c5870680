//! `ablate gc`: give space back. Shows what would go; does it when told to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::commands::error::CommandError;
use crate::commands::paragraph::note;
use crate::commands::pin::FileArguments;
use crate::commands::{Ending, count, print, print_json};
use crate::explain::units;
use crate::record::blob;
use crate::report::render::text::printable;
use crate::store::gc::{self, Done, Plan, Removal, Scope};

/// Removals that are shown one by one.
const SHOWN: usize = 10;

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// What crashes and repairs left: temporary files of the dead, blobs that nothing names, what was set aside, stale claims
    #[arg(long)]
    pub leftovers: bool,
    /// Checkpoints and snapshots of finished trainings; records, histories and evaluations stay, a new evaluation trains again
    #[arg(long)]
    pub checkpoints: bool,
    /// In-flight checkpoints of trainings that nobody has in work; they begin anew
    #[arg(long)]
    pub progress: bool,
    /// Checkpoints only of trainings finished at least this long ago: `30d`, `12h`, `2w`
    #[arg(long, value_name = "AGE", requires = "checkpoints", value_parser = age)]
    pub older_than: Option<Duration>,
    /// Keep every run of this experiment whole, on every backend; may be given again
    #[arg(long, value_name = "FILE")]
    pub keep: Vec<PathBuf>,
    /// Do it
    #[arg(long)]
    pub apply: bool,
    #[command(flatten)]
    pub files: FileArguments,
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
}

fn age(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number and a unit: `30d`, `12h`, `90m`, `2w`".to_owned();
    let seconds = match text.char_indices().last().map(|(at, unit)| (text[..at].parse::<u64>(), unit)) {
        Some((Ok(n), 'm')) => n.checked_mul(60),
        Some((Ok(n), 'h')) => n.checked_mul(3600),
        Some((Ok(n), 'd')) => n.checked_mul(24 * 3600),
        Some((Ok(n), 'w')) => n.checked_mul(7 * 24 * 3600),
        Some(_) | None => None,
    };
    seconds.map(Duration::from_secs).ok_or_else(expected)
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    if !(arguments.leftovers || arguments.checkpoints || arguments.progress) {
        return Err(CommandError::Usage(
            "`gc` removes nothing that it is not told to: name `--leftovers` (what crashes left), `--progress` (in-flight \
             checkpoints nobody works on) or `--checkpoints` (of finished trainings); without `--apply` it only shows"
                .to_owned(),
        ));
    }
    let store = arguments.files.store()?;
    let mut keep = BTreeSet::new();
    for file in &arguments.keep {
        keep.extend(arguments.files.keys(file)?);
    }
    let names = [blob::CHECKPOINT, blob::SNAPSHOT].into_iter().filter(|_| arguments.checkpoints);
    let blobs = names.map(str::to_owned).collect();
    let Arguments { leftovers, progress, older_than, .. } = *arguments;
    let plan = gc::plan(&store, &Scope { leftovers, progress, blobs, older_than, keep })?;
    let done = if arguments.apply { Some(gc::carry_out(&store, &plan)?) } else { None };
    if arguments.json {
        print_json(&as_json(&plan, done.as_ref()))?;
        return Ok(Ending::Complete);
    }
    print(&as_text(&plan, done.as_ref()))?;
    plan.stays.iter().chain(done.iter().flat_map(|done| &done.stayed)).for_each(|line| note(line));
    if done.is_none() && !plan.removals.is_empty() {
        tell_line!("nothing was removed; the same command with `--apply` does it");
    }
    Ok(Ending::Complete)
}

/// Files and bytes by kind.
fn by_kind(plan: &Plan) -> BTreeMap<&'static str, (usize, u64)> {
    let mut kinds = BTreeMap::new();
    for removal in &plan.removals {
        let (files, bytes): &mut (usize, u64) = kinds.entry(removal.target.word()).or_default();
        *files += 1;
        *bytes += removal.bytes;
    }
    kinds
}

fn largest(plan: &Plan) -> Vec<&Removal> {
    let mut removals: Vec<&Removal> = plan.removals.iter().collect();
    removals.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    removals.truncate(SHOWN);
    removals
}

fn as_text(plan: &Plan, done: Option<&Done>) -> String {
    let mut text = match done {
        Some(done) => format!("removed {}, {}\n", count(done.removed, "file"), units::bytes(done.bytes)),
        None => format!("would remove {}, {}\n", count(plan.removals.len(), "file"), units::bytes(plan.bytes())),
    };
    if done.is_some() {
        return text;
    }
    for (kind, (files, bytes)) in by_kind(plan) {
        text.push_str(&format!("  {kind:<13} {files:>7}  {:>12}\n", units::bytes(bytes)));
    }
    if !plan.removals.is_empty() {
        text.push_str(if plan.removals.len() > SHOWN { "the largest:\n" } else { "one by one:\n" });
    }
    for removal in largest(plan) {
        let keys = removal.target.keys();
        let name = removal.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let of = match keys.as_slice() {
            [] => name.chars().take(40).collect(),
            [key] => format!("of {}", key.short()),
            [key, others @ ..] => format!("of {} and {} more", key.short(), others.len()),
        };
        let (bytes, word) = (units::bytes(removal.bytes), removal.target.word());
        text.push_str(&format!("  {bytes:>12}  {word:<13} {}\n", printable(&of)));
    }
    text
}

fn as_json(plan: &Plan, done: Option<&Done>) -> serde_json::Value {
    let removal = |removal: &Removal| json!({ "kind": removal.target.word(), "path": removal.path, "bytes": removal.bytes, "keys": removal.target.keys() });
    let kinds: serde_json::Map<_, _> = by_kind(plan)
        .into_iter()
        .map(|(kind, (files, bytes))| (kind.to_owned(), json!({ "files": files, "bytes": bytes })))
        .collect();
    json!({
        "kinds": kinds,
        "bytes": plan.bytes(),
        "removals": plan.removals.iter().map(removal).collect::<Vec<_>>(),
        "stays": plan.stays,
        "done": done.map(|done| json!({ "removed": done.removed, "bytes": done.bytes, "stayed": done.stayed })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let check = |text: &str, seconds| assert_eq!(age(text).ok().map(|age| age.as_secs()), seconds, "{text}");
        check("90m", Some(5400));
        check("12h", Some(43_200));
        check("30d", Some(2_592_000));
        check("2w", Some(1_209_600));
        for wrong in ["", "d", "3", "3y", "-1d", "1.5d", "3 d", "dé", "99999999999999999999d", "9999999999999999999w"]
        {
            check(wrong, None);
        }
    }
}
