//! Counter-based random streams: every draw of the program has an address, so any of them can be redone alone.
//!
//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). The key is the run's seed,
//! the counter is the address, so a draw depends on nothing else: not on threads, batch order, device or resume point.

/// What a stream is for. The number is part of the address: never reuse or renumber one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    Initialization = 1,
    Shuffle = 2,
    View = 3,
    HeldOutSplit = 4,
    BuiltinData = 5,
    LinearProbe = 6,
    MemoryBank = 7,
    FewLabels = 16,
    FineTune = 17,
    /// From here on what a report draws; no result of a run depends on it.
    Bootstrap = 64,
    SignFlip = 65,
}

/// Where a stream lies. Unused coordinates are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub purpose: Purpose,
    pub epoch: u32,
    /// Index of the example in its data set, or of the tensor for initialisation.
    pub example: u32,
    /// 0 or 1.
    pub view: u8,
    /// Position of the operation in the pipeline.
    pub op: u8,
}

impl Address {
    pub fn of(purpose: Purpose) -> Address {
        Address { purpose, epoch: 0, example: 0, view: 0, op: 0 }
    }
}

/// One Philox4x32-10 block.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let product0 = u64::from(counter[0]) * 0xD251_1F53;
        let product1 = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (product1 >> 32) as u32 ^ counter[1] ^ key[0],
            product1 as u32,
            (product0 >> 32) as u32 ^ counter[3] ^ key[1],
            product0 as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// The draws at one address, in order.
#[derive(Debug, Clone)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// Counter words: example, epoch, purpose | view | op, index of the block of four draws.
    pub fn new(seed: u64, address: Address) -> Stream {
        let place = (u32::from(address.purpose as u8) << 24) | u32::from(address.view) << 16 | u32::from(address.op);
        Stream {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [address.example, address.epoch, place, 0],
            block: [0; 4],
            used: 4,
        }
    }

    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[3] = self.counter[3].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1): 24 bits, exact in f32.
    pub fn unit(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [low, high), one fused multiply-add.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        self.unit().mul_add(high - low, low)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// Uniform in 0..n by the high half of a 32×32-bit product; the bias is below n / 2³².
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.next_u32()) * u64::from(n)) >> 32) as u32
    }

    /// Two independent standard normals by Box and Muller, in f64 with `libm` so that every machine agrees.
    pub fn normal_pair(&mut self) -> [f64; 2] {
        let radius_unit = (f64::from(self.next_u32()) + 1.0) / 4_294_967_297.0;
        let angle_unit = f64::from(self.next_u32()) / 4_294_967_296.0;
        let radius = libm::sqrt(-2.0 * libm::log(radius_unit));
        let (sine, cosine) = libm::sincos(2.0 * std::f64::consts::PI * angle_unit);
        [radius * cosine, radius * sine]
    }

    /// A permutation of 0..n (Fisher and Yates).
    pub fn permutation(&mut self, n: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n).collect();
        for last in (1..n).rev() {
            let chosen = self.below(last + 1);
            order.swap(last as usize, chosen as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of Random123 (kat_vectors, philox4x32 10).
    #[test]
    fn philox_agrees_with_random123() {
        let check = |counter, key, expected| assert_eq!(philox(counter, key), expected);
        check([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        check([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        check(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        );
    }

    #[test]
    fn neighbouring_addresses_share_nothing() {
        let base = Address::of(Purpose::View);
        let places = [
            base,
            Address { epoch: 1, ..base },
            Address { example: 1, ..base },
            Address { view: 1, ..base },
            Address { op: 1, ..base },
            Address { purpose: Purpose::Shuffle, ..base },
        ];
        let draws: Vec<Vec<u32>> = places
            .iter()
            .map(|&place| {
                let mut stream = Stream::new(7, place);
                (0..64).map(|_| stream.next_u32()).collect()
            })
            .collect();
        let mut all: Vec<u32> = draws.concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6 * 64, "two addresses gave a draw in common");
    }

    /// χ² of 256 cells over 2²⁰ draws: mean 255, standard deviation 22.6; the bound is 5 of them.
    #[test]
    fn unit_and_below_are_uniform() {
        let mut stream = Stream::new(3, Address::of(Purpose::View));
        let n = 1 << 20;
        let chi2 = |counts: &[u32]| {
            let expected = f64::from(n) / counts.len() as f64;
            counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum::<f64>()
        };
        let (mut cells, mut residues) = (vec![0u32; 256], vec![0u32; 256]);
        for _ in 0..n {
            cells[(stream.unit() * 256.0) as usize] += 1;
            residues[stream.below(256) as usize] += 1;
        }
        for counts in [cells, residues] {
            let value = chi2(&counts);
            assert!((142.0..368.0).contains(&value), "χ² = {value}");
        }
    }

    #[test]
    fn normal_has_the_moments_of_a_normal() {
        let mut stream = Stream::new(11, Address::of(Purpose::Initialization));
        let n = 200_000;
        let mut moments = [0.0; 4];
        for x in (0..n / 2).flat_map(|_| stream.normal_pair()) {
            for (power, moment) in moments.iter_mut().enumerate() {
                *moment += x.powi(power as i32 + 1) / f64::from(n);
            }
        }
        for (moment, (expected, bound)) in moments.iter().zip([(0.0, 0.012), (1.0, 0.016), (0.0, 0.045), (3.0, 0.12)]) {
            assert!((moment - expected).abs() < bound, "{moments:?}");
        }
    }

    /// Every image of a small permutation is equally frequent: 24 orders of 4, 48,000 draws, χ² with 23 degrees of freedom.
    #[test]
    fn permutations_are_uniform() {
        let mut counts = std::collections::BTreeMap::new();
        let n = 48_000u32;
        for epoch in 0..n {
            let place = Address { epoch, ..Address::of(Purpose::Shuffle) };
            *counts.entry(Stream::new(5, place).permutation(4)).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let expected = f64::from(n) / 24.0;
        let chi2: f64 = counts.values().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
        assert!(chi2 < 57.0, "χ² = {chi2}");
    }
}
