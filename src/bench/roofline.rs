//! What the processor can do at most, measured: arithmetic within the first-level cache, and bytes from and to memory.
//!
//! No pass can take less than its arithmetic at the one or its bytes at the other (Williams, Waterman and Patterson,
//! "Roofline", 2009).

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;

use crate::device::Pool;
use crate::executor::work::Work;
use crate::ops::microkernel::{Left, Out, Right, Size, multiply};

/// Products whose three matrices fit together into 32 KiB; the faster one counts.
const SIZES: [Size; 2] = [Size { rows: 6, columns: 64, depth: 96 }, Size { rows: 24, columns: 64, depth: 64 }];
/// Products of one thread between two looks at the clock.
const PRODUCTS: usize = 1024;

/// Where the system does not say how large its last-level cache is.
const CACHE_BYTES: usize = 64 << 20;
/// Of one of the two buffers of the copy.
const BUFFER_BYTES: std::ops::RangeInclusive<usize> = 64 << 20..=512 << 20;

/// The two limits, all threads together.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Roofline {
    /// Of the executor's own kernel; a multiply-add is two.
    pub gflop_per_s: f64,
    /// Of a copy, bytes read and written.
    pub gb_per_s: f64,
}

impl Roofline {
    /// Spends about `seconds` on each; the best moment counts.
    pub fn measure(pool: &Pool, seconds: f64) -> Roofline {
        let peak = SIZES.map(|size| arithmetic(pool, size, seconds / SIZES.len() as f64));
        Roofline { gflop_per_s: peak.into_iter().fold(0.0, f64::max), gb_per_s: copy(pool, seconds) }
    }

    /// The least time that the work takes, in milliseconds.
    pub fn floor_ms(&self, work: &Work) -> f64 {
        let arithmetic = work.flop.unwrap_or(0.0) / self.gflop_per_s;
        arithmetic.max(work.bytes / self.gb_per_s) / 1e6
    }
}

/// Runs `trial` for some seconds, twice at least: the first one warms up. The shortest time in seconds.
fn shortest(seconds: f64, mut trial: impl FnMut()) -> f64 {
    trial();
    let (began_all, mut best) = (Instant::now(), f64::INFINITY);
    loop {
        let began = Instant::now();
        trial();
        best = best.min(began.elapsed().as_secs_f64());
        if began_all.elapsed().as_secs_f64() >= seconds {
            return best;
        }
    }
}

fn arithmetic(pool: &Pool, size: Size, seconds: f64) -> f64 {
    let Size { rows, columns, depth } = size;
    let trial = || {
        let one = |_: rayon::BroadcastContext| {
            let (left, right) = (vec![0.5; rows * depth], vec![0.5; depth * columns]);
            let mut out = vec![0.0; rows * columns];
            for _ in 0..PRODUCTS {
                let left = Left { data: black_box(&left), row_stride: depth, depth_stride: 1 };
                let right = Right { data: black_box(&right), stride: columns };
                multiply(size, left, right, Out { data: &mut out, stride: columns }, false);
                black_box(&mut out);
            }
        };
        pool.install(|| rayon::broadcast(one));
    };
    let flop = (2 * rows * columns * depth * PRODUCTS * pool.threads()) as f64;
    flop / shortest(seconds, trial) / 1e9
}

fn copy(pool: &Pool, seconds: f64) -> f64 {
    let bytes = (2 * last_level_cache_bytes()).clamp(*BUFFER_BYTES.start(), *BUFFER_BYTES.end());
    let len = bytes / size_of::<f32>();
    let (from, mut to) = (vec![1.0f32; len], vec![0.0f32; len]);
    let of_thread = len.div_ceil(pool.threads());
    let trial = || {
        pool.install(|| {
            let pairs = to.par_chunks_mut(of_thread).zip(from.par_chunks(of_thread));
            pairs.for_each(|(to, from)| to.copy_from_slice(black_box(from)));
        });
        black_box(&mut to);
    };
    (2 * len * size_of::<f32>()) as f64 / shortest(seconds, trial) / 1e9
}

/// The largest cache that the system lists for the first core.
fn last_level_cache_bytes() -> usize {
    let entries = std::fs::read_dir("/sys/devices/system/cpu/cpu0/cache").into_iter().flatten().flatten();
    entries.filter_map(|entry| cache_bytes(&entry.path().join("size"))).max().unwrap_or(CACHE_BYTES)
}

/// `32768K`, as Linux writes it.
fn cache_bytes(file: &Path) -> Option<usize> {
    let text = std::fs::read_to_string(file).ok()?;
    let kibibytes: usize = text.trim().strip_suffix('K')?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_longer_of_arithmetic_and_bytes() {
        let roofline = Roofline { gflop_per_s: 100.0, gb_per_s: 10.0 };
        let floor = |flop, bytes| roofline.floor_ms(&Work { flop, bytes });
        assert_eq!(floor(Some(2e9), 1e6), 20.0);
        assert_eq!(floor(Some(2e9), 1e9), 100.0);
        assert_eq!(floor(None, 1e7), 1.0);
    }

    #[test]
    fn every_product_fits_the_first_level_cache() {
        for Size { rows, columns, depth } in SIZES {
            assert!(4 * (rows * depth + depth * columns + rows * columns) <= 32 << 10);
        }
        let roofline = Roofline::measure(&Pool::new(1), 0.0);
        assert!(roofline.gflop_per_s > 0.0 && roofline.gb_per_s > 0.0, "{roofline:?}");
        assert!(roofline.gflop_per_s.is_finite() && roofline.gb_per_s.is_finite(), "{roofline:?}");
    }
}
