//! Whether a representation uses the space it has.
//!
//! | metric | of | |
//! |---|---|---|
//! | `rankme` | images without augmentation | exp(−Σ pₖ ln pₖ), pₖ = σₖ/Σσ + 1e-7 over the min(n, width) singular values of the features as they are (Garrido et al. 2023, equation 1): 1 where all lie on a line, at most their number |
//! | `feature_std` | the same | √width times the mean over columns of the standard deviation (over n) of normalised features (Chen and He 2021, figure 2): 1 where spread evenly over the sphere, 0 where all are equal |
//! | `alignment` | two augmented views an image | mean ‖f(x) − f(x′)‖² of normalised features (Wang and Isola 2020): 0 where views always agree |
//! | `uniformity` | the same | ln mean exp(−2‖f(xᵢ) − f(xⱼ)‖²) over pairs i < j of first views, and of second ones; the mean of both (Wang and Isola 2020): 0 where all are equal, lower when spread |
//! | `collapsed` | | 1 where `rankme` or `feature_std` is below its limit, else 0 |

use rayon::prelude::*;

use crate::device::Pool;
use crate::evaluate::answer::{Answer, AnswerError, metric};
use crate::evaluate::asking::Asking;
use crate::evaluate::spectrum::singular_values;
use crate::evaluate::{EvaluateError, Features, Part, check_numbers};
use crate::experiment::recipe;
use crate::ops::gemm::{Matrix, product};
use crate::ops::nt_xent::{dot, normalize, squared_distance};
use crate::views::{Pipeline, view};

/// Added to every share of the singular values, so that none has an infinite logarithm (RankMe's).
const RANKME_EPSILON: f64 = 1e-7;
/// Rows of a tile of inner products.
const TILE: usize = 256;

/// What was measured of a representation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Health {
    pub rankme: f64,
    pub feature_std: f64,
    pub alignment: f64,
    pub uniformity: f64,
}

/// Measures the images asked about; none when asked to leave.
///
/// # Errors
/// The executor's, and features that are not finite.
pub fn asked(asking: &mut Asking, limits: &recipe::Health, plain: &Features) -> Result<Option<Answer>, AnswerError> {
    let (run, test) = (asking.run, &asking.dataset.test);
    let all: Vec<u32> = (0..test.labels.len() as u32).collect();
    let pipeline = Pipeline::new(&run.views, run.model.side as usize, run.seed);
    let mut of_view = |view: u8| asking.of_views(test, &all, &pipeline, (0, view));
    let [first, second] = view::HEALTH;
    let (Some(first), Some(second)) = (of_view(first)?, of_view(second)?) else { return Ok(None) };
    let health = measure(plain, &[first, second], asking.pool)?;
    let notes = health.alarms(limits);
    let collapsed = if notes.is_empty() { 0.0 } else { 1.0 };
    let Health { rankme, feature_std, alignment, uniformity } = health;
    let metrics = [
        ("rankme", rankme, "1"),
        ("feature_std", feature_std, "1"),
        ("alignment", alignment, "1"),
        ("uniformity", uniformity, "nats"),
        ("collapsed", collapsed, "fraction"),
    ];
    let metrics = metrics.map(|(name, value, unit)| metric(name, value, unit)).to_vec();
    Ok(Some(asking.answer(metrics, notes)))
}

/// Measures features of images without augmentation, and of two augmented views of the same images.
///
/// # Errors
/// Features that are not there, not finite or do not fit each other.
pub fn measure(plain: &Features, views: &[Features; 2], pool: &Pool) -> Result<Health, EvaluateError> {
    for features in [plain, &views[0], &views[1]] {
        check_numbers(Part::Queries, features)?;
    }
    if let Some(other) = views.iter().find(|view| (view.len(), view.width) != (plain.len(), plain.width)) {
        return Err(EvaluateError::Width { bank: plain.width, queries: other.width });
    }
    let units = [plain, &views[0], &views[1]].map(unit);
    let [plain_units, first, second] = &units;
    let n = plain.len();
    let distances = first.chunks(plain.width).zip(second.chunks(plain.width));
    let distances: f64 = distances.map(|(first, second)| squared_distance(first, second)).sum();
    Ok(Health {
        rankme: rankme(&singular_values(plain, pool)),
        feature_std: feature_std(plain_units, plain.width),
        alignment: distances / n as f64,
        uniformity: pool.install(|| (uniformity(first, plain.width) + uniformity(second, plain.width)) / 2.0),
    })
}

impl Health {
    /// What is below its limit, in words; empty for features in good health.
    pub fn alarms(&self, limits: &recipe::Health) -> Vec<String> {
        let pairs = [
            ("RankMe", self.rankme, limits.rankme_min),
            ("the standard deviation of features", self.feature_std, limits.feature_std_min),
        ];
        let below = pairs.into_iter().filter(|(_, found, limit)| found < limit);
        below.map(|(name, found, limit)| format!("collapsed: {name} is {found:.4}, below {limit}")).collect()
    }
}

fn unit(features: &Features) -> Vec<f32> {
    let mut units = vec![0.0; features.values.len()];
    let rows = features.values.chunks_exact(features.width).zip(units.chunks_exact_mut(features.width));
    rows.for_each(|(row, unit)| {
        normalize(row, unit);
    });
    units
}

fn rankme(singular_values: &[f64]) -> f64 {
    let total: f64 = singular_values.iter().sum();
    // Features that are all 0 span nothing.
    if total == 0.0 {
        return 1.0;
    }
    let entropy: f64 = singular_values
        .iter()
        .map(|value| {
            let share = value / total + RANKME_EPSILON;
            -share * libm::log(share)
        })
        .sum();
    libm::exp(entropy)
}

fn feature_std(units: &[f32], width: usize) -> f64 {
    let n = (units.len() / width) as f64;
    let of_column = |column: usize| {
        let values = || units.iter().skip(column).step_by(width).map(|&value| f64::from(value));
        let mean = values().sum::<f64>() / n;
        (values().map(|value| (value - mean) * (value - mean)).sum::<f64>() / n).sqrt()
    };
    (width as f64).sqrt() * (0..width).map(of_column).sum::<f64>() / width as f64
}

/// 0 for a single image, which has no pair.
fn uniformity(units: &[f32], width: usize) -> f64 {
    let n = units.len() / width;
    if n < 2 {
        return 0.0;
    }
    let squares: Vec<f64> = units.chunks_exact(width).map(|row| dot(row, row)).collect();
    let rows = |start: usize, n: usize| Matrix::dense(&units[start * width..(start + n) * width], n, width);
    let of_block = |first: usize| {
        let n_rows = TILE.min(n - first);
        let mut tile = vec![0.0f32; n_rows * TILE];
        let mut sum = 0.0;
        for start in (first..n).step_by(TILE) {
            let n_columns = TILE.min(n - start);
            let tile = &mut tile[..n_rows * n_columns];
            product(rows(first, n_rows), rows(start, n_columns).transposed(), tile);
            for (row, products) in (first..).zip(tile.chunks_exact(n_columns)) {
                let later = (start..).zip(products).filter(|(column, _)| *column > row);
                sum += later
                    .map(|(column, &product)| {
                        libm::exp(-2.0 * (squares[row] + squares[column] - 2.0 * f64::from(product)))
                    })
                    .sum::<f64>();
            }
        }
        sum
    };
    let firsts: Vec<usize> = (0..n).step_by(TILE).collect();
    let sums: Vec<f64> = firsts.into_par_iter().map(of_block).collect();
    libm::log(sums.into_iter().sum::<f64>() / (n as f64 * (n - 1) as f64 / 2.0))
}

#[cfg(test)]
mod tests;
