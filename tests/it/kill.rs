//! `kill -9` at random moments of a sweep: run again until it is whole, it has the bits of a sweep nobody disturbed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ablate::store::{Entry, Store};

use crate::harness::{MINIATURE, Workplace, entries, slow_tests, tally, verified_digests};

/// Two trainings with a checkpoint after every step, and three evaluations each.
fn sweep() -> String {
    MINIATURE
        .replace("train_per_class: 12, test_per_class: 6", "train_per_class: 4, test_per_class: 2")
        .replace("batch: 8", "batch: 4")
        .replace("optimizer: Adam, ", "optimizer: Sgd(momentum: 0.9), ")
        .replace("checkpoint_every: Steps(2)", "checkpoint_every: Steps(1)")
        .replace("evaluate: [Knn(k: 5),", "evaluate: [Knn(k: 5), Knn(k: 1),")
        .replace("seeds: [0, 1]", "seeds: [0]")
}

const SWEEP: [&str; 4] = ["sweep", "miniature.ron", "--threads", "1"];

fn workplace() -> Workplace {
    let place = Workplace::new();
    place.write("miniature.ron", &sweep());
    place
}

/// Numbers in [0, 1), the same ones every time (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What was there before a kill is there after it, and the same.
fn assert_nothing_lost(before: &BTreeMap<String, Entry>, after: &BTreeMap<String, Entry>) {
    for (key, entry) in before {
        assert_eq!(after.get(key), Some(entry), "the record of {key}");
    }
}

/// However long a sweep takes on a busy machine, a kill comes within this of its start: what was done before is not done
/// again, so kills reach all of it.
const LONGEST_LIFE: Duration = Duration::from_millis(2500);

/// Sweeps one store to its end through kills that come at any time of `whole` after each start; says how many there were.
fn swept_through_kills(random: &mut Random, whole: Duration, expected: &BTreeMap<String, String>) -> u64 {
    let place = workplace();
    let (mut kills, mut known) = (0_u64, BTreeMap::new());
    loop {
        let mut child = place.start(&SWEEP);
        // Longer after every tenth, or a machine too slow for a stage in that time would never come to the end.
        let longest = whole.min(LONGEST_LIFE * (1 + kills / 10) as u32);
        std::thread::sleep(longest.mul_f64(random.next()));
        child.kill().expect("a child can be killed");
        let ended = child.wait().expect("a child can be waited for");
        let found = entries(&place.store());
        assert_nothing_lost(&known, &found);
        known = found;
        if ended.success() {
            break;
        }
        assert_eq!(ended.code(), None, "it was killed or it was done");
        kills += 1;
    }
    assert_eq!(&verified_digests(&place.store()), expected, "after {kills} kills");
    let claims = Store::open(&place.store()).and_then(|store| store.claims()).expect("a readable store");
    assert!(claims.iter().all(|claim| !claim.is_alive), "no claim is left to remove by hand: {claims:?}");
    place.ablate(&SWEEP).success();
    kills
}

#[test]
fn killed_at_random_moments_nothing_is_lost_and_no_bit_differs() {
    let wanted: u64 = if slow_tests() { 200 } else { 6 };
    let whole = workplace();
    let began = Instant::now();
    whole.ablate(&SWEEP).success();
    let took = began.elapsed();
    let expected = verified_digests(&whole.store());
    assert_eq!(expected.keys().filter(|name| name.ends_with(".checkpoint")).count(), 2);
    let (kills, stores) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for seed in 1..=2_u64 {
            let (kills, stores, expected) = (&kills, &stores, &expected);
            scope.spawn(move || {
                let mut random = Random(seed << 32 | 0x9E37_79B9);
                while kills.load(Ordering::Relaxed) < wanted {
                    kills.fetch_add(swept_through_kills(&mut random, took, expected), Ordering::Relaxed);
                    stores.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (kills, stores) = (kills.into_inner(), stores.into_inner());
    let ms = began.elapsed().as_millis() as u64;
    println!("{kills} kills of {stores} sweeps in {ms} ms, {} ms a kill; undisturbed {took:.1?}", ms / kills);
    tally("a process killed at any moment", "kill -9 of a sweep", kills);
}
