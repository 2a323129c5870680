//! The typed layers against plain f64 loops, and what models are lowered to.

mod exact;
mod layers;
mod plans;
