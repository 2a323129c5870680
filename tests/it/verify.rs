//! Stored runs computed again: equal ones, a wrong one, and one of another class of machines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ablate::content::Key;
use ablate::record::{Record, Stage};
use ablate::store::{Entry, Lookup, Peek, Store};

use crate::harness::{MINIATURE, Workplace};

/// One training of one step, evaluated twice.
fn swept() -> (Workplace, Store) {
    let place = Workplace::new();
    let text = MINIATURE
        .replace("Steps(3)", "Steps(1)")
        .replace("checkpoint_every: Steps(2)", "checkpoint_every: Steps(1)")
        .replace("optimizer: Adam, ", "")
        .replace("[0.1, 0.5]", "[0.5]")
        .replace("seeds: [0, 1]", "seeds: [0]");
    place.write("one.ron", &text);
    place.ablate(&["sweep", "one.ron"]).success();
    let store = Store::open(&place.path().join("results/store")).expect("a store");
    (place, store)
}

/// The key of the run's training, or of its evaluation by that name.
fn key(place: &Workplace, stage: &str) -> Key {
    let plan = place.ablate(&["plan", "one.ron", "--json"]).success().json();
    let run = &plan["runs"][0];
    let key = if stage == "pretrain" { &run["pretrain_key"] } else { &run["evaluation_keys"][stage] };
    key.as_str().expect("a key").parse().expect("a key")
}

fn entry(store: &Store, key: &Key) -> Entry {
    match store.verify(key).expect("a readable record") {
        Peek::Hit(entry) => entry,
        other => panic!("{key}: {other:?}"),
    }
}

/// Puts another record in the place of a key's, sound in every way, with other predictions and with what `change` does to it.
fn plant(store: &Store, key: &Key, change: impl FnOnce(&mut Record)) -> Entry {
    let first = entry(store, key);
    let mut record: Record = serde_json::from_str(&first.body).expect("a record");
    change(&mut record);
    store.retire(key).expect("a writable store");
    let Lookup::Miss(mut miss) = store.lookup(key).expect("a readable store") else { panic!("{key} is still there") };
    for (name, blob) in &first.blobs {
        let mut bytes = store.read_blob(blob).expect("a blob");
        if name == "predictions" {
            bytes[0] ^= 1;
        }
        miss.claim.put_blob(name, &bytes).expect("a writable store");
    }
    let body = serde_json::to_string_pretty(&record).expect("plain data");
    miss.claim.commit(&body, &first.preimage).expect("a writable store").entry
}

fn add_to_top1(record: &mut Record, share: f64) {
    let Stage::Evaluation(evaluation) = &mut record.stage else { panic!("not an evaluation") };
    evaluation.metrics.iter_mut().filter(|metric| metric.name == "top1").for_each(|metric| metric.value += share);
}

fn divergences(store: &Store) -> Vec<PathBuf> {
    let list = |folder: &Path| std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let shards = list(&store.root().join("records")).collect::<Vec<_>>();
    let files = shards.iter().flat_map(|shard| list(shard).collect::<Vec<_>>());
    files.filter(|path| path.to_string_lossy().contains(".divergence-")).collect()
}

/// The words `verify` has for every stage.
fn words(told: &serde_json::Value) -> BTreeMap<&str, &str> {
    told["stages"].as_array().expect("stages").iter().map(word).collect()
}

fn word(stage: &serde_json::Value) -> (&str, &str) {
    (stage["stage"].as_str().expect("a name"), stage["again"].as_str().expect("a word"))
}

/// What lies beside the store.
fn neighbours(place: &Workplace) -> Vec<String> {
    let entries = std::fs::read_dir(place.path().join("results")).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("verify")).collect()
}

#[test]
fn nothing_stored_is_nothing_to_verify() {
    let place = Workplace::new();
    place.write("one.ron", MINIATURE);
    let said = place.ablate(&["verify", "one.ron"]).code(3);
    assert!(said.err.contains("ablate sweep one.ron"), "{}", said.err);
    assert!(!place.path().join("results/store").exists());
    for wrong in ["--fraction=0", "--fraction=101%", "--tolerance=-1", "--tolerance=two"] {
        place.ablate(&["verify", "one.ron", wrong]).code(2);
    }
}

#[test]
fn what_was_computed_here_comes_out_equal() {
    let (place, store) = swept();
    let told = place.ablate(&["verify", "one.ron", "--json"]).success().json();
    let expected = [("knn", "equal"), ("linear", "equal"), ("pretrain", "equal")];
    assert_eq!(words(&told), BTreeMap::from(expected));
    assert_eq!((&told["diverged"], &told["stored_runs"]), (&0.into(), &1.into()));
    assert_eq!(divergences(&store), Vec::<PathBuf>::new());
    assert_eq!(neighbours(&place), Vec::<String>::new());
    let said = place.ablate(&["verify", "one.ron", "--keep", "kept"]).success();
    assert!(said.out.contains("3 stages: 3 equal"), "{}", said.out);
    let again = Store::open(&place.path().join("kept")).expect("a store");
    let training = key(&place, "pretrain");
    assert_eq!(entry(&store, &training).blobs, entry(&again, &training).blobs);
    let refused = place.ablate(&["verify", "one.ron", "--keep", "kept"]).code(2);
    assert!(refused.err.contains("not empty"), "{}", refused.err);
}

#[test]
fn a_wrong_record_is_found_and_both_are_kept() {
    let (place, store) = swept();
    let knn = key(&place, "knn");
    let right = entry(&store, &knn);
    let wrong = plant(&store, &knn, |record| add_to_top1(record, 0.25));
    let said = place.ablate(&["verify", "one.ron"]).code(6);
    for expected in
        ["1 diverged", "2 equal", "blob predictions", "top1", "0.2500", "kept as", "machines of one class: backend cpu"]
    {
        assert!(said.out.contains(expected), "`{expected}` is not in\n{}", said.out);
    }
    assert!(said.out.lines().filter(|line| !line.contains('/')).all(|line| line.chars().count() <= 80), "{}", said.out);
    assert_eq!(entry(&store, &knn), wrong, "the first stays what lookups answer");
    let kept = divergences(&store);
    assert_eq!(kept.len(), 1, "{kept:?}");
    let text = std::fs::read_to_string(&kept[0]).expect("a kept record");
    assert!(text.contains(&right.blobs["predictions"].digest.to_string()), "{text}");
    store.read_blob(&right.blobs["predictions"]).expect("the second result's blob");
    assert_eq!(neighbours(&place), Vec::<String>::new());
}

#[test]
fn another_class_of_machines_has_a_tolerance() {
    let (place, store) = swept();
    let knn = key(&place, "knn");
    let elsewhere = |share: f64| {
        plant(&store, &knn, |record| {
            add_to_top1(record, share);
            record.provenance.details.insert("instruction_sets".to_owned(), "others".to_owned());
        })
    };
    elsewhere(0.0625);
    let beyond = place.ablate(&["verify", "one.ron", "--json"]).code(6);
    assert_eq!(words(&beyond.json())["knn"], "diverged");
    let said = place.ablate(&["verify", "one.ron", "--tolerance", "0.0625"]).success();
    for expected in ["1 agrees", "2 equal", "(allowed)", "instruction_sets others"] {
        assert!(said.out.contains(expected), "`{expected}` is not in\n{}", said.out);
    }
}

#[test]
fn a_damaged_blob_is_no_result_to_compare_to() {
    let (place, store) = swept();
    let blob = entry(&store, &key(&place, "knn")).blobs["predictions"];
    let path = store.blob_path(&blob.digest);
    let mut bytes = std::fs::read(&path).expect("a blob");
    bytes[0] ^= 1;
    std::fs::remove_file(&path).expect("a removable file");
    std::fs::write(&path, bytes).expect("a writable file");
    let said = place.ablate(&["verify", "one.ron"]).code(4);
    assert!(said.err.contains("ablate check --read-data"), "{}", said.err);
    assert_eq!(neighbours(&place), Vec::<String>::new());
}
