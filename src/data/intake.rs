//! Takes a data set in, image by image: hashes, counts and, where asked to, keeps it.

use crate::content::Key;
use crate::data::digest::DatasetDigest;
use crate::data::{DataError, Dataset, ImageRef, LabelledImages, Part};

/// More decoded pixels than this are refused, whatever the data set.
pub(super) const DECODED_BYTES_LIMIT: u64 = 64 << 30;

/// Whether the pixels outlive their hashing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Pixels,
    Nothing,
}

/// What is known of a data set before its split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    /// Number of images of each class.
    pub train_per_class: Vec<u32>,
    pub test_per_class: Vec<u32>,
    pub digest: Key,
}

pub(super) struct Intake {
    class_names: Vec<String>,
    digest: DatasetDigest,
    /// Images of each class, in the training and in the test part.
    per_class: [Vec<u32>; 2],
    n_images: u32,
    bytes: u64,
    bytes_limit: u64,
    kept: Option<[LabelledImages; 2]>,
}

impl Intake {
    pub fn new(class_names: Vec<String>, keep: Keep) -> Intake {
        let kept = match keep {
            Keep::Pixels => Some(<[LabelledImages; 2]>::default()),
            Keep::Nothing => None,
        };
        let per_class = [vec![0; class_names.len()], vec![0; class_names.len()]];
        let digest = DatasetDigest::new(&class_names);
        Intake { class_names, digest, per_class, n_images: 0, bytes: 0, bytes_limit: DECODED_BYTES_LIMIT, kept }
    }

    /// The next image; a reader hands over the training part first and checks that `label` names a class.
    pub fn push(&mut self, part: Part, label: u32, image: ImageRef<'_>) -> Result<(), DataError> {
        self.bytes += image.pixels.len() as u64;
        if self.bytes > self.bytes_limit {
            return Err(DataError::TooManyBytes { limit_bytes: self.bytes_limit });
        }
        self.n_images = self.n_images.checked_add(1).ok_or(DataError::TooManyImages)?;
        self.per_class[part as usize][label as usize] += 1;
        self.digest.image(part, label, image);
        if let Some(parts) = &mut self.kept {
            let kept = &mut parts[part as usize];
            // A reader yields sizes that were u32 in its file.
            kept.images.push(image.width as u32, image.height as u32, image.pixels);
            kept.labels.push(label);
        }
        Ok(())
    }

    pub fn into_summary(self) -> Summary {
        let [train_per_class, test_per_class] = self.per_class;
        Summary { train_per_class, test_per_class, digest: self.digest.finish() }
    }

    /// The whole data set; without pixels when they were not kept.
    pub fn into_dataset(self) -> Dataset {
        let [train, test] = self.kept.unwrap_or_default();
        Dataset { train, test, class_names: self.class_names, digest: self.digest.finish() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake(keep: Keep) -> Intake {
        Intake::new(vec!["a".to_owned(), "b".to_owned()], keep)
    }

    fn image(pixels: &[u8]) -> ImageRef<'_> {
        ImageRef { width: pixels.len() / 3, height: 1, pixels }
    }

    #[test]
    fn keeping_changes_nothing_but_what_is_kept() {
        let [mut kept, mut passed] = [intake(Keep::Pixels), intake(Keep::Nothing)];
        for intake in [&mut kept, &mut passed] {
            intake.push(Part::Train, 1, image(&[1, 2, 3])).unwrap();
            intake.push(Part::Train, 1, image(&[4, 5, 6, 7, 8, 9])).unwrap();
            intake.push(Part::Test, 0, image(&[0, 0, 1])).unwrap();
        }
        let summary = passed.into_summary();
        assert_eq!((&summary.train_per_class, &summary.test_per_class), (&vec![0, 2], &vec![1, 0]));
        let dataset = kept.into_dataset();
        assert_eq!(dataset.digest, summary.digest);
        assert_eq!((&dataset.train.labels, &dataset.test.labels), (&vec![1, 1], &vec![0]));
        assert_eq!(dataset.train.images.get(1), image(&[4, 5, 6, 7, 8, 9]));
    }

    #[test]
    fn too_many_bytes_are_refused() {
        let mut intake = Intake { bytes_limit: 5, ..intake(Keep::Nothing) };
        intake.push(Part::Train, 0, image(&[0; 3])).unwrap();
        let text = intake.push(Part::Train, 0, image(&[0; 3])).unwrap_err().to_string();
        assert!(text.starts_with("the decoded data set is larger than 5 bytes"), "{text}");
    }
}
