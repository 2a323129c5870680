//! The models: dfdx types whose shapes the compiler checks, and the Plan they are lowered to.

pub mod plan;
