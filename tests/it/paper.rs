//! Whole sweeps on a GPU of paper (tests/paper/cuda.c): every call that this program makes of the driver, cuBLASLt and cuDNN
//! is made, in its order, and held to their rules; nothing is computed. Needs a C compiler, and NVRTC to compile the kernels;
//! without NVRTC it is skipped, aloud, unless ABLATE_REQUIRE_NVRTC says that there must be.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;

use ablate::device::cuda::libraries;

use crate::harness::{Said, Workplace};

const EXPERIMENT: &str = r#"// Question: is every call allowed?
Experiment(
    question: "Is every call allowed?",
    dataset: Builtin(n_classes: 2, train_per_class: 20, test_per_class: 4, seed: 0),
    train: (length: Steps(5), batch: 8, metrics_every: Steps(2), checkpoint_every: Steps(3)),
    evaluate: [LinearProbe(epochs: 1, batch: 8)],
    seeds: [0],
    sweep: [Axis("train.numerics", [Bf16, F32])],
    table: (rows: ["train.numerics"], metric: "linear.top1"),
)
"#;

/// The folder of the three libraries, made once a process; none where NVRTC is missing.
fn libraries_of_paper(place: &Workplace) -> Option<PathBuf> {
    if let Err(error) = libraries::load(&[libraries::Library::Nvrtc]) {
        assert!(std::env::var_os("ABLATE_REQUIRE_NVRTC").is_none(), "ABLATE_REQUIRE_NVRTC is set, but: {error}");
        println!("skipped: {error}");
        return None;
    }
    let folder = place.path().join("paper");
    std::fs::create_dir_all(&folder).expect("a writable folder");
    let library = folder.join("libcuda.so.1");
    let compiler = std::env::var("CXX").map_or_else(|_| "cc".to_owned(), |words| words.replace("c++", "cc"));
    let mut words = compiler.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("cc"));
    command.args(words).args([
        "-x",
        "c",
        "-std=gnu11",
        "-O1",
        "-fPIC",
        "-shared",
        "-pthread",
        "-Wl,-soname,libcuda.so.1",
    ]);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/paper/cuda.c");
    let said = command.arg(source).arg("-o").arg(&library).output().expect("a C compiler");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    for name in ["libcublasLt.so.13", "libcudnn.so.9"] {
        std::os::unix::fs::symlink(&library, folder.join(name)).expect("a link");
    }
    Some(folder)
}

/// The command on a GPU of paper with so many bytes.
fn ablate(place: &Workplace, folder: &Path, bytes: u64, arguments: &[&str]) -> Said {
    let joined = |name: &str| {
        let others = std::env::var_os(name).unwrap_or_default();
        std::env::join_paths(std::iter::once(folder.to_owned()).chain(std::env::split_paths(&others)))
            .expect("plain paths")
    };
    let mut command = place.command(arguments);
    command.env("LD_LIBRARY_PATH", joined("LD_LIBRARY_PATH")).env("ABLATE_CUDA_PATH", joined("ABLATE_CUDA_PATH"));
    // Compiled kernels are kept from one run of the tests to the next.
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).env("PAPER_BYTES", bytes.to_string());
    Said::from(command.output().expect("the binary starts"))
}

/// No rule was broken and nothing is left; launches and replays.
#[track_caller]
fn kept_the_rules(said: &Said) -> (u64, u64) {
    let line = said.err.lines().rfind(|line| line.starts_with("paper: ")).unwrap_or_else(|| panic!("{}", said.err));
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [wrong, left, left_bytes, launches, replays] = numbers[..] else { panic!("{line}") };
    assert_eq!((wrong, left, left_bytes), (0, 0, 0), "{}", said.err);
    (launches, replays)
}

const GIB: u64 = 1 << 30;

#[test]
fn a_sweep_keeps_the_rules_of_a_device() {
    let place = Workplace::new();
    let Some(paper) = libraries_of_paper(&place) else { return };
    place.write("calls.ron", EXPERIMENT);
    let sweep = |more: &[&str]| {
        let words = ["sweep", "calls.ron", "--device", "cuda", "--quiet", "--json"];
        ablate(&place, &paper, 8 * GIB, &[&words[..], more].concat())
    };
    let said = sweep(&["--jobs", "2"]).success();
    let (launches, replays) = kept_the_rules(&said);
    assert_eq!(said.json()["summary"]["computed"], 2, "{}", said.out);
    // Five steps and what an evaluation replays, of both runs; the host launches each kernel but a few times.
    assert!(launches > 500 && replays >= 2 * 5, "{launches} launches, {replays} replays");
    let said = sweep(&["train.micro_batch=4", "train.batch_norm_scope=MicroBatchView"]).success();
    kept_the_rules(&said);
    assert_eq!(said.json()["summary"]["computed"], 2, "{}", said.out);
    let said = sweep(&["--tune"]).success();
    let (_, tuned) = kept_the_rules(&said);
    assert!(tuned > replays, "{tuned} replays with those that are timed");
    // The lock is in the keys: nothing of before is taken, and all of it the next time.
    assert_eq!(said.json()["summary"]["computed"], 2, "{}", said.out);
    assert!(place.path().join("results/plans.lock.json").exists());
    let again = sweep(&["--tune"]).success();
    assert_eq!((&again.json()["summary"]["cached"], kept_the_rules(&again)), (&2.into(), (0, 0)));
    let device = ablate(&place, &paper, 8 * GIB, &["sweep", "calls.ron", "--device", "cuda:1"]).code(2);
    assert!(device.err.contains("finds no such GPU") && device.err.contains("there is 1"), "{}", device.err);
}

#[test]
fn a_full_device_is_told_and_left_clean() {
    let place = Workplace::new();
    let Some(paper) = libraries_of_paper(&place) else { return };
    place.write("calls.ron", EXPERIMENT);
    let plan = place.ablate(&["plan", "calls.ron", "--device", "cuda", "--json"]).success().json();
    assert_eq!(plan["memory"]["backend"], "cuda");
    let needed_bytes = plan["memory"]["needed_bytes"].as_u64().expect("bytes of the training in f32");
    // Not even a training's own block; then no room for the libraries' workspace beside the larger one.
    for (bytes, n_least) in [(100 << 20, 2), (needed_bytes + (8 << 20), 1)] {
        let said =
            ablate(&place, &paper, bytes, &["sweep", "calls.ron", "--device", "cuda", "--quiet", "--json"]).code(3);
        kept_the_rules(&said);
        let json = said.json();
        let failed = json["summary"]["failed"].as_array().expect("failures");
        assert!(failed.len() >= n_least, "{bytes}: {}", said.out);
        for failure in failed {
            let text = failure["message"].as_str().expect("a message");
            assert_eq!(failure["kind"], "OutOfMemory", "{bytes}: {text}");
            assert!(text.contains("of the GPU's memory") && text.contains("fits"), "{bytes}: {text}");
        }
    }
}

/// With the driver alone: what is missing is told once, and no run is begun and kept as failed.
#[test]
fn a_gpu_without_its_libraries_is_refused_before_any_run() {
    let place = Workplace::new();
    let Some(paper) = libraries_of_paper(&place) else { return };
    place.write("calls.ron", EXPERIMENT);
    for name in ["libcublasLt.so.13", "libcudnn.so.9"] {
        std::fs::remove_file(paper.join(name)).expect("a link to remove");
    }
    let ablate = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("LD_LIBRARY_PATH", &paper).env("PATH", "/nowhere");
        for name in ["ABLATE_CUDA_PATH", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "HOME"] {
            command.env_remove(name);
        }
        Said::from(command.output().expect("the binary starts"))
    };
    let found = ablate(&["doctor", "--json"]).success().json();
    if found["cuda_problem"].is_null() {
        println!("skipped: the system has all libraries");
        return;
    }
    for (device, expected) in [("cuda", "cannot compute here"), ("auto", "`--device cpu`")] {
        let said = ablate(&["sweep", "calls.ron", "--device", device]).code(2);
        assert!(said.err.contains("cuDNN") && said.err.contains("pip install"), "{}", said.err);
        assert!(said.err.contains(expected) && !place.store().exists(), "{}", said.err);
    }
    ablate(&["plan", "calls.ron"]).success();
}
