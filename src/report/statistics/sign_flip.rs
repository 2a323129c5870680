//! The sign-flip permutation test of paired differences: were the two settings the same, every difference could as well
//! have the other sign. The statistic is the mean; two-sided.

use crate::random::{Address, Purpose, Stream};

/// Up to so many pairs all 2ⁿ signs are tried; beyond, [`N_DRAWN`] of them.
pub const N_PAIRS_EXACT: usize = 16;
/// Drawn flips of a test that does not try all.
pub const N_DRAWN: u32 = 99_999;
const SEED: u64 = 0;

/// The smallest p that so many pairs can give, however far apart they lie: 2 of 2ⁿ equally likely signs are as extreme, and
/// of drawn ones at least the found one.
pub fn smallest_p(n_pairs: usize) -> f64 {
    if n_pairs > N_PAIRS_EXACT { 1.0 / f64::from(N_DRAWN + 1) } else { (2.0 / (n_pairs as f64).exp2()).min(1.0) }
}

/// The share of all signs whose mean is as far from zero as the one found; of drawn signs, with the found one among them
/// (Phipson and Smyth 2010). Absent without differences, and where they are not finite.
pub fn p_two_sided(differences: &[f64]) -> Option<f64> {
    let (first, others) = differences.split_first()?;
    if !differences.iter().all(|difference| difference.is_finite()) {
        return None;
    }
    let found = differences.iter().sum::<f64>().abs();
    // Sums that are equal on paper may differ in the last bits, and must count as equal.
    let reached = found - 100.0 * f64::EPSILON * found;
    if differences.len() > N_PAIRS_EXACT {
        return Some(drawn(differences, reached));
    }
    // Turning all signs around gives the same distance from zero, so the first keeps its own.
    let mut sums = vec![*first];
    for difference in others {
        sums = sums.iter().flat_map(|sum| [sum + difference, sum - difference]).collect();
    }
    let extreme = sums.iter().filter(|sum| sum.abs() >= reached).count();
    Some(extreme as f64 / sums.len() as f64)
}

fn drawn(differences: &[f64], reached: f64) -> f64 {
    let is_extreme = |flip: &u32| {
        let mut stream = Stream::new(SEED, Address { example: *flip, ..Address::of(Purpose::SignFlip) });
        let mut signs = 0;
        let sum: f64 = differences
            .iter()
            .enumerate()
            .map(|(index, difference)| {
                if index % 32 == 0 {
                    signs = stream.next_u32();
                }
                if signs >> (index % 32) & 1 == 0 { *difference } else { -difference }
            })
            .sum();
        sum.abs() >= reached
    };
    let extreme = (0..N_DRAWN).filter(is_extreme).count();
    (extreme + 1) as f64 / f64::from(N_DRAWN + 1)
}
