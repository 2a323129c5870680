//! The machine dies at each call of each piece of work. Of what was not synced any part may be there: names in any subset
//! that is consistent, bytes not at all, torn, as zeros or as noise. And the disk fails once more while one recovers.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;

use super::faulty::{Cache, Call, Fate, FaultyFs, Unsynced};
use super::scenarios::{Content, SCENARIOS, Scenario, assert_mended, before_and_after, forget_claims, prepared};
use super::*;

/// Numbers that only look like chance (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }
}

/// A disk that fails at the calls a rule names.
fn failing(at: impl Fn(u64) -> bool + Send + Sync + 'static) -> FaultyFs {
    FaultyFs::new(
        move |call: Call| {
            if at(call.number) { Fate::Failed(io::Error::other("injected")) } else { Fate::Done }
        },
    )
}

/// Leaves of what is not synced what the dice say.
fn lose_power(root: &Path, cache: &Cache, dice: &mut Dice) {
    let mut lost: Vec<&Unsynced> = Vec::new();
    for unsynced in &cache.names {
        // A name whose earlier change is lost has no later one: it is one entry of one directory.
        let hangs_on_lost = lost.iter().any(|earlier| unsynced.depends_on(earlier));
        if hangs_on_lost || dice.roll(2) == 0 {
            lost.push(unsynced);
        }
    }
    for path in scenarios::files(root).into_iter().map(|path| root.join(path)) {
        if cache.contents.contains(&fs::metadata(&path).unwrap().ino()) {
            let mut bytes = fs::read(&path).unwrap();
            let kept = dice.roll(bytes.len() + 1);
            match dice.roll(4) {
                0 => bytes.clear(),
                1 => bytes.truncate(kept),
                2 => bytes[kept..].fill(0),
                _ => bytes[kept..].iter_mut().for_each(|byte| *byte ^= 1 + dice.roll(255) as u8),
            }
            overwrite(&path, &bytes);
        }
    }
    lost.iter().rev().for_each(|unsynced| unsynced.undo());
}

/// Cuts the power at the `at`-th call; whether there was such a call.
fn cut(scenario: &Scenario, at: u64, dice: &mut Dice, ends: &(Content, Content)) -> (TempDir, PathBuf, bool) {
    let (directory, root) = prepared(scenario);
    let fs = failing(move |number| number >= at);
    let (calls, cache) = (Arc::clone(&fs.calls), Arc::clone(&fs.cache));
    let outcome = Store::open_on(&root, Box::new(fs)).and_then(|store| (scenario.act)(&store));
    lose_power(&root, &cache.lock().unwrap(), dice);
    forget_claims(&root);
    let store = Store::open_on(&root, FaultyFs::sound()).unwrap();
    let context = format!("{}, power cut at call {at}", scenario.name);
    Content::of(&store).assert_between(&ends.0, &ends.1, outcome.is_ok(), true, &context);
    (directory, root, calls.load(Ordering::Relaxed) > at)
}

fn slow() -> bool {
    std::env::var_os("ABLATE_SLOW_TESTS").is_some()
}

/// In parts, so that each is quick and they run side by side.
fn check_power(part: usize) {
    let (times, mut count) = (if slow() { 20 } else { 2 }, 0);
    for scenario in SCENARIOS.iter().skip(part).step_by(4) {
        let ends = before_and_after(scenario);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for at in 0.. {
            let mut was_cut = false;
            for time in 0..times {
                let (_directory, root, there) = cut(scenario, at, &mut dice, &ends);
                assert_mended(&root, scenario, &ends.1, &format!("{}, call {at}, time {time}", scenario.name));
                (was_cut, count) = (there, count + 1);
            }
            if !was_cut {
                break;
            }
        }
    }
    println!("{count} power cuts");
    crate::store::tally("a power cut", "the power fails at every call of every operation", count);
}

#[test]
fn the_power_fails_at_each_call_part_1() {
    check_power(0);
}

#[test]
fn the_power_fails_at_each_call_part_2() {
    check_power(1);
}

#[test]
fn the_power_fails_at_each_call_part_3() {
    check_power(2);
}

#[test]
fn the_power_fails_at_each_call_part_4() {
    check_power(3);
}

/// Cuts the power at one call and has another fail in what is done next; whether there were such calls.
fn fail_again(
    scenario: &Scenario,
    (at, fault): (u64, u64),
    dice: &mut Dice,
    ends: &(Content, Content),
) -> (bool, bool) {
    let (_directory, root, was_cut) = cut(scenario, at, dice, ends);
    let fs = failing(move |number| number == fault);
    let calls = Arc::clone(&fs.calls);
    let outcome = Store::open_on(&root, Box::new(fs)).and_then(|store| (scenario.act)(&store));
    forget_claims(&root);
    let context = format!("{}, power cut at call {at}, then call {fault} fails", scenario.name);
    let store = Store::open_on(&root, FaultyFs::sound()).unwrap();
    Content::of(&store).assert_between(&ends.0, &ends.1, outcome.is_ok(), true, &context);
    drop(store);
    assert_mended(&root, scenario, &ends.1, &context);
    (was_cut, calls.load(Ordering::Relaxed) > fault)
}

/// The first thing done after a power cut fails too: at each of its calls after each cut, or at some after some where time
/// is short: every call of both together takes a quarter of an hour.
fn check_recovery(part: usize) {
    let (cuts, faults) = if slow() { (3, 2) } else { (7, 5) };
    let mut count = 0;
    for scenario in SCENARIOS.iter().skip(part).step_by(4) {
        let ends = before_and_after(scenario);
        let mut dice = Dice(0x2545_f491_4f6c_dd1d);
        for at in (0..).step_by(cuts) {
            let mut was_cut = true;
            for fault in (at % faults as u64..).step_by(faults) {
                let (there, failed) = fail_again(scenario, (at, fault), &mut dice, &ends);
                (was_cut, count) = (there, count + 1);
                if !was_cut || !failed {
                    break;
                }
            }
            if !was_cut {
                break;
            }
        }
    }
    println!("{count} failed recoveries");
    crate::store::tally("a failure while recovering", "calls fail after a power cut", count);
}

#[test]
fn the_recovery_fails_too_part_1() {
    check_recovery(0);
}

#[test]
fn the_recovery_fails_too_part_2() {
    check_recovery(1);
}

#[test]
fn the_recovery_fails_too_part_3() {
    check_recovery(2);
}

#[test]
fn the_recovery_fails_too_part_4() {
    check_recovery(3);
}
