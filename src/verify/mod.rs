//! Whether results come out again: which stored runs to compute anew, and how a stage computed again compares to its record.
//!
//! On a machine of the same class every bit must be the same. On another class the metrics must agree within a tolerance;
//! that the bits are others is told, not judged.

mod choice;
mod comparison;
#[cfg(test)]
mod tests;

pub use crate::verify::choice::{Choice, Chosen, Fraction, WrongFraction, choose};
pub use crate::verify::comparison::{Comparison, Difference, Value, Verdict, compare};
