//! Each call of each piece of work fails, once or for ever after, in every way a disk can refuse: nothing is lost, nothing
//! is made up, the error says where and what to do, and the work done again ends well.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::faulty::{Call, Fate, FaultyFs};
use super::scenarios::{Content, SCENARIOS, Scenario, assert_mended, before_and_after, forget_claims, prepared};
use super::*;

/// One way to refuse.
#[derive(Clone, Copy)]
struct Refusal {
    promise: &'static str,
    error: fn() -> io::Error,
    /// Whether it strikes an operation.
    strikes: fn(&str) -> bool,
    /// What the message says to do.
    advice: &'static str,
}

fn writes(operation: &str) -> bool {
    !["read", "stat", "list", "try_lock", "free_bytes"].contains(&operation)
}

fn grows(operation: &str) -> bool {
    ["create_new", "write", "sync", "create_directory", "link", "rename"].contains(&operation)
}

fn opens(operation: &str) -> bool {
    ["read", "list", "create_new", "sync_directory", "try_lock", "touch"].contains(&operation)
}

const FAILING: Refusal =
    Refusal { promise: "a failing disk", error: || io::Error::other("injected"), strikes: |_| true, advice: "" };

const REFUSALS: [Refusal; 4] = [
    Refusal {
        promise: "a full disk",
        error: || io::ErrorKind::StorageFull.into(),
        strikes: grows,
        advice: "free some space and run again",
    },
    Refusal {
        promise: "no permission",
        error: || io::ErrorKind::PermissionDenied.into(),
        strikes: writes,
        advice: "make the store writable to you",
    },
    Refusal {
        promise: "a read-only filesystem",
        error: || io::ErrorKind::ReadOnlyFilesystem.into(),
        strikes: writes,
        advice: "make the store writable to you",
    },
    Refusal {
        promise: "too many open files",
        error: || io::Error::from_raw_os_error(24),
        strikes: opens,
        advice: "ulimit -n",
    },
];

/// The same call is made again by nobody but who cleans up.
const SAME_CALLS_MAX: usize = 3;

/// Runs the scenario with the `at`-th call that the refusal strikes failing, and all later ones where it is for good.
/// Whether there was such a call.
fn fail_at(scenario: &Scenario, refusal: Refusal, (at, for_good): (u64, bool), ends: &(Content, Content)) -> bool {
    let (_directory, root) = prepared(scenario);
    let struck = Arc::new(Mutex::new((0, BTreeMap::<(&str, PathBuf), usize>::new())));
    let counter = Arc::clone(&struck);
    let fs = FaultyFs::new(move |call: Call| {
        let mut struck = counter.lock().unwrap();
        if !(refusal.strikes)(call.operation) {
            return Fate::Done;
        }
        struck.0 += 1;
        let number = struck.0 - 1;
        if number != at && !(for_good && number > at) {
            return Fate::Done;
        }
        *struck.1.entry((call.operation, call.path.to_owned())).or_default() += 1;
        Fate::Failed((refusal.error)())
    });
    let calls = Arc::clone(&fs.calls);
    let outcome = Store::open_on(&root, Box::new(fs)).and_then(|store| (scenario.act)(&store));
    let context = format!("{}, {}, call {at}, for good: {for_good}", scenario.name, refusal.promise);
    if let Err(error) = &outcome {
        let text = error.to_string();
        assert!(text.contains(&root.display().to_string()), "{context}: {text}");
        assert!(text.contains(refusal.advice), "{context}: {text}");
    }
    let struck = struck.lock().unwrap();
    if refusal.promise != FAILING.promise {
        let most =
            struck.1.iter().filter(|((_, path), _)| !path.as_os_str().is_empty()).max_by_key(|(_, count)| **count);
        assert!(most.is_none_or(|(_, count)| *count <= SAME_CALLS_MAX), "{context}: {most:?} of {calls:?}");
    }
    forget_claims(&root);
    let store = Store::open_on(&root, FaultyFs::sound()).unwrap();
    Content::of(&store).assert_between(&ends.0, &ends.1, outcome.is_ok(), false, &context);
    drop(store);
    assert_mended(&root, scenario, &ends.1, &context);
    assert!(calls.load(Ordering::Relaxed) > 0);
    struck.0 > at
}

fn check(scenario: &Scenario, refusals: &[Refusal], every: u64) -> Vec<(&'static str, u64)> {
    let ends = before_and_after(scenario);
    let mut tried = Vec::new();
    for refusal in refusals {
        let mut count = 0;
        for for_good in [false, true] {
            for at in (0..).step_by(every as usize) {
                if !fail_at(scenario, *refusal, (at, for_good), &ends) {
                    break;
                }
                count += 1;
            }
        }
        tried.push((refusal.promise, count));
    }
    tried
}

/// In parts, so that each is quick and they run side by side.
fn check_part(part: usize, refusals: &[Refusal], every: u64, test: &str) {
    let mut total: BTreeMap<&str, u64> = BTreeMap::new();
    for scenario in SCENARIOS.iter().skip(part).step_by(4) {
        for (promise, count) in check(scenario, refusals, every) {
            *total.entry(promise).or_default() += count;
        }
    }
    for (promise, count) in total {
        println!("{promise}: {count}");
        crate::store::tally(promise, test, count);
    }
}

fn each_fails(part: usize) {
    check_part(part, &[FAILING], 1, "every call of every operation fails");
}

/// Every call, or every fifth where time is short.
fn each_is_refused(part: usize) {
    let every = if std::env::var_os("ABLATE_SLOW_TESTS").is_some() { 1 } else { 5 };
    check_part(part, &REFUSALS, every, "calls of every operation are refused");
}

#[test]
fn each_call_fails_part_1() {
    each_fails(0);
}

#[test]
fn each_call_fails_part_2() {
    each_fails(1);
}

#[test]
fn each_call_fails_part_3() {
    each_fails(2);
}

#[test]
fn each_call_fails_part_4() {
    each_fails(3);
}

#[test]
fn calls_are_refused_part_1() {
    each_is_refused(0);
}

#[test]
fn calls_are_refused_part_2() {
    each_is_refused(1);
}

#[test]
fn calls_are_refused_part_3() {
    each_is_refused(2);
}

#[test]
fn calls_are_refused_part_4() {
    each_is_refused(3);
}
