//! Timing the deterministic ways to compute a convolution, once, for a lock.

use std::time::Instant;

use crate::device::cuda::CudaGpu;
use crate::device::cuda::convolutions::{Execution, Workspace};
use crate::device::cuda::driver::{Memory, Stream};
use crate::device::cuda::plan_lock::EngineChoice;
use crate::device::gpu::{Convolution, ConvolutionCall, GpuError, Pass, bf16_from_f32};

/// Ways that are timed for a pass, at most.
const CANDIDATES: usize = 16;
/// A way that needs more is not taken: a training's memory is reckoned without it.
const WORKSPACE_BYTES: usize = 256 << 20;
/// Numbers that are repeated over a place.
const PATTERN_BYTES: usize = 1 << 20;
/// Executions of one recording.
const REPEATS: u32 = 20;
/// Recordings' replays of which the fastest counts.
const ROUNDS: usize = 3;

impl CudaGpu {
    /// The fastest deterministic way to compute a pass. It takes the memory of the pass meanwhile, with numbers in it that
    /// are neither all alike nor large.
    ///
    /// # Errors
    /// `OutOfMemory`, `NoPlan` when no way runs, or what the device says.
    pub fn tune(&mut self, shape: &Convolution, pass: Pass) -> Result<EngineChoice, GpuError> {
        self.context.bind()?;
        let places = [x_len(shape), weight_len(shape), y_len(shape)].map(|n| self.filled(n * shape.element.bytes()));
        let [x, weight, y] = places;
        let (x, weight, y) = (x?, weight?, y?);
        let scratch = Memory::new(&self.context, WORKSPACE_BYTES)?;
        let call = ConvolutionCall { shape: *shape, pass, x: x.address(), weight: weight.address(), y: y.address() };
        let workspace = Workspace { address: scratch.address(), bytes: WORKSPACE_BYTES };
        let stream = &self.streams.main;
        let mut time = |execution: &Execution<'_>| microseconds(stream, execution);
        let tuned = self.convolutions.tune(&call, CANDIDATES, workspace, stream.handle(), &mut time);
        // Nothing may still be using the places when they are freed.
        stream.synchronize()?;
        tuned
    }

    /// Memory full of bf16 numbers between -1 and 1; read as f32 they are that too.
    fn filled(&self, bytes: usize) -> Result<Memory, GpuError> {
        let memory = Memory::new(&self.context, bytes)?;
        let (place, stream) = (memory.address(), &self.streams.main);
        let numbers = numbers(bytes.min(PATTERN_BYTES));
        stream.upload(place, &numbers)?;
        let mut full = numbers.len();
        while full < bytes {
            let more = full.min(bytes - full);
            stream.copy(place, place.offset(full), more)?;
            full += more;
        }
        Ok(memory)
    }
}

/// An even number of bytes of bf16 numbers.
fn numbers(bytes: usize) -> Vec<u8> {
    let number = |index: usize| ((index.wrapping_mul(2_654_435_761) >> 8) & 0xffff) as f32 / 32768.0 - 1.0;
    (0..bytes / 2).flat_map(|index| bf16_from_f32(number(index)).to_le_bytes()).collect()
}

fn x_len(shape: &Convolution) -> usize {
    shape.images * shape.height * shape.width * shape.inputs
}

fn weight_len(shape: &Convolution) -> usize {
    shape.outputs * shape.kernel * shape.kernel * shape.inputs
}

fn y_len(shape: &Convolution) -> usize {
    shape.images * shape.out_height() * shape.out_width() * shape.outputs
}

/// How long one execution takes within a recording, as in a training's step: what the host does for each is not in it. A
/// way that cannot be recorded fails here, as it would there.
fn microseconds(stream: &Stream, execution: &Execution<'_>) -> Result<f64, GpuError> {
    // What the library loads late is there behind this.
    execution()?;
    stream.synchronize()?;
    stream.begin_recording()?;
    let done = (0..REPEATS).try_for_each(|_| execution());
    // The recording must end even where something failed, which then is what is told.
    let recording = stream.end_recording();
    done?;
    let recording = recording?;
    let replay = || {
        let began = Instant::now();
        stream.replay(&recording)?;
        stream.synchronize()?;
        Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(REPEATS))
    };
    replay()?;
    (0..ROUNDS).try_fold(f64::INFINITY, |fastest, _| Ok(fastest.min(replay()?)))
}

#[cfg(test)]
mod tests {
    use super::{numbers, weight_len, x_len, y_len};
    use crate::device::gpu::{Convolution, Element, loaded};

    #[test]
    fn the_numbers_are_small_and_differ_in_both_ways_to_read_them() {
        for element in [Element::Bf16, Element::F32] {
            let mut found = loaded(&numbers(4096), element);
            let n = found.len();
            assert!(found.iter().all(|value| value.abs() <= 1.01), "{element:?}");
            let mean = found.iter().sum::<f32>() / n as f32;
            assert!(mean.abs() < 0.05, "{element:?} {mean}");
            found.sort_by(f32::total_cmp);
            found.dedup();
            assert!(found.len() > n / 4, "{element:?}: {} different ones of {n}", found.len());
        }
    }

    #[test]
    fn places_are_as_large_as_the_tensors() {
        let element = Element::Bf16;
        let shape = Convolution {
            images: 6,
            height: 9,
            width: 7,
            inputs: 8,
            outputs: 16,
            kernel: 3,
            stride: 2,
            padding: 1,
            element,
        };
        assert_eq!([x_len(&shape), weight_len(&shape), y_len(&shape)], [6 * 9 * 7 * 8, 16 * 9 * 8, 6 * 5 * 4 * 16]);
    }
}
