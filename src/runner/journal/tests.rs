//! What a failure's record holds of what was told before it.

use super::*;
use crate::record::FailureKind;
use crate::runner::tests::tiny;

#[test]
fn the_tail_is_short_and_has_the_epochs() {
    let experiment = tiny("train.temperature", "[0.5]");
    let run = &experiment.cells[0].runs[0];
    let mut told = 0;
    let mut audience = |_: &Event| told += 1;
    let mut journal = Journal::new(run, &mut audience);
    assert_eq!(run.steps_per_epoch(), 4);
    journal.tell(&Event::TrainingStarted { done: 2 });
    for (step, loss) in [(3, 2.0), (4, 4.0), (5, 1.0)] {
        journal.tell(&Event::Training(Progress { step, length_steps: 100, loss, images_per_s: 80.0 }));
    }
    journal.tell(&Event::Note("two\nlines"));
    let failure = journal.failed(Failure::new(FailureKind::Other, "words"));
    let told_of: Vec<&str> = failure.log.iter().map(|line| &line[13..]).collect();
    let expected =
        ["training goes on from step 2", "epoch 1 done, step 4 of 100: mean loss 3.0000, 80 images/s", "two", "lines"];
    assert_eq!(told_of, expected);
    (0..100).for_each(|line| journal.note(&format!("line {line}")));
    let failure = journal.failed(failure);
    assert_eq!(failure.log.len(), TAIL_LINES);
    assert!(failure.log[TAIL_LINES - 1].ends_with("line 99"), "{:?}", failure.log);
    assert_eq!(told, 5, "notes of the log alone are told to nobody");
}
