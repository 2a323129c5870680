//! The digest of a data set: over every pixel, size, label and class name of both parts, in order.
//!
//! The bytes hashed are the domain and the class names, each behind its length, then for every image its part, width,
//! height, label (little endian) and pixels, then an end mark. What follows is always determined by what came before,
//! so no two data sets share their bytes. File names and formats are not in it: equal pixels mean an equal data set.

use crate::content::{Key, KeyHasher};
use crate::data::{ImageRef, Part};

/// Names the encoding and what is read into it; renamed whenever either changes.
pub(super) const DOMAIN: &str = "ablate/dataset/k1";

/// BLAKE3 hashes many chunks at once only when it is handed many at once.
const BUFFER_BYTES: usize = 1 << 18;

pub(super) struct DatasetDigest {
    hasher: KeyHasher,
    buffer: Vec<u8>,
}

impl DatasetDigest {
    pub fn new(class_names: &[String]) -> DatasetDigest {
        let mut digest = DatasetDigest { hasher: Key::hasher(), buffer: Vec::with_capacity(BUFFER_BYTES) };
        digest.text(DOMAIN);
        digest.write(&(class_names.len() as u64).to_le_bytes());
        class_names.iter().for_each(|name| digest.text(name));
        digest
    }

    pub fn image(&mut self, part: Part, label: u32, image: ImageRef<'_>) {
        let mark = match part {
            Part::Train => 0,
            Part::Test => 1,
        };
        self.write(&[mark]);
        self.write(&(image.width as u64).to_le_bytes());
        self.write(&(image.height as u64).to_le_bytes());
        self.write(&label.to_le_bytes());
        self.write(image.pixels);
    }

    pub fn finish(mut self) -> Key {
        self.write(&[2]);
        self.hasher.update(&self.buffer);
        self.hasher.finish()
    }

    fn text(&mut self, text: &str) {
        self.write(&(text.len() as u64).to_le_bytes());
        self.write(text.as_bytes());
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while self.buffer.len() + bytes.len() > BUFFER_BYTES {
            let (head, rest) = bytes.split_at(BUFFER_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(head);
            self.hasher.update(&self.buffer);
            self.buffer.clear();
            bytes = rest;
        }
        self.buffer.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(names: &[&str], images: &[(Part, u32, usize, &[u8])]) -> Key {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut digest = DatasetDigest::new(&names);
        for &(part, label, width, pixels) in images {
            digest.image(part, label, ImageRef { width, height: pixels.len() / 3 / width, pixels });
        }
        digest.finish()
    }

    #[test]
    fn every_leaf_moves_the_digest() {
        let (a, b): (&[u8], &[u8]) = (&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 5, 7]);
        let keys = [
            digest(&["x", "y"], &[(Part::Train, 0, 1, a), (Part::Test, 1, 1, b)]),
            digest(&["x", "y"], &[(Part::Train, 0, 1, b), (Part::Test, 1, 1, b)]),
            digest(&["x", "y"], &[(Part::Train, 1, 1, a), (Part::Test, 1, 1, b)]),
            digest(&["x", "y"], &[(Part::Train, 0, 2, a), (Part::Test, 1, 1, b)]),
            digest(&["x", "y"], &[(Part::Test, 0, 1, a), (Part::Test, 1, 1, b)]),
            digest(&["x", "y"], &[(Part::Test, 1, 1, b), (Part::Train, 0, 1, a)]),
            digest(&["x", "z"], &[(Part::Train, 0, 1, a), (Part::Test, 1, 1, b)]),
            digest(&["y", "x"], &[(Part::Train, 0, 1, a), (Part::Test, 1, 1, b)]),
            digest(&["xy", ""], &[(Part::Train, 0, 1, a), (Part::Test, 1, 1, b)]),
            digest(&["x", "y"], &[(Part::Train, 0, 1, a)]),
            digest(&["x", "y"], &[]),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "case {index} shares its digest with an earlier one");
        }
    }

    /// The same bytes in one piece, around the edges of the buffer.
    #[test]
    fn buffering_does_not_show() {
        for n_pixels in [0, 1, 87_372, 87_373, 87_374, 262_144, 300_001] {
            let pixels: Vec<u8> = (0..n_pixels * 3).map(|i| (i % 251) as u8).collect();
            let mut plain = Vec::new();
            plain.extend((DOMAIN.len() as u64).to_le_bytes());
            plain.extend(DOMAIN.as_bytes());
            plain.extend(1u64.to_le_bytes());
            plain.extend(1u64.to_le_bytes());
            plain.extend(b"x");
            for part in [0, 1] {
                plain.push(part);
                plain.extend(1u64.to_le_bytes());
                plain.extend((n_pixels as u64).to_le_bytes());
                plain.extend(7u32.to_le_bytes());
                plain.extend(&pixels);
            }
            plain.push(2);
            let streamed = digest(&["x"], &[(Part::Train, 7, 1, &pixels), (Part::Test, 7, 1, &pixels)]);
            assert_eq!(streamed, Key::of_bytes(&plain), "{n_pixels} pixels");
        }
    }
}
