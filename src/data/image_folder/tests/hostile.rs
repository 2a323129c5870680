//! Images and folders made to harm: every one is read or named with its reason, in bounded time and memory.

use std::fs;
use std::path::Path;

use image::ImageFormat;

use super::{crc32, encoded, load, picture, png, png_declaring, small_folder, write};
use crate::data::image_folder::{Listing, read, read_listed};
use crate::data::intake::{Intake, Keep};

/// Refused by their headers, before memory of the declared size is asked for.
#[test]
fn images_that_lie_about_their_size_are_refused_at_once() {
    let jpeg = |width: u16, height: u16| {
        let mut bytes = encoded(&picture(8, 8).into(), ImageFormat::Jpeg);
        let frame = bytes.windows(2).position(|pair| pair[0] == 0xFF && (0xC0..=0xC2).contains(&pair[1])).unwrap();
        bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
        bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
        bytes
    };
    let bmp = |width: i32, height: i32| {
        let mut bytes = encoded(&picture(4, 4).into(), ImageFormat::Bmp);
        bytes[18..22].copy_from_slice(&width.to_le_bytes());
        bytes[22..26].copy_from_slice(&height.to_le_bytes());
        bytes
    };
    // Lossless: fourteen bits a side, less one (RFC 9649, section 3.4).
    let webp = |width: u32, height: u32| {
        let mut bytes = encoded(&picture(4, 4).into(), ImageFormat::WebP);
        let sides = (width - 1) | (height - 1) << 14;
        bytes[21..25].copy_from_slice(&sides.to_le_bytes());
        bytes
    };
    for (name, bytes) in [
        ("png", png_declaring(65_535, 65_535)),
        ("png", png_declaring(u32::MAX, u32::MAX)),
        ("png", png_declaring(8192, 8193)),
        ("jpg", jpeg(65_535, 65_535)),
        ("jpg", jpeg(8193, 1)),
        ("bmp", bmp(65_535, 65_535)),
        ("bmp", bmp(i32::MAX, -i32::MAX)),
        ("bmp", bmp(-1, 1)),
        ("bmp", bmp(4, i32::MIN)),
        ("webp", webp(16_383, 16_383)),
        ("png", png_declaring(0, 5)),
        ("jpg", jpeg(0, 5)),
        ("bmp", bmp(0, 0)),
    ] {
        let root = small_folder();
        write(root.path(), &format!("train/dog/liar.{name}"), &bytes);
        let began = std::time::Instant::now();
        let Err(error) = read(root.path(), Keep::Nothing) else { panic!("{name} {bytes:?} was read") };
        assert!(error.to_string().contains(&format!("train/dog/liar.{name}`: ")), "{error}");
        assert!(began.elapsed().as_secs() < 2, "{name} took {:?}", began.elapsed());
    }
}

/// What Pillow would convert to RGB is read as such.
#[test]
fn rarer_kinds_of_images_are_read() {
    // Two bits a pixel into a palette of four colours (PNG, section 11.2.2).
    let chunk = |kind: &[u8], body: &[u8]| {
        let content = [kind, body].concat();
        let crc = crc32(&content).to_be_bytes();
        [&(body.len() as u32).to_be_bytes(), content.as_slice(), &crc].concat()
    };
    let size = [2u32.to_be_bytes(), 1u32.to_be_bytes()].concat();
    let header = |depth: u8, colour: u8| [size.as_slice(), &[depth, colour, 0, 0, 0]].concat();
    // A zlib stream of one stored block.
    let zlib = |raw: &[u8]| {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in raw {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        let length = raw.len() as u16;
        let lengths = [length.to_le_bytes(), (!length).to_le_bytes()].concat();
        [&[0x78, 0x01, 0x01], lengths.as_slice(), raw, &(b << 16 | a).to_be_bytes()].concat()
    };
    let png_of = |header: &[u8], palette: &[u8], raw: &[u8]| {
        let palette = if palette.is_empty() { Vec::new() } else { chunk(b"PLTE", palette) };
        let parts = [chunk(b"IHDR", header), palette, chunk(b"IDAT", &zlib(raw)), chunk(b"IEND", &[])];
        [b"\x89PNG\r\n\x1A\n".as_slice(), &parts.concat()].concat()
    };
    let check = |name: &str, bytes: &[u8], expected: [u8; 6]| {
        let root = small_folder();
        write(root.path(), "train/cat/a.png", bytes);
        assert_eq!(load(root.path()).train.images.get(0).pixels, expected, "{name}");
    };
    check("palette", &png_of(&header(2, 3), &[1, 2, 3, 4, 5, 6, 7, 8, 9], &[0, 0b0110_0000]), [4, 5, 6, 7, 8, 9]);
    check("one bit", &png_of(&header(1, 0), &[], &[0, 0b0100_0000]), [0, 0, 0, 255, 255, 255]);
    check("grey of 16 bits", &png_of(&header(16, 0), &[], &[0, 0x12, 0x34, 0xFF, 0xFF]), [18, 18, 18, 255, 255, 255]);
    // A palette that lacks the colour that is asked for.
    let root = small_folder();
    write(root.path(), "train/cat/a.png", &png_of(&header(2, 3), &[1, 2, 3], &[0, 0b0110_0000]));
    if let Ok(intake) = read(root.path(), Keep::Pixels) {
        assert_eq!(intake.into_dataset().train.images.get(0).pixels.len(), 6);
    }
}

/// What goes away, shrinks or becomes something else between the listing and the reading is named, not waited for.
#[cfg(unix)]
#[test]
fn files_that_change_while_they_are_read_are_named() {
    let check = |change: &dyn Fn(&Path), expected: &str| {
        let root = small_folder();
        let listing = Listing::of(root.path()).unwrap();
        let path = root.path().join("train/dog/a.png");
        change(&path);
        let Err(error) = read_listed(listing.files, Intake::new(listing.class_names, Keep::Nothing), u64::MAX) else {
            panic!("{expected}: it was read")
        };
        let text = error.to_string();
        assert!(text.starts_with("1 of 5 images cannot be used; repair or remove them:\n"), "{text}");
        assert!(text.contains("train/dog/a.png`: ") && text.contains(expected), "{text}");
    };
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    check(&remove, "No such file");
    check(&|path| fs::File::options().write(true).open(path).unwrap().set_len(40).unwrap(), "");
    check(&|path| fs::write(path, []).unwrap(), "not an image");
    check(&|path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap(), "it is larger than 268435456 bytes");
    let pipe = |path: &Path| {
        remove(path);
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    check(&pipe, "it is a pipe, a socket or a device");
    let folder = |path: &Path| {
        remove(path);
        fs::create_dir(path).unwrap();
    };
    check(&folder, "it is a folder");
}

#[cfg(unix)]
#[test]
fn names_and_links_of_all_kinds() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let check = |change: &dyn Fn(&Path), expected: Option<&str>| {
        let root = small_folder();
        change(root.path());
        match (read(root.path(), Keep::Nothing), expected) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (Ok(_), Some(expected)) => panic!("read, expected: {expected}"),
            (Err(error), None) => panic!("{error}"),
        }
    };
    let odd = OsStr::from_bytes(b"\xFF\xFE.png");
    // The bytes of a name order the files, and are never shown as they are.
    check(&|root| fs::write(root.join("train/cat").join(odd), png(1, 1)).unwrap(), None);
    let class = OsStr::from_bytes(b"\xFF\xFE");
    check(&|root| fs::create_dir(root.join("train").join(class)).unwrap(), Some("has no name in UTF-8: rename it"));
    check(&|root| symlink("loop.png", root.join("train/cat/loop.png")).unwrap(), Some("loop.png`: Too many levels"));
    check(&|root| symlink(".", root.join("train/loop")).unwrap(), Some("hold different classes"));
    check(&|root| symlink("..", root.join("train/cat/loop")).unwrap(), Some("train/cat/loop` is a folder"));
    check(&|root| symlink("/dev/zero", root.join("train/cat/zero.png")).unwrap(), Some("outside the data set"));
    check(&|root| fs::write(root.join("train/file"), "").unwrap(), None);
    check(&|root| fs::create_dir(root.join("train/empty")).unwrap(), Some("hold different classes"));
}
