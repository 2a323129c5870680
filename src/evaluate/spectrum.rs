//! Singular values of features, in f64 and in an order of operations that no thread changes.
//!
//! They are the roots of the eigenvalues of the smaller Gram matrix, so what is below about 1e-8 of the largest is noise; what
//! rounding alone may have made is 0. Householder's reduction to a tridiagonal matrix, then QL with implicit shifts (Golub and
//! Van Loan, Matrix Computations, sections 8.3.1 and 8.3.3).

use rayon::prelude::*;

use crate::device::Pool;
use crate::evaluate::Features;

/// Rows of the Gram matrix a task, so that features are read once for all of them.
const TASK_ROWS: usize = 16;
/// An eigenvalue takes two or three sweeps; so many say that the numbers were not finite.
const SWEEPS_MAX: usize = 100;

/// All min(n, width) singular values of the n × width matrix, the largest first. Features must be finite.
pub fn singular_values(features: &Features, pool: &Pool) -> Vec<f64> {
    let (n, width) = (features.len(), features.width);
    let vectors: Vec<f64> = if width <= n {
        features.values.iter().map(|&value| f64::from(value)).collect()
    } else {
        let column = |column: usize| (0..n).map(move |row| f64::from(features.values[row * width + column]));
        (0..width).flat_map(column).collect()
    };
    let order = n.min(width);
    let mut gram = pool.install(|| gram(&vectors, order));
    let mut eigenvalues = eigenvalues(&mut gram, order);
    eigenvalues.sort_by(|a, b| b.total_cmp(a));
    let noise = eigenvalues.first().map_or(0.0, |largest| largest * n.max(width) as f64 * f64::EPSILON);
    eigenvalues.into_iter().map(|value| if value > noise { value.sqrt() } else { 0.0 }).collect()
}

/// Σ over rows of xᵢ·xⱼ, each element in the rows' order.
fn gram(vectors: &[f64], order: usize) -> Vec<f64> {
    let mut gram = vec![0.0; order * order];
    gram.par_chunks_mut((TASK_ROWS * order).max(1)).enumerate().for_each(|(task, part)| {
        for vector in vectors.chunks_exact(order) {
            for (row, sums) in part.chunks_exact_mut(order).enumerate() {
                let factor = vector[task * TASK_ROWS + row];
                sums.iter_mut().zip(vector).for_each(|(sum, value)| *sum += factor * value);
            }
        }
    });
    gram
}

/// The eigenvalues of a symmetric matrix, which is overwritten, in no order.
fn eigenvalues(matrix: &mut [f64], order: usize) -> Vec<f64> {
    let (mut diagonal, mut beside) = tridiagonal(matrix, order);
    implicit_ql(&mut diagonal, &mut beside);
    diagonal
}

/// Householder: the diagonal, and behind it what stands beside, `beside[i]` between i and i + 1; the last is 0.
fn tridiagonal(matrix: &mut [f64], order: usize) -> (Vec<f64>, Vec<f64>) {
    let mut beside = vec![0.0; order];
    let (mut reflector, mut image) = (vec![0.0; order], vec![0.0; order]);
    for step in 0..order.saturating_sub(2) {
        let below = step + 1..order;
        let column: Vec<f64> = below.clone().map(|row| matrix[row * order + step]).collect();
        let norm = column.iter().map(|value| value * value).sum::<f64>().sqrt();
        let alpha = if column[0] > 0.0 { -norm } else { norm };
        beside[step] = alpha;
        let v = &mut reflector[..column.len()];
        v.copy_from_slice(&column);
        v[0] -= alpha;
        let square: f64 = v.iter().map(|value| value * value).sum();
        if square == 0.0 {
            continue;
        }
        let p = &mut image[..v.len()];
        for (row, p) in below.clone().zip(p.iter_mut()) {
            let row = &matrix[row * order + step + 1..(row + 1) * order];
            *p = 2.0 / square * row.iter().zip(v.iter()).map(|(a, v)| a * v).sum::<f64>();
        }
        let half = p.iter().zip(v.iter()).map(|(p, v)| p * v).sum::<f64>() / square;
        p.iter_mut().zip(v.iter()).for_each(|(p, v)| *p -= half * v);
        for (index, row) in below.enumerate() {
            let row = &mut matrix[row * order + step + 1..(row + 1) * order];
            let (v_row, p_row) = (v[index], p[index]);
            for ((a, v), p) in row.iter_mut().zip(v.iter()).zip(p.iter()) {
                *a -= v_row * p + p_row * v;
            }
        }
    }
    if order > 1 {
        beside[order - 2] = matrix[(order - 1) * order + order - 2];
    }
    ((0..order).map(|index| matrix[index * order + index]).collect(), beside)
}

/// QL with implicit shifts: `diagonal` becomes the eigenvalues.
fn implicit_ql(diagonal: &mut [f64], beside: &mut [f64]) {
    let order = diagonal.len();
    for first in 0..order {
        for _ in 0..SWEEPS_MAX {
            let is_small = |index: &usize| {
                let scale = diagonal[*index].abs() + diagonal[*index + 1].abs();
                beside[*index].abs() <= f64::EPSILON * scale
            };
            let last = (first..order - 1).find(is_small).unwrap_or(order - 1);
            if last == first {
                break;
            }
            sweep(diagonal, beside, first, last);
        }
    }
}

/// One QL sweep of the block first..=last.
fn sweep(diagonal: &mut [f64], beside: &mut [f64], first: usize, last: usize) {
    let slope = (diagonal[first + 1] - diagonal[first]) / (2.0 * beside[first]);
    let root = (slope * slope + 1.0).sqrt();
    let shift = diagonal[first] - beside[first] / (slope + if slope >= 0.0 { root } else { -root });
    let mut g = diagonal[last] - shift;
    let (mut sine, mut cosine, mut p) = (1.0, 1.0, 0.0);
    for index in (first..last).rev() {
        let f = sine * beside[index];
        let b = cosine * beside[index];
        let r = (f * f + g * g).sqrt();
        beside[index + 1] = r;
        if r == 0.0 {
            diagonal[index + 1] -= p;
            beside[last] = 0.0;
            return;
        }
        (sine, cosine) = (f / r, g / r);
        g = diagonal[index + 1] - p;
        let s = (diagonal[index] - g) * sine + 2.0 * cosine * b;
        p = sine * s;
        diagonal[index + 1] = g + p;
        g = cosine * s - b;
    }
    diagonal[first] -= p;
    beside[first] = g;
    beside[last] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::nt_xent::golden::values_f32;

    fn features(values: Vec<f32>, width: usize) -> Features {
        let n = values.len() / width;
        Features { values, width, labels: vec![0; n] }
    }

    #[track_caller]
    fn check(values: &[f32], width: usize, expected: &[f64]) {
        let found = singular_values(&features(values.to_vec(), width), &Pool::new(1));
        assert_eq!(found.len(), expected.len());
        for (found, wanted) in found.iter().zip(expected) {
            assert!((found - wanted).abs() <= 1e-12 * expected[0].max(1.0), "{found}, {wanted} wanted");
        }
    }

    #[test]
    fn small_matrices_by_hand() {
        check(&[3.0, 0.0, 0.0, 4.0], 2, &[4.0, 3.0]);
        check(&[3.0, 4.0], 2, &[5.0]);
        check(&[3.0, 4.0], 1, &[5.0]);
        check(&[1.0, 1.0, 1.0, 1.0], 2, &[2.0, 0.0]);
        // The golden ratio and its inverse.
        check(&[1.0, 1.0, 1.0, 0.0], 2, &[(1.0 + 5f64.sqrt()) / 2.0, (5f64.sqrt() - 1.0) / 2.0]);
        check(&[0.0; 6], 3, &[0.0, 0.0]);
        check(&[-7.0], 1, &[7.0]);
        let diagonal: Vec<f32> = (0..49).map(|i| if i % 8 == 0 { (i / 8 + 1) as f32 } else { 0.0 }).collect();
        check(&diagonal, 7, &[7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]);
    }

    /// Σσ² is the sum of squares and Σσ⁴ that of the Gram matrix, which no rotation changes; transposing changes nothing.
    #[test]
    fn invariants_of_random_matrices() {
        for (n, width) in [(50, 20), (20, 50), (33, 33), (200, 3)] {
            let values = values_f32(9, n * width, 1.0);
            let found = singular_values(&features(values.clone(), width), &Pool::new(2));
            assert!(found.is_sorted_by(|a, b| a >= b) && found.len() == n.min(width));
            let squares: f64 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let row = |i: usize| values[i * width..][..width].iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            let inner = |i: usize, j: usize| row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum::<f64>();
            let fourth: f64 = (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| inner(i, j).powi(2)).sum();
            let power = |p: i32| found.iter().map(|value| value.powi(p)).sum::<f64>();
            assert!((power(2) / squares - 1.0).abs() < 1e-12, "{n} × {width}");
            assert!((power(4) / fourth - 1.0).abs() < 1e-12, "{n} × {width}");
            let transposed = (0..width).flat_map(|j| (0..n).map(move |i| (i, j))).map(|(i, j)| values[i * width + j]);
            let other = singular_values(&features(transposed.collect(), n), &Pool::new(1));
            for (a, b) in found.iter().zip(&other) {
                assert!((a - b).abs() < 1e-12 * found[0]);
            }
        }
    }
}
