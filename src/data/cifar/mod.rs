//! CIFAR-10 and CIFAR-100 in their official binary version (Krizhevsky 2009, cs.toronto.edu/~kriz/cifar.html).
//!
//! A record is one label byte (CIFAR-100: the coarse, then the fine label) and 3,072 pixel bytes: the red, green and
//! blue plane of a 32×32 image, row by row. A file may hold fewer records than the official one, so a subset is a data
//! set too.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::data::intake::{Intake, Keep};
use crate::data::{DataError, ImageRef, Layout, Part, regular_file};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORDS_PER_READ: u64 = 256;
/// Longer files of names are not files of names.
const NAMES_BYTES_LIMIT: u64 = 1 << 16;

const CIFAR10_NAMES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Cifar10,
    Cifar100,
}

impl Variant {
    fn layout(self) -> Layout {
        match self {
            Variant::Cifar10 => Layout::Cifar10,
            Variant::Cifar100 => Layout::Cifar100,
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Variant::Cifar10 => "cifar-10-batches-bin",
            Variant::Cifar100 => "cifar-100-binary",
        }
    }

    /// Records of the longest official file of a part.
    fn records_max(self, part: Part) -> u64 {
        match (self, part) {
            (Variant::Cifar10, Part::Train | Part::Test) | (Variant::Cifar100, Part::Test) => 10_000,
            (Variant::Cifar100, Part::Train) => 50_000,
        }
    }

    fn names_file(self) -> &'static str {
        match self {
            Variant::Cifar10 => "batches.meta.txt",
            Variant::Cifar100 => "fine_label_names.txt",
        }
    }

    fn image_files(self) -> &'static [(Part, &'static str)] {
        match self {
            Variant::Cifar10 => &[
                (Part::Train, "data_batch_1.bin"),
                (Part::Train, "data_batch_2.bin"),
                (Part::Train, "data_batch_3.bin"),
                (Part::Train, "data_batch_4.bin"),
                (Part::Train, "data_batch_5.bin"),
                (Part::Test, "test_batch.bin"),
            ],
            Variant::Cifar100 => &[(Part::Train, "train.bin"), (Part::Test, "test.bin")],
        }
    }

    fn n_classes(self) -> usize {
        match self {
            Variant::Cifar10 => 10,
            Variant::Cifar100 => 100,
        }
    }

    /// Bytes before the pixels; the label in use is the last of them.
    fn label_bytes(self) -> usize {
        match self {
            Variant::Cifar10 => 1,
            Variant::Cifar100 => 2,
        }
    }

    fn record_bytes(self) -> usize {
        self.label_bytes() + 3 * PLANE
    }
}

/// Reads `root/cifar-10-batches-bin` or `root/cifar-100-binary`.
pub(super) fn read(variant: Variant, root: &Path, keep: Keep) -> Result<Intake, DataError> {
    let folder = folder(variant, root)?;
    let mut intake = Intake::new(class_names(variant, root, &folder)?, keep);
    for &(part, name) in variant.image_files() {
        read_images(variant, part, root, &folder.join(name), &mut intake)?;
    }
    Ok(intake)
}

/// Every file the data set is read from; each is known to be there.
pub(super) fn files(variant: Variant, root: &Path) -> Result<Vec<PathBuf>, DataError> {
    let folder = folder(variant, root)?;
    let mut files = Vec::new();
    for (_, name) in variant.image_files() {
        let path = folder.join(name);
        path.metadata().map_err(|source| DataError::missing_or_io(variant.layout(), root, &path, source))?;
        files.push(path);
    }
    let names = folder.join(variant.names_file());
    if names.exists() {
        files.push(names);
    }
    Ok(files)
}

fn folder(variant: Variant, root: &Path) -> Result<PathBuf, DataError> {
    let folder = root.join(variant.folder());
    if !folder.is_dir() {
        return Err(DataError::missing(variant.layout(), root, &folder));
    }
    Ok(folder)
}

/// The names in the order of the labels. CIFAR-10's are common knowledge, so they may be missing.
fn class_names(variant: Variant, root: &Path, folder: &Path) -> Result<Vec<String>, DataError> {
    let path = folder.join(variant.names_file());
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && variant == Variant::Cifar10 => {
            return Ok(CIFAR10_NAMES.map(str::to_owned).to_vec());
        }
        Err(source) => return Err(DataError::missing_or_io(variant.layout(), root, &path, source)),
    };
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if names.len() != variant.n_classes() {
        return Err(DataError::CifarNames { path, found: names.len(), expected: variant.n_classes() });
    }
    Ok(names)
}

fn read_text(path: &Path) -> io::Result<String> {
    let bytes = regular_file::read(path, NAMES_BYTES_LIMIT)?;
    String::from_utf8(bytes).map_err(|error| {
        io::Error::other(format!("byte {} is not UTF-8: expected class names", error.utf8_error().valid_up_to()))
    })
}

fn read_images(variant: Variant, part: Part, root: &Path, path: &Path, intake: &mut Intake) -> Result<(), DataError> {
    let mut file =
        regular_file::open(path).map_err(|source| DataError::missing_or_io(variant.layout(), root, path, source))?;
    let n_records = n_records(variant, part, path, &file)?;
    let mut records = Vec::new();
    for first in (0..n_records).step_by(RECORDS_PER_READ as usize) {
        let count = RECORDS_PER_READ.min(n_records - first);
        records.resize(count as usize * variant.record_bytes(), 0);
        file.read_exact(&mut records).map_err(|source| cut_off(path, source))?;
        for (record, bytes) in (first..).zip(records.chunks_exact(variant.record_bytes())) {
            take_record(variant, part, bytes, intake, |label| DataError::CifarLabel {
                path: path.to_owned(),
                record,
                label,
                n_classes: variant.n_classes() as u32,
            })?;
        }
    }
    Ok(())
}

/// From the length alone, so that a file of terabytes is refused before any of it is read.
fn n_records(variant: Variant, part: Part, path: &Path, file: &File) -> Result<u64, DataError> {
    let bytes = file.metadata().map_err(|source| DataError::io(path, source))?.len();
    let record_bytes = variant.record_bytes() as u64;
    if bytes == 0 {
        return Err(DataError::CifarEmpty { path: path.to_owned(), record_bytes });
    }
    if !bytes.is_multiple_of(record_bytes) {
        return Err(DataError::CifarSize { path: path.to_owned(), bytes, record_bytes });
    }
    let (n_records, expected) = (bytes / record_bytes, variant.records_max(part));
    if n_records > expected {
        return Err(DataError::CifarTooLong { path: path.to_owned(), n_records, expected });
    }
    Ok(n_records)
}

fn take_record(
    variant: Variant,
    part: Part,
    bytes: &[u8],
    intake: &mut Intake,
    wrong_label: impl Fn(u8) -> DataError,
) -> Result<(), DataError> {
    let (labels, planes) = bytes.split_at(variant.label_bytes());
    let label = labels[labels.len() - 1];
    if usize::from(label) >= variant.n_classes() {
        return Err(wrong_label(label));
    }
    let pixels = interleave(planes);
    intake.push(part, u32::from(label), ImageRef { width: SIDE, height: SIDE, pixels: &pixels })
}

/// The length was asked for first, so an end before it means that someone writes to the file.
fn cut_off(path: &Path, source: io::Error) -> DataError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => DataError::io(path, io::Error::other("it became shorter while it was read")),
        _ => DataError::io(path, source),
    }
}

/// Channel × height × width to height × width × channel.
fn interleave(planes: &[u8]) -> [u8; 3 * PLANE] {
    let (red, rest) = planes.split_at(PLANE);
    let (green, blue) = rest.split_at(PLANE);
    let mut pixels = [0; 3 * PLANE];
    for (pixel, ((&r, &g), &b)) in pixels.chunks_exact_mut(3).zip(red.iter().zip(green).zip(blue)) {
        pixel.copy_from_slice(&[r, g, b]);
    }
    pixels
}
