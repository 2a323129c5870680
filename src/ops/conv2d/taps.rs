//! Which taps of a window fall inside the map, along one axis.

use std::ops::Range;

use crate::model::plan::Window;

/// Kernel positions inside the map and the first position of the map they touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taps {
    pub kernel: Range<usize>,
    /// Where the first of them lies in the other map; meaningless when there is none.
    pub first: usize,
}

impl Taps {
    /// Taps of output position `output` inside an input of `size`; consecutive taps touch consecutive inputs.
    pub fn of_output(output: usize, size: usize, window: Window) -> Taps {
        let origin = output * window.stride;
        let start = window.padding.saturating_sub(origin).min(window.kernel);
        let end = (size + window.padding).saturating_sub(origin).min(window.kernel).max(start);
        Taps { kernel: start..end, first: (origin + start).saturating_sub(window.padding) }
    }

    /// Outputs that input position `input` feeds, of `size`. Consecutive outputs are reached by taps `stride` apart,
    /// descending; `kernel` counts positions in `order` of the window.
    pub fn of_input(input: usize, size: usize, window: Window) -> Taps {
        let Window { kernel, stride, padding } = window;
        let residue = (input + padding) % stride;
        if residue >= kernel {
            return Taps { kernel: 0..0, first: 0 };
        }
        let newest = (input + padding) / stride;
        let n_class = (kernel - residue).div_ceil(stride);
        let oldest_step = newest.min(n_class - 1);
        let newest_step = (newest + 1).saturating_sub(size);
        if newest_step > oldest_step {
            return Taps { kernel: 0..0, first: 0 };
        }
        let class_start: usize = (0..residue).map(|r| (kernel - r).div_ceil(stride)).sum();
        let start = class_start + n_class - 1 - oldest_step;
        Taps { kernel: start..start + oldest_step - newest_step + 1, first: newest - oldest_step }
    }

    pub fn is_empty(&self) -> bool {
        self.kernel.is_empty()
    }
}

/// Kernel positions ordered by residue modulo the stride, descending within a residue: the order in which taps reach
/// consecutive outputs. `order(w).nth(i)` is the kernel position at place `i`.
pub fn order(window: Window) -> impl Iterator<Item = usize> {
    let Window { kernel, stride, .. } = window;
    (0..stride.min(kernel)).flat_map(move |residue| (residue..kernel).step_by(stride).rev())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both directions list exactly the pairs (input, output, tap) of the definition.
    fn check(size: usize, kernel: usize, stride: usize, padding: usize) {
        let window = Window { kernel, stride, padding };
        let n_outputs = (size + 2 * padding - kernel) / stride + 1;
        let mut expected = Vec::new();
        for output in 0..n_outputs {
            for tap in 0..kernel {
                if (padding..size + padding).contains(&(output * stride + tap)) {
                    expected.push((output * stride + tap - padding, output, tap));
                }
            }
        }
        let mut forward = Vec::new();
        for output in 0..n_outputs {
            let taps = Taps::of_output(output, size, window);
            forward.extend(taps.kernel.clone().map(|tap| (taps.first + tap - taps.kernel.start, output, tap)));
        }
        assert_eq!(forward, expected, "{size} {window:?}");
        let places: Vec<_> = order(window).collect();
        let mut backward = Vec::new();
        for input in 0..size {
            let taps = Taps::of_input(input, n_outputs, window);
            backward.extend(
                taps.kernel.clone().map(|place| (input, taps.first + place - taps.kernel.start, places[place])),
            );
        }
        expected.sort_unstable();
        backward.sort_unstable();
        assert_eq!(backward, expected, "{size} {window:?}");
    }

    #[test]
    fn taps_are_those_of_the_definition() {
        for size in 1..13 {
            for kernel in 1..8 {
                for stride in 1..4 {
                    for padding in 0..4 {
                        if size + 2 * padding >= kernel {
                            check(size, kernel, stride, padding);
                        }
                    }
                }
            }
        }
    }
}
