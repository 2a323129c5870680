//! The two directions along which features spread most, for a map of them.

use nalgebra::{DMatrix, SymmetricEigen};
use rayon::prelude::*;

/// Iterations a column, far beyond the two or three it takes.
const ITERATIONS_PER_COLUMN: usize = 100;

/// Points in two dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// One a row of the input, along the first and the second principal component.
    pub points: Vec<[f64; 2]>,
    /// Share of the whole variance along each of the two.
    pub explained: [f64; 2],
}

/// Principal components of `features`, n rows of `width`: eigenvectors of their covariance matrix (Jolliffe 2002, chapter 1) by
/// `nalgebra`. A direction's largest part is positive. Without its `std` the crate's arithmetic is plain Rust and `libm`, so this
/// is a function of the bits of its input alone, whatever computes it; a picture all the same, which no stored result reads.
/// None for fewer than two rows or columns, or where a number is not finite.
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
    let [first, second] = leading(covariance, width)?;
    let share = |variance: f64| if total > 0.0 { (variance / total).clamp(0.0, 1.0) } else { 0.0 };
    let points = centred.chunks(width).map(|row| [dot(row, &first.direction), dot(row, &second.direction)]).collect();
    Some(Projection { points, explained: [share(first.variance), share(second.variance)] })
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

struct Component {
    /// Of length 1.
    direction: Vec<f64>,
    variance: f64,
}

/// The two directions of most variance; none where they are not found, which no matrix of finite numbers is known for.
fn leading(covariance: Vec<f64>, width: usize) -> Option<[Component; 2]> {
    let matrix = DMatrix::from_vec(width, width, covariance);
    let found = SymmetricEigen::try_new(matrix, f64::EPSILON, ITERATIONS_PER_COLUMN * width)?;
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|a, b| found.eigenvalues[*b].total_cmp(&found.eigenvalues[*a]));
    let component = |index: usize| {
        let mut direction: Vec<f64> = found.eigenvectors.column(index).iter().copied().collect();
        face_forward(&mut direction);
        Component { direction, variance: found.eigenvalues[index] }
    };
    Some([component(order[0]), component(order[1])])
}

fn face_forward(direction: &mut [f64]) {
    let further = |largest: f64, value: f64| if value.abs() > largest.abs() { value } else { largest };
    if direction.iter().copied().fold(0.0, further) < 0.0 {
        direction.iter_mut().for_each(|value| *value = -*value);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
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
        let found = leading(covariance.clone(), width).unwrap();
        for Component { direction, variance } in &found {
            assert!((dot(direction, direction) - 1.0).abs() < 1e-12);
            let image: Vec<f64> = covariance.chunks(width).map(|row| dot(row, direction)).collect();
            let residual: f64 =
                image.iter().zip(direction).map(|(a, b)| (a - variance * b).powi(2)).sum::<f64>().sqrt();
            assert!(residual < 1e-12 * variance, "{residual} of {variance}");
        }
        let [first, second] = found;
        assert!(dot(&first.direction, &second.direction).abs() < 1e-12);
        // The variance of a uniform number is a twelfth of its range's square; 300 of them miss it by a few per cent.
        let (first, second) = (first.variance, second.variance);
        assert!((first - 9.0 / 12.0).abs() < 0.1 && (second - 4.0 / 12.0).abs() < 0.05, "{first}, {second}");
    }

    #[test]
    fn points_on_axes_by_hand() {
        let ends =
            [[0.0, 3.0, 0.0], [0.0, -3.0, 0.0], [0.5, 0.0, 0.0], [-0.5, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]];
        let found = project(&ends.concat(), 3).unwrap();
        let shares = [18.0 / 20.5, 2.0 / 20.5];
        assert!((0..2).all(|k| (found.explained[k] - shares[k]).abs() < 1e-12), "{:?}", found.explained);
        let expected = [[3.0, 0.0], [-3.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, -1.0]];
        for (point, wanted) in found.points.iter().zip(expected) {
            assert!((0..2).all(|k| (point[k] - wanted[k]).abs() < 1e-12), "{point:?}, {wanted:?} wanted");
        }
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
