//! Datasets: u8 images, labels and the digest of both.
//!
//! A reader (`builtin`, `cifar`, `image_folder`) hands every image to an `Intake`, training part first, and the intake
//! hashes, counts and keeps. [`load`] keeps the pixels and always hashes what it read; [`facts`] keeps none and asks
//! the [`DigestCache`] first. The split comes last, so that the digest is of the whole data set.

pub mod builtin;
mod cifar;
mod digest;
mod digest_cache;
mod error;
mod fingerprint;
mod image_folder;
mod intake;
mod regular_file;
mod split;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::content::Key;
use crate::data::cifar::Variant;
use crate::data::fingerprint::Fingerprint;
use crate::data::intake::{Intake, Keep};
use crate::experiment::recipe;
use crate::experiment::run::DataFacts;

pub use crate::data::digest_cache::DigestCache;
pub use crate::data::error::{BrokenImage, DataError, Layout};

/// One image: height × width × 3, RGB, 8 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageRef<'a> {
    pub width: usize,
    pub height: usize,
    pub pixels: &'a [u8],
}

/// Images one after another, each with its own size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Images {
    pixels: Vec<u8>,
    /// (offset, width, height) of every image.
    places: Vec<(usize, u32, u32)>,
}

/// Labelled images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelledImages {
    pub images: Images,
    pub labels: Vec<u32>,
}

/// A data set in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// What the encoder trains on; also the bank of the k-NN.
    pub train: LabelledImages,
    /// What is asked about.
    pub test: LabelledImages,
    pub class_names: Vec<String>,
    /// Over every pixel, size, label and class name of both parts.
    pub digest: Key,
}

impl Images {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn get(&self, index: usize) -> ImageRef<'_> {
        let (offset, width, height) = self.places[index];
        let (width, height) = (width as usize, height as usize);
        ImageRef { width, height, pixels: &self.pixels[offset..offset + width * height * 3] }
    }

    /// # Panics
    /// When `pixels` is not width × height × 3 long.
    pub fn push(&mut self, width: u32, height: u32, pixels: &[u8]) {
        assert_eq!(pixels.len(), width as usize * height as usize * 3);
        self.places.push((self.pixels.len(), width, height));
        self.pixels.extend_from_slice(pixels);
    }
}

/// The two parts a data set comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Test,
}

/// Reads, checks and hashes a data set, then splits it.
///
/// # Errors
/// When the data set is missing, damaged, too large, or the split leaves a part empty.
pub fn load(dataset: &recipe::Dataset, split: recipe::Split) -> Result<Dataset, DataError> {
    split::check(split)?;
    split::apply(read(dataset, Keep::Pixels)?.into_dataset(), split)
}

/// Sizes after the split and the digest before it, without keeping the pixels. With a cache, files that did not change
/// since they were last hashed are not read again.
///
/// # Errors
/// As [`load`]; a cache that cannot be read or written is not an error.
pub fn facts(
    dataset: &recipe::Dataset,
    split: recipe::Split,
    cache: Option<&DigestCache>,
) -> Result<DataFacts, DataError> {
    split::check(split)?;
    let Some(cache) = cache else {
        return split::facts(&read(dataset, Keep::Nothing)?.into_summary(), split);
    };
    let before = fingerprint(dataset)?;
    if let Some(known) = cache.find(&before) {
        return split::facts(&known, split);
    }
    let summary = read(dataset, Keep::Nothing)?.into_summary();
    // A file that changed while it was read must not pass for the one that was hashed.
    if fingerprint(dataset)?.same_files(&before) {
        cache.insert(&before, &summary);
    }
    split::facts(&summary, split)
}

/// The facts last seen of a data set whose files are not here now: enough to find its results, not to compute new ones.
pub fn remembered(dataset: &recipe::Dataset, split: recipe::Split, cache: &DigestCache) -> Option<DataFacts> {
    let (kind, root) = match dataset {
        recipe::Dataset::Builtin(_) => return None,
        recipe::Dataset::Cifar10 { root } => ("cifar10", root),
        recipe::Dataset::Cifar100 { root } => ("cifar100", root),
        recipe::Dataset::ImageFolder { root } => ("image_folder", root),
    };
    let place = std::path::absolute(root).ok()?;
    split::facts(&cache.last_of(kind, &place.to_string_lossy())?, split).ok()
}

fn read(dataset: &recipe::Dataset, keep: Keep) -> Result<Intake, DataError> {
    match dataset {
        recipe::Dataset::Builtin(builtin) => builtin::read(builtin, keep),
        recipe::Dataset::Cifar10 { root } => cifar::read(Variant::Cifar10, Path::new(root), keep),
        recipe::Dataset::Cifar100 { root } => cifar::read(Variant::Cifar100, Path::new(root), keep),
        recipe::Dataset::ImageFolder { root } => image_folder::read(Path::new(root), keep),
    }
}

fn fingerprint(dataset: &recipe::Dataset) -> Result<Fingerprint, DataError> {
    match dataset {
        recipe::Dataset::Builtin(builtin) => Ok(builtin::fingerprint(builtin)),
        recipe::Dataset::Cifar10 { root } => {
            Fingerprint::of_files("cifar10", Path::new(root), &cifar::files(Variant::Cifar10, Path::new(root))?)
        }
        recipe::Dataset::Cifar100 { root } => {
            Fingerprint::of_files("cifar100", Path::new(root), &cifar::files(Variant::Cifar100, Path::new(root))?)
        }
        recipe::Dataset::ImageFolder { root } => {
            Fingerprint::of_files("image_folder", Path::new(root), &image_folder::files(Path::new(root))?)
        }
    }
}
