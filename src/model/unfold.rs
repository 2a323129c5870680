//! Images as columns: every window of an image becomes one column, so that a convolution is one matrix product.

use std::ops::Range;

use crate::model::plan::Window;
use crate::model::window::output_side;

/// Sizes of a window sliding over images stored channels × height × width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sliding {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub out_height: usize,
    pub out_width: usize,
    pub window: Window,
}

impl Sliding {
    /// # Panics
    /// When the padded image is smaller than the window, which [`Lower`](crate::model::lower::Lower) rules out.
    pub fn new(channels: usize, height: usize, width: usize, window: Window) -> Sliding {
        let side = |side| output_side(side, window.kernel, window.stride, window.padding);
        Sliding { channels, height, width, out_height: side(height), out_width: side(width), window }
    }

    /// Numbers an image.
    pub fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Windows an image.
    pub fn positions(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Numbers a window: channels × kernel × kernel.
    pub fn window_len(&self) -> usize {
        self.channels * self.window.kernel * self.window.kernel
    }

    /// The outputs of one axis whose window has its tap number `tap` inside the image.
    fn inside(&self, tap: usize, side: usize, out_side: usize) -> Range<usize> {
        let Window { stride, padding, .. } = self.window;
        let first = padding.saturating_sub(tap).div_ceil(stride);
        let end = (side + padding).saturating_sub(tap).div_ceil(stride).min(out_side);
        first.min(end)..end
    }

    /// Calls `each(row of the columns, column, index in the images, length)` for every run of taps along an output row
    /// that lies inside an image. Inputs of a run are `stride` apart.
    fn runs(&self, n_images: usize, mut each: impl FnMut(usize, usize, usize, usize)) {
        let Window { kernel, stride, padding } = self.window;
        for row in 0..self.window_len() {
            let (channel, tap_y, tap_x) = (row / (kernel * kernel), row / kernel % kernel, row % kernel);
            let across = self.inside(tap_x, self.width, self.out_width);
            if across.is_empty() {
                continue;
            }
            for image in 0..n_images {
                for out_y in self.inside(tap_y, self.height, self.out_height) {
                    let y = out_y * stride + tap_y - padding;
                    let x = across.start * stride + tap_x - padding;
                    let column = image * self.positions() + out_y * self.out_width + across.start;
                    let place = ((image * self.channels + channel) * self.height + y) * self.width + x;
                    each(row, column, place, across.len());
                }
            }
        }
    }
}

/// `images`: n × channels × height × width. Gives `window_len` rows of n × `positions` columns; padding is 0.
pub(crate) fn unfold(images: &[f32], sliding: &Sliding) -> Vec<f32> {
    let n_images = images.len() / sliding.image_len();
    let n_columns = n_images * sliding.positions();
    let stride = sliding.window.stride;
    let mut columns = vec![0.0; sliding.window_len() * n_columns];
    sliding.runs(n_images, |row, column, place, len| {
        let out = &mut columns[row * n_columns + column..][..len];
        for (value, pixel) in out.iter_mut().zip(images[place..].iter().step_by(stride)) {
            *value = *pixel;
        }
    });
    columns
}

/// The transpose of [`unfold`]: adds every column back onto the pixels it came from.
pub(crate) fn fold_onto(images: &mut [f32], columns: &[f32], sliding: &Sliding) {
    let n_images = images.len() / sliding.image_len();
    let n_columns = n_images * sliding.positions();
    let stride = sliding.window.stride;
    sliding.runs(n_images, |row, column, place, len| {
        let run = &columns[row * n_columns + column..][..len];
        for (value, pixel) in run.iter().zip(images[place..].iter_mut().step_by(stride)) {
            *pixel += value;
        }
    });
}
