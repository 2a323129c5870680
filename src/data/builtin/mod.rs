//! The procedural data set: 32×32 RGB images whose class is a form (see `form`) and whose colours, place, size,
//! rotation, background and noise are not (see `scene`).
//!
//! Every image is drawn from its own Philox stream, so it depends on the seed, its part and its index alone, and is
//! the same on every machine. Labels cycle through the classes.

mod form;
mod scene;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::content::Value;
use crate::data::builtin::form::Form;
use crate::data::builtin::scene::Scene;
use crate::data::fingerprint::Fingerprint;
use crate::data::intake::{DECODED_BYTES_LIMIT, Intake, Keep};
use crate::data::{DataError, ImageRef, Part};
use crate::experiment::recipe::Builtin;
use crate::random::{Address, Purpose, Stream};

/// As many classes as there are forms.
pub const MAX_CLASSES: u32 = Form::COUNT;

/// Height and width of every image, in pixels.
pub const SIDE: usize = 32;

const IMAGE_BYTES: usize = SIDE * SIDE * 3;
const IMAGES_PER_BLOCK: u32 = 2048;

/// Bumped by hand when a pixel changes, so that no cached digest outlives it; a pinned digest in the tests says when
/// that was forgotten.
const VERSION: i128 = 1;

pub(super) fn read(builtin: &Builtin, keep: Keep) -> Result<Intake, DataError> {
    check(builtin)?;
    let class_names = (0..builtin.n_classes).map(|class| Form::of_class(class).name()).collect();
    let mut intake = Intake::new(class_names, keep);
    for (part, per_class) in [(Part::Train, builtin.train_per_class), (Part::Test, builtin.test_per_class)] {
        let n_images = builtin.n_classes * per_class;
        for first in (0..n_images).step_by(IMAGES_PER_BLOCK as usize) {
            let block = first..n_images.min(first.saturating_add(IMAGES_PER_BLOCK));
            let images: Vec<[u8; IMAGE_BYTES]> =
                block.clone().into_par_iter().map(|index| image(builtin, part, index)).collect();
            for (index, pixels) in block.zip(&images) {
                intake.push(part, index % builtin.n_classes, ImageRef { width: SIDE, height: SIDE, pixels })?;
            }
        }
    }
    Ok(intake)
}

pub(super) fn fingerprint(builtin: &Builtin) -> Fingerprint {
    let Builtin { n_classes, train_per_class, test_per_class, seed } = *builtin;
    let parameters = Value::List(vec![
        Value::Integer(VERSION),
        Value::Integer(n_classes.into()),
        Value::Integer(train_per_class.into()),
        Value::Integer(test_per_class.into()),
        Value::Integer(seed.into()),
    ]);
    let place = format!("{n_classes} classes, {train_per_class} + {test_per_class} images each, seed {seed}");
    Fingerprint::of_parameters("builtin", place, &parameters)
}

/// A test part may be absent: a held-out split makes its own.
fn check(builtin: &Builtin) -> Result<(), DataError> {
    let refuse = |field, found: u64, expected: String| Err(DataError::Builtin { field, found, expected });
    let &Builtin { n_classes, train_per_class, test_per_class, .. } = builtin;
    if !(1..=MAX_CLASSES).contains(&n_classes) {
        return refuse("n_classes", n_classes.into(), format!("1 to {MAX_CLASSES}"));
    }
    if train_per_class == 0 {
        return refuse("train_per_class", 0, "at least 1".to_owned());
    }
    // Below 2³² images in all, so that no count overflows.
    let limit = DECODED_BYTES_LIMIT / (u64::from(n_classes) * IMAGE_BYTES as u64);
    let per_class = u64::from(train_per_class) + u64::from(test_per_class);
    if per_class > limit {
        return refuse(
            "train_per_class + test_per_class",
            per_class,
            format!("at most {limit} for {n_classes} classes"),
        );
    }
    Ok(())
}

fn image(builtin: &Builtin, part: Part, index: u32) -> [u8; IMAGE_BYTES] {
    let epoch = match part {
        Part::Train => 0,
        Part::Test => 1,
    };
    let address = Address { epoch, example: index, ..Address::of(Purpose::BuiltinData) };
    let mut stream = Stream::new(builtin.seed, address);
    let mut pixels = [0; IMAGE_BYTES];
    Scene::draw(&mut stream).paint(Form::of_class(index % builtin.n_classes), &mut stream, &mut pixels);
    pixels
}
