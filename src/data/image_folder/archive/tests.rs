use std::fs;
use std::path::{Path, PathBuf};

use image::{ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::{LIMITS, Limits, read_within};
use crate::data::image_folder::read;
use crate::data::intake::Keep;
use crate::data::{Dataset, DigestCache, facts};
use crate::experiment::recipe;

fn png(width: u32, height: u32) -> Vec<u8> {
    let picture = RgbImage::from_fn(width, height, |x, y| Rgb([(x * 20) as u8, (y * 20) as u8, (x + width) as u8]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Three training images and two test images, in no order.
fn small() -> Vec<(String, Vec<u8>)> {
    let files = [
        ("test/dog/a.png", png(4, 4)),
        ("train/dog/b.png", png(5, 4)),
        ("train/cat!/z.png", png(2, 2)),
        ("train/dog/B.PNG", png(3, 6)),
        ("test/cat!/a.png", png(7, 1)),
        ("train/cat/x.png", png(1, 3)),
        ("test/cat/x.png", png(2, 3)),
    ];
    files.map(|(name, bytes)| (name.to_owned(), bytes)).to_vec()
}

/// The name as it is, unchecked, in the old field of a header.
fn header(name: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    if kind == EntryType::GNUSparse {
        header.as_gnu_mut().unwrap().set_real_size(size);
    }
    header.set_cksum();
    header
}

fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    with_entry(files, None)
}

/// One more entry behind the files.
fn with_entry(files: &[(String, Vec<u8>)], more: Option<(Header, &[u8])>) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in files {
        builder.append(&header(name, EntryType::Regular, bytes.len() as u64), bytes.as_slice()).unwrap();
    }
    if let Some((header, bytes)) = more {
        builder.append(&header, bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn crc32(bytes: &[u8]) -> [u8; 4] {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    (!bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))).to_le_bytes()
}

/// A number of the .xz format: seven bits a byte, low ones first.
fn multibyte(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// One block of LZMA2 chunks that are stored, with a CRC-32 (the .xz file format, version 1.2).
fn xz_of(bytes: &[u8]) -> Vec<u8> {
    let with_crc = |part: &[u8]| [part, &crc32(part)].concat();
    let mut xz = [b"\xFD7zXZ\0".as_slice(), &with_crc(&[0, 1])].concat();
    // Twelve bytes of header: size, no optional fields, LZMA2 with a dictionary of 64 KiB, padding.
    let mut block = with_crc(&[2, 0, 0x21, 1, 8, 0, 0, 0]);
    for (index, chunk) in bytes.chunks(1 << 16).enumerate() {
        block.push(if index == 0 { 1 } else { 2 });
        block.extend((chunk.len() as u16).wrapping_sub(1).to_be_bytes());
        block.extend(chunk);
    }
    block.push(0);
    let unpadded = block.len() as u64 + 4;
    block.resize(block.len().next_multiple_of(4), 0);
    xz.extend(block);
    xz.extend(crc32(bytes));
    let mut index = [vec![0, 1], multibyte(unpadded), multibyte(bytes.len() as u64)].concat();
    index.resize(index.len().next_multiple_of(4), 0);
    let index = with_crc(&index);
    xz.extend(&index);
    let footer = [&(index.len() as u32 / 4 - 1).to_le_bytes()[..], &[0, 1]].concat();
    xz.extend(crc32(&footer));
    xz.extend(footer);
    xz.extend(b"YZ");
    xz
}

struct OnDisk {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn on_disk(bytes: &[u8]) -> OnDisk {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    fs::write(&path, bytes).unwrap();
    OnDisk { folder, path }
}

fn load(path: &Path) -> Dataset {
    read(path, Keep::Pixels).unwrap_or_else(|error| panic!("{error}")).into_dataset()
}

/// What is said of the archive `A`.
fn error_within(bytes: &[u8], limits: Limits) -> String {
    let file = on_disk(bytes);
    let Err(error) = read_within(&file.path, limits) else { panic!("it was read") };
    error.to_string().replace(&file.path.display().to_string(), "A")
}

fn error_of(bytes: &[u8]) -> String {
    error_within(bytes, LIMITS)
}

#[test]
fn an_archive_is_the_folder_it_unpacks_to() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in small() {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let expected = load(folder.path());
    let named =
        |prefix: &str| small().into_iter().map(|(n, bytes)| (format!("{prefix}{n}"), bytes)).collect::<Vec<_>>();
    for prefix in ["", "./", "cifar10/", "./cifar10//"] {
        let mut files = named(prefix);
        for name in ["README.md", "train/notes.txt", "train/dog/notes.txt", "train/dog/.x.png", ".git/train/a/b.png"] {
            files.push((format!("{prefix}{name}"), b"text".to_vec()));
        }
        let tar = tar_of(&files);
        assert_eq!(load(&on_disk(&tar).path), expected, "{prefix}");
        assert_eq!(load(&on_disk(&xz_of(&tar)).path), expected, "{prefix}, xz");
    }
    let renamed = named("").into_iter().map(|(name, bytes)| (name.replace("test/", "val/"), bytes));
    assert_eq!(load(&on_disk(&tar_of(&renamed.collect::<Vec<_>>())).path), expected);
    // As `tar` itself packs a folder, with entries for folders and names over 100 bytes.
    let mut builder = Builder::new(Vec::new());
    builder.append_dir_all("a".repeat(120), folder.path()).unwrap();
    assert_eq!(load(&on_disk(&builder.into_inner().unwrap()).path), expected);
}

#[test]
fn the_digest_cache_knows_an_archive_by_its_file() {
    let file = on_disk(&tar_of(&small()));
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    fs::File::options().write(true).open(&file.path).unwrap().set_modified(old).unwrap();
    let cache = DigestCache::at(file.folder.path().join("digests.json"));
    let dataset = recipe::Dataset::ImageFolder { root: file.path.display().to_string() };
    let found = facts(&dataset, recipe::Split::Official, Some(&cache)).unwrap();
    assert_eq!((found.digest, found.n_train, found.n_test), (load(&file.path).digest, 4, 3));
    let bytes = fs::read(&file.path).unwrap();
    // Without its content the file can only be answered from the cache, and only while it looks the same.
    let read_again = |bytes: &[u8], time| {
        fs::write(&file.path, bytes).unwrap();
        fs::File::options().write(true).open(&file.path).unwrap().set_modified(time).unwrap();
        facts(&dataset, recipe::Split::Official, Some(&cache))
    };
    assert!(fs::read_to_string(file.folder.path().join("digests.json")).unwrap().contains("image_folder"));
    assert!(read_again(&vec![1; bytes.len()], old - std::time::Duration::from_secs(5)).is_err());
    assert_eq!(read_again(&bytes, old).unwrap().digest, found.digest);
}

#[test]
fn hostile_entries_are_refused_by_name() {
    let check = |name: &str, kind: EntryType, expected: &str| {
        let text = error_of(&with_entry(&small(), Some((header(name, kind, 0), &[]))));
        assert_eq!(text, format!("the entry `{name}` of `A` {expected}"));
    };
    let outside = "expected names below the archive's own folder; pack it with `tar -C`";
    check("/etc/x.png", EntryType::Regular, &format!("has an absolute name: {outside}"));
    check("train/../../x.png", EntryType::Regular, &format!("has `..` in its name: {outside}"));
    check("..", EntryType::Directory, &format!("has `..` in its name: {outside}"));
    let link = "is a link: expected only files and folders; pack it with `tar --dereference --hard-dereference`";
    check("train/dog/l.png", EntryType::Symlink, link);
    check("train/dog/l.png", EntryType::Link, link);
    let device = "is a pipe or a device: expected only files and folders; leave it out";
    for kind in [EntryType::Fifo, EntryType::Char, EntryType::Block] {
        check("train/dog/d.png", kind, device);
    }
    check(
        "train/dog/s.png",
        EntryType::GNUSparse,
        "is stored as a sparse file: expected only plain files; pack it without `--sparse`",
    );
    check("q", EntryType::new(b'V'), "is of an unknown kind: expected only files and folders; leave it out");
    let twice = "is there twice: expected every file once; pack it anew";
    check("train/dog/b.png", EntryType::Regular, twice);
    check("./train//dog/b.png", EntryType::Regular, twice);
    check("train/dog", EntryType::Regular, twice);
    check("train/dog/b.png/c.png", EntryType::Regular, twice);
    check("train/dog/b.png/", EntryType::Directory, twice);
}

#[test]
fn terminals_are_not_spoken_to() {
    let text = error_of(&with_entry(&small(), Some((header("x\x1B[2J", EntryType::Fifo, 0), &[]))));
    assert!(text.starts_with("the entry `x\u{FFFD}[2J` of `A` is a pipe"), "{text:?}");
}

#[test]
fn wrong_layouts_are_told_as_of_a_folder() {
    let check = |change: &dyn Fn(&str) -> Option<String>, expected: &str| {
        let files: Vec<_> =
            small().into_iter().filter_map(|(name, bytes)| change(&name).map(|name| (name, bytes))).collect();
        let text = error_of(&tar_of(&files));
        assert_eq!(text.lines().next(), Some(expected), "{text}");
    };
    check(&|_| None, "the image folder is missing: there is no `A/train`");
    check(
        &|name| (!name.starts_with("train")).then(|| name.into()),
        "the image folder is missing: there is no `A/train`",
    );
    check(
        &|name| (!name.starts_with("test")).then(|| format!("a/{name}")),
        "the image folder is missing: there is no `A/a/test`",
    );
    check(
        &|name| Some(name.replace("test/dog", "test/cow")),
        "`A/train` and `A/test` hold different classes: only the first has `dog`, only the second has `cow`; \
         give both the same class folders",
    );
    check(
        &|name| Some(name.replace("train/cat/x.png", "train/cat/x.txt")),
        "`A/train/cat` holds no image: expected at least one jpg, jpeg, png, webp or bmp file; \
         add one or remove the folder",
    );
    for deeper in ["x.png/y.png", "x/1/2/3/4.png"] {
        check(
            &|name| Some(name.replace("train/cat/x.png", &format!("train/cat/{deeper}"))),
            &format!(
                "`A/train/cat/{}` is a folder: expected only image files in a class folder; \
                 move it out, or hide it with a leading dot",
                deeper.split('/').next().unwrap()
            ),
        );
    }
}

#[test]
fn broken_images_are_named() {
    let mut files = small();
    files[1].1.truncate(30);
    let file = on_disk(&tar_of(&files));
    let Err(error) = read(&file.path, Keep::Nothing) else { panic!("it was read") };
    let text = error.to_string().replace(&file.path.display().to_string(), "A");
    assert!(
        text.starts_with("1 of 7 images cannot be used; repair or remove them:\n  `A/train/dog/b.png`: "),
        "{text}"
    );
}

/// Wherever it is cut, packed or not, in its content, its headers or its end mark.
#[test]
fn cut_off_archives_are_refused() {
    let tar = tar_of(&small());
    for length in (1..tar.len() - 1024).step_by(97).chain((512..=tar.len() - 1024).step_by(512)) {
        let text = error_of(&tar[..length]);
        assert!(text.starts_with("`A` cannot be used as an archive of images: it is cut off "), "{length}: {text}");
    }
    let content = error_of(&tar[..520]);
    assert!(content.ends_with("it is cut off in or behind `test/dog/a.png`; get it again"), "{content}");
    let xz = xz_of(&tar);
    for length in (6..xz.len()).step_by(131).chain([xz.len() - 1, xz.len() - 13]) {
        let text = error_of(&xz[..length]);
        assert!(text.starts_with("`A` cannot be used as an archive of images: it is "), "{length}: {text}");
    }
}

#[test]
fn damage_is_seen() {
    let tar = tar_of(&small());
    let mut xz = xz_of(&tar);
    xz[2000] ^= 1;
    let text = error_of(&xz);
    assert!(text.contains("it is damaged or no tar"), "{text}");
    assert!(error_of(b"hello").contains("it is cut off before its first entry"));
    assert!(error_of(&[b'x'; 4096]).contains("it is damaged or no tar (numeric field was not a number"));
    let joined = error_of(&[tar.clone(), tar.clone()].concat());
    assert!(
        joined.ends_with("more follows behind its end mark, as when archives are joined; pack it anew"),
        "{joined}"
    );
    for (magic, name) in [(b"\x1F\x8B\x08\0", "gzip"), (b"PK\x03\x04", "zip")] {
        assert!(error_of(magic).ends_with(&format!("it is compressed with {name}; pack it with `tar -cJf`")));
    }
    assert!(error_of(&[]).contains("cut off before its first entry"));
}

#[test]
fn bombs_are_stopped_while_they_unpack() {
    let mut files = small();
    files.push(("train/dog/large.png".to_owned(), vec![0; 5000]));
    files.push(("notes.txt".to_owned(), vec![0; 50_000]));
    let tar = tar_of(&files);
    let text = error_within(&tar, Limits { file_bytes: 4999, ..LIMITS });
    assert_eq!(text, "the entry `train/dog/large.png` of `A` has 5000 bytes: expected at most 4999 in an image file");
    for bytes in [tar.clone(), xz_of(&tar)] {
        let text = error_within(&bytes, Limits { unpacked_bytes: 30_000, ..LIMITS });
        let expected = "`A` cannot be used as an archive of images: it unpacks to more than 30000 bytes in or behind \
                        `notes.txt`; unpack it and name the folder instead";
        assert_eq!(text, expected);
    }
    let declared = with_entry(&[], Some((header("train/a/b.png", EntryType::Regular, u64::MAX >> 1), &[])));
    let text = error_of(&declared);
    assert!(text.contains("`train/a/b.png` of `A` has 9223372036854775807 bytes"), "{text}");
    // A name, and an extended header, of 3 MiB.
    for (kind, name) in [(EntryType::GNULongName, "././@LongLink"), (EntryType::XHeader, "pax")] {
        let long = vec![b'a'; 3 << 20];
        let text = error_of(&with_entry(&small(), Some((header(name, kind, long.len() as u64), &long))));
        assert!(text.ends_with("the header in or behind `test/cat/x.png` is longer than 1048576 bytes; pack it anew"));
    }
    let deep = "a/".repeat(400_000);
    let mut builder = Builder::new(Vec::new());
    let name = header("././@LongLink", EntryType::GNULongName, deep.len() as u64);
    builder.append(&name, deep.as_bytes()).unwrap();
    builder.append(&header("x", EntryType::Directory, 0), [].as_slice()).unwrap();
    assert!(error_of(&builder.into_inner().unwrap()).starts_with("the image folder is missing"));
}

/// The dictionary is taken before a byte is unpacked: 4 GiB for an archive of a few hundred bytes.
#[test]
fn huge_dictionaries_are_refused() {
    let with_dictionary = |coded: u8| {
        let mut xz = xz_of(&tar_of(&small()));
        xz[16] = coded;
        let crc = crc32(&xz[12..20]);
        xz[20..24].copy_from_slice(&crc);
        xz
    };
    for coded in [8, 28, 32] {
        let file = on_disk(&with_dictionary(coded));
        assert_eq!(load(&file.path).train.labels.len(), 4, "{coded}");
    }
    for (coded, bytes) in [(33, 3u64 << 27), (39, 3 << 30), (40, (4 << 30) - 1)] {
        let expected = format!(
            "`A` cannot be used as an archive of images: unpacking it takes a dictionary of {bytes} bytes: expected at \
             most 268435456; pack it with `xz -9` or less"
        );
        assert_eq!(error_of(&with_dictionary(coded)), expected);
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_no_archive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let Err(error) = read(&path, Keep::Nothing) else { panic!("a pipe was read") };
    assert!(error.to_string().ends_with("it is a pipe, a socket or a device: expected a regular file"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A real archive with bytes changed: read or refused.
    #[test]
    fn damaged_archives_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        is_packed in any::<bool>(),
    ) {
        let mut bytes = tar_of(&small());
        if is_packed {
            bytes = xz_of(&bytes);
        }
        for (index, byte) in &changes {
            let at = index.index(bytes.len());
            bytes[at] = *byte;
        }
        let file = on_disk(&bytes);
        if let Ok(listing) = read_within(&file.path, LIMITS) {
            prop_assert!(!listing.files.is_empty());
        }
    }
}
