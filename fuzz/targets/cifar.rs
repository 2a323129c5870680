//! CIFAR's binary files: whole records with good labels are read, anything else is refused by name.
//!
//! The first byte says which of the two data sets and which files the bytes stand in; a long file is said in short: the
//! record that follows is repeated.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use ablate::data;
use ablate::experiment::recipe::{Dataset, Split};
use ablate_fuzz::scratch;
use libfuzzer_sys::fuzz_target;

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| scratch("cifar"));

fuzz_target!(|data: &[u8]| {
    let [choice, n_repeated, rest @ ..] = data else { return };
    let is_100 = choice & 1 == 1;
    let (folder, names, labels) = if is_100 {
        ("cifar-100-binary", "fine_label_names.txt", 2)
    } else {
        ("cifar-10-batches-bin", "batches.meta.txt", 1)
    };
    let (n_classes, record_bytes) = if is_100 { (100, 3074) } else { (10, 3073) };
    let root = ROOT.join(folder);
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).expect("a folder in memory");
    let head: Vec<u8> = rest.iter().copied().take(labels).chain(std::iter::repeat(7)).take(record_bytes).collect();
    let repeated = head.repeat(usize::from(*n_repeated % 5));
    let bytes = if choice & 2 == 0 { [repeated.as_slice(), rest].concat() } else { repeated };
    let sound = vec![1; record_bytes];
    let files: &[&str] = if is_100 {
        &["train.bin", "test.bin"]
    } else {
        &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
            "test_batch.bin",
        ]
    };
    for (index, name) in files.iter().enumerate() {
        let is_fuzzed = index == usize::from(choice >> 4) % files.len();
        fs::write(root.join(name), if is_fuzzed { &bytes } else { &sound }).expect("a file in memory");
    }
    let listed: String = (0..n_classes).map(|class| format!("class {class}\n")).collect();
    let listed = if choice & 4 == 0 { listed.into_bytes() } else { rest.to_vec() };
    fs::write(root.join(names), listed).expect("a file in memory");
    let place = ROOT.to_str().expect("a UTF-8 path").to_owned();
    let dataset = if is_100 { Dataset::Cifar100 { root: place } } else { Dataset::Cifar10 { root: place } };
    let is_sound = !bytes.is_empty()
        && bytes.len() % record_bytes == 0
        && bytes.chunks_exact(record_bytes).all(|record| usize::from(record[labels - 1]) < n_classes);
    match data::load(&dataset, Split::Official) {
        Ok(read) => {
            assert!(is_sound, "accepted {} bytes", bytes.len());
            assert_eq!(read.train.labels.len() + read.test.labels.len(), files.len() - 1 + bytes.len() / record_bytes);
            assert_eq!(read.train.images.len(), read.train.labels.len());
            let facts = data::facts(&dataset, Split::Official, None).expect("what was loaded");
            assert_eq!(facts.digest, read.digest);
        }
        Err(error) => {
            assert!(!is_sound || choice & 4 != 0, "refused: {error}");
            assert!(error.to_string().contains(folder), "{error}");
        }
    }
});
