use std::fs;

use crate::content::{Key, Value};
use crate::data::DigestCache;
use crate::data::fingerprint::Fingerprint;
use crate::data::intake::Summary;

fn summary(tag: u32) -> Summary {
    Summary { train_per_class: vec![tag, 2], test_per_class: vec![1, 0], digest: Key::of_bytes(&tag.to_le_bytes()) }
}

fn fingerprint(place: &str, parameter: i128) -> Fingerprint {
    Fingerprint::of_parameters("builtin", place.to_owned(), &Value::Integer(parameter))
}

#[test]
fn what_was_inserted_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DigestCache::at(folder.path().join("deep/digests.json"));
    assert_eq!(cache.find(&fingerprint("a", 1)), None);
    cache.insert(&fingerprint("a", 1), &summary(1));
    cache.insert(&fingerprint("b", 1), &summary(2));
    assert_eq!(cache.find(&fingerprint("a", 1)), Some(summary(1)));
    assert_eq!(cache.find(&fingerprint("b", 1)), Some(summary(2)));
    assert_eq!(cache.find(&fingerprint("a", 2)), None);
    cache.insert(&fingerprint("a", 2), &summary(3));
    assert_eq!(cache.find(&fingerprint("a", 2)), Some(summary(3)));
    assert_eq!(cache.find(&fingerprint("a", 1)), None, "one entry a place");
    assert_eq!(fs::read_dir(folder.path().join("deep")).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn a_file_that_is_not_sound_is_empty_and_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digests.json");
    let cache = DigestCache::at(&path);
    cache.insert(&fingerprint("a", 1), &summary(1));
    let good = fs::read_to_string(&path).unwrap();
    let damages = [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        good[..good.len() / 2].to_owned(),
        good.replace("\"format\": 1", "\"format\": 2"),
        good.replace("\"digest\"", "\"digests\""),
        good.replace("[\n        1,\n        2\n      ]", "[1]"),
        good.replace("[\n        1,\n        2\n      ]", "[4294967295, 4294967295]"),
        good.replace("[\n        1,\n        2\n      ]", "[-1, 2]"),
    ];
    for damaged in damages {
        assert_ne!(damaged, good);
        fs::write(&path, &damaged).unwrap();
        assert_eq!(cache.find(&fingerprint("a", 1)), None, "{damaged}");
        cache.insert(&fingerprint("a", 1), &summary(1));
        assert_eq!(cache.find(&fingerprint("a", 1)), Some(summary(1)), "{damaged}");
    }
}

#[test]
fn the_oldest_entries_go() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DigestCache::at(folder.path().join("digests.json"));
    for index in 0..70 {
        cache.insert(&fingerprint(&index.to_string(), 0), &summary(index));
    }
    assert_eq!(cache.find(&fingerprint("5", 0)), None);
    assert_eq!(cache.find(&fingerprint("6", 0)), Some(summary(6)));
    assert_eq!(cache.find(&fingerprint("69", 0)), Some(summary(69)));
}

#[test]
fn a_place_that_cannot_be_written_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    fs::write(&blocked, "not a folder").unwrap();
    let cache = DigestCache::at(blocked.join("digests.json"));
    cache.insert(&fingerprint("a", 1), &summary(1));
    assert_eq!(cache.find(&fingerprint("a", 1)), None);
}
