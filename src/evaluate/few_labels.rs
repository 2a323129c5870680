//! Few labels: the part of the bank whose labels a probe may use.

use crate::random::{Address, Purpose, Stream};

/// The rows of a share of every class, in ascending order: round(share · n) of its n rows, at least one. Which ones is drawn
/// for each class alone, and a smaller share of the same seed is part of a larger one.
pub fn chosen(labels: &[u32], n_classes: u32, share: f64, seed: u64) -> Vec<u32> {
    let mut rows_of = vec![Vec::new(); n_classes as usize];
    for (row, &label) in labels.iter().enumerate() {
        rows_of[label as usize].push(row as u32);
    }
    let mut chosen = Vec::new();
    for (class, rows) in (0u32..).zip(&rows_of).filter(|(_, rows)| !rows.is_empty()) {
        let n = (libm::round(share * rows.len() as f64) as usize).clamp(1, rows.len());
        let place = Address { example: class, ..Address::of(Purpose::FewLabels) };
        let order = Stream::new(seed, place).permutation(rows.len() as u32);
        chosen.extend(order[..n].iter().map(|&place| rows[place as usize]));
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_stay_balanced_and_none_is_left_out() {
        let labels: Vec<u32> = (0..1000).map(|row| if row < 30 { 2 } else { row % 2 }).collect();
        let count = |chosen: &[u32], class: u32| chosen.iter().filter(|&&row| labels[row as usize] == class).count();
        let tenth = chosen(&labels, 4, 0.1, 5);
        assert_eq!([0, 1, 2, 3].map(|class| count(&tenth, class)), [49, 49, 3, 0]);
        assert!(tenth.is_sorted() && tenth.windows(2).all(|pair| pair[0] != pair[1]));
        let hundredth = chosen(&labels, 4, 0.01, 5);
        assert_eq!([0, 1, 2].map(|class| count(&hundredth, class)), [5, 5, 1]);
        assert!(hundredth.iter().all(|row| tenth.contains(row)), "a smaller share lies in a larger one");
        assert_ne!(chosen(&labels, 4, 0.1, 6), tenth);
        assert_eq!(chosen(&labels, 4, 1.0, 5), (0..1000).collect::<Vec<u32>>());
        assert_eq!(chosen(&[0], 1, 1e-9, 5), [0]);
        assert_eq!(chosen(&[], 3, 0.5, 5), [0u32; 0]);
    }
}
