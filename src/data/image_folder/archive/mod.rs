//! The same folders inside a `.tar` or `.tar.xz`, read in one pass with nothing written to disk.
//!
//! Entries come in any order, so the images are held as they are stored, smaller than decoded, until the last is known;
//! then they are sorted as a folder is and decoded in the same way. An archive is anyone's: nothing in it is believed
//! before it is checked, and what it unpacks to is bounded while it unpacks.

mod dictionary;
mod entries;
mod meter;
#[cfg(test)]
mod tests;
mod tree;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use lzma_rust2::XzReader;

use crate::data::image_folder::decode::FILE_BYTES_LIMIT;
use crate::data::image_folder::listing::Listing;
use crate::data::{DataError, regular_file};

/// What an archive may unpack to.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// One file in a class folder.
    file_bytes: u64,
    /// Everything, headers and padding too: also a bound on the memory for what is held.
    unpacked_bytes: u64,
}

const LIMITS: Limits = Limits { file_bytes: FILE_BYTES_LIMIT, unpacked_bytes: 16 << 30 };

const XZ_MAGIC: &[u8] = b"\xFD7zXZ\0";
const OTHER_COMPRESSIONS: [(&[u8], &str); 4] =
    [(b"\x1F\x8B", "gzip"), (b"BZh", "bzip2"), (b"\x28\xB5\x2F\xFD", "zstd"), (b"PK\x03\x04", "zip")];
const READ_BYTES: usize = 1 << 16;

/// Every image of the archive, in the order of the unpacked folder.
pub(super) fn read(path: &Path) -> Result<Listing, DataError> {
    read_within(path, LIMITS)
}

fn read_within(path: &Path, limits: Limits) -> Result<Listing, DataError> {
    let mut file = regular_file::open(path).map_err(|source| DataError::io(path, source))?;
    let start = start_of(&mut file).map_err(|source| DataError::io(path, source))?;
    let other = OTHER_COMPRESSIONS.iter().find(|(magic, _)| start.starts_with(magic));
    if let Some((_, name)) = other {
        return Err(DataError::archive(path, format!("it is compressed with {name}; pack it with `tar -cJf`")));
    }
    if start.starts_with(XZ_MAGIC)
        && let Some(bytes) = dictionary::of_first_block(&start).filter(|bytes| *bytes > dictionary::BYTES_MAX)
    {
        let problem = format!(
            "unpacking it takes a dictionary of {bytes} bytes: expected at most {}; pack it with `xz -9` or less",
            dictionary::BYTES_MAX
        );
        return Err(DataError::archive(path, problem));
    }
    let file = BufReader::with_capacity(READ_BYTES, file);
    // The decompressor and the parser are others' code and the bytes anyone's, as with the decoders.
    let tree = catch_unwind(AssertUnwindSafe(|| {
        if start.starts_with(XZ_MAGIC) {
            entries::read(path, XzReader::new(file, true), limits)
        } else {
            entries::read(path, file, limits)
        }
    }));
    let tree =
        tree.unwrap_or_else(|_| Err(DataError::archive(path, "it is damaged: its reader gave up".to_owned())))?;
    tree.into_listing(path)
}

/// The first bytes of the file, which is rewound.
fn start_of(file: &mut File) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    file.by_ref().take(dictionary::HEADER_BYTES_MAX).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(start)
}
