use std::path::Path;

use super::*;
use crate::experiment::recipe::{Classification, Knn, Transfer};
use crate::report::sample::{complete, experiment};
use crate::store::{Lookup, Miss};

/// Writes what an evaluation leaves behind under `key`.
fn put(store: &Store, key: &Key, predictions: &[u16], labels: Option<&[u16]>) {
    let Lookup::Miss(Miss { mut claim, .. }) = store.lookup(key).unwrap() else { panic!("nothing is there yet") };
    let bytes = |classes: &[u16]| classes.iter().flat_map(|class| class.to_le_bytes()).collect::<Vec<u8>>();
    claim.put_blob(blob::PREDICTIONS, &bytes(predictions)).unwrap();
    if let Some(labels) = labels {
        claim.put_blob(blob::LABELS, &bytes(labels)).unwrap();
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
        put(&store, &key(0, 0), &[0, 1, 2, 3, 0], Some(&[0, 1, 2, 3, 4]));
        put(&store, &key(0, 1), &[0, 1, 2, 3, 0], Some(&[0, 1, 2, 3, 4]));
        put(&store, &key(1, 0), &[0, 0, 0, 0, 4], Some(&[0, 1, 2, 3, 4]));
        put(&store, &key(1, 1), &[0, 1, 2, 3, 4], None);
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
    // Of five images the second cell alone is right about one, the baseline alone about three.
    assert_eq!((test.n_images, test.only_first_right, test.only_second_right, test.p), (5, 1, 3, 0.625));
    assert_eq!(found[0].adjusted_p, Some(0.625));
    let problems: Vec<&str> = found[1..].iter().map(|pair| pair.outcome.as_ref().unwrap_err().as_str()).collect();
    assert_eq!(problems, ["other labels than the baseline's", "its record has no `labels`", "its record went away"]);
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

/// Whatever the encoders were trained on, a transfer asks about the images it transfers to.
#[test]
fn a_transfer_is_of_its_own_images() {
    let mut experiment = experiment(&[("dataset", &["1", "2"])], &[], &[0]);
    for (index, cell) in experiment.cells.iter_mut().enumerate() {
        let run = &mut cell.runs[0];
        let protocol = Classification::Knn(Knn::DEFAULT);
        let transfer = Transfer { dataset: run.dataset.clone(), facts: Some(run.facts), protocol };
        run.evaluate.push(Evaluation::Transfer(transfer));
        run.facts.digest = Key::of_bytes(&[index as u8]);
    }
    let names = evaluation_names(&experiment.cells[0].runs[0].evaluate);
    let of = |evaluation: &String| {
        let rows = complete(&experiment).into_iter().map(|row| Row { evaluation: evaluation.clone(), ..row });
        rows.map(|row| images(&experiment, &row).unwrap()).collect::<Vec<_>>()
    };
    let (own, other) = (of(&names[0]), of(&names[2]));
    assert_ne!(own[0], own[1]);
    assert_eq!(other, [(Key::of_bytes(b"pixels"), Split::Official); 2]);
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
