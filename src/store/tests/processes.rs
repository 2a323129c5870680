//! Eight real processes share one store, are killed, and clean up beside each other: every key is computed, none is lost.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::scenarios::{collect, leftovers_scope};
use super::*;

const WORKER: &str = "ABLATE_TEST_STORE";
const N_WORKERS: usize = 8;
const N_KEYS: u32 = 200;
/// Enough to strike everywhere. How many come in one round is up to the machine: there are rounds until all have come.
const N_KILLS: u64 = 30;
/// A round writes the store some hundred times, looks in between, and takes a tenth of a second or more.
const N_ROUNDS_MAX: usize = 60;
/// `gc` runs at least so often beside the writers.
const N_COLLECTIONS: u64 = 5;
const PATIENCE: Duration = Duration::from_secs(120);

fn keys() -> Vec<Key> {
    (0..N_KEYS).map(|index| key(&index.to_string())).collect()
}

fn result_of(key: &Key) -> Vec<u8> {
    key.to_string().repeat(20).into_bytes()
}

/// Not a test of its own: what a worker process does, in an order of its own, until every key is there.
#[test]
fn worker() {
    let Some(root) = std::env::var_os(WORKER).map(PathBuf::from) else { return };
    let store = Store::open(&root.join("store")).unwrap();
    let mut log = fs::File::create(root.join(format!("computed-{}", std::process::id()))).unwrap();
    let mut left = keys();
    let pid = std::process::id().to_string();
    left.sort_by_key(|key| Key::of_bytes(format!("{pid}{key}").as_bytes()));
    while !left.is_empty() {
        left.retain(|key| match store.lookup(key).unwrap() {
            Lookup::Hit(entry) => {
                assert_eq!(store.read_blob(&entry.blobs["result"]).unwrap(), result_of(key));
                false
            }
            Lookup::Taken(_) => true,
            Lookup::Miss(Miss { mut claim, .. }) => {
                claim.save_progress(b"half").unwrap();
                writeln!(log, "{key}").unwrap();
                claim.put_blob("result", &result_of(key)).unwrap();
                assert_eq!(claim.commit(BODY, PREIMAGE).unwrap().divergence, None);
                true
            }
        });
    }
}

fn start(root: &Path) -> Child {
    start_as("worker", root)
}

/// This test binary once more, for one of the tests that do something only there.
fn start_as(role: &str, root: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("store::tests::processes::{role}")])
        .env(WORKER, root)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Starts the workers and does `meanwhile` until all are done; a worker that was killed is started anew. How often a key was
/// computed, and how many workers were killed.
fn work(mut meanwhile: impl FnMut(&Path, &mut Vec<Child>) -> u64) -> (usize, u64) {
    let directory = directory();
    let root = directory.path();
    let mut workers: Vec<Child> = (0..N_WORKERS).map(|_| start(root)).collect();
    let (started, mut killed) = (Instant::now(), 0);
    while !workers.is_empty() {
        assert!(started.elapsed() < PATIENCE, "{} workers are not done", workers.len());
        killed += meanwhile(root, &mut workers);
        let mut again = 0;
        workers.retain_mut(|worker| match worker.try_wait().unwrap() {
            None => true,
            Some(status) => {
                again += usize::from(status.code().is_none());
                assert!(status.success() || status.code().is_none(), "a worker failed: {status}");
                false
            }
        });
        workers.extend((0..again).map(|_| start(root)));
        std::thread::sleep(Duration::from_millis(2));
    }
    let store = Store::open(&root.join("store")).unwrap();
    // One that was killed between its commit and giving the claim back leaves a claim nobody needs.
    collect(&store, &leftovers_scope()).unwrap();
    let report = store.check(true, &mut |_| {}).unwrap();
    assert_eq!((report.records, report.problems.as_slice()), (N_KEYS as usize, &[][..]));
    assert_eq!((report.divergences.len(), report.failures.len(), report.claims), (0, 0, 0));
    assert_eq!((report.progress, report.leftovers), (0, 0));
    for key in keys() {
        let entry = hit(&store, &key);
        assert_eq!(store.read_blob(&entry.blobs["result"]).unwrap(), result_of(&key));
    }
    let logs = fs::read_dir(root).unwrap().map(|item| item.unwrap().path()).filter(|path| path.is_file());
    (logs.map(|path| fs::read_to_string(path).unwrap().lines().count()).sum(), killed)
}

#[test]
fn each_key_is_computed_once() {
    assert_eq!(work(|_, _| 0), (N_KEYS as usize, 0));
    crate::store::tally("processes side by side", "eight processes compute each key once", u64::from(N_KEYS));
}

#[test]
fn killed_processes_lose_nothing() {
    let mut kills = 0;
    for _ in 0..N_ROUNDS_MAX {
        kills += a_round_of_kills(N_KILLS - kills);
        if kills == N_KILLS {
            break;
        }
    }
    assert_eq!(kills, N_KILLS, "the workers are done before they can be killed");
    crate::store::tally("kill -9", "processes that share a store are killed", kills);
}

/// How many workers were killed, `at_most` so many.
fn a_round_of_kills(at_most: u64) -> u64 {
    let (mut last, mut kills) = (Instant::now(), 0);
    let (computed, killed) = work(|_, workers| {
        if last.elapsed() < Duration::from_millis(10) || workers.len() < 2 || kills == at_most {
            return 0;
        }
        kills += 1;
        let at = last.elapsed().subsec_nanos() as usize % workers.len();
        last = Instant::now();
        workers[at].kill().map_or(0, |()| 1)
    });
    // A process that is killed has one key in work at most.
    assert!(
        computed >= N_KEYS as usize && computed as u64 <= u64::from(N_KEYS) + killed,
        "{computed}, {killed} killed"
    );
    println!("{killed} killed, {computed} computations");
    killed
}

#[test]
fn a_gc_beside_them_takes_nothing() {
    let mut collections = 0;
    for _ in 0..N_ROUNDS_MAX {
        let (computed, _) = work(|root, _| {
            if let Ok(store) = Store::open(&root.join("store")) {
                collect(&store, &leftovers_scope()).unwrap();
                collections += 1;
            }
            0
        });
        assert_eq!(computed, N_KEYS as usize);
        if collections >= N_COLLECTIONS {
            break;
        }
    }
    crate::store::tally("gc beside writers", "gc runs while eight processes write", collections);
}

/// Not a test of its own: holds two claims of two stores and leaves without running a destructor.
#[test]
fn leaver() {
    let Some(root) = std::env::var_os(WORKER).map(PathBuf::from) else { return };
    let stores = ["one", "two"].map(|name| Store::open(&root.join(name)).unwrap());
    let claims = stores.each_ref().map(|store| miss(store, &key("a")).claim);
    claims[0].save_progress(b"step 1").unwrap();
    drop(miss(&stores[1], &key("b")));
    give_back_all();
    std::process::exit(7);
}

#[test]
fn a_forced_exit_gives_its_claims_back() {
    let directory = directory();
    assert_eq!(start_as("leaver", directory.path()).wait().unwrap().code(), Some(7));
    for name in ["one", "two"] {
        let store = Store::open(&directory.path().join(name)).unwrap();
        assert_eq!(fs::read_dir(store.root().join("claims")).unwrap().count(), 0);
        assert_eq!(miss(&store, &key("a")).taken_over, None);
    }
}

/// Not a test of its own: may open no more files, then may again.
#[test]
fn opener() {
    let Some(root) = std::env::var_os(WORKER).map(PathBuf::from) else { return };
    let store = Store::open(&root.join("store")).unwrap();
    let kept = keep(&store, &key("a"));
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..before }).unwrap();
    let errors = [store.lookup(&key("a")).unwrap_err(), store.lookup(&key("b")).unwrap_err()];
    setrlimit(Resource::Nofile, before).unwrap();
    for error in errors {
        assert!(error.to_string().contains("ulimit -n"), "{error}");
    }
    assert_eq!(hit(&store, &key("a")), kept);
    keep(&store, &key("b"));
    std::process::exit(7);
}

#[test]
fn a_process_out_of_files_says_so_and_loses_nothing() {
    let directory = directory();
    assert_eq!(start_as("opener", directory.path()).wait().unwrap().code(), Some(7));
    let store = Store::open(&directory.path().join("store")).unwrap();
    assert_eq!(store.keys().unwrap().len(), 2);
    crate::store::tally("too many open files", "a process that may open no more files", 1);
}

/// Not a test of its own: may write files of ten bytes; the kernel ends who writes more.
#[test]
fn writer() {
    let Some(root) = std::env::var_os(WORKER).map(PathBuf::from) else { return };
    let store = Store::open(&root.join("store")).unwrap();
    let mut claim = miss(&store, &key("a")).claim;
    setrlimit(Resource::Fsize, Rlimit { current: Some(10), maximum: Some(10) }).unwrap();
    claim.put_blob("checkpoint", b"weights").unwrap();
    let _ = claim.put_blob("history", &[7; 1000]);
}

#[test]
fn a_process_ended_inside_a_write_leaves_nothing_half() {
    let directory = directory();
    let status = start_as("writer", directory.path()).wait().unwrap();
    assert_eq!(status.code(), None, "it was not ended: {status}");
    let store = Store::open(&directory.path().join("store")).unwrap();
    assert!(matches!(store.peek(&key("a")).unwrap(), Peek::Absent));
    let miss = miss(&store, &key("a"));
    assert!(miss.taken_over.is_some());
    drop(miss);
    keep(&store, &key("a"));
    let report = store.check(true, &mut |_| {}).unwrap();
    assert_eq!((report.problems, report.leftovers), (Vec::new(), 0));
    crate::store::tally("kill -9", "a process that the kernel ends inside a write", 1);
}
