//! Which way a metric gets better.

use crate::report::table::Unit;

/// Which of two values of a metric is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    HigherIsBetter,
    LowerIsBetter,
    /// Nothing says which.
    Unknown,
}

impl Direction {
    /// Losses fall; shares of what was told right rise. `metric` is `knn.top1`.
    pub fn of(metric: &str, unit: &Unit) -> Direction {
        let name = metric.rsplit('.').next().unwrap_or_default();
        if name.starts_with("loss") {
            return Direction::LowerIsBetter;
        }
        match unit {
            Unit::Fraction if name.starts_with("top") => Direction::HigherIsBetter,
            Unit::Fraction | Unit::Nats | Unit::Other(_) | Unit::Unknown => Direction::Unknown,
        }
    }

    /// The value turned so that the greater one is the better; absent where nothing says which is.
    pub fn goodness(self, value: f64) -> Option<f64> {
        match self {
            Direction::HigherIsBetter => Some(value),
            Direction::LowerIsBetter => Some(-value),
            Direction::Unknown => None,
        }
    }

    /// Above zero or below: `better`, or `higher` where nothing says more.
    pub fn comparative(self, difference: f64) -> &'static str {
        match (self, difference > 0.0) {
            (Direction::HigherIsBetter, true) | (Direction::LowerIsBetter, false) => "better",
            (Direction::HigherIsBetter, false) | (Direction::LowerIsBetter, true) => "worse",
            (Direction::Unknown, true) => "higher",
            (Direction::Unknown, false) => "lower",
        }
    }

    /// In a note.
    pub fn words(self) -> &'static str {
        match self {
            Direction::HigherIsBetter => "higher is better",
            Direction::LowerIsBetter => "lower is better",
            Direction::Unknown => "nothing says which way is better",
        }
    }
}
