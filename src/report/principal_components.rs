//! The two directions along which features spread most, for a map of them.

use rayon::prelude::*;

/// Directions iterated together: what is wanted converges with the ratio of its variance to that of the first left out.
const BLOCK: usize = 8;
const ITERATIONS_MAX: usize = 200;
/// Of the variances, from one iteration to the next.
const TOLERANCE: f64 = 1e-12;

/// Points in two dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// One a row of the input, along the first and the second principal component.
    pub points: Vec<[f64; 2]>,
    /// Share of the whole variance along each of the two.
    pub explained: [f64; 2],
}

/// Principal components of `features`, n rows of `width`, by orthogonal iteration of the covariance matrix with a
/// Rayleigh–Ritz step (Golub and Van Loan 2013, §8.2.4). A direction's largest part is positive. A function of the bits of
/// its input alone, whatever computes it. None for fewer than two rows or columns, or where a number is not finite.
///
/// # Panics
/// When `features` are not whole rows.
pub fn project(features: &[f32], width: usize) -> Option<Projection> {
    if width < 2 || features.len() < 2 * width || features.iter().any(|value| !value.is_finite()) {
        return None;
    }
    assert_eq!(features.len() % width, 0, "whole rows of {width}");
    let centred = centred(features, width);
    let covariance = covariance(&centred, width);
    let total: f64 = (0..width).map(|index| covariance[index * width + index]).sum();
    let (vectors, variances) = leading(&covariance, width);
    let share = |variance: f64| if total > 0.0 { (variance / total).clamp(0.0, 1.0) } else { 0.0 };
    let along = |row: &[f64], direction: &[f64]| dot(row, direction);
    let points = centred.chunks(width).map(|row| [along(row, &vectors[0]), along(row, &vectors[1])]).collect();
    Some(Projection { points, explained: [share(variances[0]), share(variances[1])] })
}

fn centred(features: &[f32], width: usize) -> Vec<f64> {
    let n = (features.len() / width) as f64;
    let mut means = vec![0.0; width];
    for row in features.chunks(width) {
        means.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / n);
    }
    features
        .chunks(width)
        .flat_map(|row| row.iter().zip(&means).map(|(value, mean)| f64::from(*value) - mean))
        .collect()
}

/// width × width, with n − 1. Every entry is one sum in the order of the rows, so threads change no bit.
fn covariance(centred: &[f64], width: usize) -> Vec<f64> {
    let scale = 1.0 / (centred.len() / width - 1) as f64;
    let mut matrix = vec![0.0; width * width];
    matrix.par_chunks_mut(width).enumerate().for_each(|(index, entries)| {
        for row in centred.chunks(width) {
            let factor = row[index] * scale;
            entries.iter_mut().zip(row).for_each(|(entry, value)| *entry += factor * value);
        }
    });
    matrix
}

/// The two leading eigenvectors and eigenvalues.
fn leading(covariance: &[f64], width: usize) -> ([Vec<f64>; 2], [f64; 2]) {
    let block = BLOCK.min(width);
    // A fixed start that no real data is orthogonal to: different waves.
    let start = |k: usize| (0..width).map(|i| libm::cos((k * width + i * (2 * k + 1)) as f64)).collect::<Vec<f64>>();
    let mut vectors: Vec<Vec<f64>> = (0..block).map(start).collect();
    orthonormalize(&mut vectors);
    let mut before = [0.0; 2];
    for _ in 0..ITERATIONS_MAX {
        let mut images: Vec<Vec<f64>> = vectors.iter().map(|vector| product(covariance, vector)).collect();
        let (values, rotation) = ritz(&vectors, &images);
        images = rotated(&images, &rotation);
        vectors = rotated(&vectors, &rotation);
        let now = [values[0], values[1]];
        let moved = (0..2).map(|k| (now[k] - before[k]).abs()).fold(0.0, f64::max);
        before = now;
        if moved <= TOLERANCE * values[0].abs() {
            break;
        }
        vectors = images;
        orthonormalize(&mut vectors);
    }
    vectors.truncate(2);
    vectors.iter_mut().for_each(|vector| face_forward(vector));
    let second = vectors.pop().expect("a block of at least two");
    ([vectors.pop().expect("a block of at least two"), second], before)
}

fn face_forward(vector: &mut [f64]) {
    let further = |largest: f64, value: f64| if value.abs() > largest.abs() { value } else { largest };
    let largest = vector.iter().copied().fold(0.0, further);
    if largest < 0.0 {
        vector.iter_mut().for_each(|value| *value = -*value);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn product(matrix: &[f64], vector: &[f64]) -> Vec<f64> {
    matrix.chunks(vector.len()).map(|row| dot(row, vector)).collect()
}

/// Gram and Schmidt, twice for the sake of rounding. What depends on the directions before becomes nothing.
fn orthonormalize(vectors: &mut [Vec<f64>]) {
    for index in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(index);
        let vector = &mut rest[0];
        let length = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for other in before.iter() {
                let along = dot(vector, other);
                vector.iter_mut().zip(other).for_each(|(value, part)| *value -= along * part);
            }
        }
        let left = dot(vector, vector).sqrt();
        let factor = if left > 1e-10 * length { 1.0 / left } else { 0.0 };
        vector.iter_mut().for_each(|value| *value *= factor);
    }
}

/// Eigenvalues, the largest first, and eigenvectors of the covariance as seen within the block: `rotation[k]` combines the
/// vectors to the k-th.
fn ritz(vectors: &[Vec<f64>], images: &[Vec<f64>]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = vectors.len();
    let entry = |i: usize, j: usize| 0.5 * (dot(&vectors[i], &images[j]) + dot(&vectors[j], &images[i]));
    let mut matrix: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| entry(i, j)).collect()).collect();
    let mut rotation: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    // Cyclic Jacobi: eight by eight is diagonal after a few sweeps.
    for _ in 0..30 {
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut matrix, &mut rotation, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| matrix[*b][*b].total_cmp(&matrix[*a][*a]));
    (order.iter().map(|k| matrix[*k][*k]).collect(), order.iter().map(|k| rotation[*k].clone()).collect())
}

/// Makes the entry (p, q) of a symmetric matrix nothing (Golub and Van Loan 2013, §8.5.2).
fn rotate(matrix: &mut [Vec<f64>], rotation: &mut [Vec<f64>], p: usize, q: usize) {
    let off = matrix[p][q];
    if off == 0.0 {
        return;
    }
    let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * off);
    let sign = if theta >= 0.0 { 1.0 } else { -1.0 };
    let t = sign / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cos = 1.0 / (t * t + 1.0).sqrt();
    let sin = t * cos;
    for row in matrix.iter_mut() {
        (row[p], row[q]) = (cos * row[p] - sin * row[q], sin * row[p] + cos * row[q]);
    }
    for k in 0..matrix.len() {
        let (upper, lower) = (matrix[p][k], matrix[q][k]);
        (matrix[p][k], matrix[q][k]) = (cos * upper - sin * lower, sin * upper + cos * lower);
        let (upper, lower) = (rotation[p][k], rotation[q][k]);
        (rotation[p][k], rotation[q][k]) = (cos * upper - sin * lower, sin * upper + cos * lower);
    }
}

fn rotated(vectors: &[Vec<f64>], rotation: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let combined = |weights: &Vec<f64>| {
        let mut sum = vec![0.0; vectors[0].len()];
        for (weight, vector) in weights.iter().zip(vectors) {
            sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += weight * value);
        }
        sum
    };
    rotation.iter().map(combined).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Address, Purpose, Stream};

    /// n rows of `width` numbers whose spread along axis k is `spread[k]`, each axis turned into a wave over the columns.
    fn rows(n: u32, width: usize, spread: &[f64]) -> Vec<f32> {
        let wave = |k: usize, i: usize| {
            let angle = std::f64::consts::PI * (i as f64 + 0.5) * (k + 1) as f64 / width as f64;
            (2.0 / width as f64).sqrt() * libm::cos(angle)
        };
        let row = |example: u32| {
            let mut stream = Stream::new(5, Address { example, ..Address::of(Purpose::BuiltinData) });
            let sizes: Vec<f64> = spread.iter().map(|spread| spread * (f64::from(stream.unit()) - 0.5)).collect();
            (0..width).map(|i| (0..sizes.len()).map(|k| sizes[k] * wave(k, i)).sum::<f64>() as f32 + 3.0).collect()
        };
        (0..n).flat_map(|example| -> Vec<f32> { row(example) }).collect()
    }

    #[test]
    fn directions_are_those_of_the_eigenvalue_problem() {
        let (n, width) = (300, 40);
        let features = rows(n, width, &[1.0, 3.0, 2.0, 0.5, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1]);
        let covariance = covariance(&centred(&features, width), width);
        let (vectors, variances) = leading(&covariance, width);
        for (vector, variance) in vectors.iter().zip(variances) {
            assert!((dot(vector, vector) - 1.0).abs() < 1e-12);
            let image = product(&covariance, vector);
            let residual: f64 = image.iter().zip(vector).map(|(a, b)| (a - variance * b).powi(2)).sum::<f64>().sqrt();
            assert!(residual < 1e-5 * variance, "{residual} of {variance}");
        }
        assert!(dot(&vectors[0], &vectors[1]).abs() < 1e-12);
        // The variance of a uniform number is a twelfth of its range's square; 300 of them miss it by a few per cent.
        assert!((variances[0] - 9.0 / 12.0).abs() < 0.1 && (variances[1] - 4.0 / 12.0).abs() < 0.05, "{variances:?}");
    }

    #[test]
    fn the_projection_has_the_variance_it_says() {
        let features = rows(200, 24, &[2.0, 1.0, 0.5]);
        let found = project(&features, 24).unwrap();
        let variance = |k: usize| found.points.iter().map(|point| point[k] * point[k]).sum::<f64>() / 199.0;
        let total: f64 = variance(0) / found.explained[0];
        assert!((variance(1) / total - found.explained[1]).abs() < 1e-9, "{:?}", found.explained);
        assert!(found.explained[0] > 0.7 && found.explained.iter().sum::<f64>() < 1.0, "{:?}", found.explained);
        assert_eq!(found, project(&features, 24).unwrap());
    }

    #[test]
    fn what_has_no_directions_has_no_map() {
        assert_eq!(project(&[], 4), None);
        assert_eq!(project(&[1.0, 2.0, 3.0], 3), None);
        assert_eq!(project(&[1.0, f32::NAN, 3.0, 4.0], 2), None);
        let equal = project(&[1.0; 12], 3).unwrap();
        assert_eq!((equal.points, equal.explained), (vec![[0.0, 0.0]; 4], [0.0, 0.0]));
        let line = project(&[0.0, 0.0, 1.0, 2.0, 2.0, 4.0], 2).unwrap();
        assert!((line.explained[0] - 1.0).abs() < 1e-12 && line.points[2][0] > line.points[0][0], "{line:?}");
        assert!(line.points.iter().all(|point| point[1].abs() < 1e-6));
    }
}
