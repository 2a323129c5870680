//! Every kind of damage to a kept record is a miss with a reason or a named error, never a wrong answer.

use super::*;

/// The record is no hit, its reason names the file and holds `expected`; a new commit over it heals it.
fn check_miss(store: &Store, key: &Key, file: &Path, expected: &str) {
    let why = match store.peek(key).unwrap() {
        Peek::Damaged(why) => why,
        other => panic!("{expected}: found {other:?}"),
    };
    assert!(why.contains(&file.display().to_string()) && why.contains(expected), "expected `{expected}` in: {why}");
    let miss = miss(store, key);
    assert_eq!(miss.damage.as_ref(), Some(&why));
}

fn check_healed(store: &Store, key: &Key) {
    let kept = keep(store, key);
    assert_eq!(store.verify(key).unwrap(), Peek::Hit(kept));
}

#[test]
fn every_flipped_byte_of_a_record_is_noticed() {
    let (_directory, store) = store();
    let key = key("a");
    keep(&store, &key);
    let path = store.record_path(&key);
    let sound = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    for at in 0..sound.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut bytes = sound.clone();
            bytes[at] ^= flip;
            fs::write(&path, &bytes).unwrap();
            let peek = store.peek(&key).unwrap();
            assert!(matches!(&peek, Peek::Damaged(why) if why.contains(".record")), "byte {at}: {peek:?}");
        }
    }
    check_miss(&store, &key, &path, "digest");
    check_healed(&store, &key);
}

#[test]
fn every_truncation_of_a_record_is_noticed() {
    let (_directory, store) = store();
    let key = key("a");
    keep(&store, &key);
    let path = store.record_path(&key);
    let sound = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    for length in 0..sound.len() {
        fs::write(&path, &sound[..length]).unwrap();
        assert!(matches!(store.peek(&key).unwrap(), Peek::Damaged(_)), "{length} bytes");
    }
    fs::write(&path, [&sound[..], b"\n"].concat()).unwrap();
    check_miss(&store, &key, &path, "digest");
    check_healed(&store, &key);
}

#[test]
fn records_that_are_not_what_they_seem() {
    let (_directory, store) = store();
    let (key, other) = (key("a"), key("b"));
    let sound = keep(&store, &key);
    let path = store.record_path(&key);
    let (header, payload) = entry::encode(Kind::Result, &Entry { key: other, ..sound.clone() });
    let (sound_header, sound_payload) = entry::encode(Kind::Result, &sound);
    let check = |text: String, expected: &str| {
        overwrite(&path, text.as_bytes());
        check_miss(&store, &key, &path, expected);
        check_healed(&store, &key);
    };
    check(header + &payload, &format!("is the record of `{other}`"));
    check(sound_header.replacen(" 1 ", " 2 ", 1) + &sound_payload, "has format `2`, expected `1`");
    check(sound_header.replacen("record", "progress", 1) + &sound_payload, "begins with `ablate-progress`");
    check(String::new(), "is empty");
    check("{}".to_owned(), "has no `ablate-record` header");
}

#[test]
fn a_directory_in_place_of_a_file() {
    let (_directory, store) = store();
    let key = key("a");
    let kept = keep(&store, &key);
    let record = store.record_path(&key);
    let blob = store.blob_path(&kept.blobs["history"].digest);
    for path in [&record, &blob] {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        fs::write(path.join("precious"), "").unwrap();
        check_miss(&store, &key, path, "is not a file");
        check_healed(&store, &key);
        let displaced = |name: &str| name.contains(".displaced.") && !name.starts_with(".tmp-");
        let names = fs::read_dir(path.parent().unwrap()).unwrap().map(|item| item.unwrap().path());
        let aside: Vec<_> = names.filter(|path| displaced(path.file_name().unwrap().to_str().unwrap())).collect();
        assert!(aside.iter().any(|path| path.join("precious").exists()));
    }
    assert_eq!(store.keys().unwrap(), [key]);
}

#[test]
fn a_shard_that_is_a_file() {
    let (_directory, store) = store();
    let key = key("a");
    let shard = store.record_path(&key).parent().unwrap().to_owned();
    fs::create_dir_all(shard.parent().unwrap()).unwrap();
    fs::write(&shard, "").unwrap();
    assert!(matches!(store.peek(&key).unwrap(), Peek::Damaged(_)));
    let error = miss(&store, &key).claim.commit(BODY, PREIMAGE).unwrap_err();
    assert!(matches!(&error, StoreError::Io { path, .. } if path.starts_with(&shard)), "{error}");
}

#[test]
fn a_blob_that_is_missing_or_short_is_a_miss() {
    let (_directory, store) = store();
    let key = key("a");
    let kept = keep(&store, &key);
    let blob = store.blob_path(&kept.blobs["checkpoint"].digest);
    fs::remove_file(&blob).unwrap();
    check_miss(&store, &key, &blob, "is missing");
    assert!(matches!(store.read_blob(&kept.blobs["checkpoint"]), Err(StoreError::DamagedBlob { .. })));
    check_healed(&store, &key);
    for wrong in [&b""[..], b"weight", b"weights!"] {
        overwrite(&blob, wrong);
        check_miss(&store, &key, &blob, &format!("has {} bytes, expected 7", wrong.len()));
        check_healed(&store, &key);
    }
}

#[test]
fn every_flipped_byte_of_a_blob_is_noticed_when_read() {
    let (_directory, store) = store();
    let key = key("a");
    let blob = keep(&store, &key).blobs["checkpoint"];
    let path = store.blob_path(&blob.digest);
    for at in 0..7 {
        let mut bytes = b"weights".to_vec();
        bytes[at] ^= 1;
        overwrite(&path, &bytes);
        let error = store.read_blob(&blob).unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(matches!(store.verify(&key).unwrap(), Peek::Damaged(why) if why.contains("with digest")));
    }
    store.set_aside(&blob).unwrap();
    check_miss(&store, &key, &path, "is missing");
    check_healed(&store, &key);
    store.set_aside(&blob).unwrap();
    assert!(path.exists(), "a sound blob stays");
}

/// A lost copy of the pre-image costs nothing.
#[test]
fn the_copy_of_the_preimage_is_for_people() {
    let (_directory, store) = store();
    let key = key("a");
    let kept = keep(&store, &key);
    fs::remove_file(store.record_path(&key).with_extension("preimage")).unwrap();
    assert_eq!(hit(&store, &key), kept);
}

#[test]
fn progress_is_whole_or_ignored() {
    let (_directory, store) = store();
    let key = key("a");
    let mut claim = miss(&store, &key).claim;
    assert_eq!(claim.progress().unwrap(), Progress::Absent);
    claim.save_progress(b"step 1").unwrap();
    claim.save_progress(b"step 2").unwrap();
    assert_eq!(claim.progress().unwrap(), Progress::Saved(b"step 2".to_vec()));
    drop(claim);
    let mut claim = miss(&store, &key).claim;
    assert_eq!(claim.progress().unwrap(), Progress::Saved(b"step 2".to_vec()), "progress outlives its claim");
    let path = store.disk.progress_path(&key);
    let sound = fs::read(&path).unwrap();
    for length in 0..sound.len() {
        overwrite(&path, &sound[..length]);
        let progress = claim.progress().unwrap();
        assert!(matches!(&progress, Progress::Damaged(why) if why.contains(&key.to_string())), "{progress:?}");
    }
    claim.save_progress(b"step 3").unwrap();
    assert_eq!(claim.progress().unwrap(), Progress::Saved(b"step 3".to_vec()));
    claim.commit(BODY, PREIMAGE).unwrap();
    assert!(!path.exists());
}
