//! Every evaluation through the real command: computed once, the same on any number of threads, named and shown.

use std::collections::BTreeMap;
use std::path::Path;

use ablate::record::{Record, Stage};

use crate::harness::{MINIATURE, Workplace, entries};

const EVALUATIONS: &str = "evaluate: [
        Knn(k: 5), Knn(k: 5, layer: Head(1)), KnnGrid(k: [1, 3], temperature: 0.5, layer: Projection),
        Health(rankme_min: 100),
        Robustness(k: 5), LinearProbe(epochs: 2, batch: 16),
        LinearProbe(epochs: 2, batch: 16, augment: CropAndFlip, labels: 0.5, layer: Head(2)),
        Transfer(dataset: Builtin(n_classes: 3, train_per_class: 6, test_per_class: 4, seed: 5), protocol: Knn(k: 3)),
    ]";

fn text() -> String {
    let one = MINIATURE.replace("evaluate: [Knn(k: 5), LinearProbe(epochs: 2, batch: 16)]", EVALUATIONS);
    one.replace("[0.1, 0.5]", "[0.5]").replace("seeds: [0, 1]", "seeds: [0]")
}

/// Every metric of every evaluation's record, by protocol.
fn measured(store: &Path) -> BTreeMap<String, Vec<(String, u64)>> {
    let records = entries(store).into_values().map(|entry| entry.body);
    let evaluation = |body: String| match serde_json::from_str::<Record>(&body).expect("a record").stage {
        Stage::Evaluation(evaluation) => {
            let metrics = evaluation.metrics.into_iter().map(|metric| (metric.name, metric.value.to_bits()));
            Some((evaluation.protocol.expect("a protocol"), metrics.collect()))
        }
        Stage::Pretrain(_) => None,
        Stage::Failure(failure) => panic!("{}", failure.message),
    };
    records.filter_map(evaluation).collect()
}

#[test]
fn every_evaluation_is_computed_named_and_shown() {
    let place = Workplace::new();
    place.write("miniature.ron", &text());
    let said = place.ablate(&["sweep", "miniature.ron", "--threads", "1"]).success();
    assert!(said.out.contains("protocol: k-NN k=5 T=0.1 cosine, backbone, bank 48 train images"), "{}", said.out);
    // 24 images span no hundred dimensions.
    assert!(said.out.contains("1 of 1 representations collapsed"), "{}", said.out);
    let store = place.path().join("results/store");
    let one = measured(&store);
    assert_eq!(one.len(), 9, "{one:?}");
    let again = place.ablate(&["sweep", "miniature.ron"]).success();
    assert!(again.err.contains("computed nothing"), "{}", again.err);
    for metric in [
        "knn_head1.top1",
        "knn_projection_k3_t0.5.top5",
        "health.rankme",
        "robustness.crop_cosine",
        "linear_head2.top1",
        "transfer_builtin_knn.top5",
    ] {
        let table = place.ablate(&["table", "miniature.ron", "--metric", metric, "--json"]).success().json();
        assert_eq!(table["metric"], *metric, "{table}");
    }
    let plan = place.ablate(&["plan", "miniature.ron", "--json"]).success().json();
    let key = plan["runs"][0]["evaluation_keys"]["health"].as_str().expect("a key").to_owned();
    let shown = place.ablate(&["show", &key]).success().out;
    for words in ["\"protocol\": \"RankMe and standard deviation of 24 images", "\"notes\": [", "collapsed: RankMe is"]
    {
        assert!(shown.contains(words), "no {words:?} in {shown}");
    }

    let other = Workplace::new();
    other.write("miniature.ron", &text());
    other.ablate(&["sweep", "miniature.ron", "--threads", "2"]).success();
    assert_eq!(one, measured(&other.path().join("results/store")), "the number of threads changed a result");
}

#[test]
fn every_evaluation_can_be_shrunk() {
    let place = Workplace::new();
    let text = text().replace("LinearProbe(epochs: 2, batch: 16)", "LinearProbe(labels: 0.01)");
    place.write("miniature.ron", &text);
    place.ablate(&["sweep", "miniature.ron", "--smoke"]).success();
    assert_eq!(measured(&place.path().join("results/smoke/store")).len(), 9);
}
