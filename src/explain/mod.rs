//! Why a stage is stored or not, told in the words of an experiment file: what differs from the nearest stored one,
//! what the missing ones will take, whose code computed the stored ones.

pub mod change;
pub mod code;
pub mod comparison;
pub mod cost;
#[cfg(test)]
mod cost_tests;
mod features;
pub mod index;
pub mod meaning;
pub mod nearest;
#[cfg(test)]
mod tests;
pub mod units;
pub mod verdict;

pub use crate::explain::change::{Change, changes};
pub use crate::explain::code::CodeCensus;
pub use crate::explain::comparison::Comparison;
pub use crate::explain::cost::Forecast;
pub use crate::explain::index::Index;
pub use crate::explain::meaning::{Meaning, StageKind};
pub use crate::explain::nearest::{Nearest, nearest};
pub use crate::explain::verdict::Verdict;
