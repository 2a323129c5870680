//! A folder of images: `root/train/<class>/<image>` and `root/test/<class>/<image>` (or `val`). The root may also be a
//! `.tar` or `.tar.xz` of these folders, with or without a folder of their own around them.
//!
//! A link that stays inside the root is followed, as if what it leads to lay in its place; one that leads out is refused,
//! so that the data set is what its folder holds. Pipes, sockets and devices are refused and never opened. The digest is of
//! the pixels that were decoded, whatever becomes of the files meanwhile.
//!
//! Any image size and any of JPEG, PNG, WebP and BMP, told apart by content as Pillow does. Alpha is dropped, grey
//! becomes RGB and an EXIF orientation is not applied, as torchvision's `ImageFolder` has it; 16 bits are rounded to 8.

mod archive;
mod decode;
mod jpeg;
mod listing;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::data::image_folder::decode::decode;
use crate::data::image_folder::listing::{ImageFile, Listing};
use crate::data::intake::{Intake, Keep};
use crate::data::{BrokenImage, DataError, ImageRef, Layout};

const FILES_PER_BLOCK: usize = 512;
/// Decoded pixels of one block; what is over waits for the next one.
const BLOCK_BYTES: u64 = 1 << 30;
const BROKEN_SHOWN: usize = 10;

/// Reads every image; broken ones are collected, so that one pass names them all.
pub(super) fn read(root: &Path, keep: Keep) -> Result<Intake, DataError> {
    let listing = if is_folder(root)? { Listing::of(root)? } else { archive::read(root)? };
    let intake = Intake::new(listing.class_names, keep);
    read_listed(listing.files, intake, BLOCK_BYTES)
}

/// Every file that is read: the image files in their order, or the archive.
pub(super) fn files(root: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !is_folder(root)? {
        return Ok(vec![root.to_owned()]);
    }
    Ok(Listing::of(root)?.files.into_iter().map(|file| file.path).collect())
}

fn is_folder(root: &Path) -> Result<bool, DataError> {
    let found = root.metadata();
    let found = found.map_err(|source| DataError::missing_or_io(Layout::ImageFolder, root, root, source))?;
    Ok(found.is_dir())
}

fn read_listed(mut files: Vec<ImageFile>, mut intake: Intake, block_bytes: u64) -> Result<Intake, DataError> {
    let mut broken = Broken::default();
    let (n_images, mut n_read) = (files.len(), 0);
    while n_read < n_images {
        let block = &mut files[n_read..n_images.min(n_read + FILES_PER_BLOCK)];
        let mut n_done = 0;
        for (file, decoded) in
            block.iter().zip(decode_block(block, block_bytes)).map_while(|(file, slot)| slot.map(|s| (file, s)))
        {
            n_done += 1;
            match decoded {
                Ok(image) if broken.n == 0 => {
                    let (width, height) = (image.width() as usize, image.height() as usize);
                    intake.push(file.part, file.label, ImageRef { width, height, pixels: image.as_raw() })?;
                }
                Ok(_) => {}
                Err(reason) => broken.push(&file.path, reason),
            }
        }
        block[..n_done].iter_mut().for_each(ImageFile::release);
        n_read += n_done;
    }
    broken.into_result(n_images)?;
    Ok(intake)
}

/// Decodes in parallel, in order. A slot stays empty when the block's memory was spent before its turn came; the first
/// never does, so every block gets on. Which ones do depends on the threads, what is read does not.
fn decode_block(block: &[ImageFile], block_bytes: u64) -> Vec<Option<Result<image::RgbImage, String>>> {
    let spent_bytes = AtomicU64::new(0);
    let decode_within = |(index, file): (usize, &ImageFile)| {
        if index > 0 && spent_bytes.load(Ordering::Relaxed) > block_bytes {
            return None;
        }
        let decoded = decode(file);
        let bytes = decoded.as_ref().map_or(0, |image| image.as_raw().len() as u64);
        spent_bytes.fetch_add(bytes, Ordering::Relaxed);
        Some(decoded)
    };
    block.par_iter().enumerate().map(decode_within).collect()
}

/// The first broken images and the number of all.
#[derive(Default)]
struct Broken {
    first: Vec<BrokenImage>,
    n: usize,
}

impl Broken {
    fn push(&mut self, path: &Path, reason: String) {
        self.n += 1;
        if self.first.len() < BROKEN_SHOWN {
            self.first.push(BrokenImage { path: path.to_owned(), reason });
        }
    }

    fn into_result(self, n_images: usize) -> Result<(), DataError> {
        if self.n == 0 {
            return Ok(());
        }
        Err(DataError::FolderBroken { first: self.first, n_broken: self.n, n_images })
    }
}
