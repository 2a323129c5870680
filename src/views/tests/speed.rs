//! Views a second on one thread, printed, never asserted. By hand: `ABLATE_SPEED=1 cargo test --release --lib views_a_second -- --nocapture`.

use std::time::Instant;

use super::{blur, images, simclr};
use crate::experiment::recipe::{Augmentation, BlurKind};
use crate::views::{Pipeline, Place, Scratch};

fn measure(name: &str, augmentations: &[Augmentation], side: usize) {
    let images = images(64, side);
    let pipeline = Pipeline::new(augmentations, side, 1);
    let (mut scratch, mut out) = (Scratch::default(), vec![0.0; pipeline.view_len()]);
    let mut best = f64::INFINITY;
    for epoch in 0..12 {
        let start = Instant::now();
        for example in 0..500 {
            let place = Place { epoch, example, view: 0 };
            pipeline.view(images.get(example as usize % 64), place, &mut scratch, &mut out);
        }
        best = best.min(start.elapsed().as_secs_f64() / 500.0);
    }
    println!("{name:>28} {side:>4}: {:>9.0} views/s, {:>8.2} µs", 1.0 / best, best * 1e6);
}

#[test]
fn views_a_second() {
    if std::env::var_os("ABLATE_SPEED").is_none() {
        return;
    }
    let with = |augmentation: Augmentation| {
        let mut list = simclr();
        list.insert(4, augmentation);
        list
    };
    measure("simclr", &simclr(), 32);
    measure("simclr + gaussian blur .5", &with(blur(0.5, BlurKind::Gaussian)), 32);
    measure("simclr + box blur .5", &with(blur(0.5, BlurKind::PillowBoxes)), 32);
    measure("simclr", &simclr(), 96);
    for (index, augmentation) in simclr().into_iter().enumerate() {
        measure(["crop", "flip", "jitter .8", "grayscale .2", "normalize"][index], &[augmentation], 32);
    }
    measure("gaussian blur 1", &[blur(1.0, BlurKind::Gaussian)], 32);
    measure("box blur 1", &[blur(1.0, BlurKind::PillowBoxes)], 32);
}
