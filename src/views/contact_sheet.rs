//! A picture to judge a pipeline by: originals beside their two views.

use image::ImageEncoder;
use image::codecs::png::PngEncoder;

use crate::data::Images;
use crate::views::pipeline::{Pipeline, Place};
use crate::views::scratch::Scratch;

/// Triples (original, first view, second view) in a row of the sheet.
const TRIPLES_PER_ROW: usize = 8;
/// Pixels between the pictures of a triple.
const NARROW_GAP: usize = 2;
/// Pixels around every triple.
const WIDE_GAP: usize = 8;
const BACKGROUND: u8 = 255;
/// Small views are enlarged until they are at least this wide, by whole factors.
const LEGIBLE_SIDE: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum ContactSheetError {
    #[error("a contact sheet needs at least one image, found none")]
    NoImages,
    #[error("a contact sheet of {width}×{height} pixels cannot be written as PNG: {source}")]
    Encode { width: usize, height: usize, source: image::ImageError },
}

/// Where everything lies.
struct Layout {
    side: usize,
    factor: usize,
    width: usize,
    height: usize,
}

impl Layout {
    fn new(side: usize, n: usize) -> Layout {
        let factor = (LEGIBLE_SIDE / side.max(1)).max(1);
        let mut layout = Layout { side, factor, width: 0, height: 0 };
        let columns = n.min(TRIPLES_PER_ROW);
        layout.width = WIDE_GAP + columns * layout.triple_pitch();
        layout.height = WIDE_GAP + n.div_ceil(TRIPLES_PER_ROW) * layout.row_pitch();
        layout
    }

    fn tile(&self) -> usize {
        self.side * self.factor
    }

    fn triple_pitch(&self) -> usize {
        3 * self.tile() + 2 * NARROW_GAP + WIDE_GAP
    }

    fn row_pitch(&self) -> usize {
        self.tile() + WIDE_GAP
    }

    /// Top left pixel of picture 0, 1 or 2 of a triple.
    fn corner(&self, triple: usize, picture: usize) -> (usize, usize) {
        let left = WIDE_GAP + triple % TRIPLES_PER_ROW * self.triple_pitch() + picture * (self.tile() + NARROW_GAP);
        let top = WIDE_GAP + triple / TRIPLES_PER_ROW * self.row_pitch();
        (left, top)
    }

    /// Draws side × side × 3 values in [0, 1].
    fn draw(&self, sheet: &mut [u8], (left, top): (usize, usize), picture: &[f32]) {
        for y in 0..self.tile() {
            let row = &picture[y / self.factor * self.side * 3..][..self.side * 3];
            let start = ((top + y) * self.width + left) * 3;
            let line = &mut sheet[start..start + self.tile() * 3];
            for (pixels, values) in line.chunks_exact_mut(3 * self.factor).zip(row.chunks_exact(3)) {
                for (level, value) in pixels.iter_mut().zip(values.iter().cycle()) {
                    *level = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
                }
            }
        }
    }
}

/// PNG bytes of the first `n` images (fitted to the side, as evaluations see them) and their two views of epoch 0, without
/// normalisation. Views of less than 64 pixels are enlarged by a whole factor. The bytes are a function of the arguments.
pub fn contact_sheet(pipeline: &Pipeline, images: &Images, n: usize) -> Result<Vec<u8>, ContactSheetError> {
    let n = n.min(images.len());
    if n == 0 {
        return Err(ContactSheetError::NoImages);
    }
    let layout = Layout::new(pipeline.side(), n);
    let mut sheet = vec![BACKGROUND; layout.width * layout.height * 3];
    let mut scratch = Scratch::default();
    let mut picture = vec![0.0; pipeline.view_len()];
    for index in 0..n {
        let image = images.get(index);
        for slot in 0..3 {
            if slot == 0 {
                pipeline.evaluation(image, &mut scratch, &mut picture);
            } else {
                let place = Place { epoch: 0, example: index as u32, view: slot as u8 - 1 };
                pipeline.view(image, place, &mut scratch, &mut picture);
            }
            pipeline.normalizations().rev().for_each(|normalize| normalize.undo(&mut picture));
            layout.draw(&mut sheet, layout.corner(index, slot), &picture);
        }
    }
    encode(&sheet, layout.width, layout.height)
}

fn encode(sheet: &[u8], width: usize, height: usize) -> Result<Vec<u8>, ContactSheetError> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(sheet, width as u32, height as u32, image::ExtendedColorType::Rgb8)
        .map_err(|source| ContactSheetError::Encode { width, height, source })?;
    Ok(bytes)
}
