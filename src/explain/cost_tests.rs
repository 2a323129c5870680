//! Forecasts from records whose costs are known.

use std::collections::BTreeMap;

use super::cost::{Forecast, Forecaster, Profile};
use super::index::Index;
use crate::content::Key;
use crate::experiment::recipe::{Augmentation, Backbone, Backend, Evaluation, FineTune, LinearProbe, Optimizer, Stem};
use crate::experiment::run::Run;
use crate::record::{self, EpochCost, Pretrain, Provenance, Record, Stage};
use crate::report::sample;
use crate::store::{Lookup, Store};

const CHECKPOINT_BYTES: usize = 5_000;

fn provenance(device: &str) -> Provenance {
    Provenance {
        ablate_version: "0".to_owned(),
        code: "c".to_owned(),
        backend: "cpu".to_owned(),
        device: device.to_owned(),
        details: BTreeMap::new(),
        threads: 1,
        host: "h".to_owned(),
        started_unix_s: 0,
        seconds: 1.0,
        command: String::new(),
    }
}

fn training(images_per_s: f64) -> Stage {
    let epochs = vec![EpochCost {
        epoch: 0,
        steps: 1,
        images_per_s,
        views_s: 0.0,
        gradient_s: 2.0,
        update_s: 0.0,
        other_s: 0.0,
    }];
    Stage::Pretrain(Pretrain {
        n_parameters: 1,
        steps: 1,
        loss_first_epoch: None,
        loss_last_epoch: None,
        loss_ratio: None,
        epochs,
        snapshots: Vec::new(),
        peak_memory_bytes: None,
    })
}

fn evaluation(run: &Run, seconds: f64) -> Stage {
    Stage::Evaluation(record::Evaluation {
        protocol: None,
        notes: Vec::new(),
        pretrain: run.pretrain_key(),
        checkpoint: Key::of_bytes(b"checkpoint"),
        kind: "knn".to_owned(),
        metrics: Vec::new(),
        per_class_top1: Vec::new(),
        class_names: Vec::new(),
        n_test: 1,
        seconds,
    })
}

struct Recorded {
    _folder: tempfile::TempDir,
    store: Store,
}

impl Recorded {
    fn new() -> Recorded {
        let shm = std::path::Path::new("/dev/shm");
        let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("a folder");
        let store = Store::open(&folder.path().join("store")).expect("a store");
        Recorded { _folder: folder, store }
    }

    fn put(&self, key: Key, preimage: &str, stage: Stage, device: &str) {
        let Lookup::Miss(mut miss) = self.store.lookup(&key).expect("a lookup") else { panic!("stored twice") };
        miss.claim.put_blob("checkpoint", &vec![0; CHECKPOINT_BYTES]).expect("a blob");
        let record = Record { format: record::FORMAT, key, stage, provenance: provenance(device) };
        let body = serde_json::to_string(&record).expect("JSON");
        miss.claim.commit(&body, preimage).expect("a commit");
    }

    fn put_training(&self, run: &Run, images_per_s: f64, device: &str) {
        self.put(run.pretrain_key(), &run.pretrain_preimage(), training(images_per_s), device);
    }

    fn forecast(&self, device: Option<&str>, ask: impl Fn(&mut Forecaster)) -> Forecast {
        let index = Index::build(&self.store).expect("an index");
        let mut forecaster = Forecaster::new(Some((&self.store, &index)), device);
        ask(&mut forecaster);
        forecaster.finish()
    }

    fn seconds(&self, run: &Run, device: Option<&str>) -> Option<f64> {
        let ask = |forecaster: &mut Forecaster| {
            forecaster.trainings(|| run.pretrain_preimage(), 1, 1_000);
        };
        let share = self.forecast(device, ask).trainings;
        (share.n_timed == 1).then_some(share.seconds)
    }
}

/// A probe on a tenth of the labels tells what one on all of them takes; of fine-tunings only one on as many does.
#[test]
fn a_fine_tuning_costs_by_its_labels() {
    let profile = |evaluate: fn(f64) -> Evaluation, labels: f64| {
        let run = Run { evaluate: vec![evaluate(labels)], ..sample::run(8, 1) };
        Profile::all_of(&run.evaluation_preimage(&run.evaluate[0]))
    };
    let probe = |labels| Evaluation::LinearProbe(LinearProbe { labels, ..LinearProbe::DEFAULT });
    let tuning = |labels| Evaluation::FineTune(FineTune { labels, ..FineTune::DEFAULT });
    assert_eq!(profile(probe, 0.1), profile(probe, 1.0));
    assert_ne!(profile(tuning, 0.1), profile(tuning, 1.0));
    assert_eq!(profile(tuning, 0.1), profile(tuning, 0.1));
}

#[test]
fn the_middle_of_the_closest_records_of_this_device_counts() {
    let recorded = Recorded::new();
    for (seed, images_per_s, device) in
        [(1, 100.0, "here"), (2, 50.0, "here"), (3, 200.0, "here"), (4, 1_000.0, "there"), (5, 1_000.0, "there")]
    {
        recorded.put_training(&sample::run(8, seed), images_per_s, device);
    }
    recorded.put_training(&sample::run(64, 6), 400.0, "there");
    let seconds = |run: &Run, device| recorded.seconds(run, device);
    assert_eq!(seconds(&sample::run(8, 9), Some("here")), Some(10.0));
    assert_eq!(seconds(&sample::run(8, 9), Some("there")), Some(1.0));
    // Unknown here: whatever device has the closest records.
    assert_eq!(seconds(&sample::run(64, 9), None), Some(2.5));
    // This device's records of another batch come before those of another device.
    assert_eq!(seconds(&sample::run(64, 9), Some("here")), Some(10.0));
    let mut other = sample::run(8, 9);
    other.model.backbone = Backbone::ResNet18 { stem: Stem::ImageNet };
    assert_eq!(seconds(&other, Some("here")), None);
    let gpu = Run { backend: Backend::Cuda, ..sample::run(8, 9) };
    assert_eq!(seconds(&gpu, None), None);
}

#[test]
fn evaluations_and_sizes_are_told_or_said_to_be_unknown() {
    let recorded = Recorded::new();
    let run = sample::run(8, 1);
    recorded.put_training(&run, 100.0, "here");
    let knn = &run.evaluate[0];
    recorded.put(run.evaluation_key(knn), &run.evaluation_preimage(knn), evaluation(&run, 3.0), "here");
    let wanted = sample::run(8, 2);
    let forecast = recorded.forecast(Some("here"), |forecaster| {
        forecaster.trainings(|| wanted.pretrain_preimage(), 3, 1_000);
        forecaster.evaluations(|| wanted.evaluation_preimage(&wanted.evaluate[0]), 2);
        forecaster.evaluations(|| wanted.evaluation_preimage(&wanted.evaluate[1]), 1);
    });
    assert_eq!((forecast.trainings.seconds, forecast.trainings.n_timed), (30.0, 3));
    assert!(forecast.trainings.bytes >= 3 * CHECKPOINT_BYTES as u64 && forecast.trainings.n_sized == 3);
    // A snapshot is no larger than a checkpoint, where no record has one.
    let kept = recorded.forecast(Some("here"), |forecaster| {
        forecaster.trainings(|| wanted.pretrain_preimage(), 3, 1_000);
        forecaster.snapshots(|| wanted.pretrain_preimage(), 6);
    });
    assert_eq!(kept.trainings.bytes, forecast.trainings.bytes + 6 * CHECKPOINT_BYTES as u64);
    let evaluations = forecast.evaluations;
    assert_eq!((evaluations.n, evaluations.n_timed, evaluations.seconds), (3, 2, 6.0));
    let sentences = forecast.sentences();
    assert!(
        sentences[0].starts_with("about 36 s and ")
            && sentences[0].ends_with(" for 3 trainings and 2 evaluations (from 2 recorded stages on here)"),
        "{sentences:?}"
    );
    assert_eq!(
        sentences[1..],
        [
            "how long 1 evaluation will take is unknown: nothing of the kind is recorded",
            "how many bytes 1 evaluation will keep is unknown: nothing of the kind is recorded"
        ]
    );
    assert!(Forecast::default().sentences().is_empty());
    // No steps take no time, whatever is recorded.
    let mut none = Forecaster::new(None, None);
    none.trainings(|| wanted.pretrain_preimage(), 1, 0);
    let none = none.finish();
    assert_eq!((none.trainings.n_timed, none.trainings.n_sized, none.trainings.seconds), (1, 0, 0.0));
}

/// What costs alike has equal profiles, and what does not has not.
#[test]
fn profiles_hold_what_costs() {
    let profiles = |change: &dyn Fn(&mut Run)| {
        let mut run = sample::run(8, 1);
        change(&mut run);
        Profile::all_of(&run.pretrain_preimage())
    };
    let base = profiles(&|_| {});
    // Step, batch, model, checkpoint: which stay equal.
    let check = |expected: [bool; 4], change: &dyn Fn(&mut Run)| {
        let equal: Vec<bool> = base.iter().zip(profiles(change)).map(|(a, b)| *a == b).collect();
        assert_eq!(equal, expected);
    };
    check([true; 4], &|run| (run.seed, run.train.temperature, run.train.length_steps) = (9, 0.1, 7));
    check([false, true, true, true], &|run| run.views.push(Augmentation::Grayscale { p: 0.2 }));
    check([false, false, true, true], &|run| run.train.batch = 16);
    check([false, false, false, true], &|run| run.backend = Backend::Reference);
    check([false; 4], &|run| run.model.side = 64);
    check([false, true, true, false], &|run| {
        let decay = crate::experiment::recipe::DecayScope::All;
        run.train.optimizer = Optimizer::Adam { beta1: 0.9, beta2: 0.9, epsilon: 1e-8, weight_decay: 0.0, decay };
    });
    assert!(Profile::all_of("another/thing/k1\n").is_empty());
}
