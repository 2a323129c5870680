//! Datasets: u8 images, labels and the digest of both.

pub mod builtin;
pub mod cifar;
pub mod image_folder;

use crate::content::Key;

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
