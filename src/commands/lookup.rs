//! A stored stage by its key or the beginning of one.

use crate::commands::error::CommandError;
use crate::content::Key;
use crate::store::{Entry, Peek, Store};

/// Keys told where several begin alike.
const TOLD: usize = 8;

/// The only stored key that begins so.
///
/// # Errors
/// No such key, several of them, or the store's.
pub fn key(store: &Store, prefix: &str) -> Result<Key, CommandError> {
    match store.find(prefix)?.as_slice() {
        [key] => Ok(*key),
        [] => Err(CommandError::Usage(format!(
            "no stored key begins with `{prefix}`; `ablate plan FILE` prints the keys of a file"
        ))),
        several => {
            let shown: Vec<String> = several.iter().take(TOLD).map(ToString::to_string).collect();
            Err(CommandError::Usage(format!("{} keys begin with `{prefix}`:\n{}", several.len(), shown.join("\n"))))
        }
    }
}

/// The result of the only key that begins so, else its failure.
///
/// # Errors
/// As [`key`]; a record that is damaged.
pub fn entry(store: &Store, prefix: &str) -> Result<Entry, CommandError> {
    let key = key(store, prefix)?;
    match store.peek(&key)? {
        Peek::Hit(entry) => Ok(entry),
        Peek::Damaged(problem) => Err(CommandError::Damaged(problem)),
        Peek::Absent => store
            .failure(&key)?
            .ok_or_else(|| CommandError::Damaged(format!("the record of {key} went away while it was read"))),
    }
}
