//! A `.tar` or `.tar.xz` of images. The first byte chooses: as it is, with the headers' sums repaired, or as the LZMA2
//! data of a sound xz container, so that what lies behind the sums is reached.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use ablate::data;
use ablate::experiment::recipe::{Dataset, Split};
use ablate_fuzz::{forgive_panics_of_dependencies, scratch};
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| scratch("archive").join("images"));

fuzz_target!(|data: &[u8]| {
    forgive_panics_of_dependencies();
    let Some((&choice, body)) = data.split_first() else { return };
    let bytes = match choice % 4 {
        0 => body.to_vec(),
        1 => repaired(body),
        2 => xz_around(body),
        _ => xz_stored(&repaired(body)),
    };
    fs::write(&*FILE, &bytes).expect("a file in memory");
    let dataset = Dataset::ImageFolder { root: FILE.to_str().expect("a UTF-8 path").to_owned() };
    match data::load(&dataset, Split::Official) {
        Ok(read) => {
            assert!(!read.train.labels.is_empty() && !read.test.labels.is_empty());
            let n_classes = read.class_names.len();
            assert!(read.train.labels.iter().chain(&read.test.labels).all(|label| (*label as usize) < n_classes));
            assert!(read.class_names.is_sorted() && read.class_names.iter().all(|name| !name.contains(['/', '\0'])));
            assert_eq!(data::facts(&dataset, Split::Official, None).expect("what was loaded").digest, read.digest);
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("images"), "the file is not named: {text}");
            assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n'), "speaks to terminals: {text:?}");
        }
    }
});

/// With the sum of every header set right, so far as the sizes lead from one to the next.
fn repaired(body: &[u8]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 512) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let size =
            std::str::from_utf8(&header[124..135]).ok().and_then(|text| usize::from_str_radix(text.trim(), 8).ok());
        let Some(next) = size.and_then(|size| at.checked_add(size.checked_next_multiple_of(512)?)?.checked_add(512))
        else {
            break;
        };
        at = next;
    }
    bytes
}

fn crc32(bytes: &[u8]) -> [u8; 4] {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    };
    (!bytes.iter().fold(u32::MAX, step)).to_le_bytes()
}

fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A container without a check of the content around LZMA2 data; the first byte is the dictionary's size.
fn container(dictionary: u8, lzma2: &[u8], unpacked: u64) -> Vec<u8> {
    let flags = [0, 0];
    let mut bytes = [b"\xFD7zXZ\0".as_slice(), &flags, &crc32(&flags)].concat();
    let block = [2, 0, 0x21, 1, dictionary, 0, 0, 0];
    bytes.extend(block);
    bytes.extend(crc32(&block));
    bytes.extend(lzma2);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let mut index = [vec![0, 1], number(12 + lzma2.len() as u64), number(unpacked)].concat();
    index.resize(index.len().next_multiple_of(4), 0);
    bytes.extend(&index);
    bytes.extend(crc32(&index));
    let footer = [&((index.len() as u32 + 4) / 4 - 1).to_le_bytes(), flags.as_slice()].concat();
    bytes.extend(crc32(&footer));
    bytes.extend(footer);
    bytes.extend(b"YZ");
    bytes
}

/// Dictionaries of up to 24 MiB: larger ones are the program's to refuse, which its own tests see to.
fn xz_around(body: &[u8]) -> Vec<u8> {
    let Some((dictionary, lzma2)) = body.split_first() else { return Vec::new() };
    container(dictionary % 26, lzma2, 0)
}

/// The bytes as they are, in LZMA2 chunks without compression.
fn xz_stored(body: &[u8]) -> Vec<u8> {
    let mut lzma2 = Vec::new();
    for (index, chunk) in body.chunks(1 << 16).enumerate() {
        lzma2.push(if index == 0 { 1 } else { 2 });
        lzma2.extend((chunk.len() as u16).wrapping_sub(1).to_be_bytes());
        lzma2.extend(chunk);
    }
    lzma2.push(0);
    container(16, &lzma2, body.len() as u64)
}
