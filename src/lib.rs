//! `ablate`: a declarative, reproducible runner for SimCLR ablations.

pub mod content;
pub mod data;
pub mod device;
pub mod experiment;
pub mod model;
pub mod random;
pub mod record;
