//! Looking at every file of a store: is each what its name says, and is all there that is named. Writes nothing.

mod problem;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::content::Key;
use crate::store::claim::Owner;
use crate::store::disk::{Disk, Found, Kind};
use crate::store::entry::{self, BlobRef, Entry};
use crate::store::error::StoreError;
use crate::store::inventory::{self, Item, Sort};
use crate::store::{Store, dropped, pin, progress, temporary};

pub use crate::store::check::problem::{Problem, ProblemKind};

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub records: usize,
    /// Records some of whose blobs were dropped on purpose.
    pub incomplete: usize,
    pub blobs: usize,
    pub blob_bytes: u64,
    /// Bytes of blobs whose digest was computed.
    pub read_bytes: u64,
    pub pins: usize,
    pub claims: usize,
    pub progress: usize,
    /// The keys whose last attempt failed; no damage.
    pub failures: Vec<Key>,
    /// Second results that differ from the first; no damage.
    pub divergences: Vec<(Key, PathBuf)>,
    /// What the dead left and what was set aside: no damage, `gc --leftovers` removes it.
    pub leftovers: usize,
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether something kept is lost.
    pub fn is_damaged(&self) -> bool {
        self.problems.iter().any(|problem| problem.kind.is_damage())
    }
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    pub files: usize,
    pub files_total: usize,
    pub read_bytes: u64,
}

impl Store {
    /// Looks at every file; with `read_data` at every byte of every blob too. Others may write meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Io`] for what cannot be judged; what is wrong with a file is in the report.
    pub fn check(&self, read_data: bool, tell: &mut dyn FnMut(CheckProgress)) -> Result<Report, StoreError> {
        let items = inventory::walk(&self.disk)?;
        let mut check = Check { disk: &self.disk, read_data, report: Report::default() };
        for (index, item) in items.iter().enumerate() {
            check.look(item)?;
            let read_bytes = check.report.read_bytes;
            tell(CheckProgress { files: index + 1, files_total: items.len(), read_bytes });
        }
        let mut report = check.report;
        report.problems.sort_by(|a, b| (&a.path, a.kind).cmp(&(&b.path, b.kind)));
        Ok(report)
    }
}

struct Check<'a> {
    disk: &'a Disk,
    read_data: bool,
    report: Report,
}

impl Check<'_> {
    fn look(&mut self, item: &Item) -> Result<(), StoreError> {
        match item.sort {
            // Whoever has opened the store has read it.
            Sort::Format => {}
            Sort::Record(key) => self.record(item, key)?,
            Sort::Divergence(key) => {
                let entry = self.entry(item, Kind::Result, key, ProblemKind::Divergence(key))?;
                if let Some(entry) = entry {
                    self.report.divergences.push((key, item.path.clone()));
                    self.blobs_of(&entry, ProblemKind::BlobOfDivergence(key))?;
                }
            }
            Sort::Failure(key) => {
                if let Some(entry) = self.entry(item, Kind::Failure, key, ProblemKind::Failure(key))? {
                    self.report.failures.push(key);
                    self.blobs_of(&entry, ProblemKind::BlobOfFailure(key))?;
                }
            }
            Sort::Blob(digest) => self.blob(item, digest)?,
            Sort::Preimage(key) => self.preimage(item, key)?,
            Sort::DroppedMarker(key) => {
                self.sound(item, ProblemKind::DroppedMarker(key), |bytes| dropped::decode(&key, bytes).map(drop))?;
            }
            Sort::Claim(key) => {
                self.report.claims += 1;
                self.sound(item, ProblemKind::Claim(key), |bytes| Owner::decode(bytes).map(drop))?;
            }
            Sort::Progress(key) => {
                self.report.progress += 1;
                self.progress(item, key)?;
            }
            Sort::Pin(key) => {
                self.report.pins += 1;
                self.sound(item, ProblemKind::Pin(key), |bytes| pin::decode(bytes).map(drop))?;
            }
            Sort::Temporary => {
                self.report.leftovers += usize::from(temporary::is_abandoned(self.disk.fs(), &item.path));
            }
            Sort::SetAside | Sort::Condemned(_) => self.report.leftovers += 1,
            Sort::Misplaced => self.problem(item, ProblemKind::Misplaced, "is not where its name belongs"),
            Sort::Unknown => self.problem(item, ProblemKind::Unknown, "is no file of a store"),
        }
        Ok(())
    }

    fn problem(&mut self, item: &Item, kind: ProblemKind, what: impl Into<String>) {
        self.report.problems.push(Problem { path: item.path.clone(), kind, what: what.into() });
    }

    /// The bytes of a file that must be one; none where it went away or is something else.
    fn bytes(&mut self, item: &Item, kind: ProblemKind) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(match self.disk.read(&item.path)? {
            Found::Bytes(bytes) => Some(bytes),
            Found::Absent => None,
            Found::NotAFile => {
                self.problem(item, kind, "is not a file");
                None
            }
        })
    }

    fn sound(
        &mut self,
        item: &Item,
        kind: ProblemKind,
        judge: impl FnOnce(&[u8]) -> Result<(), String>,
    ) -> Result<(), StoreError> {
        if let Some(Err(what)) = self.bytes(item, kind)?.map(|bytes| judge(&bytes)) {
            self.problem(item, kind, what);
        }
        Ok(())
    }

    fn entry(&mut self, item: &Item, kind: Kind, key: Key, problem: ProblemKind) -> Result<Option<Entry>, StoreError> {
        let Some(bytes) = self.bytes(item, problem)? else { return Ok(None) };
        Ok(match entry::decode(kind, &key, &bytes) {
            Ok(entry) => Some(entry),
            Err(what) => {
                self.problem(item, problem, what);
                None
            }
        })
    }

    fn record(&mut self, item: &Item, key: Key) -> Result<(), StoreError> {
        self.report.records += 1;
        let Some(entry) = self.entry(item, Kind::Result, key, ProblemKind::Record(key))? else { return Ok(()) };
        let given_up = self.blobs_of(&entry, ProblemKind::BlobOfRecord(key))?;
        self.report.incomplete += usize::from(given_up);
        Ok(())
    }

    /// Whether all the entry names is there, or was given up: then true.
    fn blobs_of(&mut self, entry: &Entry, kind: ProblemKind) -> Result<bool, StoreError> {
        let mut given_up = false;
        for (name, lack) in self.disk.lacks(entry)? {
            let blob = entry.blobs[&name];
            let marker = self.disk.dropped(&entry.key)?;
            if marker.get(&name).is_some_and(|(digest, _)| *digest == blob.digest) {
                given_up = true;
                continue;
            }
            let path = self.disk.blob_path(&blob.digest);
            let what = format!("{}; it is `{name}` of {}", lack.text(&blob), entry.key.short());
            self.report.problems.push(Problem { path, kind, what });
        }
        Ok(given_up)
    }

    fn blob(&mut self, item: &Item, digest: Key) -> Result<(), StoreError> {
        self.report.blobs += 1;
        if !self.read_data {
            match self.disk.fs().stat(&item.path) {
                Ok(stat) if stat.is_file => self.report.blob_bytes += stat.bytes,
                Ok(_) => self.problem(item, ProblemKind::BlobBytes, "is not a file"),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("look at", &item.path)(error)),
            }
            return Ok(());
        }
        let Some(bytes) = self.bytes(item, ProblemKind::BlobBytes)? else { return Ok(()) };
        let found = BlobRef::of(&bytes);
        self.report.blob_bytes += found.bytes;
        self.report.read_bytes += found.bytes;
        if found.digest != digest {
            let what =
                format!("has {} bytes with digest `{}`, which is not its name", found.bytes, found.digest.short());
            self.problem(item, ProblemKind::BlobBytes, what);
        }
        Ok(())
    }

    fn progress(&mut self, item: &Item, key: Key) -> Result<(), StoreError> {
        let Some(bytes) = self.bytes(item, ProblemKind::Progress(key))? else { return Ok(()) };
        match progress::decode(&bytes) {
            Ok((blobs, _)) => {
                let (body, preimage) = (String::new(), String::new());
                let entry = Entry { key, body, preimage, blobs, dropped: BTreeMap::new() };
                self.blobs_of(&entry, ProblemKind::Progress(key)).map(drop)?;
            }
            Err(what) => self.problem(item, ProblemKind::Progress(key), what),
        }
        Ok(())
    }

    /// The copy for people must say what the record says; without a record there is nothing to compare.
    fn preimage(&mut self, item: &Item, key: Key) -> Result<(), StoreError> {
        let Some(bytes) = self.bytes(item, ProblemKind::Preimage(key))? else { return Ok(()) };
        let Found::Bytes(record) = self.disk.read(&self.disk.record_path(Kind::Result, &key))? else { return Ok(()) };
        match entry::decode(Kind::Result, &key, &record) {
            Ok(entry) if entry.preimage.as_bytes() != bytes => {
                self.problem(item, ProblemKind::Preimage(key), "is not the pre-image in the record");
            }
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }
}
