//! Runs the real binary in a folder of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ablate::data;
use ablate::experiment::recipe::{Backend, Dataset, Split};
use ablate::experiment::run::Run;
use ablate::experiment::{self, LoadOptions};
use ablate::store::{Entry, Peek, Store};

/// A working directory with an experiment in it.
pub struct Workplace {
    folder: tempfile::TempDir,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Workplace {
    /// In memory where the system offers it: what a test proves does not hang on a real disk, its time does.
    pub fn new() -> Workplace {
        let folder = tempfile::TempDir::new_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Workplace { folder: folder.expect("a temporary folder") }
    }

    /// Where the store of a sweep with no other arguments is.
    pub fn store(&self) -> PathBuf {
        self.path().join("results/store")
    }

    /// The command, started with both ends of what it says kept.
    pub fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    }

    /// The names in a folder of the store that are of whole files; none where there is no folder yet.
    pub fn names_in(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.store().join(folder)).into_iter().flatten().flatten();
        // What is being written is a temporary file beside its name, which begins with a dot.
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('.'))
            .collect()
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a writable folder");
        fs::write(&path, text).expect("a writable file");
        path
    }

    /// The command, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        heed_signals();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ablate"));
        command.args(arguments).current_dir(self.path()).env_remove("RUST_BACKTRACE");
        command
    }

    pub fn ablate(&self, arguments: &[&str]) -> Said {
        Said::from(self.command(arguments).output().expect("the binary starts"))
    }
}

/// A shell has its background jobs ignore Ctrl-C, and so would the command of tests that run in one: what a process
/// catches itself, its children get in its default form.
fn heed_signals() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for signal in [SIGHUP, SIGINT, SIGTERM, SIGUSR1] {
            let always = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, always).expect("a signal to catch");
        }
    });
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Said {
    #[track_caller]
    pub fn success(self) -> Said {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn code(self, expected: i32) -> Said {
        assert_eq!(self.code, Some(expected), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}\n{}", self.out))
    }
}

/// Whether the tests that take longer than a moment are asked for.
pub fn slow_tests() -> bool {
    std::env::var_os("ABLATE_SLOW_TESTS").is_some()
}

/// Adds what a test tried to the file that `ABLATE_TALLY` names, where it does.
pub fn tally(promise: &str, test: &str, count: u64) {
    let Some(path) = std::env::var_os("ABLATE_TALLY") else { return };
    let file = fs::OpenOptions::new().create(true).append(true).open(&path);
    let line = format!("{promise}\t{test}\t{count}\n");
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a file to count in");
}

/// Looks again and again until `is_so`, at most a minute.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a signal to a child.
#[cfg(unix)]
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a process has a number");
    rustix::process::kill_process(pid, signal).expect("a child can be signalled");
}

/// Sweeps `text` until a signal catches a sweep whose training has left a checkpoint, `later` after it was seen: on a busy
/// machine one may come to its end before that.
#[cfg(unix)]
pub fn caught_training(text: &str, sent: rustix::process::Signal, later: Duration) -> (Workplace, Said) {
    for _ in 0..20 {
        let place = Workplace::new();
        place.write("miniature.ron", text);
        let mut child = place.start(&["sweep", "miniature.ron"]);
        let mut has_ended = false;
        wait_until("a checkpoint", || {
            has_ended = child.try_wait().expect("a child can be waited for").is_some();
            has_ended || !place.names_in("progress").is_empty()
        });
        std::thread::sleep(later);
        if !has_ended {
            signal(&child, sent);
        }
        let said = Said::from(child.wait_with_output().expect("the child ends"));
        if said.code != Some(0) {
            return (place, said);
        }
    }
    panic!("twenty sweeps ended before they could be caught");
}

/// The base recipe of a text, for the cpu executor.
pub fn base_run(text: &str) -> Run {
    let facts = |dataset: &Dataset, split: Split| data::facts(dataset, split, None).map_err(|error| error.to_string());
    let options = LoadOptions {
        overrides: &[],
        smoke: false,
        backend: Backend::Cpu,
        data_root: None,
        ignore_sweep: true,
        facts: &facts,
    };
    let loaded = experiment::load("miniature.ron", text, &options);
    loaded.unwrap_or_else(|problems| panic!("{}", problems.render(false))).cells[0].runs[0].clone()
}

/// Every sound record of a store, by key; none where there is no store yet.
pub fn entries(store: &Path) -> BTreeMap<String, Entry> {
    if !store.join("ablate-store").exists() {
        return BTreeMap::new();
    }
    let store = Store::open(store).expect("a store");
    let keys = store.keys().expect("readable keys").into_iter();
    let sound = keys.filter_map(|key| match store.peek(&key).expect("a readable record") {
        Peek::Hit(entry) => Some((key.to_string(), entry)),
        Peek::Absent | Peek::Damaged(_) => None,
    });
    sound.collect()
}

/// Digest of every blob by key and name, each read to its last byte: the bits of every result, without times and hosts.
#[track_caller]
pub fn verified_digests(store: &Path) -> BTreeMap<String, String> {
    let opened = Store::open(store).expect("a store");
    let mut digests = BTreeMap::new();
    for key in opened.keys().expect("readable keys") {
        match opened.verify(&key).expect("a readable record") {
            Peek::Hit(entry) => {
                digests
                    .extend(entry.blobs.iter().map(|(name, blob)| (format!("{key}.{name}"), blob.digest.to_string())));
            }
            other => panic!("{key}: {other:?}"),
        }
    }
    digests
}

/// A sweep of seconds: four runs of a few steps.
pub const MINIATURE: &str = r#"Experiment(
    question: "Does the temperature matter after a few steps?",
    dataset: Builtin(n_classes: 4, train_per_class: 12, test_per_class: 6, seed: 1),
    model: (backbone: ResNet18(stem: ImageNet), side: 32, head: Mlp(layers: 2, hidden: 512, output: 64)),
    train: (
        length: Steps(3), batch: 8, temperature: 0.5, optimizer: Adam, learning_rate: 0.001,
        checkpoint_every: Steps(2), metrics_every: Steps(2),
    ),
    evaluate: [Knn(k: 5), LinearProbe(epochs: 2, batch: 16)],
    seeds: [0, 1],
    sweep: [Axis("train.temperature", [0.1, 0.5])],
    table: (rows: "train.temperature", metric: "knn.top1"),
)
"#;
