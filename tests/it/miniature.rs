//! Whole sweeps of seconds, end to end: what is computed, kept, found again, printed, and which bits come out.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use ablate::content::Key;

use crate::harness::{MINIATURE, Workplace};

/// BLAKE3 over the digests of all results of the miniature: checkpoints, histories, predictions, features, view sheets.
/// A change that moves it changes numbers: bump the stage's version in `src/experiment/run.rs` and pin the new one.
const PINNED: &str = "6f26e183b70174d79245d9386e970c111c6d1a34a417ed2e2ab0112b34c1af3d";

/// Digest of every blob by run key and name: the bits of every result, without times and hosts.
fn result_digests(store: &Path) -> BTreeMap<String, String> {
    let store = ablate::store::Store::open(store).expect("a store");
    let mut digests = BTreeMap::new();
    for key in store.keys().expect("readable keys") {
        let ablate::store::Peek::Hit(entry) = store.peek(&key).expect("a readable record") else {
            panic!("{key} is not whole");
        };
        for (name, blob) in &entry.blobs {
            digests.insert(format!("{key}.{name}"), blob.digest.to_string());
        }
    }
    digests
}

fn sweep_digests(threads: &str) -> BTreeMap<String, String> {
    let place = Workplace::new();
    place.write("miniature.ron", MINIATURE);
    place.ablate(&["sweep", "miniature.ron", "--threads", threads]).success();
    result_digests(&place.path().join("results/store"))
}

#[test]
fn the_same_bits_on_one_thread_and_on_two_and_pinned() {
    let one = sweep_digests("1");
    let two = sweep_digests("2");
    assert_eq!(one, two, "the number of threads changed a result");
    let n_trainings = one.keys().filter(|name| name.ends_with(".checkpoint")).count();
    assert_eq!((n_trainings, one.len()), (4, 4 * 3 + 8 * 2));
    let all: String = one.iter().map(|(name, digest)| format!("{name} {digest}\n")).collect();
    let digest = Key::of_bytes(all.as_bytes()).to_string();
    assert_eq!(
        digest, PINNED,
        "the numbers moved: if that is meant, bump the stage's version and set PINNED to the new digest"
    );
}

#[test]
fn a_second_sweep_computes_nothing_and_says_the_same() {
    let place = Workplace::new();
    place.write("miniature.ron", MINIATURE);
    let first = place.ablate(&["sweep", "miniature.ron"]).success();
    assert!(first.err.contains("computed 4 runs"), "{}", first.err);
    let parquet = std::fs::read(place.path().join("results/miniature.parquet")).expect("the results");
    let before = result_digests(&place.path().join("results/store"));
    let second = place.ablate(&["sweep", "miniature.ron"]).success();
    assert!(second.err.contains("computed nothing, all 4 runs from the store"), "{}", second.err);
    assert_eq!(first.out, second.out);
    assert_eq!(parquet, std::fs::read(place.path().join("results/miniature.parquet")).expect("the results"));
    assert_eq!(before, result_digests(&place.path().join("results/store")));
}

#[test]
fn an_added_evaluation_trains_nothing() {
    let place = Workplace::new();
    place.write("miniature.ron", MINIATURE);
    place.ablate(&["sweep", "miniature.ron"]).success();
    let checkpoints = |place: &Workplace| -> BTreeMap<String, String> {
        let all = result_digests(&place.path().join("results/store"));
        all.into_iter().filter(|(name, _)| name.ends_with(".checkpoint")).collect()
    };
    let before = checkpoints(&place);
    let more = MINIATURE.replace("evaluate: [Knn(k: 5),", "evaluate: [Knn(k: 5), Knn(k: 1),");
    place.write("miniature.ron", &more);
    let plan = place.ablate(&["plan", "miniature.ron", "--json"]).success().json();
    assert_eq!(plan["to_train"], 0);
    let said = place.ablate(&["sweep", "miniature.ron", "--json"]).success();
    assert_eq!(said.json()["summary"]["computed"], 4);
    assert_eq!(before, checkpoints(&place));
}

#[test]
fn smoke_results_stay_apart() {
    let place = Workplace::new();
    place.write("miniature.ron", MINIATURE);
    place.ablate(&["sweep", "miniature.ron", "--smoke"]).success();
    let mut found: Vec<String> = std::fs::read_dir(place.path().join("results"))
        .expect("a results folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, ["smoke"]);
    let status = place.ablate(&["status", "miniature.ron", "--json"]).success().json();
    assert!(
        status["backends"].as_array().expect("backends").iter().all(|backend| backend["complete"] == 0),
        "{status}"
    );
}

#[test]
fn a_run_that_is_not_finite_fails_alone_and_is_told() {
    let place = Workplace::new();
    place.write("wild.ron", &MINIATURE.replace("learning_rate: 0.03", "learning_rate: 1e30"));
    let said = place.ablate(&["sweep", "wild.ron", "seeds=[0]"]).code(3);
    assert!(said.err.contains("is not finite at step"), "{}", said.err);
    assert!(said.out.contains("failed"), "{}", said.out);
    let again = place.ablate(&["sweep", "wild.ron", "seeds=[0]", "--json"]).code(3);
    let summary = &again.json()["summary"];
    assert_eq!(
        (summary["computed"].as_u64(), summary["failed"].as_array().map(Vec::len)),
        (Some(0), Some(2)),
        "{summary}"
    );
}

/// Killed at a moment of a real sweep, without warning; the next one must find or compute the rest and end with the same bits.
#[cfg(unix)]
#[test]
fn killed_and_run_again_gives_the_same_bits() {
    let expected = sweep_digests("2");
    for kill_after_ms in [150, 400, 900] {
        let place = Workplace::new();
        place.write("miniature.ron", MINIATURE);
        let mut child = place
            .command(&["sweep", "miniature.ron"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the binary starts");
        std::thread::sleep(Duration::from_millis(kill_after_ms));
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
        place.ablate(&["sweep", "miniature.ron"]).success();
        assert_eq!(expected, result_digests(&place.path().join("results/store")), "killed after {kill_after_ms} ms");
    }
}

/// Ctrl-C leaves with a checkpoint and exit code 130; the next sweep goes on from it and ends with the same bits.
#[cfg(unix)]
#[test]
fn interrupted_and_resumed_gives_the_same_bits() {
    // Long enough that the signal lands inside a training.
    let long = MINIATURE
        .replace("length: Steps(3)", "length: Steps(40)")
        .replace("[0.1, 0.5]", "[0.5]")
        .replace("seeds: [0, 1]", "seeds: [0]");
    let whole = Workplace::new();
    whole.write("miniature.ron", &long);
    whole.ablate(&["sweep", "miniature.ron"]).success();
    let expected = result_digests(&whole.path().join("results/store"));

    let place = Workplace::new();
    place.write("miniature.ron", &long);
    let child = place
        .command(&["sweep", "miniature.ron"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let progress = place.path().join("results/store/progress");
    let patience = Instant::now();
    while std::fs::read_dir(&progress).map_or(true, |mut entries| entries.next().is_none()) {
        assert!(patience.elapsed() < Duration::from_secs(60), "no checkpoint within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a process has a number");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a child can be signalled");
    let said = crate::harness::Said::from(child.wait_with_output().expect("the child ends")).code(130);
    assert!(said.err.contains("goes on from here"), "{}", said.err);
    let resumed = place.ablate(&["sweep", "miniature.ron"]).success();
    assert!(resumed.err.contains("goes on from its checkpoint"), "{}", resumed.err);
    assert_eq!(expected, result_digests(&place.path().join("results/store")));
}
