mod hostile;

use std::fs;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;

use super::listing::{Content, ImageFile};
use super::{Listing, files, read, read_listed};
use crate::data::intake::{Intake, Keep};
use crate::data::{Dataset, Part};

/// A gradient whose pixels follow from its size.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 20) as u8, (y * 20) as u8, (x + y) as u8 * 3 + width as u8]))
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn png(width: u32, height: u32) -> Vec<u8> {
    encoded(&picture(width, height).into(), ImageFormat::Png)
}

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Two classes, three training images and two test images.
fn small_folder() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "train/dog/b.png", &png(5, 4));
    write(root.path(), "train/dog/a.png", &png(3, 6));
    write(root.path(), "train/cat/z.png", &png(2, 2));
    write(root.path(), "test/dog/a.png", &png(4, 4));
    write(root.path(), "test/cat/a.png", &png(7, 1));
    root
}

fn load(root: &Path) -> Dataset {
    read(root, Keep::Pixels).unwrap().into_dataset()
}

fn sizes(dataset: &Dataset) -> Vec<(usize, usize)> {
    (0..dataset.train.images.len())
        .map(|index| dataset.train.images.get(index))
        .map(|image| (image.width, image.height))
        .collect()
}

#[test]
fn classes_and_files_are_sorted() {
    let root = small_folder();
    write(root.path(), "train/cat/Z.PNG", &png(9, 9));
    let dataset = load(root.path());
    assert_eq!(dataset.class_names, ["cat", "dog"]);
    assert_eq!(dataset.train.labels, [0, 0, 1, 1]);
    assert_eq!(sizes(&dataset), [(9, 9), (2, 2), (3, 6), (5, 4)]);
    assert_eq!(dataset.test.labels, [0, 1]);
    assert_eq!(dataset.train.images.get(3).pixels, picture(5, 4).as_raw());
}

#[test]
fn what_is_no_image_is_passed_over() {
    let root = small_folder();
    let before = load(root.path());
    for path in ["README.md", "train/labels.csv", "train/dog/notes.txt", "train/dog/.hidden.png", "train/.cache/x.png"]
    {
        write(root.path(), path, b"text");
    }
    assert_eq!(load(root.path()), before);
    assert_eq!(files(root.path()).unwrap().len(), 5);
    fs::rename(root.path().join("test"), root.path().join("val")).unwrap();
    assert_eq!(load(root.path()), before);
}

#[test]
fn every_format_gives_its_pixels() {
    let picture = picture(12, 10);
    let check = |name: &str, bytes: &[u8], expected: &[u8], tolerance: u8| {
        let root = small_folder();
        write(root.path(), &format!("train/cat/{name}"), bytes);
        fs::remove_file(root.path().join("train/cat/z.png")).unwrap();
        let dataset = load(root.path());
        let found = dataset.train.images.get(0).pixels;
        assert_eq!(found.len(), expected.len(), "{name}");
        let worst = found.iter().zip(expected).map(|(&a, &b)| a.abs_diff(b)).max().unwrap();
        assert!(worst <= tolerance, "{name}: {worst} levels away");
    };
    let rgb = DynamicImage::from(picture.clone());
    check("x.png", &encoded(&rgb, ImageFormat::Png), &picture, 0);
    check("x.bmp", &encoded(&rgb, ImageFormat::Bmp), &picture, 0);
    check("x.webp", &encoded(&rgb, ImageFormat::WebP), &picture, 0);
    check("x.jpeg", &encoded(&rgb, ImageFormat::Jpeg), &picture, 60);
    check("told-by-content.JPG", &encoded(&rgb, ImageFormat::Png), &picture, 0);
    let gray = DynamicImage::from(rgb.to_luma8());
    check("gray.png", &encoded(&gray, ImageFormat::Png), &gray.to_rgb8(), 0);
    let smooth = image::GrayImage::from_fn(16, 16, |x, _| image::Luma([x as u8 * 8]));
    let smooth = DynamicImage::from(smooth);
    check("gray.jpg", &encoded(&smooth, ImageFormat::Jpeg), &smooth.to_rgb8(), 4);
    let mut translucent = rgb.to_rgba8();
    translucent.pixels_mut().for_each(|pixel| pixel[3] = 7);
    check("alpha.png", &encoded(&translucent.into(), ImageFormat::Png), &picture, 0);
    let deep = DynamicImage::from(rgb.to_rgb16());
    check("deep.png", &encoded(&deep, ImageFormat::Png), &picture, 0);
}

/// CRC-32 of PNG chunks (ISO 3309), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

/// A PNG that declares another size than it has.
fn png_declaring(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(2, 2);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn broken_files_are_named_with_their_reason() {
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let root = small_folder();
        write(root.path(), &format!("train/dog/{name}"), bytes);
        let Err(error) = read(root.path(), Keep::Nothing) else { panic!("{name} was read") };
        let text = error.to_string().replace(&root.path().display().to_string(), "ROOT");
        let first = "1 of 6 images cannot be used; repair or remove them:";
        assert_eq!(text, format!("{first}\n  `ROOT/train/dog/{name}`: {expected}"));
    };
    let too_large = "larger than 8192×8192 pixels or 268435456 bytes decoded";
    check("bomb.png", &png_declaring(60_000, 60_000), too_large);
    check("wide.png", &png_declaring(8193, 1), too_large);
    check("empty.png", &[], "not an image in JPEG, PNG, WebP or BMP");
    check("text.png", b"hello", "not an image in JPEG, PNG, WebP or BMP");
    check("other.png", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "not an image in JPEG, PNG, WebP or BMP");
    let jpeg = encoded(&picture(40, 40).into(), ImageFormat::Jpeg);
    let cut = "the JPEG data is cut off before its end-of-image marker";
    for length in [2, 3, 20, jpeg.len() / 2, jpeg.len() - 2] {
        check("cut.jpg", &jpeg[..length], cut);
    }
}

#[test]
fn truncated_files_are_refused() {
    let rgb = DynamicImage::from(picture(40, 40));
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Jpeg] {
        let bytes = encoded(&rgb, format);
        for kept in [1, 8, 30, bytes.len() / 2, bytes.len() * 9 / 10] {
            let root = small_folder();
            write(root.path(), "train/dog/cut.png", &bytes[..kept]);
            assert!(read(root.path(), Keep::Nothing).is_err(), "{kept} bytes of {} of {format:?}", bytes.len());
        }
    }
}

/// What follows the end of a JPEG is often a second picture or a maker's note, and its header may hold a thumbnail.
#[test]
fn whole_jpegs_are_whole() {
    use super::jpeg::is_complete;
    let jpeg = encoded(&picture(40, 40).into(), ImageFormat::Jpeg);
    assert!(is_complete(&jpeg));
    assert!(is_complete(&[jpeg.as_slice(), b"note \xFF\xDA\x00"].concat()));
    let segment = [&[0xFF, 0xE1], &(jpeg.len() as u16 + 2).to_be_bytes()[..], &jpeg].concat();
    let with_thumbnail = [&jpeg[..2], &segment, &jpeg[2..]].concat();
    assert!(is_complete(&with_thumbnail));
    assert!(!is_complete(&with_thumbnail[..with_thumbnail.len() - 2]));
}

#[test]
fn many_broken_files_are_counted() {
    let root = small_folder();
    for index in 10..25 {
        write(root.path(), &format!("test/cat/broken{index}.png"), b"no");
    }
    let Err(error) = read(root.path(), Keep::Nothing) else { panic!() };
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 12);
    assert_eq!(lines[0], "15 of 20 images cannot be used; repair or remove them:");
    assert!(lines[1].ends_with("broken10.png`: not an image in JPEG, PNG, WebP or BMP"), "{text}");
    assert_eq!(lines[11], "  and 5 more");
}

#[test]
fn every_wrong_layout_has_its_error() {
    let check = |change: &dyn Fn(&Path), expected: &str| {
        let root = small_folder();
        change(root.path());
        let Err(error) = read(root.path(), Keep::Nothing) else { panic!("the change went unseen") };
        let text = error.to_string().replace(&root.path().display().to_string(), "ROOT");
        assert_eq!(text.lines().next(), Some(expected), "{text}");
    };
    let remove = |path: PathBuf| fs::remove_dir_all(path).unwrap();
    check(&|root| remove(root.to_owned()), "the image folder is missing: there is no `ROOT`");
    check(&|root| remove(root.join("train")), "the image folder is missing: there is no `ROOT/train`");
    check(&|root| remove(root.join("test")), "the image folder is missing: there is no `ROOT/test`");
    check(
        &|root| {
            remove(root.join("train/dog"));
            remove(root.join("train/cat"));
        },
        "`ROOT/train` holds no class folder: expected one folder of images for each class",
    );
    check(
        &|root| fs::rename(root.join("test/cat"), root.join("test/horse")).unwrap(),
        "`ROOT/train` and `ROOT/test` hold different classes: only the first has `cat`, only the second has `horse`; \
         give both the same class folders",
    );
    check(
        &|root| fs::remove_file(root.join("train/cat/z.png")).unwrap(),
        "`ROOT/train/cat` holds no image: expected at least one jpg, jpeg, png, webp or bmp file; \
         add one or remove the folder",
    );
    check(
        &|root| fs::create_dir(root.join("train/cat/more")).unwrap(),
        "`ROOT/train/cat/more` is a folder: expected only image files in a class folder; \
         move it out, or hide it with a leading dot",
    );
}

#[cfg(unix)]
#[test]
fn links_may_not_lead_out() {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    let outside = small_folder();
    let check = |link: &str, target: &Path, expected: Option<&str>| {
        let root = small_folder();
        let target = if target.is_absolute() { target.to_owned() } else { root.path().join(target) };
        symlink(target, root.path().join(link)).unwrap();
        match (read(root.path(), Keep::Nothing), expected) {
            (Ok(intake), None) => assert_eq!(intake.into_summary().train_per_class.iter().sum::<u32>(), 4),
            (Err(error), Some(expected)) => {
                let text = error.to_string();
                assert!(text.contains(expected), "{text}");
            }
            (Ok(_), Some(_)) => panic!("{link} was followed"),
            (Err(error), None) => panic!("{link}: {error}"),
        }
    };
    check("train/cat/inside.png", Path::new("test/cat/a.png"), None);
    check("train/cat/out.png", &outside.path().join("test/cat/a.png"), Some("outside the data set"));
    check("train/horse", &outside.path().join("train/cat"), Some("outside the data set"));
    check("train/cat/dangling.png", Path::new("nowhere.png"), Some("cannot read"));
    let root = small_folder();
    let _socket = UnixListener::bind(root.path().join("train/cat/socket.png")).unwrap();
    let Err(error) = read(root.path(), Keep::Nothing) else { panic!("a socket was read") };
    assert!(error.to_string().contains("socket.png` is not a regular file"), "{error}");
}

#[cfg(unix)]
#[test]
fn pipes_are_refused_and_not_waited_for() {
    for place in ["train/cat/pipe.png", "test/dog/pipe.JPG"] {
        let root = small_folder();
        assert!(std::process::Command::new("mkfifo").arg(root.path().join(place)).status().unwrap().success());
        let Err(error) = read(root.path(), Keep::Nothing) else { panic!("a pipe was read") };
        assert!(error.to_string().contains(&format!("{place}` is not a regular file")), "{error}");
    }
}

#[test]
fn the_digest_follows_pixels_and_not_files() {
    let root = small_folder();
    let before = load(root.path()).digest;
    let path = root.path().join("train/dog/a.png");
    fs::rename(&path, root.path().join("train/dog/aa.bmp")).unwrap();
    assert_eq!(load(root.path()).digest, before);
    let mut changed = picture(3, 6);
    changed.put_pixel(1, 1, Rgb([0, 0, 0]));
    write(root.path(), "train/dog/aa.bmp", &encoded(&changed.into(), ImageFormat::Bmp));
    assert_ne!(load(root.path()).digest, before);
}

/// Neither the threads nor the memory of a block show in what is read.
#[test]
fn blocks_and_threads_do_not_show() {
    let root = small_folder();
    for index in 0..40 {
        write(root.path(), &format!("train/dog/{index}.png"), &png(1 + index % 7, 2 + index % 5));
    }
    let expected = load(root.path());
    for (n_threads, block_bytes) in [(1, 0), (4, 0), (4, 100), (1, u64::MAX), (3, u64::MAX)] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        let found = pool.install(|| {
            let listing = Listing::of(root.path()).unwrap();
            read_listed(listing.files, Intake::new(listing.class_names, Keep::Pixels), block_bytes).unwrap()
        });
        assert_eq!(found.into_dataset(), expected, "{n_threads} threads, {block_bytes} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A real file with bytes changed, or any bytes behind a real signature: read or refused.
    #[test]
    fn damaged_images_never_panic(
        format in prop::sample::select(vec![ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Jpeg]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        keep in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = encoded(&picture(9, 7).into(), format);
        for (index, byte) in &changes {
            let at = index.index(bytes.len());
            bytes[at] = *byte;
        }
        let noisy = [&bytes[..keep.index(bytes.len())], noise.as_slice()].concat();
        for bytes in [bytes, noisy] {
            let (part, path) = (Part::Train, PathBuf::from("x.png"));
            let file = ImageFile { part, label: 0, path, content: Content::Held(bytes) };
            if let Ok(image) = super::decode::decode(&file) {
                prop_assert!(image.width() > 0 && image.height() > 0);
            }
        }
    }
}
