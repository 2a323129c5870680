//! Working memory of one thread, so that no view allocates.

use crate::data::ImageRef;
use crate::views::gaussian_blur::Blurring;
use crate::views::map::{Map, Window};
use crate::views::random_resized_crop::{Resampled, Resampling, fit, resize};

/// Grows to the largest image seen; carries nothing from one view to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The image as the operations done so far left it.
    pub(super) map: Map,
    /// What an operation that cannot work in place reads from.
    pub(super) spare: Map,
    pub(super) resampling: Resampling,
    pub(super) blurring: Blurring,
}

impl Scratch {
    /// The window of an image, resampled.
    pub(super) fn load_crop(&mut self, image: ImageRef<'_>, window: Window, wanted: Resampled) {
        self.spare.load(image, window);
        self.resize_spare(wanted);
    }

    /// The window of the map, resampled.
    pub(super) fn crop(&mut self, window: Window, wanted: Resampled) {
        self.spare.cut(&self.map, window);
        self.resize_spare(wanted);
    }

    /// The whole image at its own size.
    pub(super) fn load_whole(&mut self, image: ImageRef<'_>) {
        self.map.load(image, Window::whole(image.width, image.height));
    }

    /// The whole image, its shorter side brought to `side`, and of that the centre.
    pub(super) fn load_fitted(&mut self, image: ImageRef<'_>, side: usize) {
        if (image.width, image.height) == (side, side) {
            return self.load_whole(image);
        }
        self.spare.load(image, Window::whole(image.width, image.height));
        self.resize_spare(fit(image.width, image.height, side));
    }

    fn resize_spare(&mut self, wanted: Resampled) {
        resize(&self.spare, &mut self.map, wanted, &mut self.resampling);
    }
}
