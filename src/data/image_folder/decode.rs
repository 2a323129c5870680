//! One image file to RGB, 8 bits, within bounds that no file can talk its way out of.

use std::borrow::Cow;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{ImageError, ImageReader, Limits, RgbImage};

use crate::data::image_folder::jpeg;
use crate::data::image_folder::listing::{Content, ImageFile};
use crate::data::regular_file;

pub(super) const FILE_BYTES_LIMIT: u64 = 256 << 20;
const SIDE_LIMIT: u32 = 8192;
const MEMORY_BYTES_LIMIT: u64 = 256 << 20;

/// The reason of a failure is made for a list of broken files.
pub(super) fn decode(file: &ImageFile) -> Result<RgbImage, String> {
    let bytes = match &file.content {
        Content::OnDisk => {
            Cow::Owned(regular_file::read(&file.path, FILE_BYTES_LIMIT).map_err(|error| error.to_string())?)
        }
        Content::Held(bytes) => Cow::Borrowed(bytes.as_slice()),
    };
    // The decoders are others' code and the bytes anyone's: a panic there is one more kind of broken file.
    catch_unwind(AssertUnwindSafe(|| decode_bytes(&bytes)))
        .unwrap_or_else(|_| Err("the decoder gave up on it".to_owned()))
}

fn decode_bytes(bytes: &[u8]) -> Result<RgbImage, String> {
    if bytes.starts_with(&jpeg::START) && !jpeg::is_complete(bytes) {
        return Err("the JPEG data is cut off before its end-of-image marker".to_owned());
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_LIMIT);
    limits.max_image_height = Some(SIDE_LIMIT);
    limits.max_alloc = Some(MEMORY_BYTES_LIMIT);
    reader.limits(limits);
    let image = reader.decode().map_err(|error| reason(&error))?.into_rgb8();
    if image.is_empty() {
        return Err("the image has no pixel".to_owned());
    }
    Ok(image)
}

/// One line that says what to change.
fn reason(error: &ImageError) -> String {
    match error {
        ImageError::Limits(_) => {
            format!("larger than {SIDE_LIMIT}×{SIDE_LIMIT} pixels or {MEMORY_BYTES_LIMIT} bytes decoded")
        }
        ImageError::Unsupported(_) => "not an image in JPEG, PNG, WebP or BMP".to_owned(),
        ImageError::Decoding(_) | ImageError::Encoding(_) | ImageError::Parameter(_) | ImageError::IoError(_) => {
            error.to_string().lines().collect::<Vec<_>>().join(" ")
        }
    }
}
