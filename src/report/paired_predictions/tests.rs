use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::*;
use crate::report::sample::{complete, experiment};
use crate::store::{Lookup, Miss};

/// Writes what an evaluation leaves behind under `key`.
fn put(store: &Store, key: &Key, predictions: &[u16], labels: Option<&[u32]>) {
    let Lookup::Miss(Miss { mut claim, .. }) = store.lookup(key).unwrap() else { panic!("nothing is there yet") };
    let predictions: Vec<u8> = predictions.iter().flat_map(|class| class.to_le_bytes()).collect();
    claim.put_blob(blob::PREDICTIONS, &predictions).unwrap();
    if let Some(labels) = labels {
        let bytes: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        let tensor = TensorView::new(Dtype::U32, vec![labels.len()], &bytes).unwrap();
        claim.put_blob(blob::FEATURES, &safetensors::serialize([("labels", tensor)], None).unwrap()).unwrap();
    }
    claim.commit("{}", "evaluation").unwrap();
}

fn pairs(path: &Path, change: impl FnOnce(&mut Experiment)) -> Vec<PairedPredictions> {
    let mut experiment = experiment(&[("a", &["1", "2", "3"])], &[], &[0, 7]);
    change(&mut experiment);
    let rows = complete(&experiment);
    let store = Store::open(path).unwrap();
    let key = |cell: usize, seed: usize| rows[2 * cell + seed].evaluation_key;
    if store.keys().unwrap().is_empty() {
        put(&store, &key(0, 0), &[0, 1, 2, 3, 0, 0], Some(&[0, 1, 2, 3, 4]));
        put(&store, &key(0, 1), &[0, 1, 2, 3, 0, 0], Some(&[0, 1, 2, 3, 4]));
        put(&store, &key(1, 0), &[0, 0, 0, 0, 4, 4], Some(&[0, 1, 2, 3, 4]));
        put(&store, &key(1, 1), &[0, 1, 2, 3, 4, 4], None);
        put(&store, &key(2, 0), &[0, 1, 2, 3], Some(&[0, 1, 2, 3]));
    }
    let table = AblationTable::new(&experiment, &rows, "knn.top1").unwrap();
    of(&store, &experiment, &rows, &table).unwrap()
}

#[test]
fn pairs_of_one_seed_and_what_stands_against_them() {
    let folder = tempfile::tempdir().unwrap();
    let found = pairs(folder.path(), |_| {});
    let places: Vec<(String, u64)> = found.iter().map(|pair| (pair.labels.join(" "), pair.seed)).collect();
    assert_eq!(places, [("2".to_owned(), 0), ("3".into(), 0), ("2".into(), 7), ("3".into(), 7)]);
    let test = found[0].outcome.as_ref().unwrap();
    // Of five labelled images the second cell alone is right about one, the baseline alone about three.
    assert_eq!((test.n_images, test.only_first_right, test.only_second_right, test.p), (5, 1, 3, 0.625));
    assert_eq!((found[0].n_predictions, found[0].adjusted_p), (6, Some(0.625)));
    let problems: Vec<&str> = found[1..].iter().map(|pair| pair.outcome.as_ref().unwrap_err().as_str()).collect();
    assert_eq!(problems, ["other labels than the baseline's", "its record has no `features`", "its record went away"]);
}

#[test]
fn other_test_images_are_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let other_data = |experiment: &mut Experiment| {
        experiment.cells[1].runs.iter_mut().for_each(|run| run.facts.digest = Key::of_bytes(b"other pixels"));
    };
    let found = pairs(folder.path(), other_data);
    assert_eq!(found[0].outcome, Err("other test images than the baseline's".to_owned()));
}

#[test]
fn a_training_predicts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(&[("a", &["1", "2"])], &[], &[0]);
    let of_training = |row: Row| Row { evaluation: "pretrain".to_owned(), evaluation_key: row.pretrain_key, ..row };
    let rows: Vec<Row> = complete(&experiment).into_iter().map(of_training).collect();
    let table = AblationTable::new(&experiment, &rows, "pretrain.top1").unwrap();
    assert_eq!(of(&Store::open(folder.path()).unwrap(), &experiment, &rows, &table).unwrap(), []);
}

#[test]
fn features_that_are_none_are_told() {
    assert!(labels(b"no tensors").unwrap_err().starts_with("its `features` cannot be read: "));
    let wrong = TensorView::new(Dtype::U8, vec![1], &[1]).unwrap();
    let bytes = safetensors::serialize([("labels", wrong)], None).unwrap();
    assert_eq!(labels(&bytes).unwrap_err(), "its `features` cannot be read: labels are U8, expected U32");
}
