//! Every loss from the file to the table: three steps each, on two numbers of threads.

use crate::harness::{MINIATURE, Workplace};

/// By the name that the table gives them.
const LOSSES: &str = r#"{
    "nt-xent": NtXent, "scaled": NtXent(scale: 2.0), "products": NtXent(normalize: false),
    "bank": NtXentMemoryBank(size: 20), "dcl": Dcl, "dclw": Dclw(sigma: 0.5),
    "logistic": NtLogistic, "logistic, semi-hard": NtLogistic(semi_hard: true),
    "margin": MarginTriplet(margin: 0.4), "margin, semi-hard": MarginTriplet(margin: 0.8, semi_hard: true),
}"#;

const N_LOSSES: usize = 10;

fn miniature() -> String {
    MINIATURE
        .replace("Axis(\"train.temperature\", [0.1, 0.5])", &format!("Variants(\"train.loss\", {LOSSES})"))
        .replace("rows: \"train.temperature\"", "rows: \"train.loss\"")
        .replace("seeds: [0, 1]", "seeds: [0]")
        .replace(", LinearProbe(epochs: 2, batch: 16)", "")
        .replace(
            "n_classes: 4, train_per_class: 12, test_per_class: 6",
            "n_classes: 2, train_per_class: 6, test_per_class: 2",
        )
        .replace("batch: 8, ", "batch: 4, ")
}

/// Key, digests of all results and losses of the first and the last epoch of every training.
fn trainings(place: &Workplace) -> Vec<(String, Vec<String>, [f64; 2])> {
    let store = ablate::store::Store::open(&place.store()).expect("a store");
    let mut found = Vec::new();
    for key in store.keys().expect("readable keys") {
        let ablate::store::Peek::Hit(entry) = store.peek(&key).expect("a readable record") else {
            panic!("{key} is not whole");
        };
        let record: serde_json::Value = serde_json::from_str(&entry.body).expect("a record");
        let pretrain = &record["stage"]["Pretrain"];
        if let (Some(first), Some(last)) = (pretrain["loss_first_epoch"].as_f64(), pretrain["loss_last_epoch"].as_f64())
        {
            let digests = entry.blobs.values().map(|blob| blob.digest.to_string()).collect();
            found.push((key.to_string(), digests, [first, last]));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn every_loss_trains_the_same_on_one_thread_and_on_two() {
    let trained = |threads: &str| {
        let place = Workplace::new();
        place.write("losses.ron", &miniature());
        let said = place.ablate(&["sweep", "losses.ron", "--threads", threads]).success();
        assert!(said.out.contains("margin, semi-hard") && said.out.contains("products"), "{}", said.out);
        trainings(&place)
    };
    let one = trained("1");
    assert_eq!(one.len(), N_LOSSES);
    assert!(one.iter().all(|(_, digests, losses)| digests.len() == 3 && losses.iter().all(|loss| loss.is_finite())));
    assert_eq!(one, trained("2"));
}
