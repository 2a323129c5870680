//! What the program takes with thousands of runs: `just bench-scale`. Figures are kept in `benches/RESULTS.md`.
//!
//! Stores of synthetic records are made through the store itself, in memory where the system has such a folder; then the
//! real binary is run on them and timed from outside. Nothing is trained.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ablate::content::Key;
use ablate::data;
use ablate::experiment::recipe::{Backend, Dataset};
use ablate::experiment::run::Run;
use ablate::experiment::{self, Experiment, LoadOptions};
use ablate::history::{History, StepMetrics};
use ablate::record::{EpochCost, Evaluation, FORMAT, Metric, Pretrain, Provenance, Record, Stage, blob};
use ablate::report::render::Format;
use ablate::report::table::AblationTable;
use ablate::report::{collect, parquet};
use ablate::store::{Lookup, Store};
use rayon::prelude::*;

/// Different blobs of every kind; all records share them.
const BLOBS: usize = 200;
const EPOCHS: u32 = 20;
const REPEATS: usize = 5;

fn main() {
    // `cargo bench NAME` asks every bench for the parts of that name.
    let filters: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if !filters.is_empty() && !filters.iter().any(|filter| "scale".contains(filter.as_str())) {
        return;
    }
    let root = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("ablate-scale-").tempdir_in(root).expect("a writable folder");
    let place = Place { folder: folder.path().to_owned() };
    println!(
        "{:<58} {:>9} {:>9} {:>8}",
        "median and slowest of 5 runs of the binary", "median ms", "slowest", "peak MB"
    );
    place.measure("start-up: --version", &["--version"]);
    let grid = Grid { temperatures: 100, learning_rates: 100, n_seeds: 1 };
    place.write("cells.ron", &grid);
    place.measure("plan, 10,000 cells, nothing stored", &["plan", "cells.ron", "--device", "cpu"]);
    place.fill("cells.ron");
    place.measure("plan, 10,000 cells, 30,000 records", &["plan", "cells.ron", "--device", "cpu"]);
    place.measure("status, 10,000 cells, every device", &["status", "cells.ron"]);
    place.measure("table, 10,000 cells, 70,000 rows, every device", &["table", "cells.ron"]);
    place.write("cached.ron", &Grid { temperatures: 100, learning_rates: 10, n_seeds: 1 });
    let sweep = ["sweep", "cached.ron", "--device", "cpu"];
    place.measure("sweep, 1,000 runs, all stored", &sweep);
    place.write("rows.ron", &Grid { temperatures: 20, learning_rates: 72, n_seeds: 10 });
    place.fill("rows.ron");
    place.measure("table, 14,400 runs, 100,800 rows, one device", &["table", "rows.ron", "--device", "cpu"]);
    place.measure("table, 14,400 runs, 100,800 rows, every device", &["table", "rows.ron"]);
    place.measure("table as CSV, 100,800 rows, every device", &["table", "rows.ron", "--format", "csv"]);
    place.measure("sweep, 14,400 runs, all stored", &["sweep", "rows.ron", "--device", "cpu"]);
    place.parts("rows.ron");
}

struct Grid {
    temperatures: usize,
    learning_rates: usize,
    n_seeds: usize,
}

impl Grid {
    fn text(&self) -> String {
        let values =
            |n: usize, step: f64| (1..=n).map(|at| format!("{:.4}", at as f64 * step)).collect::<Vec<_>>().join(", ");
        let seeds: Vec<String> = (0..self.n_seeds).map(|seed| seed.to_string()).collect();
        format!(
            r#"Experiment(
    question: "How does it scale?",
    dataset: Builtin(n_classes: 10, train_per_class: 12, test_per_class: 6, seed: 1),
    model: (backbone: ResNet18(stem: Cifar), side: 32, head: Mlp(layers: 2, hidden: 512, output: 128)),
    train: (length: Steps(20), batch: 8, temperature: 0.5, optimizer: Adam, learning_rate: 0.001),
    evaluate: [Knn(k: 5), LinearProbe(epochs: 2, batch: 16)],
    seeds: [{}],
    sweep: [Axis("train.temperature", [{}]), Axis("train.learning_rate", [{}])],
    table: (rows: "train.learning_rate", columns: "train.temperature", metric: "knn.top1"),
    max_cells: 1000000,
)
"#,
            seeds.join(", "),
            values(self.temperatures, 0.01),
            values(self.learning_rates, 0.001),
        )
    }
}

/// A folder the binary works in.
struct Place {
    folder: PathBuf,
}

/// What one run of the binary took.
struct Cost {
    time: Duration,
    cpu_ms: u64,
    peak_bytes: u64,
}

impl Place {
    fn write(&self, name: &str, grid: &Grid) {
        std::fs::write(self.folder.join(name), grid.text()).expect("a writable folder");
    }

    /// Stores a record for every stage of every run.
    fn fill(&self, name: &str) {
        let began = Instant::now();
        let text = std::fs::read_to_string(self.folder.join(name)).expect("the experiment");
        let experiment = load(name, &text);
        let store = Store::open(&self.folder.join("results/store")).expect("a store");
        let blobs = Blobs::new();
        let runs: Vec<&Run> = experiment.cells.iter().flat_map(|cell| &cell.runs).collect();
        runs.par_iter().enumerate().for_each(|(index, run)| put_run(&store, run, &blobs, index));
        println!("{:<50} {:>9}", format!("(stored {} runs of {name})", runs.len()), began.elapsed().as_millis());
    }

    fn measure(&self, name: &str, arguments: &[&str]) {
        let mut costs: Vec<Cost> = (0..REPEATS).map(|_| self.run(arguments)).collect();
        costs.sort_by_key(|cost| cost.time);
        let ms = |cost: &Cost| cost.time.as_secs_f64() * 1e3;
        let peak = costs.iter().map(|cost| cost.peak_bytes).max().unwrap_or(0) as f64 / 1e6;
        let (median, slowest) = (&costs[REPEATS / 2], &costs[REPEATS - 1]);
        println!("{name:<50} {:>9.1} {:>8.1} {:>7} {peak:>8.1}", ms(median), ms(slowest), median.cpu_ms);
    }

    /// What the time of a table goes to, in this process.
    fn parts(&self, name: &str) {
        let text = std::fs::read_to_string(self.folder.join(name)).expect("the experiment");
        let store = Store::open(&self.folder.join("results/store")).expect("a store");
        let experiment = timed("  expand the file", || load(name, &text));
        let runs: Vec<&Run> = experiment.cells.iter().flat_map(|cell| &cell.runs).collect();
        timed("  every key, one thread", || runs.iter().map(|run| run.keys()).collect::<Vec<_>>());
        let collect = || collect::from_store(Some(&store), &[&experiment], &|_| {}).expect("a readable store");
        let rows = timed("  records to rows", collect).rows;
        let table = || AblationTable::new(&experiment, &rows, "knn.top1").expect("a table");
        let table = timed(&format!("  {} rows to the table", rows.len()), table);
        timed("  render", || table.render(Format::Text));
        timed("  Parquet", || parquet::to_parquet(&rows, &experiment.axes).expect("a file"));
    }

    fn run(&self, arguments: &[&str]) -> Cost {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ablate"));
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        // A pipe of ours would measure our reading.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let began = Instant::now();
        let mut child = command.spawn().expect("the binary starts");
        let (mut peak_bytes, mut cpu_ms) = (0, 0);
        let status = loop {
            cpu_ms = cpu_ms.max(processor_ms(child.id()).unwrap_or(0));
            peak_bytes = peak_bytes.max(peak_memory_bytes(child.id()).unwrap_or(0));
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let time = began.elapsed();
        assert!(status.success(), "{arguments:?} ended with {status}");
        Cost { time, cpu_ms, peak_bytes }
    }
}

/// The high-water mark so far of a process that lives, where the system tells.
fn peak_memory_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
    kib.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Processor time of all threads so far, in ticks of 10 ms: on a shared machine the clock on the wall says less.
fn processor_ms(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<u64> = stat.rsplit_once(')')?.1.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    Some((fields.get(12)? + fields.get(13)?) * 10)
}

fn timed<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let value = work();
    println!("{name:<50} {:>9.1}", began.elapsed().as_secs_f64() * 1e3);
    value
}

fn load(name: &str, text: &str) -> Experiment {
    let facts = |dataset: &Dataset, split| data::facts(dataset, split, None).map_err(|error| error.to_string());
    let options = LoadOptions {
        overrides: &[],
        smoke: false,
        backend: Backend::Cpu,
        data_root: None,
        ignore_sweep: false,
        facts: &facts,
    };
    match experiment::load(name, text, &options) {
        Ok(experiment) => experiment,
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

/// The bytes that records name.
struct Blobs(Vec<BTreeMap<&'static str, Vec<u8>>>);

impl Blobs {
    fn new() -> Blobs {
        let of = |index: usize| {
            let step = |step: u64| StepMetrics {
                step,
                epoch: step as u32,
                loss: 5.0 - 0.01 * index as f64 - 0.1 * step as f64,
                learning_rate: 0.001,
                detail: None,
            };
            let history = History { steps: (0..u64::from(EPOCHS)).map(step).collect() };
            let bytes = |kind: u8| [kind, index as u8].repeat(256);
            BTreeMap::from([
                (blob::CHECKPOINT, bytes(0)),
                (blob::HISTORY, history.to_parquet().expect("a table")),
                (blob::VIEWS, bytes(1)),
                (blob::PREDICTIONS, bytes(2)),
                (blob::LABELS, [4, 0].repeat(256)),
                (blob::FEATURES, bytes(3)),
            ])
        };
        Blobs((0..BLOBS).map(of).collect())
    }
}

fn put_run(store: &Store, run: &Run, blobs: &Blobs, index: usize) {
    let (keys, blobs) = (run.keys(), &blobs.0[index % BLOBS]);
    let of_training = [blob::CHECKPOINT, blob::HISTORY, blob::VIEWS];
    put(store, &keys.pretrain, pretrain(index), (&run.pretrain_preimage(), blobs), &of_training);
    for (key, evaluation) in keys.evaluations.iter().zip(&run.evaluate) {
        let checkpoint = Key::of_bytes(&blobs[blob::CHECKPOINT]);
        let stage = evaluated(keys.pretrain, checkpoint, index);
        let of_evaluation = [blob::PREDICTIONS, blob::LABELS, blob::FEATURES];
        put(store, key, stage, (&run.evaluation_preimage(evaluation), blobs), &of_evaluation);
    }
}

fn put(
    store: &Store,
    key: &Key,
    stage: Stage,
    (preimage, blobs): (&str, &BTreeMap<&'static str, Vec<u8>>),
    names: &[&str],
) {
    let mut miss = match store.lookup(key).expect("a readable store") {
        Lookup::Miss(miss) => miss,
        // Grids overlap.
        Lookup::Hit(_) => return,
        Lookup::Taken(owner) => panic!("{key} is taken by {owner}"),
    };
    for name in names {
        miss.claim.put_blob(name, &blobs[name]).expect("a writable store");
    }
    let record = Record { format: FORMAT, key: *key, stage, provenance: provenance() };
    let body = serde_json::to_string_pretty(&record).expect("plain data");
    miss.claim.commit(&body, preimage).expect("a writable store");
}

fn provenance() -> Provenance {
    let details = [("instruction_sets", "avx2 fma"), ("target", "x86_64-linux")];
    Provenance {
        ablate_version: "0.1.0".to_owned(),
        code: Key::of_bytes(b"code").to_string(),
        backend: "cpu".to_owned(),
        device: "AMD EPYC 7763 64-Core Processor".to_owned(),
        details: details.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        threads: 2,
        host: "node-17".to_owned(),
        started_unix_s: 1_790_000_000,
        seconds: 812.25,
        command: "ablate sweep experiments/scale.ron --threads 2".to_owned(),
    }
}

fn pretrain(index: usize) -> Stage {
    let cost = |epoch| EpochCost {
        epoch,
        steps: 195,
        images_per_s: 412.731_5 + f64::from(epoch),
        views_s: 1.203_117,
        gradient_s: 39.118_204_5,
        update_s: 0.911_302,
        other_s: 0.087_113_4,
    };
    Stage::Pretrain(Pretrain {
        n_parameters: 11_504_832,
        steps: 20,
        loss_first_epoch: Some(5.213_488_102),
        loss_last_epoch: Some(4.377_120_4 - index as f64 * 1e-5),
        loss_ratio: Some(0.791_203_3),
        epochs: (0..EPOCHS).map(cost).collect(),
        snapshots: Vec::new(),
        peak_memory_bytes: Some(1_288_490_188),
    })
}

fn evaluated(pretrain: Key, checkpoint: Key, index: usize) -> Stage {
    let metric = |name: &str, value| Metric { name: name.to_owned(), value, unit: "fraction".to_owned() };
    let top1 = 0.5 + (index % 1_000) as f64 * 1e-4;
    Stage::Evaluation(Evaluation {
        pretrain,
        checkpoint,
        kind: "knn".to_owned(),
        protocol: None,
        notes: Vec::new(),
        metrics: vec![metric("top1", top1), metric("top5", 0.95)],
        per_class_top1: (0..10).map(|class| top1 + f64::from(class) * 0.01).collect(),
        class_names: (0..10).map(|class| format!("class {class}")).collect(),
        n_test: 10_000,
        seconds: 3.25,
    })
}
