use super::{completed, digest};
use crate::device::cuda::convolutions::description;
use crate::device::cuda::plan_lock::{EngineChoice, PlanLock};
use crate::device::gpu::{Convolution, Element, GpuError, Pass};

fn shape(images: usize) -> Convolution {
    let element = Element::Bf16;
    Convolution { images, height: 4, width: 4, inputs: 8, outputs: 8, kernel: 3, stride: 1, padding: 1, element }
}

fn choice(engine: i64) -> EngineChoice {
    EngineChoice { engine, knobs: [].into() }
}

#[test]
fn a_lock_keeps_what_it_knows_and_gains_what_was_found() {
    let known = PlanLock { choices: [("of another experiment".to_owned(), choice(1))].into() };
    let mut notes = Vec::new();
    let mut search = |shape: &Convolution, _: Pass| match shape.images {
        2 => Err(GpuError::OutOfMemory { needed_bytes: 9, free_bytes: 8 }),
        4 => Err(GpuError::NoPlan("it".to_owned())),
        images => Ok(choice(images as i64)),
    };
    let missing = [2, 4, 6, 8].map(|images| (shape(images), Pass::Forward)).into();
    let lock = completed(known, &missing, &mut search, &mut |note| notes.push(note.to_owned())).expect("a lock");
    let name = |images| description(&shape(images), Pass::Forward);
    let expected = [("of another experiment".to_owned(), choice(1)), (name(6), choice(6)), (name(8), choice(8))];
    assert_eq!(lock, PlanLock { choices: expected.into() });
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with(&name(2)) && notes[0].contains("left out"), "{notes:?}");
}

#[test]
fn a_device_that_fails_ends_the_timing() {
    let mut search = |_: &Convolution, _: Pass| Err(GpuError::Call { call: "x", reason: "lost".to_owned() });
    let missing = [(shape(2), Pass::Forward)].into();
    let error = completed(PlanLock::default(), &missing, &mut search, &mut |_| ()).expect_err("a lost device");
    assert!(error.to_string().contains("x failed: lost"), "{error}");
}

#[test]
fn keys_hold_the_digest_that_the_lock_tells() {
    let lock = PlanLock { choices: [("a".to_owned(), choice(3))].into() };
    assert_eq!(digest(&lock).to_string(), lock.digest());
}
