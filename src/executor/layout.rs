//! Where every value lies in the arena: lifetimes are known before the first step, so places are given once, and what
//! is never alive at the same time shares a place.

use std::ops::Range;

/// A stretch of the arena asked for: alive from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    pub len: usize,
    pub first: usize,
    pub last: usize,
}

/// Places start at multiples of so many numbers: a cache line of f32, and 256 bytes of bf16 on a GPU.
const ALIGNMENT: usize = 128;

/// Gives each lifetime a place, the longest first, each at the lowest offset that is free while it lives. Returns the
/// places in the order asked for and the length of the arena.
pub fn place(lifetimes: &[Lifetime]) -> (Vec<Range<usize>>, usize) {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|index| (std::cmp::Reverse(lifetimes[*index].len), lifetimes[*index].first, *index));
    let mut places = vec![0..0; lifetimes.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut arena_len = 0;
    for index in order {
        let asked = lifetimes[index];
        let len = asked.len.next_multiple_of(ALIGNMENT);
        let alive = |other: &&usize| lifetimes[**other].first <= asked.last && asked.first <= lifetimes[**other].last;
        let mut taken: Vec<Range<usize>> = placed.iter().filter(alive).map(|other| places[*other].clone()).collect();
        taken.sort_by_key(|range| range.start);
        let mut start = 0;
        for range in taken {
            if start + len <= range.start {
                break;
            }
            start = start.max(range.end.next_multiple_of(ALIGNMENT));
        }
        places[index] = start..start + asked.len;
        placed.push(index);
        arena_len = arena_len.max(start + len);
    }
    (places, arena_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_never_meets_shares_a_place() {
        let life = |len, first, last| Lifetime { len, first, last };
        let (places, len) = place(&[life(32, 0, 1), life(32, 1, 2), life(32, 2, 3), life(16, 0, 3)]);
        assert_eq!((places, len), (vec![0..32, 128..160, 0..32, 256..272], 384));
    }

    proptest! {
        #[test]
        fn what_meets_never_overlaps(asked in prop::collection::vec((0..90usize, 0..9usize, 0..9usize), 0..25)) {
            let lifetimes: Vec<_> =
                asked.iter().map(|&(len, a, b)| Lifetime { len, first: a.min(b), last: a.max(b) }).collect();
            let (places, arena_len) = place(&lifetimes);
            for (i, a) in lifetimes.iter().enumerate() {
                prop_assert!(places[i].len() == a.len && places[i].end <= arena_len);
                for (j, b) in lifetimes.iter().enumerate().skip(i + 1) {
                    let meet = a.first <= b.last && b.first <= a.last;
                    let overlap = places[i].start < places[j].end && places[j].start < places[i].end;
                    prop_assert!(!meet || !overlap || places[i].is_empty() || places[j].is_empty());
                }
            }
        }
    }
}
