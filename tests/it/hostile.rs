//! What people, other programs and damaged disks hand to the program: it says what is wrong, in time, and exits with 2.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use crate::harness::{MINIATURE, Said, Workplace};

/// Refused for its input: no panic, no signal, nothing computed, within seconds.
#[track_caller]
fn check(place: &Workplace, arguments: &[&str], expected: &str) -> Said {
    let began = Instant::now();
    let said = place.ablate(arguments).code(2);
    assert!(said.err.contains(expected), "expected: {expected}\n{}", said.err);
    assert!(!said.err.contains("panicked"), "{}", said.err);
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
    said
}

#[test]
fn files_that_are_no_experiments() {
    let place = Workplace::new();
    let file = place.write("a.ron", MINIATURE);
    File::create(place.path().join("large.ron")).unwrap().set_len(100 << 20).unwrap();
    fs::write(place.path().join("latin.ron"), b"Experiment(question: \"caf\xE9\")").unwrap();
    fs::write(place.path().join("null.ron"), b"Experiment(\0)").unwrap();
    fs::create_dir(place.path().join("folder.ron")).unwrap();
    check(&place, &["plan", "large.ron"], "`large.ron` is longer than 262144 bytes: expected an experiment file");
    check(&place, &["plan", "/dev/zero"], "`/dev/zero` is longer than 262144 bytes");
    check(&place, &["plan", "latin.ron"], "`latin.ron` is not text: byte 25 is not UTF-8");
    check(&place, &["plan", "null.ron"], "not valid RON");
    check(&place, &["plan", "folder.ron"], "failed to read experiment `folder.ron`");
    check(&place, &["plan", "missing.ron"], "failed to read experiment `missing.ron`");
    check(&place, &["plan", "/dev/null"], "not valid RON");
    let marked = place.write("marked.ron", &format!("\u{feff}{}", MINIATURE.replace('\n', "\r\n")));
    for sound in [file, marked] {
        place.ablate(&["plan", sound.to_str().unwrap()]).success();
    }
}

#[test]
fn overrides_that_are_long_and_deep() {
    let place = Workplace::new();
    place.write("a.ron", MINIATURE);
    check(&place, &["plan", "a.ron", &format!("train{}=1", ".a".repeat(50_000))], "has more than 16 steps");
    check(&place, &["plan", "a.ron", &format!("seeds={}", "[".repeat(100_000))], "nested too deeply");
    check(&place, &["plan", "a.ron", &"x".repeat(100_000)], "has no `=`");
    check(&place, &["plan", "a.ron", "train.batch=NaN"], "`NaN`");
}

#[cfg(unix)]
#[test]
fn data_sets_that_never_end() {
    let place = Workplace::new();
    let folder = |root: &str| format!("Experiment(question: \"q\", dataset: ImageFolder(root: \"{root}\"))");
    place.write("folder.ron", &folder("pipe"));
    let pipe = place.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    check(&place, &["plan", "folder.ron"], "it is a pipe, a socket or a device: expected a regular file");
    place.write("zero.ron", &folder("/dev/zero"));
    check(&place, &["plan", "zero.ron"], "it is a pipe, a socket or a device: expected a regular file");
    place.write("cifar.ron", "Experiment(question: \"q\", dataset: Cifar10(root: \".\"))");
    for batch in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        let path = place.write(&format!("cifar-10-batches-bin/{batch}.bin"), "");
        File::create(path).unwrap().set_len(3073 << 30).unwrap();
    }
    check(&place, &["plan", "cifar.ron"], "has 1073741824 records: expected at most 10000");
}
