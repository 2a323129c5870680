//! Contact sheets made small enough for a page.

use std::io::Cursor;

use image::imageops::FilterType;
use image::{ImageFormat, ImageReader};

use crate::report::page::Sheet;

/// A sheet is halved so often at most.
const HALVINGS_MAX: u32 = 4;

/// The picture as it is, or of half the height and width until it is at most `bytes_max` long; none for what is no PNG or
/// stays too long.
pub fn fitted(title: String, png: Vec<u8>, bytes_max: usize) -> Option<Sheet> {
    let mut reader = ImageReader::with_format(Cursor::new(&png), ImageFormat::Png);
    reader.limits(image::Limits::default());
    let picture = reader.decode().ok()?;
    let (width, height) = (picture.width(), picture.height());
    if png.len() <= bytes_max {
        return Some(Sheet { title, png, width, height });
    }
    for halvings in 1..=HALVINGS_MAX {
        let (width, height) = ((width >> halvings).max(1), (height >> halvings).max(1));
        let smaller = picture.resize_exact(width, height, FilterType::Triangle);
        let mut bytes = Vec::new();
        smaller.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).ok()?;
        if bytes.len() <= bytes_max {
            return Some(Sheet { title, png: bytes, width, height });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise, which no encoder makes shorter.
    fn png(side: u32) -> Vec<u8> {
        let noise = |x: u32, y: u32| {
            let mixed = (x * 7919 + y * 104_729).wrapping_mul(2_654_435_761);
            image::Rgb([(mixed >> 24) as u8, (mixed >> 16) as u8, (mixed >> 8) as u8])
        };
        let mut bytes = Vec::new();
        let picture = image::RgbImage::from_fn(side, side, noise);
        picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).expect("a PNG");
        bytes
    }

    #[test]
    fn what_fits_is_kept_to_the_byte_and_what_does_not_is_halved() {
        let whole = png(64);
        let kept = fitted("a".to_owned(), whole.clone(), whole.len()).expect("a sheet");
        assert_eq!((kept.png, kept.width, kept.height), (whole.clone(), 64, 64));
        let halved = fitted("a".to_owned(), whole.clone(), whole.len() - 1).expect("a sheet");
        assert!(halved.width < 64 && halved.png.len() < whole.len());
        assert_eq!(image::load_from_memory(&halved.png).expect("a PNG").width(), halved.width);
        assert_eq!(fitted("a".to_owned(), whole, 10), None);
        assert_eq!(fitted("a".to_owned(), b"no picture".to_vec(), 100), None);
    }
}
