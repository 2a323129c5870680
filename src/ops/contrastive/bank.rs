//! The memory bank: a queue of second views' unit vectors, in a ring.
//!
//! As in Lightly's `MemoryBankModule` a batch that does not fit before the end of the ring loses its rest, and the next one
//! starts anew. So where a step writes follows from the step's number, and the rows are all there is to keep.

use std::ops::Range;

use crate::ops::nt_xent::normalize;

/// The rows that step `step` writes in a bank of `size` rows, with `n_images` images a step.
pub fn rows_of_step(step: u64, size: usize, n_images: usize) -> Range<usize> {
    let start = (step % size.div_ceil(n_images) as u64) as usize * n_images;
    start..size.min(start + n_images)
}

/// Puts the second views of `projections`, normalised, where step `step` writes.
///
/// # Panics
/// When `width` divides neither, or there is no bank.
pub fn enqueue(bank: &mut [f32], width: usize, step: u64, projections: &[f32]) {
    let second = &projections[projections.len() / 2..];
    assert!(!bank.is_empty() && bank.len().is_multiple_of(width) && second.len().is_multiple_of(width));
    let rows = rows_of_step(step, bank.len() / width, second.len() / width);
    let places = bank[rows.start * width..rows.end * width].chunks_exact_mut(width);
    for (place, row) in places.zip(second.chunks_exact(width)) {
        normalize(row, place);
    }
}
