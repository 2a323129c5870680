//! What is handed out to whom, and when there is nothing more to hand out.

use super::*;
use crate::record::{Failure, FailureKind};
use crate::store::StoreError;

fn keys(of: &[u8]) -> Vec<Key> {
    of.iter().map(|byte| Key::of_bytes(&[*byte])).collect()
}

fn failure(kind: FailureKind) -> StageFailure {
    StageFailure { key: Key::of_bytes(b"a"), failure: Failure::new(kind, "words") }
}

fn board<'a>(of: &[u8], (fail_fast, wait): (bool, bool), interrupt: &'a Interrupt) -> Board<'a> {
    let policy = Policy { retry_failed: false, fail_fast, jobs: 1, wait, disk_floor_bytes: 0 };
    Board::new(keys(of), policy, interrupt)
}

fn take(board: &Board) -> Option<usize> {
    board.take(&mut |_, _| {}).map(|turn| turn.index)
}

fn taken() -> Outcome {
    Outcome::Taken("another".to_owned())
}

#[test]
fn runs_are_handed_out_in_order_and_a_training_to_one_member() {
    let interrupt = Interrupt::default();
    let board = board(b"abaca", (false, true), &interrupt);
    assert_eq!(board.n_trainings(), 3);
    assert_eq!([take(&board), take(&board), take(&board)], [Some(0), Some(1), Some(3)], "2 shares the training of 0");
    let failed = Outcome::TrainingFailed(failure(FailureKind::Panic));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| board.take(&mut |_, _| {}).expect("a turn"));
        board.put(1, &Outcome::Computed);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waits.is_finished(), "the training of 2 is still under way");
        board.put(0, &failed);
        let turn = waits.join().expect("a turn");
        assert_eq!((turn.index, turn.failed_before), (2, Some(failure(FailureKind::Panic))));
    });
    board.put(2, &failed);
    assert_eq!(take(&board), Some(4));
    board.put(4, &failed);
    board.put(3, &Outcome::Cached);
    assert_eq!(take(&board), None);
}

/// A disk that refused one cell may serve the next.
#[test]
fn a_failure_of_the_store_is_not_that_of_the_training() {
    for (kind, is_shared) in [(FailureKind::Storage, false), (FailureKind::DiskFull, false), (FailureKind::Other, true)]
    {
        let interrupt = Interrupt::default();
        let board = board(b"aa", (false, true), &interrupt);
        assert_eq!(take(&board), Some(0));
        board.put(0, &Outcome::TrainingFailed(failure(kind)));
        let turn = board.take(&mut |_, _| {}).expect("a turn");
        assert_eq!(turn.failed_before.is_some(), is_shared, "{kind:?}");
    }
}

#[test]
fn what_others_have_in_work_comes_again_once_at_the_end_where_nobody_waits() {
    let interrupt = Interrupt::default();
    let board = board(b"abc", (false, false), &interrupt);
    assert_eq!([take(&board), take(&board)], [Some(0), Some(1)]);
    assert!(!board.put(1, &taken()) && !board.put(0, &taken()), "their turn comes again");
    assert_eq!(take(&board), Some(2));
    board.put(2, &Outcome::Computed);
    for index in [0, 1] {
        assert_eq!(take(&board), Some(index));
        assert!(board.put(index, &taken()), "there is no third time");
    }
    assert_eq!(take(&board), None);
    let summary = board.summary(&[Place { cell: 0, seed: 0 }; 3]).expect("a summary");
    assert_eq!(summary, Summary { computed: 1, taken: 2, ..Summary::default() });
}

#[test]
fn what_others_have_in_work_is_waited_for() {
    let interrupt = Interrupt::default();
    let board = board(b"ab", (false, true), &interrupt);
    let mut waits = Vec::new();
    let mut take = || board.take(&mut |index, owner| waits.push((index, owner.to_owned()))).map(|turn| turn.index);
    assert_eq!(take(), Some(0));
    board.put(0, &taken());
    assert_eq!(take(), Some(1), "own work first");
    board.put(1, &Outcome::Computed);
    let began = Instant::now();
    assert_eq!(take(), Some(0));
    assert!(began.elapsed() >= FIRST_PAUSE);
    board.put(0, &Outcome::Cached);
    assert_eq!(take(), None);
    assert_eq!(waits, [(0, "another".to_owned())], "told once");
    let summary = board.summary(&[Place { cell: 0, seed: 0 }; 2]).expect("a summary");
    assert_eq!(summary, Summary { computed: 1, cached: 1, ..Summary::default() });
}

#[test]
fn one_who_waits_can_be_asked_to_leave() {
    let interrupt = Interrupt::default();
    let board = board(b"a", (false, true), &interrupt);
    assert_eq!(take(&board), Some(0));
    board.put(0, &taken());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| take(&board));
        std::thread::sleep(Duration::from_millis(50));
        interrupt.ask(crate::runner::Departure::Preempted);
        assert_eq!(waits.join().expect("no panic"), None);
    });
    let summary = board.summary(&[Place { cell: 0, seed: 0 }]).expect("a summary");
    assert_eq!((summary.taken, summary.departure), (1, Some(crate::runner::Departure::Preempted)));
}

/// What a member does to the board.
type End<'a> = &'a dyn Fn(&Board);

#[test]
fn an_interruption_a_failure_and_an_error_end_the_handing_out() {
    let ends: [(bool, End); 4] = [
        (false, &|board| assert!(board.put(0, &Outcome::Interrupted))),
        (true, &|board| assert!(board.put(0, &Outcome::EvaluationsFailed(vec![failure(FailureKind::Storage)])))),
        (true, &|board| assert!(board.put(0, &Outcome::TrainingFailed(failure(FailureKind::OutOfMemory))))),
        (false, &|board| board.stop(RunnerError::Store(StoreError::ClaimBusy { path: "claim".into() }))),
    ];
    for (fail_fast, end) in ends {
        let interrupt = Interrupt::default();
        let board = board(b"ab", (fail_fast, true), &interrupt);
        assert_eq!(take(&board), Some(0));
        end(&board);
        assert!(board.leaving.load(Ordering::Relaxed));
        assert_eq!(take(&board), None);
    }
    let interrupt = Interrupt::default();
    let board = board(b"ab", (false, true), &interrupt);
    assert_eq!(take(&board), Some(0));
    board.put(0, &Outcome::TrainingFailed(failure(FailureKind::OutOfMemory)));
    assert_eq!(take(&board), Some(1), "a failure alone stops nobody");
}
