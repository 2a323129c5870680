//! Every signal that asks a sweep to leave, at a step and in an evaluation: the exit code, what is kept, the bits after.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    MINIATURE, Said, Workplace, caught_training, signal, slow_tests, tally, verified_digests, wait_until,
};

const PROMISE: &str = "asked to leave by a signal";

/// One training of some seconds' tenths, with momentum, trust ratios and joint statistics.
fn one_training() -> String {
    MINIATURE
        .replace("length: Steps(3)", "length: Steps(11)")
        .replace("batch: 8", "batch: 4")
        .replace("checkpoint_every: Steps(2)", "checkpoint_every: Steps(3)")
        .replace("optimizer: Adam", "optimizer: Lars(flavour: Google, momentum: 0.9), batch_norm_scope: Joint")
        .replace("[0.1, 0.5]", "[0.5]")
        .replace("seeds: [0, 1]", "seeds: [0]")
}

/// A training of a step and an evaluation of minutes.
fn one_long_evaluation() -> String {
    one_training()
        .replace("length: Steps(11)", "length: Steps(1)")
        .replace("train_per_class: 12", "train_per_class: 100")
        .replace(
            "evaluate: [Knn(k: 5), LinearProbe(epochs: 2, batch: 16)]",
            "evaluate: [LinearProbe(epochs: 100000, batch: 1)]",
        )
        .replace("knn.top1", "linear.top1")
}

fn workplace(text: &str) -> Workplace {
    let place = Workplace::new();
    place.write("miniature.ron", text);
    place
}

/// Starts a sweep and waits until its evaluation is under way, and `longer` for its features to be there.
fn evaluating(place: &Workplace, longer: Duration) -> Child {
    let child = place.start(&["sweep", "miniature.ron"]);
    wait_until("a record", || !crate::harness::entries(&place.store()).is_empty());
    wait_until("a claim", || !place.names_in("claims").is_empty());
    std::thread::sleep(longer);
    child
}

fn ended(child: Child) -> Said {
    Said::from(child.wait_with_output().expect("the child ends"))
}

/// The number after `before` in a text.
#[track_caller]
fn number_after(text: &str, before: &str) -> u64 {
    let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("`{before}` is not in\n{text}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|error| panic!("{error} after `{before}` in\n{text}"))
}

#[test]
fn at_a_step_it_leaves_and_goes_on_to_the_same_bits() {
    let whole = workplace(&one_training());
    whole.ablate(&["sweep", "miniature.ron"]).success();
    let expected = verified_digests(&whole.store());
    let all = [(Signal::TERM, 143), (Signal::INT, 130), (Signal::USR1, 143), (Signal::HUP, 143)];
    let tried = if slow_tests() { &all[..] } else { &all[..2] };
    for (sent, code) in tried {
        let (place, said) = caught_training(&one_training(), *sent, Duration::ZERO);
        let said = said.code(*code);
        assert_eq!(place.names_in("claims"), [""; 0], "the claim is given back");
        assert_eq!(place.names_in("failures"), [""; 0]);
        let resumed = place.ablate(&["sweep", "miniature.ron"]).success();
        let kept = number_after(&resumed.err, "goes on from its checkpoint, step ");
        assert_eq!(verified_digests(&place.store()), expected, "{sent:?}, gone on from step {kept}");
        if *code == 130 {
            assert!(kept.is_multiple_of(3), "the last periodic checkpoint, not {kept}");
        }
        // On a machine so busy that a step takes two seconds, Ctrl-C does not wait for its end.
        if *code == 143 || !said.err.contains("left in the middle") {
            assert!(said.err.contains("the same command goes on from here"), "{}", said.err);
            assert!(!said.out.is_empty(), "the table is printed all the same");
            let done = number_after(&said.err, "stopped after step ");
            assert_eq!(number_after(&said.err, "goes on from step "), kept);
            assert!(if *code == 143 { kept == done } else { kept <= done }, "stopped after {done}\n{}", said.err);
        }
    }
    tally(PROMISE, "signals: at a step", tried.len() as u64);
}

#[test]
fn a_second_signal_leaves_an_evaluation_at_once() {
    let pairs = [[Signal::INT, Signal::INT], [Signal::TERM, Signal::TERM]];
    let tried = if slow_tests() { &pairs[..] } else { &pairs[..1] };
    for signals in tried {
        // Features that are still being extracted end at the first signal: on a busy machine that takes longer.
        let waits_ms = [100, 400, 1600, 6400];
        let reached = waits_ms.iter().any(|&ms| leaves_at_once(*signals, Duration::from_millis(ms)));
        assert!(reached, "no evaluation was under way {waits_ms:?} ms after its claim");
    }
    tally(PROMISE, "signals: a second one", tried.len() as u64);
}

/// Sends two signals to a long evaluation; says whether it took the second to end it.
fn leaves_at_once([first, second]: [Signal; 2], longer: Duration) -> bool {
    let place = workplace(&one_long_evaluation());
    let child = evaluating(&place, longer);
    signal(&child, first);
    // As a person would: within a fifth of a second is once.
    std::thread::sleep(Duration::from_millis(400));
    let began = Instant::now();
    signal(&child, second);
    let said = ended(child).code(if second == Signal::INT { 130 } else { 143 });
    let took = began.elapsed();
    assert_whole_without_evaluation(&place);
    let is_forced = said.err.contains("left at once");
    assert!(!is_forced || took < Duration::from_millis(1500), "{took:?}");
    is_forced
}

/// What is left of [`one_long_evaluation`]: the training, and no claim on anything.
fn assert_whole_without_evaluation(place: &Workplace) {
    assert_eq!(place.names_in("claims"), [""; 0], "the claim is given back");
    assert_eq!(place.names_in("failures"), [""; 0]);
    let plan = place.ablate(&["plan", "miniature.ron", "--json"]).success().json();
    assert_eq!((plan["to_train"].as_u64(), plan["to_evaluate"].as_u64()), (Some(0), Some(1)), "{plan}");
}

#[test]
fn an_evaluation_that_does_not_stop_is_left_after_two_seconds() {
    if !slow_tests() {
        println!("skipped: set ABLATE_SLOW_TESTS=1 to wait for four evaluations to be left");
        return;
    }
    let all = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::USR1, 143), (Signal::HUP, 143)];
    for (sent, code) in all {
        let place = workplace(&one_long_evaluation());
        let child = evaluating(&place, Duration::from_secs(1));
        let began = Instant::now();
        signal(&child, sent);
        let said = ended(child).code(code);
        let took = began.elapsed();
        assert!(took > Duration::from_secs(2) && took < Duration::from_secs(4), "{sent:?} took {took:?}");
        assert!(said.err.contains("all results and the last checkpoints are kept"), "{}", said.err);
        assert_whole_without_evaluation(&place);
    }
    tally(PROMISE, "signals: in an evaluation", all.len() as u64);
}

/// `nohup ablate sweep` is not stopped by the end of its terminal.
#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let place = workplace(&one_training());
    let mut command = std::process::Command::new("sh");
    let script = format!("trap '' HUP; exec '{}' sweep miniature.ron", env!("CARGO_BIN_EXE_ablate"));
    command.args(["-c", &script]).current_dir(place.path());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().expect("a shell");
    wait_until("a checkpoint", || !place.names_in("progress").is_empty());
    signal(&child, Signal::HUP);
    ended(child).success();
}
