//! `ablate check`: is every file of the store what it should be.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::commands::error::CommandError;
use crate::commands::pin::FileArguments;
use crate::commands::{Ending, count, print, print_json};
use crate::explain::units;
use crate::report::render::text::printable;
use crate::store::check::{Problem, Report};

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Read every blob to its last byte and compare its digest; else only that it is there with its length
    #[arg(long)]
    pub read_data: bool,
    #[command(flatten)]
    pub files: FileArguments,
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let store = arguments.files.store()?;
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{pos}/{len} files, {msg}").expect("a template of known fields"));
    let checked = store.check(arguments.read_data, &mut |progress| {
        bar.set_length(progress.files_total as u64);
        bar.set_position(progress.files as u64);
        bar.set_message(format!("{} read", units::bytes(progress.read_bytes)));
    });
    bar.finish_and_clear();
    let report = checked?;
    if arguments.json {
        print_json(&as_json(&report))?;
    } else {
        print(&as_text(&report, arguments.read_data))?;
    }
    if report.is_damaged() {
        let damaged = report.problems.iter().filter(|problem| problem.kind.is_damage()).count();
        return Err(CommandError::Damaged(format!(
            "the store has {}; what a sweep needs of it it computes again",
            count(damaged, "damaged file")
        )));
    }
    Ok(Ending::Complete)
}

fn as_text(report: &Report, read_data: bool) -> String {
    let Report { records, incomplete, blobs, blob_bytes, pins, claims, progress, failures, .. } = report;
    let blob_bytes = units::bytes(*blob_bytes);
    let depth = if read_data { "every byte read" } else { "looked at from outside; `--read-data` reads every byte" };
    let mut text = format!(
        "{} ({incomplete} with dropped blobs), {}\n",
        count(*records, "record"),
        count(failures.len(), "failure")
    );
    text.push_str(&format!("{}, {blob_bytes}: {depth}\n", count(*blobs, "blob")));
    text.push_str(&format!("{}, {}, {} in flight\n", count(*pins, "pin"), count(*claims, "claim"), progress));
    if report.leftovers > 0 {
        text.push_str(&format!("{}: `ablate gc --leftovers` shows them\n", count(report.leftovers, "leftover")));
    }
    for (key, path) in &report.divergences {
        let path = path.display().to_string();
        text.push_str(&format!(
            "divergence of {}: a second result differs from the first, which stands\n  {}\n",
            key.short(),
            printable(&path)
        ));
    }
    for Problem { path, kind, what } in &report.problems {
        let path = path.display().to_string();
        let word = if kind.is_damage() { "damaged" } else { "note" };
        text.push_str(&format!("{word}: {}\n  {}\n  {}\n", printable(&path), printable(what), kind.advice()));
    }
    if report.problems.is_empty() {
        text.push_str("all is sound\n");
    }
    text
}

fn as_json(report: &Report) -> serde_json::Value {
    let problem = |problem: &Problem| json!({ "path": problem.path, "what": problem.what, "key": problem.kind.key(), "is_damage": problem.kind.is_damage(), "advice": problem.kind.advice() });
    let divergences: Vec<_> =
        report.divergences.iter().map(|(key, path)| json!({ "key": key, "path": path })).collect();
    json!({
        "is_damaged": report.is_damaged(),
        "records": report.records,
        "records_with_dropped_blobs": report.incomplete,
        "failures": report.failures,
        "blobs": report.blobs,
        "blob_bytes": report.blob_bytes,
        "read_bytes": report.read_bytes,
        "pins": report.pins,
        "claims": report.claims,
        "progress": report.progress,
        "leftovers": report.leftovers,
        "divergences": divergences,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
    })
}
