use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::data::{DataError, DigestCache, facts, load};
use crate::experiment::recipe::{Builtin, Dataset, Split};

fn write_cifar10(root: &Path, shade: u8) {
    let folder = root.join("cifar-10-batches-bin");
    fs::create_dir_all(&folder).unwrap();
    let record = |label: u8| [vec![label], vec![shade; 3072]].concat();
    for batch in 1..=5 {
        fs::write(folder.join(format!("data_batch_{batch}.bin")), [record(0), record(1), record(1)].concat()).unwrap();
    }
    fs::write(folder.join("test_batch.bin"), record(1)).unwrap();
    age(root, 60);
}

/// Makes every file look as old as if it had been unpacked a while ago.
fn age(root: &Path, seconds: u64) {
    for entry in fs::read_dir(root.join("cifar-10-batches-bin")).unwrap() {
        let file = File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }
}

fn cifar10(root: &Path) -> Dataset {
    Dataset::Cifar10 { root: root.to_str().unwrap().to_owned() }
}

const HELD_OUT: Split = Split::HeldOut { fraction: 0.2, seed: 1 };

#[test]
fn facts_are_those_of_the_loaded_data_set() {
    let folder = tempfile::tempdir().unwrap();
    write_cifar10(folder.path(), 9);
    let builtin = Dataset::Builtin(Builtin { n_classes: 3, train_per_class: 7, test_per_class: 2, seed: 1 });
    let cache = DigestCache::at(folder.path().join("digests.json"));
    for dataset in [cifar10(folder.path()), builtin] {
        for split in [Split::Official, HELD_OUT] {
            let loaded = load(&dataset, split).unwrap();
            // The first call with the cache fills it, the second one answers from it.
            for cache in [None, Some(&cache), Some(&cache)] {
                let facts = facts(&dataset, split, cache).unwrap();
                assert_eq!(facts.n_train as usize, loaded.train.labels.len());
                assert_eq!(facts.n_test as usize, loaded.test.labels.len());
                assert_eq!(facts.n_classes as usize, loaded.class_names.len());
                assert_eq!(facts.digest, loaded.digest);
            }
        }
    }
}

/// Puts a digest of its own into the cache: only an answer from the cache can show it.
fn forge(cache: &Path) {
    let text = fs::read_to_string(cache).unwrap();
    let start = text.find("\"digest\": \"").unwrap() + 11;
    fs::write(cache, format!("{}{}{}", &text[..start], "0".repeat(64), &text[start + 64..])).unwrap();
}

#[test]
fn the_cache_answers_until_a_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    write_cifar10(folder.path(), 9);
    let path = folder.path().join("digests.json");
    let cache = DigestCache::at(&path);
    let digest = || facts(&cifar10(folder.path()), Split::Official, Some(&cache)).unwrap().digest;
    let first = digest();
    forge(&path);
    let forged = digest();
    assert_eq!(forged.to_string(), "0".repeat(64), "the cache was not asked");
    assert_eq!(load(&cifar10(folder.path()), Split::Official).unwrap().digest, first, "loading trusts no cache");

    write_cifar10(folder.path(), 10);
    let second = digest();
    assert!(second != first && second != forged);

    forge(&path);
    fs::write(folder.path().join("cifar-10-batches-bin/batches.meta.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n").unwrap();
    age(folder.path(), 60);
    let third = digest();
    assert!(third != second && third != forged, "a new file is a change");
}

/// A file changed within the last two seconds could change again and keep its time.
#[test]
fn the_cache_waits_until_files_have_settled() {
    let folder = tempfile::tempdir().unwrap();
    write_cifar10(folder.path(), 9);
    let path = folder.path().join("digests.json");
    let cache = DigestCache::at(&path);
    let ask = || facts(&cifar10(folder.path()), Split::Official, Some(&cache)).unwrap();
    age(folder.path(), 0);
    ask();
    assert!(!path.exists());
    age(folder.path(), 60);
    ask();
    assert!(path.exists());
}

/// The same size and modification time are not enough.
#[cfg(unix)]
#[test]
fn the_cache_sees_a_change_that_hides_its_time() {
    let folder = tempfile::tempdir().unwrap();
    write_cifar10(folder.path(), 9);
    let cache = DigestCache::at(folder.path().join("digests.json"));
    let ask = || facts(&cifar10(folder.path()), Split::Official, Some(&cache)).unwrap().digest;
    let first = ask();
    let path = folder.path().join("cifar-10-batches-bin/test_batch.bin");
    let modified = path.metadata().unwrap().modified().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    fs::write(&path, [vec![1], vec![77; 3072]].concat()).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_ne!(ask(), first);
}

#[test]
fn a_wrong_split_is_refused_before_anything_is_read() {
    let missing = cifar10(Path::new("no-such-folder"));
    let split = Split::HeldOut { fraction: 1.5, seed: 0 };
    assert!(matches!(load(&missing, split), Err(DataError::HeldOutFraction { .. })));
    assert!(matches!(facts(&missing, split, None), Err(DataError::HeldOutFraction { .. })));
    assert!(matches!(load(&missing, Split::Official), Err(DataError::Missing { .. })));
}
