//! A memory bank before the first step.

use crate::ops::nt_xent::normalize;
use crate::random::{Address, Purpose, Stream};

/// `len` numbers in rows of `width`, each row of standard normals and then normalised, as Lightly starts its banks: unit
/// vectors in every direction alike. A row has an address of its own.
pub fn initial(len: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut bank = vec![0.0; len];
    for (index, row) in bank.chunks_exact_mut(width).enumerate() {
        let place = Address { example: index as u32, ..Address::of(Purpose::MemoryBank) };
        let mut stream = Stream::new(seed, place);
        let mut drawn = Vec::with_capacity(width + 1);
        while drawn.len() < width {
            drawn.extend(stream.normal_pair().map(|value| value as f32));
        }
        normalize(&drawn[..width], row);
    }
    bank
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::nt_xent::dot;

    #[test]
    fn rows_are_unit_vectors_in_all_directions() {
        let (size, width) = (400, 33);
        let bank = initial(size * width, width, 5);
        for row in bank.chunks_exact(width) {
            assert!((dot(row, row) - 1.0).abs() < 1e-6);
        }
        // Each coordinate has mean 0 and variance 1/width.
        let mean = bank.iter().map(|&x| f64::from(x)).sum::<f64>() / bank.len() as f64;
        let fourth = bank.iter().map(|&x| f64::from(x).powi(4)).sum::<f64>() / bank.len() as f64;
        // E x⁴ = 3/(d(d + 2)) on the unit sphere.
        let expected = 3.0 / (width * (width + 2)) as f64;
        assert!(mean.abs() < 4.0 / (bank.len() as f64 * width as f64).sqrt(), "{mean}");
        assert!((fourth / expected - 1.0).abs() < 0.1, "{fourth}, {expected} wanted");
    }

    #[test]
    fn a_row_depends_on_its_address_alone() {
        let (few, many) = (initial(3 * 8, 8, 5), initial(10 * 8, 8, 5));
        assert_eq!(few, many[..3 * 8]);
        assert_ne!(few, initial(3 * 8, 8, 6));
        assert_ne!(many[..8], many[8..16]);
        assert_eq!(initial(0, 8, 5), Vec::<f32>::new());
    }
}
