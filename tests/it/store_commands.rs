//! `gc`, `pin` and `check` on the store of a real sweep.

use std::fs;
use std::path::PathBuf;

use crate::harness::{MINIATURE, Workplace};

/// The checkpoint of the only training.
fn checkpoint(place: &Workplace, key: &str) -> PathBuf {
    let shown = place.ablate(&["show", key, "--json"]).success().json();
    let digest = shown["blobs"]["checkpoint"]["digest"].as_str().expect("a digest").to_owned();
    place.path().join("results/store/blobs").join(&digest[..2]).join(digest)
}

#[test]
fn a_store_is_checked_pinned_and_thinned() {
    let place = Workplace::new();
    place.write("one.ron", &MINIATURE.replace("seeds: [0, 1]", "seeds: [0]").replace("[0.1, 0.5]", "[0.5]"));
    place.ablate(&["gc", "--leftovers"]).code(2);
    place.ablate(&["sweep", "one.ron", "--quiet"]).success();
    let plan = place.ablate(&["plan", "one.ron", "--json"]).success().json();
    let key = plan["runs"][0]["pretrain_key"].as_str().expect("a key").to_owned();
    let check = place.ablate(&["check", "--read-data", "--json"]).success().json();
    assert_eq!((check["records"].as_u64(), check["is_damaged"].as_bool()), (Some(3), Some(false)), "{check}");
    assert_eq!(check["read_bytes"], check["blob_bytes"]);

    let said = place.ablate(&["gc"]).code(2);
    for scope in ["--leftovers", "--progress", "--checkpoints", "--apply"] {
        assert!(said.err.contains(scope), "`{scope}` is not in\n{}", said.err);
    }
    place.ablate(&["pin", &key[..12], "--note", "for the paper"]).success();
    assert!(place.ablate(&["pin"]).success().out.contains("for the paper"));
    let goes = |arguments: &[&str]| {
        let said = place.ablate(&[&["gc", "--checkpoints", "--json"], arguments].concat()).success().json();
        said["removals"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(goes(&[]), 0, "it is pinned");
    place.ablate(&["pin", "--remove", "one.ron"]).success();
    assert_eq!((goes(&[]), goes(&["--keep", "one.ron"]), goes(&["--older-than", "1d"])), (1, 0, 0));

    let path = checkpoint(&place, &key);
    assert!(place.ablate(&["gc", "--checkpoints"]).success().err.contains("--apply"));
    assert!(path.exists(), "without `--apply` nothing goes");
    place.ablate(&["gc", "--checkpoints", "--apply"]).success();
    assert!(!path.exists());
    let plan = place.ablate(&["plan", "one.ron", "--json"]).success().json();
    assert_eq!((plan["to_train"].as_u64(), plan["to_evaluate"].as_u64()), (Some(0), Some(0)), "{plan}");
    let check = place.ablate(&["check", "--read-data", "--json"]).success().json();
    assert_eq!(check["records_with_dropped_blobs"], 1);
    place.ablate(&["show", &key, "--blob", "checkpoint", "file"]).code(2);
}

#[test]
fn a_check_names_damage_and_what_becomes_of_it() {
    let place = Workplace::new();
    place.write("one.ron", &MINIATURE.replace("seeds: [0, 1]", "seeds: [0]").replace("[0.1, 0.5]", "[0.5]"));
    place.ablate(&["sweep", "one.ron", "--quiet"]).success();
    let plan = place.ablate(&["plan", "one.ron", "--json"]).success().json();
    let path = checkpoint(&place, plan["runs"][0]["pretrain_key"].as_str().expect("a key"));
    let mut bytes = fs::read(&path).expect("a checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&path).expect("a removable file");
    fs::write(&path, bytes).expect("a writable folder");
    place.ablate(&["check"]).success();
    let said = place.ablate(&["check", "--read-data"]).code(4);
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(said.out.contains(&name) && said.out.contains("remove the file"), "{}", said.out);
}
