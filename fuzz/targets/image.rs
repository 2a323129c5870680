//! One image file in a folder of images: decoded within its limits, or named with its reason.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use ablate::data;
use ablate::experiment::recipe::{Dataset, Split};
use ablate_fuzz::{forgive_panics_of_dependencies, scratch};
use libfuzzer_sys::fuzz_target;

const SOUND: &[u8] = include_bytes!("../seeds/image/grey.bmp");

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = scratch("image");
    for part in ["train", "test"] {
        fs::create_dir_all(root.join(part).join("a")).expect("a folder in memory");
        fs::write(root.join(part).join("a/sound.png"), SOUND).expect("a file in memory");
    }
    root
});

fuzz_target!(|data: &[u8]| {
    forgive_panics_of_dependencies();
    fs::write(ROOT.join("train/a/fuzzed.png"), data).expect("a file in memory");
    let dataset = Dataset::ImageFolder { root: ROOT.to_str().expect("a UTF-8 path").to_owned() };
    match data::load(&dataset, Split::Official) {
        Ok(read) => {
            let image = read.train.images.get(0);
            assert!(image.width > 0 && image.height > 0 && image.width <= 8192 && image.height <= 8192);
            assert_eq!(image.pixels.len(), image.width * image.height * 3);
            assert_eq!(data::load(&dataset, Split::Official).expect("what was loaded").digest, read.digest);
        }
        Err(error) => assert!(error.to_string().contains("fuzzed.png"), "{error}"),
    }
});
