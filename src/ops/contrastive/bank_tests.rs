//! The memory bank: a worked example, and the ring as Lightly turns it.

use super::bank::{enqueue, rows_of_step};
use super::*;
use crate::ops::nt_xent::golden::values_f32;
use crate::ops::nt_xent::normalize;

const LOSS: fn(u32) -> Loss = |size| Loss::NtXentMemoryBank { size };

/// Worked out by hand in f64.
#[test]
fn three_pairs_and_three_rows_in_the_plane() {
    let projections = [1.0, 0.0, 0.0, 2.0, 3.0, 4.0, 1.0, 1.0, -1.0, 2.0, 4.0, 3.0];
    let diagonal = -0.5f32.sqrt();
    let mut objective = Objective::new(LOSS(3), 0.5, 6, 2);
    objective.load_bank(&[1.0, 0.0, 0.0, -1.0, diagonal, diagonal]);
    let mut gradient = [0.0; 12];
    let loss = objective.forward_backward((0, &[]), &projections, &mut gradient, &Pool::new(1));
    assert!((f64::from(loss) - 0.589291933052).abs() < 1e-6, "{loss}");
    // What the step leaves are its second views.
    let mut expected = [0.0; 6];
    for (row, unit) in projections[6..].chunks(2).zip(expected.chunks_mut(2)) {
        normalize(row, unit);
    }
    assert_eq!(objective.bank(), expected);
}

/// Where Lightly's pointer stands before each batch, and how many rows it writes.
#[test]
fn the_ring_turns_as_lightlys() {
    for (size, n_images) in [(8, 4), (10, 4), (3, 4), (4, 4), (7, 1), (64, 24)] {
        let mut pointer = 0;
        for step in 0..30 {
            let rows = rows_of_step(step, size, n_images);
            let (end, next) =
                if pointer + n_images >= size { (size, 0) } else { (pointer + n_images, pointer + n_images) };
            assert_eq!(rows, pointer..end, "step {step} of {n_images} images in {size} rows");
            pointer = next;
        }
    }
}

#[test]
fn a_step_writes_its_rows_and_no_others() {
    let (width, n_images) = (3, 4);
    let projections = values_f32(1, 2 * n_images * width, 1.0);
    let before = values_f32(2, 10 * width, 1.0);
    for (step, written) in [(0, 0..4), (1, 4..8), (2, 8..10), (3, 0..4)] {
        let mut bank = before.clone();
        enqueue(&mut bank, width, step, &projections);
        for (index, (row, old)) in bank.chunks(width).zip(before.chunks(width)).enumerate() {
            if written.contains(&index) {
                let mut unit = [0.0; 3];
                normalize(&projections[(n_images + index - written.start) * width..][..width], &mut unit);
                assert_eq!(row, unit, "row {index} of step {step}");
            } else {
                assert_eq!(row, old, "row {index} of step {step}");
            }
        }
    }
}

/// The loss sees the bank as it was before the step.
#[test]
fn a_batch_is_no_negative_of_its_own() {
    let (n, width) = (6, 5);
    let projections = values_f32(3, 2 * n * width, 1.0);
    let mut objective = Objective::new(LOSS(12), 0.5, 2 * n, width);
    let mut gradient = vec![0.0; projections.len()];
    let pool = Pool::new(1);
    // A bank of zeros: the loss of 12 similarities of 0.
    let first = objective.forward_backward((0, &[]), &projections, &mut gradient, &pool);
    let again = objective.forward_backward((1, &[]), &projections, &mut gradient, &pool);
    let (loss, _) = exact::Exact::new(LOSS(12), 0.5, width, &vec![0.0; 12 * width])
        .forward_backward(&projections.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    assert!((f64::from(first) - loss).abs() < 1e-6, "{first}, {loss} wanted");
    assert!(again > first, "its own second views are in the bank: {again}, {first}");
}
