//! Runs the real binary in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
    pub fn new() -> Workplace {
        Workplace { folder: tempfile::tempdir().expect("a temporary folder") }
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_ablate"));
        command.args(arguments).current_dir(self.path()).env_remove("RUST_BACKTRACE");
        command
    }

    pub fn ablate(&self, arguments: &[&str]) -> Said {
        Said::from(self.command(arguments).output().expect("the binary starts"))
    }
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
