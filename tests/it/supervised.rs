//! Supervised training and fine-tuning through the real command: the baseline beside SimCLR in one table.

use ablate::history::parquet;
use ablate::record::{Record, Stage};

use crate::harness::{MINIATURE, Workplace, entries, verified_digests};

const EVALUATIONS: &str = "evaluate: [
        Knn(k: 5), LinearProbe(epochs: 2, batch: 16), FineTune(epochs: 1, batch: 8),
        FineTune(epochs: 2, batch: 8, labels: 0.25),
    ]";

/// SimCLR, supervised training, and the same in pieces.
const SWEEP: &str = r#"sweep: [Zip([
        Variants("train.loss", {"SimCLR": NtXent, "supervised": CrossEntropy, "smoothed": CrossEntropy(label_smoothing: 0.1)}),
        Axis("model.head", [Mlp(layers: 2, hidden: 512, output: 64), Classifier, Classifier]),
        Axis("train.micro_batch", [None, None, 4]),
        Axis("train.batch_norm_scope", [View, Joint, MicroBatchView]),
    ])]"#;

fn text() -> String {
    MINIATURE
        .replace("sweep: [Axis(\"train.temperature\", [0.1, 0.5])]", SWEEP)
        .replace("rows: \"train.temperature\"", "rows: \"train.loss\"")
        .replace("evaluate: [Knn(k: 5), LinearProbe(epochs: 2, batch: 16)]", EVALUATIONS)
        .replace("seeds: [0, 1]", "seeds: [0]")
        .replace("length: Steps(3)", "length: Epochs(4)")
}

#[test]
fn the_supervised_baseline_stands_beside_simclr_in_one_table() {
    let swept = |threads: &str| {
        let place = Workplace::new();
        place.write("supervised.ron", &text());
        let said = place.ablate(&["sweep", "supervised.ron", "--threads", threads]).success();
        (said, place)
    };
    let (said, place) = swept("1");
    for words in ["SimCLR", "supervised", "smoothed", "protocol: k-NN k=5"] {
        assert!(said.out.contains(words), "no {words:?} in {}", said.out);
    }
    let store = place.path().join("results/store");
    let mut n_supervised = 0;
    for entry in entries(&store).into_values() {
        match serde_json::from_str::<Record>(&entry.body).expect("a record").stage {
            Stage::Pretrain(training) => {
                let [first, last] = [training.loss_first_epoch, training.loss_last_epoch].map(Option::unwrap);
                // The loss of labels alone says nothing of embeddings that are all equal.
                if training.loss_ratio.is_none() {
                    n_supervised += 1;
                    assert!(last < first, "from {first} to {last}");
                }
            }
            Stage::Evaluation(evaluation) if evaluation.kind == "finetune" => {
                assert!(evaluation.protocol.expect("words").starts_with("fine-tuning of "));
                assert!(entry.blobs.contains_key("predictions") && evaluation.per_class_top1.len() == 4);
            }
            Stage::Evaluation(_) => {}
            Stage::Failure(failure) => panic!("{}", failure.message),
        }
    }
    assert_eq!(n_supervised, 2);
    for metric in ["linear.top1", "finetune.top1", "finetune_labels0.25.top5"] {
        let table = place.ablate(&["table", "supervised.ron", "--metric", metric, "--json"]).success().json();
        assert_eq!(table["metric"], *metric, "{table}");
    }
    check_training_accuracy(&place);
    let again = place.ablate(&["sweep", "supervised.ron"]).success();
    assert!(again.err.contains("computed nothing"), "{}", again.err);
    let (_, other) = swept("2");
    let digests = |place: &Workplace| verified_digests(&place.path().join("results/store"));
    assert_eq!(digests(&place), digests(&other), "the number of threads changed a result");
}

/// Every step of the supervised runs has it where it was measured, and none of SimCLR's.
fn check_training_accuracy(place: &Workplace) {
    let bytes = std::fs::read(place.path().join("results/supervised.history.parquet")).expect("the histories");
    let table = parquet::read("ablate.histories/2", &bytes).expect("their table");
    let column = |name| table.f64s(name).expect("a column");
    let (cells, losses) = (table.u32s("cell").expect("a column"), column("loss"));
    let (measured, found) = (column("contrastive_top1"), column("train_top1"));
    let mut of_supervised = Vec::new();
    for row in 0..table.n_rows() {
        if cells[row] == Some(0) {
            assert_eq!(found[row], None, "row {row}");
            continue;
        }
        assert_eq!(found[row].is_some(), measured[row].is_some(), "row {row}");
        let (Some(top1), Some(loss)) = (found[row], losses[row]) else { continue };
        // A view that is told wrong has at most half of the probability at its label, and a loss of at least ln 2.
        let bound = (1.0 - top1) * std::f64::consts::LN_2;
        assert!((0.0..=1.0).contains(&top1) && (cells[row] == Some(2) || bound <= loss + 1e-6), "{top1} at {loss}");
        of_supervised.push(top1);
    }
    assert!(of_supervised.iter().any(|top1| *top1 > 0.5), "{of_supervised:?}");
}

/// Shrunk to seconds, on the cheaper stem, and on the reference as well.
#[test]
fn the_shipped_experiment_runs_shrunk() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/supervised.ron");
    let evaluate = "evaluate=[FineTune(labels: 0.1), LinearProbe(labels: 0.1)]";
    for device in ["cpu", "reference"] {
        let place = Workplace::new();
        let arguments =
            ["sweep", file, evaluate, "model.backbone.stem=ImageNet", "seeds=[0]", "--smoke", "--device", device];
        let said = place.ablate(&arguments).success();
        for cell in ["untrained", "SimCLR", "supervised"] {
            assert!(said.out.contains(cell), "no {cell} in {}", said.out);
        }
    }
}

#[test]
fn a_mistake_is_told_at_its_place_before_anything_is_computed() {
    let place = Workplace::new();
    place.write("x.ron", &MINIATURE.replace("length: Steps(3)", "loss: CrossEntropy, length: Steps(3)"));
    let said = place.ablate(&["sweep", "x.ron"]).code(2);
    assert!(said.err.contains("x.ron:6:15") && said.err.contains("`head: Classifier` in `model`"), "{}", said.err);
}
