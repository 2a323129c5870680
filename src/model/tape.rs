//! What the modules record on: dfdx's tape over f32 on the processor.

use dfdx::tensor::{Cpu, OwnedTape, Tensor};

/// A tape that is recording.
pub type Recording = OwnedTape<f32, Cpu>;

/// n × width under a recording tape.
pub type Recorded = Tensor<(usize, usize), f32, Cpu, Recording>;

/// sum += term, for two buffers of one length.
pub(crate) fn add_onto(sum: &mut [f32], term: &[f32]) {
    assert_eq!(sum.len(), term.len(), "gradients of two shapes");
    for (sum, term) in sum.iter_mut().zip(term) {
        *sum += term;
    }
}
