//! `ablate show KEY`: one record and the meaning its key was made of.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::commands::arguments::PlaceArguments;
use crate::commands::error::CommandError;
use crate::commands::{Ending, lookup, print, print_json};
use crate::store::{Entry, Store};

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// A key or its beginning, as `plan` prints it
    pub key: String,
    #[command(flatten)]
    pub places: PlaceArguments,
    /// Look among the results of `--smoke`
    #[arg(long)]
    pub smoke: bool,
    /// Write a blob of the record, `checkpoint`, `history` or `views` for one, to this file
    #[arg(long, value_names = ["NAME", "FILE"], num_args = 2)]
    pub blob: Option<Vec<String>>,
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let Some(store) = super::open::existing_store(&arguments.places, arguments.smoke)? else {
        return Err(CommandError::Usage(
            "there is no store yet: run a sweep first, or name one with `--store DIR`".to_owned(),
        ));
    };
    let entry = lookup::entry(&store, &arguments.key)?;
    if let Some([name, file]) = arguments.blob.as_deref().and_then(|blob| <&[String; 2]>::try_from(blob).ok()) {
        return write_blob(&store, &entry, name, &PathBuf::from(file));
    }
    let record: serde_json::Value = serde_json::from_str(&entry.body)
        .map_err(|error| CommandError::Damaged(format!("the record of {} is not JSON: {error}", entry.key)))?;
    let blobs: serde_json::Map<_, _> = entry
        .blobs
        .iter()
        .map(|(name, blob)| {
            let is_dropped = entry.dropped.contains_key(name);
            (name.clone(), json!({ "digest": blob.digest, "bytes": blob.bytes, "dropped": is_dropped }))
        })
        .collect();
    if arguments.json {
        print_json(&json!({ "key": entry.key, "preimage": entry.preimage, "record": record, "blobs": blobs }))?;
        return Ok(Ending::Complete);
    }
    let mut text = format!("key {}\n\n{}\n", entry.key, entry.preimage.trim_end());
    text.push_str(&format!("\n{}\n", serde_json::to_string_pretty(&record).expect("a JSON value can be written")));
    for (name, blob) in &entry.blobs {
        let dropped = if entry.dropped.contains_key(name) { "  dropped by `gc`" } else { "" };
        text.push_str(&format!("blob {name:<12} {:>12} bytes  {}{dropped}\n", blob.bytes, blob.digest.short()));
    }
    print(&text)?;
    Ok(Ending::Complete)
}

fn write_blob(store: &Store, entry: &Entry, name: &str, file: &PathBuf) -> Result<Ending, CommandError> {
    let Some(blob) = entry.blobs.get(name) else {
        if entry.blobs.is_empty() {
            return Err(CommandError::Usage(format!(
                "the record of {} has no blobs: it is of a failure",
                entry.key.short()
            )));
        }
        let known: Vec<String> = entry.blobs.keys().map(|name| format!("`{name}`")).collect();
        return Err(CommandError::Usage(format!("the record has no blob `{name}`, only {}", known.join(", "))));
    };
    if entry.dropped.contains_key(name) {
        return Err(CommandError::Usage(format!("`{name}` of {} was dropped by `gc`", entry.key.short())));
    }
    let bytes = store.read_blob(blob)?;
    std::fs::write(file, &bytes).map_err(|source| CommandError::Write { path: file.clone(), source })?;
    tell_line!("wrote {} bytes to {}", bytes.len(), file.display());
    Ok(Ending::Complete)
}
