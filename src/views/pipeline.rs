//! The list of augmentations applied to one image, to a batch, and what an evaluation sees instead.

use std::ops::Range;

use rayon::prelude::*;

use crate::data::{ImageRef, Images};
use crate::device::Pool;
use crate::experiment::recipe;
use crate::random::{Address, Purpose, Stream};
use crate::views::normalize::Normalize;
use crate::views::operation::Operation;
use crate::views::scratch::Scratch;

/// Views a worker makes with one scratch.
const VIEWS_PER_TASK: usize = 16;

/// Which view of which example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub epoch: u32,
    /// Index of the example in its data set.
    pub example: u32,
    /// 0 or 1 while training; evaluations draw the views of [`view`].
    pub view: u8,
}

/// Views beside the two of training, so that no evaluation sees a draw that trained the encoder. A number is part of the
/// address of its draws: never reuse or renumber one.
pub mod view {
    /// Of the images that train an augmented linear probe.
    pub const PROBE: u8 = 2;
    /// The two whose alignment and uniformity are measured.
    pub const HEALTH: [u8; 2] = [3, 4];
    /// Under one augmentation alone.
    pub const ROBUSTNESS: u8 = 5;
    /// Of the images that a fine-tuning learns from.
    pub const FINE_TUNE: u8 = 6;
}

/// Augmentations made ready for views of one side and one seed.
///
/// Operations before a crop see the image at its own size. A list without a crop sees it fitted to the side first, as an
/// evaluation does.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    operations: Vec<Operation>,
    side: usize,
    seed: u64,
}

impl Pipeline {
    /// `side`: height and width of a view in pixels, at least 1. Parameters are taken as they are: they were checked when the
    /// experiment was read. Operations 256 places apart would share their draws.
    pub fn new(augmentations: &[recipe::Augmentation], side: usize, seed: u64) -> Pipeline {
        Pipeline { operations: augmentations.iter().map(Operation::new).collect(), side, seed }
    }

    pub fn side(&self) -> usize {
        self.side
    }

    /// Values of one view: side × side × 3.
    pub fn view_len(&self) -> usize {
        3 * self.side * self.side
    }

    /// One view, side × side × 3, after all operations.
    ///
    /// # Panics
    /// When `out` has another length or the image has no pixel.
    pub fn view(&self, image: ImageRef<'_>, place: Place, scratch: &mut Scratch, out: &mut [f32]) {
        assert_eq!(out.len(), self.view_len(), "a view is side × side × 3");
        let done = self.load(image, place, scratch);
        for (position, operation) in self.operations.iter().enumerate().skip(done) {
            operation.apply(&mut self.stream(place, position), self.side, scratch);
        }
        scratch.map.write_interleaved(out);
    }

    /// Both views of every example: the first views of all, then the second views of all, each side × side × 3.
    /// The bits depend neither on the pool nor on which other examples are asked for.
    ///
    /// # Panics
    /// When `out` has another length or an example does not exist.
    pub fn batch(&self, images: &Images, examples: &[u32], epoch: u32, pool: &Pool, out: &mut [f32]) {
        assert_eq!(out.len(), 2 * examples.len() * self.view_len(), "two views an example");
        self.each(pool, out, |index, scratch, out| {
            let example = examples[index % examples.len()];
            let place = Place { epoch, example, view: (index / examples.len()) as u8 };
            self.view(images.get(example as usize), place, scratch, out);
        });
    }

    /// One view of every example, in order, each side × side × 3.
    ///
    /// # Panics
    /// As [`Pipeline::batch`].
    pub fn views(&self, images: &Images, examples: &[u32], (epoch, view): (u32, u8), pool: &Pool, out: &mut [f32]) {
        assert_eq!(out.len(), examples.len() * self.view_len(), "one view an example");
        self.each(pool, out, |index, scratch, out| {
            let place = Place { epoch, example: examples[index], view };
            self.view(images.get(examples[index] as usize), place, scratch, out);
        });
    }

    /// What evaluations see: the shorter side resized to `side`, the centre cropped, normalised, nothing random.
    /// An image of side × side is only normalised.
    ///
    /// # Panics
    /// As [`Pipeline::view`].
    pub fn evaluation(&self, image: ImageRef<'_>, scratch: &mut Scratch, out: &mut [f32]) {
        assert_eq!(out.len(), self.view_len(), "a view is side × side × 3");
        scratch.load_fitted(image, self.side);
        self.normalizations().for_each(|normalize| normalize.apply(&mut scratch.map));
        scratch.map.write_interleaved(out);
    }

    /// [`Pipeline::evaluation`] of a range of images.
    ///
    /// # Panics
    /// As [`Pipeline::batch`].
    pub fn evaluation_batch(&self, images: &Images, range: Range<usize>, pool: &Pool, out: &mut [f32]) {
        assert_eq!(out.len(), range.len() * self.view_len(), "one view an image");
        self.each(pool, out, |index, scratch, out| self.evaluation(images.get(range.start + index), scratch, out));
    }

    pub(super) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn normalizations(&self) -> impl DoubleEndedIterator<Item = &Normalize> {
        self.operations.iter().filter_map(|operation| match operation {
            Operation::Normalize(normalize) => Some(normalize),
            Operation::RandomResizedCrop(_)
            | Operation::HorizontalFlip { .. }
            | Operation::VerticalFlip { .. }
            | Operation::Rotate90 { .. }
            | Operation::Rotate(_)
            | Operation::ColorJitter(_)
            | Operation::Grayscale { .. }
            | Operation::GaussianBlur(_)
            | Operation::Solarize { .. } => None,
        })
    }

    /// Fills the views of `out`, by index, on all workers.
    fn each(&self, pool: &Pool, out: &mut [f32], make: impl Fn(usize, &mut Scratch, &mut [f32]) + Sync + Send) {
        let views = |task: usize, out: &mut [f32]| {
            let mut scratch = Scratch::default();
            for (index, view) in out.chunks_exact_mut(self.view_len()).enumerate() {
                make(task * VIEWS_PER_TASK + index, &mut scratch, view);
            }
        };
        let tasks = out.par_chunks_mut(VIEWS_PER_TASK * self.view_len()).enumerate();
        pool.install(|| tasks.for_each(|(task, out)| views(task, out)));
    }

    /// Brings the image into the map and says how many operations that took: a crop in first place reads its own pixels only.
    fn load(&self, image: ImageRef<'_>, place: Place, scratch: &mut Scratch) -> usize {
        if let Some(Operation::RandomResizedCrop(crop)) = self.operations.first() {
            let window = crop.draw(&mut self.stream(place, 0), image.width, image.height);
            scratch.load_crop(image, window, crop.resampled(self.side));
            return 1;
        }
        if self.operations.iter().any(|operation| matches!(operation, Operation::RandomResizedCrop(_))) {
            scratch.load_whole(image);
        } else {
            scratch.load_fitted(image, self.side);
        }
        0
    }

    fn stream(&self, place: Place, position: usize) -> Stream {
        let Place { epoch, example, view } = place;
        Stream::new(self.seed, Address { purpose: Purpose::View, epoch, example, view, op: position as u8 })
    }
}
