//! Mean over all positions: y[c] = Σ over h, w of x[h, w, c] / (H·W); dx[h, w, c] = dy[c] / (H·W).

pub mod cpu;
pub mod cuda;
#[cfg(test)]
mod cuda_tests;
#[cfg(test)]
mod tests;
