//! Replicates in numbers: how they scatter, the interval their mean is believed to lie in, and whether two settings differ
//! by more than their seeds do.
//!
//! Everything here is a function of its arguments alone: sums run in the order of the values, resampling draws have
//! addresses (`crate::random`), and what is no polynomial comes from `libm`, so every machine prints the same digits.

pub mod bootstrap;
pub mod correction;
mod normal;
pub mod paired;
pub mod predictions;
pub mod sign_flip;
pub mod student;

/// The level below which a difference is usually called significant.
pub const LEVEL: f64 = 0.05;

/// What the seeds of one cell say together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    pub n: usize,
    pub mean: f64,
    /// Of the sample, with n − 1; absent for one value.
    pub std: Option<f64>,
    /// Of the mean; absent for one value.
    pub interval: Option<Interval>,
    pub min: f64,
    pub max: f64,
}

/// Where a mean is believed to lie: a 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
    pub method: IntervalMethod,
}

/// How an interval is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IntervalMethod {
    /// mean ± t(0.975; n − 1) · std/√n, for values that scatter normally: what a handful of seeds allows.
    #[default]
    StudentT,
    /// Bias-corrected and accelerated bootstrap of the mean (Efron 1987): no normal scatter assumed, but with a handful
    /// of seeds it is too narrow.
    BootstrapBca,
}

impl IntervalMethod {
    pub const ALL: [IntervalMethod; 2] = [IntervalMethod::StudentT, IntervalMethod::BootstrapBca];

    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            IntervalMethod::StudentT => "t",
            IntervalMethod::BootstrapBca => "bca",
        }
    }

    /// As a sentence names it.
    pub fn words(self) -> &'static str {
        match self {
            IntervalMethod::StudentT => "t",
            IntervalMethod::BootstrapBca => "BCa bootstrap",
        }
    }
}

impl Interval {
    /// Of the mean of `values`; absent below two values, and where they are not finite.
    pub fn of_mean(values: &[f64], method: IntervalMethod) -> Option<Interval> {
        let (low, high) = match method {
            IntervalMethod::StudentT => student::interval(values),
            IntervalMethod::BootstrapBca => bootstrap::interval(values),
        }?;
        Some(Interval { low, high, method })
    }

    /// Whether zero lies outside.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// Absent for no values. Sums run in the order of the values. A value that is not a number makes the mean and the spread
/// not a number and leaves no interval; `min` and `max` pass it over.
pub fn summarize(values: &[f64], method: IntervalMethod) -> Option<Summary> {
    let mean = mean(values)?;
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let interval = Interval::of_mean(values, method);
    Some(Summary { n: values.len(), mean, std: sample_std(values), interval, min, max })
}

/// Absent for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Standard deviation of the sample, with n − 1; absent below two values.
pub fn sample_std(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests;
