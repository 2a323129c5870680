//! Commands as typed, on machines of which nothing is asked.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Parser;

use super::{Asked, fitting, for_looking, put_into};
use crate::cli::{self, Command};
use crate::commands::arguments::{ExperimentArguments, PlanArguments};
use crate::commands::error::CommandError;
use crate::commands::open::{self, Reading};
use crate::commands::{explain, plan, report, run, status, sweep, table, verify};
use crate::content::Key;
use crate::device::cuda::plan_file::{Machine, PlanFile};
use crate::device::cuda::plan_lock::{EngineChoice, PlanLock};
use crate::experiment::recipe::Backend;
use crate::experiment::run::Run;
use crate::runner::tuning;

const EXPERIMENT: &str = r#"Experiment(
    question: "Does it matter?", dataset: Builtin(n_classes: 2, train_per_class: 8, test_per_class: 2), seeds: [0],
    train: (batch: 4, length: Steps(2)), evaluate: [Knn(k: 5)], sweep: [Axis("train.batch", [4, 8])],
)"#;

/// The command's arguments, as typed with single spaces.
fn parsed(line: &str) -> Result<Command, clap::Error> {
    cli::Arguments::try_parse_from(line.split(' ')).map(|arguments| arguments.command)
}

/// What a command that must not work says.
fn refused(line: &str) -> CommandError {
    let result = match parsed(line).expect("arguments that can be typed") {
        Command::Sweep(arguments) => sweep::execute(&arguments),
        Command::Run(arguments) => run::execute(&arguments),
        Command::Plan(arguments) => plan::execute(&arguments),
        Command::Status(arguments) => status::execute(&arguments),
        Command::Table(arguments) => table::execute(&arguments),
        Command::Report(arguments) => report::execute(&arguments),
        Command::Explain(arguments) => explain::execute(&arguments),
        Command::Verify(arguments) => verify::execute(&arguments),
        Command::Show(_) | Command::Diff(_) | Command::Check(_) | Command::Pin(_) | Command::Gc(_) => {
            panic!("`{line}` takes no lock")
        }
        Command::Bench(_) | Command::ShowViews(_) | Command::Doctor(_) => panic!("`{line}` takes no lock"),
    };
    result.expect_err(line)
}

fn machine(gpu: &str) -> Machine {
    Machine { gpu: gpu.to_owned(), cudnn: "9.26.0".to_owned(), driver: "595.71.05".to_owned() }
}

fn lock(engine: i64) -> PlanLock {
    let choice = EngineChoice { engine, knobs: [].into() };
    PlanLock { choices: [("convolution 8x4x4x8 -> 8 3x3 s1 p1 bf16 forward".to_owned(), choice)].into() }
}

fn written(folder: &Path, engine: i64) -> String {
    let path = folder.join(format!("{engine}.lock.json"));
    std::fs::write(&path, PlanFile::new(machine("NVIDIA H200"), 1, lock(engine)).to_json()).expect("a writable file");
    path.display().to_string()
}

#[test]
fn a_device_without_plans_is_told_what_to_do_before_any_file_is_read() {
    for (line, option) in [
        ("ablate sweep absent.ron --device cpu --tune", "--tune"),
        ("ablate run absent.ron --device reference --tune", "--tune"),
        ("ablate sweep absent.ron --device cpu --plans absent.json", "--plans"),
        ("ablate run absent.ron --device cpu --plans absent.json", "--plans"),
        ("ablate plan absent.ron --device cpu --plans absent.json", "--plans"),
        ("ablate table absent.ron --device cpu --plans absent.json", "--plans"),
        ("ablate status absent.ron --device reference --plans absent.json", "--plans"),
    ] {
        let error = refused(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("`{option}` is about the convolutions of a GPU")), "{line}: {text}");
        assert!(text.contains("add `--device cuda`, or leave"), "{line}: {text}");
    }
}

#[test]
fn tuning_and_a_given_lock_exclude_each_other() {
    let error = parsed("ablate sweep x.ron --tune --plans a.json").expect_err("both at once");
    assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    for line in ["ablate plan x.ron --tune", "ablate table x.ron --tune", "ablate show-views x.ron --plans a.json"] {
        assert_eq!(parsed(line).expect_err(line).kind(), clap::error::ErrorKind::UnknownArgument, "{line}");
    }
}

#[test]
fn a_file_that_is_no_lock_for_this_machine_is_named_with_the_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let absent = folder.path().join("absent.json").display().to_string();
    let broken = folder.path().join("broken.json");
    std::fs::write(&broken, "{").expect("a writable file");
    for (path, reason) in [(absent, "cannot be read"), (broken.display().to_string(), "is not a plan lock")] {
        let error = refused(&format!("ablate plan absent.ron --device cuda --plans {path}"));
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().starts_with(&format!("the plan lock `{path}` {reason}")), "{error}");
    }
    let path = written(folder.path(), 62);
    assert_eq!(fitting(Path::new(&path), &machine("NVIDIA H200")).expect("the same machine"), lock(62));
    let error = fitting(Path::new(&path), &machine("NVIDIA A100")).expect_err("another GPU");
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    for expected in [path.as_str(), "holds plans for NVIDIA H200", "this is NVIDIA A100", "--tune"] {
        assert!(text.contains(expected), "`{expected}` is not in {text}");
    }
}

/// The keys of a small experiment's runs on a GPU.
fn keys(folder: &Path, lock: Option<&PlanLock>) -> Vec<Key> {
    let file = folder.join("x.ron");
    std::fs::write(&file, EXPERIMENT).expect("a writable file");
    let line = format!("ablate plan {} --results {}", file.display(), folder.display());
    let Ok(Command::Plan(arguments)) = parsed(&line) else { panic!("a plan") };
    let arguments: ExperimentArguments = arguments.experiment;
    let mut experiment = open::experiment(&arguments, Backend::Cuda, Reading::Look).expect("an experiment");
    put_into(lock, &mut experiment);
    experiment.cells.iter().flat_map(|cell| &cell.runs).map(Run::pretrain_key).collect()
}

#[test]
fn a_lock_moves_every_key_and_its_machine_moves_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let looked = |path: String| for_looking(&PlanArguments { plans: Some(path.into()) }, &[Backend::Cuda]);
    let locks = [62, 63].map(|engine| looked(written(folder, engine)).expect("a lock"));
    let without = for_looking(&PlanArguments::default(), &[Backend::Cpu]).expect("nothing was asked for");
    assert_eq!((without, &locks[0]), (None, &Some(lock(62))));
    let all = [keys(folder, None), keys(folder, locks[0].as_ref()), keys(folder, locks[1].as_ref())].concat();
    assert_eq!((all.len(), BTreeSet::from_iter(&all).len()), (6, 6));
    assert_eq!(keys(folder, Some(&lock(62))), all[2..4]);
}

#[test]
fn a_lock_that_lacks_nothing_is_used_as_it_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("x.ron");
    std::fs::write(&file, EXPERIMENT).expect("a writable file");
    let line = format!("ablate plan {} --results {}", file.display(), folder.path().display());
    let Ok(Command::Plan(arguments)) = parsed(&line) else { panic!("a plan") };
    let mut experiment = open::experiment(&arguments.experiment, Backend::Cuda, Reading::Look).expect("an experiment");
    let mut known = lock(1);
    for (shape, pass) in tuning::missing(&experiment, &known).expect("models that are compiled") {
        let name = crate::device::cuda::convolutions::description(&shape, pass);
        known.choices.insert(name, EngineChoice { engine: 2, knobs: [].into() });
    }
    // There is no GPU of that number to time anything on, and no file is written.
    let path = folder.path().join("absent/plans.lock.json");
    let asked = Asked::Tune { path: path.clone(), machine: machine("none"), known: known.clone() };
    let used = asked.apply(&mut experiment, usize::MAX, true).expect("nothing to time");
    assert_eq!(used, Some(known.clone()));
    assert!(!path.exists());
    let digest = tuning::digest(&known);
    assert!(experiment.cells.iter().flat_map(|cell| &cell.runs).all(|run| run.plans == Some(digest)));
    let untouched = Asked::Nothing.apply(&mut experiment, 0, true).expect("nothing was asked for");
    assert_eq!(untouched, None);
}
