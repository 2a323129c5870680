//! The searching part of an evaluation on a GPU; what is found is judged by the same code as on the processor.

pub mod nearest;
#[cfg(test)]
mod tests;
