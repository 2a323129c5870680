use std::collections::BTreeMap;

use super::*;
use crate::content::Key;
use crate::record::{Evaluation, FORMAT, Metric, Pretrain, Provenance, Record, Stage};
use crate::store::{BlobRef, Entry};

fn provenance(details: &[(&str, &str)]) -> Provenance {
    let text = str::to_owned;
    Provenance {
        ablate_version: text("0.1.0"),
        code: text("c0de"),
        backend: text("cpu"),
        device: text("a processor"),
        details: details.iter().map(|(name, value)| (text(name), text(value))).collect(),
        threads: 1,
        host: text("here"),
        started_unix_s: 0,
        seconds: 1.0,
        command: text("ablate sweep"),
    }
}

const HERE: &[(&str, &str)] = &[("instruction_sets", "avx2 fma"), ("target", "x86_64-linux")];
const ELSEWHERE: &[(&str, &str)] = &[("instruction_sets", "avx2 fma avx512f"), ("target", "x86_64-linux")];

#[derive(Clone)]
struct Computed {
    entry: Entry,
    record: Record,
}

fn computed(stage: Stage, blobs: &[(&str, &[u8])]) -> Computed {
    let key = Key::of_bytes(b"key");
    let reference = |bytes: &[u8]| BlobRef { digest: Key::of_bytes(bytes), bytes: bytes.len() as u64 };
    let blobs = blobs.iter().map(|(name, bytes)| ((*name).to_owned(), reference(bytes))).collect();
    let entry = Entry { key, body: String::new(), preimage: String::new(), blobs, dropped: BTreeMap::new() };
    Computed { entry, record: Record { format: FORMAT, key, stage, provenance: provenance(HERE) } }
}

fn knn(top1: f64) -> Stage {
    Stage::Evaluation(Evaluation {
        protocol: None,
        notes: Vec::new(),
        pretrain: Key::of_bytes(b"training"),
        checkpoint: Key::of_bytes(b"checkpoint"),
        kind: "knn".to_owned(),
        metrics: vec![Metric { name: "top1".to_owned(), value: top1, unit: "fraction".to_owned() }],
        per_class_top1: vec![top1],
        class_names: vec!["cat".to_owned()],
        n_test: 8,
        seconds: 0.5,
    })
}

fn training(loss: f64, loss_ratio: f64, steps: u64) -> Stage {
    Stage::Pretrain(Pretrain {
        n_parameters: 11,
        steps,
        loss_first_epoch: Some(loss),
        loss_last_epoch: Some(loss),
        loss_ratio: Some(loss_ratio),
        epochs: Vec::new(),
        snapshots: Vec::new(),
        peak_memory_bytes: None,
    })
}

/// What the two differ in, `!` before what decides, on machines of one class and of two.
#[track_caller]
fn check(stored: &Computed, again: &Computed, same: (&str, Verdict), elsewhere: (&str, Verdict)) {
    for (details, expected) in [(HERE, same), (ELSEWHERE, elsewhere)] {
        let mut again = again.clone();
        again.record.provenance = provenance(details);
        let comparison = compare((&stored.entry, &stored.record), (&again.entry, &again.record), 0.02);
        let sign = |difference: &Difference| if difference.decides { "!" } else { "" };
        let told: Vec<String> = comparison
            .differences
            .iter()
            .map(|difference| format!("{}{}", sign(difference), difference.name))
            .collect();
        assert_eq!((told.join(" "), comparison.verdict()), (expected.0.to_owned(), expected.1), "{details:?}");
        assert_eq!(comparison.same_machine_class, details == HERE);
    }
}

#[test]
fn bits_decide_on_one_class_of_machines_and_metrics_on_two() {
    use Verdict::{Agrees, Diverged, Equal};
    let first = computed(knn(0.5), &[("predictions", b"abc")]);
    check(&first, &first, ("", Equal), ("", Equal));
    let near = computed(knn(0.5001), &[("predictions", b"abd")]);
    let told = "!blob predictions !top1 !top1 of cat";
    check(&first, &near, (told, Diverged), ("blob predictions top1 top1 of cat", Agrees));
    let far = computed(knn(0.6), &[("predictions", b"abd")]);
    check(&first, &far, (told, Diverged), ("blob predictions !top1 top1 of cat", Diverged));
    let blob_alone = computed(knn(0.5), &[("predictions", b"abd")]);
    check(&first, &blob_alone, ("!blob predictions", Diverged), ("blob predictions", Agrees));
    let without_blob = computed(knn(0.5), &[]);
    check(&first, &without_blob, ("!blob predictions", Diverged), ("blob predictions", Agrees));
    check(&without_blob, &first, ("!blob predictions", Diverged), ("blob predictions", Agrees));
    let with_labels = computed(knn(0.5), &[("labels", b"l"), ("predictions", b"abc")]);
    check(&first, &with_labels, ("blob labels", Agrees), ("blob labels", Agrees));
    let edge = computed(knn(0.52), &[("predictions", b"abc")]);
    check(&first, &edge, ("!top1 !top1 of cat", Diverged), ("top1 top1 of cat", Agrees));
}

#[test]
fn losses_are_judged_by_their_ratio_and_counts_everywhere() {
    use Verdict::{Agrees, Diverged};
    let first = computed(training(5.0, 0.9, 10), &[("engines", b"a")]);
    let engines = computed(training(5.0, 0.9, 10), &[("engines", b"b")]);
    check(&first, &engines, ("blob engines", Agrees), ("blob engines", Agrees));
    let near = computed(training(5.05, 0.905, 10), &[("engines", b"a")]);
    check(
        &first,
        &near,
        ("!loss_first_epoch !loss_last_epoch !loss_ratio", Diverged),
        ("loss_first_epoch loss_last_epoch loss_ratio", Agrees),
    );
    let far = computed(training(5.0, 0.95, 10), &[("engines", b"a")]);
    check(&first, &far, ("!loss_ratio", Diverged), ("!loss_ratio", Diverged));
    let shorter = computed(training(5.0, 0.9, 9), &[("engines", b"a")]);
    check(&first, &shorter, ("!steps", Diverged), ("!steps", Diverged));
}

#[test]
fn a_metric_that_is_gone_decides() {
    let first = computed(knn(0.5), &[]);
    let mut again = first.clone();
    if let Stage::Evaluation(evaluation) = &mut again.record.stage {
        evaluation.metrics.clear();
    }
    check(&first, &again, ("!top1", Verdict::Diverged), ("!top1", Verdict::Diverged));
}

#[test]
fn the_class_of_a_machine_is_what_bits_depend_on() {
    let class = |details: &[(&str, &str)]| provenance(details).machine_class();
    let with = |more: &[(&'static str, &'static str)]| class(&[HERE, more].concat());
    assert_eq!(class(HERE), with(&[("jobs", "3")]));
    assert_eq!(class(HERE), with(&[("processor", "another")]));
    assert_ne!(class(HERE), class(ELSEWHERE));
    assert_ne!(with(&[("gpu_architecture", "9.0")]), with(&[("gpu_architecture", "10.0")]));
    assert_ne!(with(&[("cuDNN", "9.26")]), with(&[("cuDNN", "9.27")]));
    let mut other = provenance(HERE);
    (other.threads, other.host, other.device) = (9, "there".to_owned(), "another".to_owned());
    assert_eq!(class(HERE), other.machine_class());
    other.backend = "cuda".to_owned();
    assert_ne!(class(HERE), other.machine_class());
}

#[test]
fn shares_round_up_and_nonsense_is_refused() {
    let of = |text: &str, n: usize| text.parse::<Fraction>().map(|fraction| fraction.of(n));
    for (text, n, expected) in [
        ("10%", 20, 2),
        ("10%", 21, 3),
        ("10%", 1, 1),
        ("10%", 0, 0),
        ("0.1", 10, 1),
        ("7%", 100, 7),
        ("1", 9, 9),
        ("100%", 9, 9),
        ("1%", 9, 1),
        ("0.5 %", 200, 1),
        ("33.4%", 3, 2),
    ] {
        assert_eq!(of(text, n), Ok(expected), "{text} of {n}");
    }
    for wrong in ["", "%", "0", "0%", "-1", "1.5", "101%", "NaN", "inf", "ten", "10 percent"] {
        assert_eq!(of(wrong, 10), Err(WrongFraction), "{wrong}");
    }
}

#[test]
fn every_share_is_a_count_within_the_whole() {
    use proptest::prelude::*;
    proptest!(|(percent in 1u32..=100, n in 0usize..10_000)| {
        let count = format!("{percent}%").parse::<Fraction>().expect("a share").of(n);
        prop_assert_eq!(count, (percent as usize * n).div_ceil(100));
    });
}

/// Unused names would be a hole in the comparison.
#[test]
fn every_blob_of_a_record_is_compared() {
    let first = computed(knn(0.5), &[("a", b"1"), ("b", b"2")]);
    let again = computed(knn(0.5), &[("a", b"1"), ("b", b"3")]);
    let comparison = compare((&first.entry, &first.record), (&again.entry, &again.record), 0.0);
    let names: BTreeMap<&str, bool> =
        comparison.differences.iter().map(|difference| (difference.name.as_str(), difference.decides)).collect();
    assert_eq!(names, BTreeMap::from([("blob b", true)]));
}
