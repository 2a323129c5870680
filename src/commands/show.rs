//! `ablate show KEY`: one record and the meaning its key was made of.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::commands::arguments::PlaceArguments;
use crate::commands::error::CommandError;
use crate::commands::{Ending, print, print_json};
use crate::content::Key;
use crate::store::{Entry, Peek, Store};

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
    let entry = found(&store, &arguments.key)?;
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

/// The only stored key that begins so.
pub fn only_key(store: &Store, prefix: &str) -> Result<Key, CommandError> {
    match store.find(prefix)?.as_slice() {
        [key] => Ok(*key),
        [] => Err(CommandError::Usage(format!(
            "no stored key begins with `{prefix}`; `ablate plan FILE` prints the keys of a file"
        ))),
        several => {
            let shown: Vec<String> = several.iter().take(8).map(ToString::to_string).collect();
            let found = several.len();
            Err(CommandError::Usage(format!("{found} keys begin with `{prefix}`:\n{}", shown.join("\n"))))
        }
    }
}

/// The entry of the only key that begins so.
fn found(store: &Store, prefix: &str) -> Result<Entry, CommandError> {
    let key = &only_key(store, prefix)?;
    match store.peek(key)? {
        Peek::Hit(entry) => Ok(entry),
        Peek::Damaged(problem) => Err(CommandError::Damaged(problem)),
        Peek::Absent => store
            .failure(key)?
            .ok_or_else(|| CommandError::Damaged(format!("the record of {key} went away while it was read"))),
    }
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
    eprintln!("wrote {} bytes to {}", bytes.len(), file.display());
    Ok(Ending::Complete)
}
