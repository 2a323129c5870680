//! Digests by fingerprint, in one small JSON file: so that `plan` and a cached sweep need not read 180 MB of pixels.
//!
//! Only a convenience: a file that is absent, corrupt or of another format is empty and is written anew, a failed write
//! is forgotten, and whoever loads the data set hashes it again. Two programs that write at once may lose one entry.

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::content::Key;
use crate::data::fingerprint::Fingerprint;
use crate::data::intake::Summary;
use crate::data::regular_file;

const FORMAT: u32 = 1;
/// The oldest entries go first.
const MAX_ENTRIES: usize = 64;
/// A longer file was not written here: 64 entries of 100,000 classes are shorter.
const FILE_BYTES_LIMIT: u64 = 256 << 20;

/// A file of digests; it need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestCache {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    format: u32,
    entries: Vec<Entry>,
}

/// One data set; `state` says of which files the rest was true.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dataset: String,
    place: String,
    state: Key,
    digest: Key,
    train_per_class: Vec<u32>,
    test_per_class: Vec<u32>,
}

impl DigestCache {
    pub fn at(path: impl Into<PathBuf>) -> DigestCache {
        DigestCache { path: path.into() }
    }

    pub(super) fn find(&self, fingerprint: &Fingerprint) -> Option<Summary> {
        if !fingerprint.is_settled() {
            return None;
        }
        let entry = self.entries().into_iter().find(|entry| entry.is_at(fingerprint))?;
        (entry.state == fingerprint.state && entry.is_sound()).then(|| entry.into_summary())
    }

    /// What was last known of a place, whatever its files are now.
    pub(super) fn last_of(&self, dataset: &str, place: &str) -> Option<Summary> {
        let mut entries = self.entries().into_iter();
        entries
            .find(|entry| entry.dataset == dataset && entry.place == place && entry.is_sound())
            .map(Entry::into_summary)
    }

    /// Does nothing for files that changed just now.
    pub(super) fn insert(&self, fingerprint: &Fingerprint, summary: &Summary) {
        if !fingerprint.is_settled() {
            return;
        }
        let mut entries = self.entries();
        entries.retain(|entry| !entry.is_at(fingerprint));
        entries.push(Entry {
            dataset: fingerprint.dataset.to_owned(),
            place: fingerprint.place.clone(),
            state: fingerprint.state,
            digest: summary.digest,
            train_per_class: summary.train_per_class.clone(),
            test_per_class: summary.test_per_class.clone(),
        });
        entries.drain(..entries.len().saturating_sub(MAX_ENTRIES));
        // The next caller hashes again: nothing is lost but time.
        let _ = self.write(&Contents { format: FORMAT, entries });
    }

    fn entries(&self) -> Vec<Entry> {
        let bytes = regular_file::read(&self.path, FILE_BYTES_LIMIT);
        let contents = bytes.ok().and_then(|bytes| serde_json::from_slice::<Contents>(&bytes).ok());
        contents.filter(|contents| contents.format == FORMAT).map(|contents| contents.entries).unwrap_or_default()
    }

    fn write(&self, contents: &Contents) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder)?;
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(format!(".{}.tmp", std::process::id()));
        let text = serde_json::to_string_pretty(contents)?;
        let written = fs::write(&temporary, text + "\n").and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

impl Entry {
    fn into_summary(self) -> Summary {
        Summary { train_per_class: self.train_per_class, test_per_class: self.test_per_class, digest: self.digest }
    }

    fn is_at(&self, fingerprint: &Fingerprint) -> bool {
        self.dataset == fingerprint.dataset && self.place == fingerprint.place
    }

    /// Counts that a data set can have; anyone may have edited the file.
    fn is_sound(&self) -> bool {
        let total: u64 = self.train_per_class.iter().chain(&self.test_per_class).map(|&n| u64::from(n)).sum();
        self.train_per_class.len() == self.test_per_class.len() && u32::try_from(total).is_ok()
    }
}
