//! The numbers of every stage, pinned with the version that stands in its key: numbers that move without it fail here.
//!
//! Each stage gets fixed inputs of its own, so that a change in one moves no other's digest. After a version was bumped:
//! `ABLATE_BLESS=1 cargo test --release --test it golden`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ablate::content::Key;
use ablate::data::{self, Dataset, Images, LabelledImages};
use ablate::device::Pool;
use ablate::evaluate::{self, Features, features};
use ablate::executor::{self, Executor, Setting};
use ablate::experiment::recipe::{self, Backend, Builtin, Split};
use ablate::experiment::run::{DATA_VERSION, EVALUATION_VERSION, PRETRAIN_VERSION, Run};
use ablate::random::{Address, Purpose, Stream};
use ablate::train::{self, KeepError, Progress, Request, Watcher};
use ablate::views::Pipeline;
use serde::{Deserialize, Serialize};

use crate::harness::{MINIATURE, base_run};

/// A stage's numbers, and the version under which they were pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    version: i128,
    digest: String,
}

/// By stage and part: `pretrain/sgd`.
type Goldens = BTreeMap<String, Golden>;

const BLESS: &str = "`ABLATE_BLESS=1 cargo test --release --test it golden`";

/// The constant in `src/experiment/run.rs` that a stage's keys hold.
fn version_constant(part: &str) -> &'static str {
    match part.split('/').next() {
        Some("data") => "DATA_VERSION",
        Some("evaluation") => "EVALUATION_VERSION",
        // Views are made on the way and have no key of their own.
        _ => "PRETRAIN_VERSION",
    }
}

/// What to write down; or what is wrong, a line each.
fn judge(pinned: &Goldens, found: &Goldens, bless: bool) -> Result<Goldens, Vec<String>> {
    let mut problems = Vec::new();
    for (part, new) in found {
        let (stage, constant) = (part.split('/').next().unwrap_or(part), version_constant(part));
        match pinned.get(part) {
            Some(old) if old == new => {}
            Some(old) if old.version == new.version => problems.push(format!(
                "numbers of stage `{stage}` moved (`{part}`: {} is now {}): bump {constant} in src/experiment/run.rs, then \
                 bless with {BLESS}",
                old.digest, new.digest
            )),
            Some(old) if new.version < old.version => problems.push(format!(
                "{constant} is {} and was {} already: records of that version hold other numbers; take a new one",
                new.version, old.version
            )),
            Some(_) if !bless => problems.push(format!("{constant} is now {}: bless `{part}` with {BLESS}", new.version)),
            None if !bless => problems.push(format!("`{part}` is not pinned: bless it with {BLESS}")),
            Some(_) | None => {}
        }
    }
    for part in pinned.keys().filter(|part| !found.contains_key(*part) && !bless) {
        problems.push(format!("`{part}` is pinned and was not computed: bless its removal with {BLESS}"));
    }
    if problems.is_empty() { Ok(found.clone()) } else { Err(problems) }
}

fn file() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", "stages.json"].iter().collect()
}

#[test]
fn golden_numbers_move_with_their_versions_only() {
    let text = std::fs::read_to_string(file()).unwrap_or_else(|_| "{}".to_owned());
    let pinned: Goldens = serde_json::from_str(&text).expect("the pinned numbers");
    let bless = std::env::var_os("ABLATE_BLESS").is_some();
    match judge(&pinned, &computed(), bless) {
        Err(problems) => panic!("{}", problems.join("\n")),
        Ok(blessed) if bless && blessed != pinned => {
            let text = serde_json::to_string_pretty(&blessed).expect("plain data") + "\n";
            std::fs::write(file(), text).expect("a writable file");
        }
        Ok(_) => {}
    }
}

fn computed() -> Goldens {
    let pool = Pool::new(2);
    let mut goldens = Goldens::new();
    let mut pin = |part: String, version, digest: Key| {
        goldens.insert(part, Golden { version, digest: digest.to_string() });
    };
    data_digests().into_iter().for_each(|(name, digest)| pin(format!("data/{name}"), DATA_VERSION, digest));
    pin("views/simclr".to_owned(), PRETRAIN_VERSION, views_digest(&pool));
    for (name, optimizer) in [
        ("sgd", "optimizer: Sgd(momentum: 0.9)"),
        ("lars", "optimizer: Lars(flavour: Google, momentum: 0.9), batch_norm_scope: Joint"),
        ("adam", "optimizer: Adam"),
    ] {
        pin(format!("pretrain/{name}"), PRETRAIN_VERSION, training_digest(optimizer, &pool));
    }
    for (name, digest) in evaluation_digests(&pool) {
        pin(format!("evaluation/{name}"), EVALUATION_VERSION, digest);
    }
    goldens
}

/// Pixels, labels and names of the built-in set, whole and with a part held out.
fn data_digests() -> Vec<(&'static str, Key)> {
    let builtin =
        |n_classes, seed| recipe::Dataset::Builtin(Builtin { n_classes, train_per_class: 10, test_per_class: 3, seed });
    let load = |dataset: &recipe::Dataset, split| data::load(dataset, split).expect("the built-in set");
    let held_out = load(&builtin(4, 7), Split::HeldOut { fraction: 0.2, seed: 3 });
    let mut labels_and_pixels = Key::hasher();
    for part in [&held_out.train, &held_out.test] {
        part.labels.iter().for_each(|label| labels_and_pixels.update(&label.to_le_bytes()));
        (0..part.images.len()).for_each(|index| labels_and_pixels.update(part.images.get(index).pixels));
    }
    vec![
        ("builtin_4", load(&builtin(4, 7), Split::Official).digest),
        ("builtin_10", load(&builtin(10, 0), Split::Official).digest),
        ("held_out", labels_and_pixels.finish()),
    ]
}

fn draws(seed: u64) -> Stream {
    Stream::new(seed, Address::of(Purpose::View))
}

/// Images that no data set makes.
fn images(n: usize) -> Images {
    let (mut images, mut stream) = (Images::default(), draws(11));
    for _ in 0..n {
        let pixels: Vec<u8> = (0..32 * 32 * 3).map(|_| stream.uniform(0.0, 255.0) as u8).collect();
        images.push(32, 32, &pixels);
    }
    images
}

fn digest(values: &[f32]) -> Key {
    let mut hasher = Key::hasher();
    values.iter().for_each(|value| hasher.update(&value.to_le_bytes()));
    hasher.finish()
}

/// A batch of both views under every kind of augmentation.
fn views_digest(pool: &Pool) -> Key {
    let pipeline = Pipeline::new(&ablate::bench::views(), 32, 5);
    let examples: Vec<u32> = (0..6).collect();
    let mut views = vec![0.0; 2 * examples.len() * pipeline.view_len()];
    pipeline.batch(&images(6), &examples, 2, pool, &mut views);
    digest(&views)
}

/// The miniature's base recipe with another optimizer.
fn run(optimizer: &str) -> Run {
    base_run(&MINIATURE.replace("optimizer: Adam", optimizer))
}

fn executor(run: &Run, pool: &Pool) -> Box<dyn Executor> {
    let setting = Setting {
        batch: run.train.batch as usize,
        n_views: 2,
        micro_batch: None,
        loss: run.train.loss,
        temperature: run.train.temperature as f32,
        batch_norm_scope: run.train.batch_norm_scope,
        optimizer: run.train.optimizer,
        numerics: run.train.numerics,
        threads: pool.threads(),
        device: 0,
    };
    executor::build(&run.model, &setting, Backend::Cpu).expect("the cpu executor")
}

struct Silent;

impl Watcher for Silent {
    fn start(&mut self, _: u64) {}

    fn step(&mut self, _: &Progress) {}

    fn keep(&mut self, _: u64, _: &[u8]) -> Result<(), KeepError> {
        Ok(())
    }

    fn snapshot(&mut self, _: u64, _: &[u8]) -> Result<(), KeepError> {
        Ok(())
    }

    fn request(&self) -> Request {
        Request::Go
    }
}

/// Three steps: the checkpoint and the history.
fn training_digest(optimizer: &str, pool: &Pool) -> Key {
    let mut run = run(optimizer);
    // In no key, and nobody resumes.
    run.bookkeeping.checkpoint_every_steps = u64::MAX;
    let mut executor = executor(&run, pool);
    let images = images(run.facts.n_train as usize);
    // No loss of these looks at labels.
    let data = LabelledImages { images, labels: Vec::new() };
    let trained = train::pretrain(&run, &data, executor.as_mut(), pool, None, &mut Silent).expect("a training");
    assert_eq!((trained.checkpoint.state.step, trained.history.steps.len()), (3, 3));
    let mut hasher = Key::hasher();
    hasher.update(&trained.checkpoint.to_bytes(executor.plan()).expect("a checkpoint"));
    hasher.update(&trained.history.to_parquet().expect("a history"));
    hasher.finish()
}

/// Features of an encoder with drawn weights, and each protocol's predictions on drawn features.
fn evaluation_digests(pool: &Pool) -> Vec<(&'static str, Key)> {
    let run = run("optimizer: Adam");
    let labels = |n: usize| (0..n as u32).map(|index| index % 4).collect::<Vec<u32>>();
    let mut executor = executor(&run, pool);
    let (mut state, mut stream) = (executor.save(), draws(12));
    state.parameters.iter_mut().for_each(|value| *value = stream.uniform(-0.1, 0.1));
    state.buffers.iter_mut().for_each(|value| *value = 1.0);
    executor.load(&state);
    let part = |n: usize| LabelledImages { images: images(n), labels: labels(n) };
    let class_names = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    let dataset = Dataset { train: part(8), test: part(4), class_names, digest: Key::of_bytes(b"drawn") };
    let [bank, queries] = features::extract(&run, &dataset, executor.as_mut(), pool, &mut || true)
        .expect("features")
        .expect("nobody interrupts");
    let mut digests = vec![("features", digest(&[bank.values, queries.values].concat()))];
    let drawn = |n: usize, seed| {
        let mut stream = draws(seed);
        // A class shows in its features, so that predictions are not a toss.
        let of_class = |label: u32, column: usize| if column % 4 == label as usize { 0.5 } else { 0.0 };
        let labels = labels(n);
        let row = |label: &u32| {
            (0..32).map(|column| stream.uniform(-1.0, 1.0) + of_class(*label, column)).collect::<Vec<f32>>()
        };
        Features { values: labels.iter().flat_map(row).collect(), width: 32, labels }
    };
    let (bank, queries) = (drawn(200, 13), drawn(120, 14));
    for (name, evaluation) in ["knn", "linear"].into_iter().zip(&run.evaluate) {
        let protocol = evaluation.classification().expect("a protocol that tells images apart");
        let outcome = evaluate::evaluate(&protocol, &bank, &queries, 4, pool, None).expect("an outcome");
        assert!((0.3..1.0).contains(&outcome.top1), "{name} tells nothing: {}", outcome.top1);
        let predictions: Vec<u8> = outcome.predictions.iter().flat_map(|class| class.to_le_bytes()).collect();
        digests.push((name, Key::of_bytes(&predictions)));
    }
    digests
}

fn goldens(of: &[(&str, i128, &str)]) -> Goldens {
    let golden = |(part, version, digest): &(&str, i128, &str)| {
        ((*part).to_owned(), Golden { version: *version, digest: (*digest).to_owned() })
    };
    of.iter().map(golden).collect()
}

/// What is said of `found`, without and with blessing; nothing where it is accepted.
#[track_caller]
fn check(found: &[(&str, i128, &str)], plain: &str, blessed: &str) {
    let pinned = goldens(&[("pretrain/sgd", 2, "a"), ("data/builtin", 1, "b")]);
    for (bless, expected) in [(false, plain), (true, blessed)] {
        match judge(&pinned, &goldens(found), bless) {
            Ok(kept) => assert!(expected.is_empty() && kept == goldens(found), "bless {bless}: accepted {kept:?}"),
            Err(problems) => {
                let said = problems.join("\n");
                assert!(!expected.is_empty() && said.contains(expected), "bless {bless}: {said}");
            }
        }
    }
}

#[test]
fn golden_numbers_that_move_are_never_blessed_under_their_version() {
    let data = ("data/builtin", 1, "b");
    check(&[("pretrain/sgd", 2, "a"), data], "", "");
    let moved = "numbers of stage `pretrain` moved (`pretrain/sgd`: a is now c): bump PRETRAIN_VERSION in \
                 src/experiment/run.rs";
    check(&[("pretrain/sgd", 2, "c"), data], moved, moved);
    check(&[("pretrain/sgd", 3, "c"), data], "PRETRAIN_VERSION is now 3: bless `pretrain/sgd`", "");
    check(&[("pretrain/sgd", 3, "a"), data], "PRETRAIN_VERSION is now 3", "");
    check(&[("pretrain/sgd", 1, "c"), data], "was 2 already", "was 2 already");
    check(&[("pretrain/sgd", 2, "a"), ("data/builtin", 1, "c")], "bump DATA_VERSION", "bump DATA_VERSION");
    check(&[("pretrain/sgd", 2, "a"), data, ("evaluation/knn", 1, "d")], "`evaluation/knn` is not pinned", "");
    check(&[("pretrain/sgd", 2, "a")], "`data/builtin` is pinned and was not computed", "");
}
