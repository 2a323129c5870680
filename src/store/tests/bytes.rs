//! Every byte of every file of a store is flipped in turn, every file cut at every length and taken away: what is asked is
//! answered right, not at all, or with the name of the file; and a check finds the file.

use super::claims::{claim_of, dead, plant};
use super::scenarios::{checkpoints_scope, collect, everything, files};
use super::*;
use crate::store::claim::{Acquired, acquire};

/// A store with a file of every kind, and what it answers.
struct Subject {
    _directory: TempDir,
    store: Store,
    /// Holds the key of the progress, so that asking for it writes nothing but the time of the blob that it names.
    claim: Claim,
    entries: BTreeMap<Key, Entry>,
    failure: Entry,
    second: Entry,
}

impl Subject {
    fn new() -> (Subject, Vec<PathBuf>) {
        let (directory, store) = store();
        everything(&store);
        collect(&store, &checkpoints_scope()).unwrap();
        plant(&store, &key("stale"), &claim_of(&dead()));
        let files = files(store.root()).into_iter().map(|path| store.root().join(path)).collect();
        let Acquired::Claimed { claim, .. } = acquire(&store.disk, &key("c")).unwrap() else { panic!("nobody has it") };
        let entries = ["a", "own"].map(|name| (key(name), hit(&store, &key(name)))).into();
        let failure = store.failure(&key("b")).unwrap().unwrap();
        let second = store.divergences(&key("a")).unwrap().remove(0).unwrap();
        (Subject { _directory: directory, store, claim, entries, failure, second }, files)
    }

    /// Asks everything; each answer is the one of before, or none.
    fn check_answers(&mut self, context: &str) {
        let store = &self.store;
        let known: Vec<(Key, Vec<u8>)> =
            [&b"weights"[..], b"losses", b"nan", b"second"].map(|bytes| (Key::of_bytes(bytes), bytes.to_vec())).into();
        for (key, entry) in &self.entries {
            match store.peek(key).unwrap() {
                Peek::Hit(found) => assert_eq!(found, *entry, "{context}"),
                Peek::Damaged(why) => assert!(why.contains(&store.root().display().to_string()), "{context}: {why}"),
                Peek::Absent => assert!(!store.record_path(key).exists(), "{context}"),
            }
        }
        for entry in self.entries.values().chain([&self.failure, &self.second]) {
            for blob in entry.blobs.values() {
                match store.read_blob(blob) {
                    Ok(bytes) => assert!(known.contains(&(blob.digest, bytes)), "{context}"),
                    Err(error) => assert!(matches!(error, StoreError::DamagedBlob { .. }), "{context}: {error}"),
                }
            }
        }
        assert!(store.failure(&key("b")).unwrap().is_none_or(|found| found == self.failure), "{context}");
        let divergences = store.divergences(&key("a")).unwrap();
        assert!(divergences.iter().flatten().all(|found| *found == self.second), "{context}");
        match self.claim.progress().unwrap() {
            Progress::Saved(bytes) => assert_eq!(bytes, b"step 1", "{context}"),
            Progress::Damaged(_) | Progress::Absent => {}
        }
        for claimed in store.claims().unwrap().iter().filter(|claimed| claimed.key == key("stale")) {
            assert_eq!((claimed.is_alive, claimed.owner.since_unix_s()), (false, 7), "{context}");
        }
        for pin in store.pins().unwrap() {
            assert!(pin.damage.is_some() || pin.note == "the baseline", "{context}");
        }
    }

    /// A check to the last byte names the file; a store that says it has another format is not opened.
    fn check_found(&self, path: &Path, context: &str) {
        if path.ends_with("ablate-store") {
            let error = Store::open(self.store.root()).err().unwrap();
            assert!(matches!(error, StoreError::UnknownVersion { .. }), "{context}: {error}");
            return;
        }
        let report = self.store.check(true, &mut |_| {}).unwrap();
        assert!(report.problems.iter().any(|problem| problem.path == path), "{context}: {:?}", report.problems);
    }
}

/// Whether a file's loss shows: a record, a failure, a divergence, a claim or a pin that is gone was never there.
fn is_missed(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "blobs")
}

/// Damages one file after the other in each way `damages` knows of it, and mends it again.
fn check(damages: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> u64 {
    let (mut subject, files) = Subject::new();
    assert!(files.len() > 12, "{files:?}");
    let mut count = 0;
    for path in files {
        let sound = fs::read(&path).unwrap();
        for bytes in damages(&sound) {
            overwrite(&path, &bytes);
            let context = format!("`{}`, damage {count}", path.display());
            subject.check_answers(&context);
            subject.check_found(&path, &context);
            count += 1;
        }
        overwrite(&path, &sound);
    }
    subject.check_answers("mended");
    count
}

#[test]
fn every_byte_of_every_file_is_flipped() {
    let flips: &[u8] = if std::env::var_os("ABLATE_SLOW_TESTS").is_some() { &[1, 0x20, 0x80, 0xff] } else { &[1] };
    let count = check(|sound| {
        let flipped = |(at, flip): (usize, &u8)| {
            let mut bytes = sound.to_vec();
            bytes[at] ^= flip;
            bytes
        };
        (0..sound.len()).flat_map(|at| flips.iter().map(move |flip| (at, flip))).map(flipped).collect()
    });
    println!("{count} flips");
    crate::store::tally("a flipped byte", "every byte of every file of a store is flipped", count);
}

#[test]
fn every_file_is_cut_at_every_length() {
    let count = check(|sound| (0..sound.len()).map(|length| sound[..length].to_vec()).collect());
    println!("{count} cuts");
    crate::store::tally("a truncated file", "every file of a store is cut at every length", count);
}

#[test]
fn every_file_is_taken_away() {
    let (mut subject, files) = Subject::new();
    for path in &files {
        let sound = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        let context = format!("without `{}`", path.display());
        subject.check_answers(&context);
        if path.ends_with("ablate-store") {
            assert!(matches!(Store::open(subject.store.root()), Err(StoreError::NotAStore { .. })));
        } else if is_missed(path) {
            subject.check_found(path, &context);
        }
        fs::write(path, sound).unwrap();
    }
    crate::store::tally("a missing file", "every file of a store is taken away", files.len() as u64);
}
