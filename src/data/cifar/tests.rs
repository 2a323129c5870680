use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::{CIFAR10_NAMES, Variant, files, read};
use crate::data::DataError;
use crate::data::intake::Keep;

/// A record whose pixel bytes follow from `seed`.
fn record(labels: &[u8], seed: usize) -> Vec<u8> {
    labels.iter().copied().chain((0..3072).map(|i| ((i * 7 + seed * 13) % 256) as u8)).collect()
}

/// Two records in every training file, one in the test file.
fn write_cifar10(root: &Path) {
    let folder = root.join("cifar-10-batches-bin");
    fs::create_dir_all(&folder).unwrap();
    for batch in 1..=5usize {
        let bytes = [record(&[batch as u8], batch), record(&[9], batch + 50)].concat();
        fs::write(folder.join(format!("data_batch_{batch}.bin")), bytes).unwrap();
    }
    fs::write(folder.join("test_batch.bin"), record(&[0], 99)).unwrap();
    fs::write(folder.join("batches.meta.txt"), CIFAR10_NAMES.join("\n") + "\n\n").unwrap();
}

fn write_cifar100(root: &Path) {
    let folder = root.join("cifar-100-binary");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("train.bin"), [record(&[19, 99], 1), record(&[0, 3], 2)].concat()).unwrap();
    fs::write(folder.join("test.bin"), record(&[5, 42], 3)).unwrap();
    let names: Vec<String> = (0..100).map(|i| format!("class_{i}")).collect();
    fs::write(folder.join("fine_label_names.txt"), names.join("\n")).unwrap();
}

#[test]
fn cifar10_reads_in_order_with_interleaved_channels() {
    let root = tempfile::tempdir().unwrap();
    write_cifar10(root.path());
    let dataset = read(Variant::Cifar10, root.path(), Keep::Pixels).unwrap().into_dataset();
    assert_eq!(dataset.train.labels, [1, 9, 2, 9, 3, 9, 4, 9, 5, 9]);
    assert_eq!(dataset.test.labels, [0]);
    assert_eq!(dataset.class_names, CIFAR10_NAMES);
    let image = dataset.train.images.get(3);
    assert_eq!((image.width, image.height), (32, 32));
    let planes = &record(&[9], 52)[1..];
    for (y, x, channel) in [(0, 0, 0), (0, 1, 0), (1, 0, 1), (31, 31, 2), (17, 5, 2)] {
        assert_eq!(image.pixels[(y * 32 + x) * 3 + channel], planes[channel * 1024 + y * 32 + x], "{y} {x} {channel}");
    }
}

#[cfg(unix)]
#[test]
fn pipes_are_refused_and_not_waited_for() {
    for name in ["data_batch_1.bin", "test_batch.bin", "batches.meta.txt"] {
        let root = tempfile::tempdir().unwrap();
        write_cifar10(root.path());
        let path = root.path().join("cifar-10-batches-bin").join(name);
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let Err(error) = read(Variant::Cifar10, root.path(), Keep::Nothing) else { panic!("a pipe was read") };
        assert!(error.to_string().ends_with("it is a pipe, a socket or a device: expected a regular file"), "{error}");
    }
}

#[test]
fn cifar100_reads_fine_labels() {
    let root = tempfile::tempdir().unwrap();
    write_cifar100(root.path());
    let dataset = read(Variant::Cifar100, root.path(), Keep::Pixels).unwrap().into_dataset();
    assert_eq!((dataset.train.labels, dataset.test.labels), (vec![99, 3], vec![42]));
    assert_eq!(dataset.class_names[99], "class_99");
    assert_eq!(dataset.test.images.get(0).pixels[0], record(&[5, 42], 3)[2]);
}

#[test]
fn cifar10_knows_its_names() {
    let root = tempfile::tempdir().unwrap();
    write_cifar10(root.path());
    let digest = || read(Variant::Cifar10, root.path(), Keep::Nothing).unwrap().into_summary().digest;
    let with_names = digest();
    fs::remove_file(root.path().join("cifar-10-batches-bin/batches.meta.txt")).unwrap();
    assert_eq!(digest(), with_names);
    assert_eq!(files(Variant::Cifar10, root.path()).unwrap().len(), 6);
}

/// Damages a good data set and returns the text of the error, with the folder's own path taken out.
fn damaged(variant: Variant, damage: impl Fn(&Path)) -> String {
    let root = tempfile::tempdir().unwrap();
    match variant {
        Variant::Cifar10 => write_cifar10(root.path()),
        Variant::Cifar100 => write_cifar100(root.path()),
    }
    damage(root.path());
    let Err(error) = read(variant, root.path(), Keep::Nothing) else { panic!("the damage went unseen") };
    error.to_string().replace(&root.path().display().to_string(), "ROOT")
}

#[test]
fn every_kind_of_damage_has_its_error() {
    let check = |variant, damage: &dyn Fn(&Path), expected: &str| {
        let text = damaged(variant, damage);
        assert_eq!(text.lines().next(), Some(expected), "{text}");
    };
    let in10 = |root: &Path, name: &str| root.join("cifar-10-batches-bin").join(name);
    let in100 = |root: &Path, name: &str| root.join("cifar-100-binary").join(name);
    check(
        Variant::Cifar10,
        &|root| fs::remove_dir_all(root.join("cifar-10-batches-bin")).unwrap(),
        "the CIFAR-10 data set is missing: there is no `ROOT/cifar-10-batches-bin`",
    );
    check(
        Variant::Cifar10,
        &|root| fs::remove_file(in10(root, "data_batch_4.bin")).unwrap(),
        "the CIFAR-10 data set is missing: there is no `ROOT/cifar-10-batches-bin/data_batch_4.bin`",
    );
    check(
        Variant::Cifar10,
        &|root| fs::write(in10(root, "test_batch.bin"), [0; 3072]).unwrap(),
        "`ROOT/cifar-10-batches-bin/test_batch.bin` has 3072 bytes: expected a multiple of 3073, the size of a record; \
         the file is cut off or not of the binary version, so unpack the archive again",
    );
    check(
        Variant::Cifar10,
        &|root| fs::write(in10(root, "data_batch_1.bin"), []).unwrap(),
        "`ROOT/cifar-10-batches-bin/data_batch_1.bin` is empty: expected at least one record of 3073 bytes; \
         unpack the archive again",
    );
    check(
        Variant::Cifar10,
        &|root| fs::write(in10(root, "data_batch_2.bin"), [record(&[9], 0), record(&[10], 0)].concat()).unwrap(),
        "record 1 of `ROOT/cifar-10-batches-bin/data_batch_2.bin` has label 10: expected a label below 10; \
         the file is damaged or of another data set, so unpack the archive again",
    );
    check(
        Variant::Cifar10,
        &|root| fs::write(in10(root, "batches.meta.txt"), "cat\ndog\n").unwrap(),
        "`ROOT/cifar-10-batches-bin/batches.meta.txt` holds 2 class names: expected 10, one a line; \
         unpack the archive again",
    );
    check(
        Variant::Cifar10,
        &|root| fs::write(in10(root, "batches.meta.txt"), [0xff, 0xfe]).unwrap(),
        "cannot read `ROOT/cifar-10-batches-bin/batches.meta.txt`: byte 0 is not UTF-8: expected class names",
    );
    check(
        Variant::Cifar100,
        &|root| fs::remove_file(in100(root, "fine_label_names.txt")).unwrap(),
        "the CIFAR-100 data set is missing: there is no `ROOT/cifar-100-binary/fine_label_names.txt`",
    );
    check(
        Variant::Cifar100,
        &|root| fs::write(in100(root, "test.bin"), record(&[7, 100], 0)).unwrap(),
        "record 0 of `ROOT/cifar-100-binary/test.bin` has label 100: expected a label below 100; \
         the file is damaged or of another data set, so unpack the archive again",
    );
}

/// Refused by their length: a file of a terabyte that is nothing but a hole is not read.
#[test]
fn files_of_more_records_than_the_official_ones_are_refused() {
    let check = |variant: Variant, folder: &str, name: &str, record_bytes: u64, most: u64| {
        let text = damaged(variant, |root| {
            let file = fs::File::create(root.join(folder).join(name)).unwrap();
            file.set_len((1 << 40) / record_bytes * record_bytes).unwrap();
        });
        let expected = format!(
            "`ROOT/{folder}/{name}` has {} records: expected at most {most}, as many as the official file; \
             the file is of another data set, so unpack the archive again",
            (1u64 << 40) / record_bytes
        );
        assert_eq!(text, expected);
    };
    check(Variant::Cifar10, "cifar-10-batches-bin", "data_batch_5.bin", 3073, 10_000);
    check(Variant::Cifar10, "cifar-10-batches-bin", "test_batch.bin", 3073, 10_000);
    check(Variant::Cifar100, "cifar-100-binary", "train.bin", 3074, 50_000);
    check(Variant::Cifar100, "cifar-100-binary", "test.bin", 3074, 10_000);
    let text = damaged(Variant::Cifar100, |root| {
        fs::write(root.join("cifar-100-binary/fine_label_names.txt"), "a\n".repeat(1 << 16)).unwrap();
    });
    assert!(text.ends_with("fine_label_names.txt`: it is larger than 65536 bytes"), "{text}");
}

/// The first file of the data set is something else, or leads elsewhere.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let check = |replace: &dyn Fn(&Path), expected: &str| {
        for name in ["data_batch_1.bin", "batches.meta.txt"] {
            let text = damaged(Variant::Cifar10, |root| {
                let path = root.join("cifar-10-batches-bin").join(name);
                fs::remove_file(&path).unwrap();
                replace(&path);
            });
            assert!(text.contains(&format!("cifar-10-batches-bin/{name}`: {expected}")), "{text}");
        }
    };
    let other = "it is a pipe, a socket or a device: expected a regular file";
    check(&|path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success()), other);
    check(&|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()), other);
    check(&|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(), other);
    check(&|path| fs::create_dir(path).unwrap(), "it is a folder: expected a regular file");
    check(&|path| std::os::unix::fs::symlink(path, path).unwrap(), "Too many levels of symbolic links");
}

#[test]
fn a_missing_data_set_says_how_to_get_it() {
    let text = damaged(Variant::Cifar100, |root| fs::remove_dir_all(root.join("cifar-100-binary")).unwrap());
    assert_eq!(
        text,
        "the CIFAR-100 data set is missing: there is no `ROOT/cifar-100-binary`\n\
         expected: `ROOT/cifar-100-binary/` with train.bin, test.bin and fine_label_names.txt\n\
         to get it: the CIFAR-100 binary version from cs.toronto.edu/~kriz/cifar.html, `cifar-100-binary.tar.gz`, \
         md5 03b5dce01913d631647c71ecec9e9cb8; unpack it in `ROOT`\n\
         if it lies elsewhere: `--data DIR` names the folder to use instead of `ROOT`"
    );
    let Err(error) = read(Variant::Cifar10, Path::new("no-such-folder"), Keep::Nothing) else { panic!() };
    let here = std::env::current_dir().unwrap();
    let first = format!(
        "the CIFAR-10 data set is missing: there is no `{}`",
        here.join("no-such-folder/cifar-10-batches-bin").display()
    );
    assert_eq!(error.to_string().lines().next(), Some(first.as_str()));
    assert!(matches!(error, DataError::Missing { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any bytes are read or refused, and whole records with good labels are always read.
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(0u8..11, 0..8),
        n_records in 0usize..3,
        names in any::<String>(),
    ) {
        let root = tempfile::tempdir().unwrap();
        write_cifar10(root.path());
        let folder = root.path().join("cifar-10-batches-bin");
        let whole_bytes = if bytes.is_empty() { 0 } else { n_records * 3073 };
        let whole: Vec<u8> = bytes.iter().copied().cycle().take(whole_bytes).collect();
        fs::write(folder.join("data_batch_3.bin"), [whole.clone(), bytes].concat()).unwrap();
        prop_assert!(read(Variant::Cifar10, root.path(), Keep::Nothing).is_err());
        fs::write(folder.join("data_batch_3.bin"), &whole).unwrap();
        let good = !whole.is_empty() && whole.chunks_exact(3073).all(|record| record[0] < 10);
        prop_assert_eq!(read(Variant::Cifar10, root.path(), Keep::Pixels).is_ok(), good);
        fs::write(folder.join("batches.meta.txt"), names).unwrap();
        let _ = read(Variant::Cifar10, root.path(), Keep::Nothing);
    }
}
