//! What an encoder's frozen features are good for: k-nearest-neighbour vote and linear probe, and what can be said of them
//! without labels. Fine-tuning alone trains the encoder on, a copy of it.

pub mod answer;
mod asking;
pub mod cuda;
pub mod features;
pub mod few_labels;
mod fine_tune;
pub mod head;
pub mod health;
pub mod linear_probe;
pub mod nearest_neighbours;
pub mod neighbour;
mod probing;
mod ranking;
pub mod robustness;
pub mod spectrum;

#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod cuda_tests;
#[cfg(test)]
mod tests;

use crate::device::Pool;
use crate::device::gpu::GpuError;
use crate::evaluate::cuda::{DeviceEvaluations, nearest};
use crate::experiment::recipe::Classification;

pub use asking::evaluated;
pub use ranking::Ranking;

/// Features of labelled images, row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// n × width.
    pub values: Vec<f32>,
    pub width: usize,
    /// The class of every row.
    pub labels: Vec<u32>,
}

impl Features {
    /// Rows.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// How many queries were told right.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Share of queries whose label came first.
    pub top1: f64,
    /// Share of queries whose label was among the first min(5, classes).
    pub top5: f64,
    /// `top1` among the queries of every class; 0 for a class nobody asked about.
    pub per_class_top1: Vec<f64>,
    /// The first class of every query.
    pub predictions: Vec<u16>,
    /// The class every query is of.
    pub labels: Vec<u16>,
}

/// Which of the two sets of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Bank,
    Queries,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Part::Bank => "bank",
            Part::Queries => "queries",
        })
    }
}

/// Why there is no outcome: features that cannot be evaluated, a probe that diverged, a device that failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvaluateError {
    #[error("no features in the {part}: an evaluation needs at least one image in the bank and one query")]
    Empty { part: Part },
    #[error("feature {column} of image {row} of the {part} is {value}: the encoder gave numbers that are not finite")]
    NotFinite { part: Part, row: usize, column: usize, value: f32 },
    #[error("{found} numbers in the {part}, {expected} expected for {n} images of {width} features")]
    Length { part: Part, n: usize, width: usize, expected: usize, found: usize },
    #[error("the bank's features are {bank} wide and the queries' {queries}: both must come from the same encoder")]
    Width { bank: usize, queries: usize },
    #[error("image {row} of the {part} has label {label}, but there are only {n_classes} classes")]
    Label { part: Part, row: usize, label: u32, n_classes: u32 },
    #[error("the linear probe diverged: lower its `learning_rate`, which was {learning_rate} for a batch of 256")]
    Diverged { learning_rate: f64 },
    #[error(
        "fine-tuning diverged at step {step}: lower its `learning_rate`, which was {learning_rate} for a batch of 256"
    )]
    TuningDiverged { step: u64, learning_rate: f64 },
    #[error("{n_classes} classes: an evaluation takes 1 to 65536")]
    Classes { n_classes: u32 },
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// Learns from `bank` and asks about `queries`: on the device, where there is one, and else on the processor. More
/// neighbours than a device keeps are looked for on the processor.
///
/// # Errors
/// Where features are not finite or do not fit each other or the classes, where the probe diverges, and where the device
/// fails or has too little memory.
pub fn evaluate(
    classification: &Classification,
    bank: &Features,
    queries: &Features,
    n_classes: u32,
    pool: &Pool,
    device: Option<DeviceEvaluations<'_>>,
) -> Result<Outcome, EvaluateError> {
    check_pair(bank, queries, n_classes)?;
    let n_classes = n_classes as usize;
    let rankings = match (classification, device) {
        (Classification::Knn(knn), Some(device))
            if nearest_neighbours::n_neighbours(knn, bank) <= nearest::NEIGHBOURS_MAX =>
        {
            let gpu = device.with(nearest::SOURCE)?;
            nearest_neighbours::classify_on_device(gpu, bank, queries, n_classes, knn, pool)?
        }
        (Classification::Knn(knn), _) => nearest_neighbours::classify(bank, queries, n_classes, knn, pool),
        (Classification::LinearProbe(probe), Some(device)) => {
            let gpu = device.with(linear_probe::cuda::SOURCE)?;
            linear_probe::cuda::classify(gpu, bank, queries, n_classes, probe, pool)?
        }
        (Classification::LinearProbe(probe), None) => linear_probe::classify(bank, queries, n_classes, probe, pool)?,
    };
    Ok(outcome(&rankings, &queries.labels, n_classes))
}

/// What can be learned from and asked about.
fn check_pair(bank: &Features, queries: &Features, n_classes: u32) -> Result<(), EvaluateError> {
    if n_classes == 0 || n_classes > 1 << 16 {
        return Err(EvaluateError::Classes { n_classes });
    }
    check(Part::Bank, bank, n_classes)?;
    check(Part::Queries, queries, n_classes)?;
    check_widths(bank, queries)
}

fn check_widths(bank: &Features, queries: &Features) -> Result<(), EvaluateError> {
    if bank.width != queries.width {
        return Err(EvaluateError::Width { bank: bank.width, queries: queries.width });
    }
    Ok(())
}

fn check(part: Part, features: &Features, n_classes: u32) -> Result<(), EvaluateError> {
    check_numbers(part, features)?;
    match features.labels.iter().position(|&label| label >= n_classes) {
        Some(row) => Err(EvaluateError::Label { part, row, label: features.labels[row], n_classes }),
        None => Ok(()),
    }
}

fn check_numbers(part: Part, features: &Features) -> Result<(), EvaluateError> {
    let (n, width) = (features.len(), features.width);
    if n == 0 || width == 0 {
        return Err(EvaluateError::Empty { part });
    }
    let (expected, found) = (n * width, features.values.len());
    if expected != found {
        return Err(EvaluateError::Length { part, n, width, expected, found });
    }
    if let Some(index) = features.values.iter().position(|value| !value.is_finite()) {
        let (row, column) = (index / width, index % width);
        return Err(EvaluateError::NotFinite { part, row, column, value: features.values[index] });
    }
    Ok(())
}

fn outcome(rankings: &[Ranking], labels: &[u32], n_classes: usize) -> Outcome {
    let (mut n_right, mut n_of_class) = (vec![0u32; n_classes], vec![0u32; n_classes]);
    let mut n_among_five = 0u32;
    for (ranking, &label) in rankings.iter().zip(labels) {
        n_of_class[label as usize] += 1;
        n_right[label as usize] += u32::from(u32::from(ranking.first()) == label);
        n_among_five += u32::from(ranking.classes().iter().any(|&class| u32::from(class) == label));
    }
    let share = |part: u32, whole: u32| if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) };
    let n = labels.len() as u32;
    Outcome {
        top1: share(n_right.iter().sum(), n),
        top5: share(n_among_five, n),
        per_class_top1: n_right.iter().zip(&n_of_class).map(|(&right, &all)| share(right, all)).collect(),
        predictions: rankings.iter().map(Ranking::first).collect(),
        // There are no more classes than fit.
        labels: labels.iter().map(|&label| label as u16).collect(),
    }
}
