//! Bilinear resampling with antialias (Pillow's `BILINEAR`, torchvision's `antialias=True`): a triangle filter, widened by the
//! factor of the reduction; first along rows, then along columns.

use crate::views::map::{Map, Window};

/// The outputs wanted: `window` of the source resampled to `width` × `height`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampled {
    pub width: usize,
    pub height: usize,
    pub window: Window,
}

impl Resampled {
    /// All of the source, brought to side × side.
    pub fn to_square(side: usize) -> Resampled {
        Resampled { width: side, height: side, window: Window::whole(side, side) }
    }
}

/// Which inputs make an output along one axis.
#[derive(Debug, Default)]
struct Taps {
    /// Inputs an output, the same for all: windows at the edges are filled up with weights of 0.
    n: usize,
    /// First input of every output.
    starts: Vec<usize>,
    /// `n` an output; they add up to 1.
    weights: Vec<f32>,
}

/// Working memory.
#[derive(Debug, Default)]
pub struct Resampling {
    horizontal: Taps,
    vertical: Taps,
    /// 3 × source height × target width.
    rows: Vec<f32>,
}

impl Taps {
    /// Weights of outputs `first .. first + count` of `length_in` inputs resampled to `length_out`. With s = in / out and
    /// support max(s, 1), output x is centred on c = (x + ½) s and input i weighs max(0, 1 − |i + ½ − c| / support), normalised.
    fn plan(&mut self, length_in: usize, length_out: usize, first: usize, count: usize) {
        let scale = length_in as f32 / length_out as f32;
        let support = scale.max(1.0);
        let centre = |output: usize| (output as f32 + 0.5) * scale;
        let reach = |output: usize| {
            let start = (centre(output) - support + 0.5) as usize;
            let end = ((centre(output) + support + 0.5) as usize).min(length_in);
            start.min(end - 1)..end
        };
        self.n = (first..first + count).map(|output| reach(output).len()).max().unwrap_or(1);
        self.starts.clear();
        self.weights.clear();
        for output in first..first + count {
            let inputs = reach(output);
            let start = inputs.start.min(length_in - self.n);
            let weight = |input: usize| {
                let distance = ((input as f32 - centre(output) + 0.5) / support).abs();
                if inputs.contains(&input) { (1.0 - distance).max(0.0) } else { 0.0 }
            };
            let placed = self.weights.len();
            self.weights.extend((start..start + self.n).map(weight));
            let sum: f32 = self.weights[placed..].iter().sum();
            self.weights[placed..].iter_mut().for_each(|weight| *weight /= sum);
            self.starts.push(start);
        }
    }

    /// One output row from one input row.
    fn along(&self, row: &[f32], out: &mut [f32]) {
        if self.n == 2 {
            return self.along_fixed::<2>(row, out);
        }
        for ((out, weights), &start) in out.iter_mut().zip(self.weights.chunks_exact(self.n)).zip(&self.starts) {
            let mut sum = 0.0;
            for (value, weight) in row[start..start + self.n].iter().zip(weights) {
                sum += value * weight;
            }
            *out = sum;
        }
    }

    /// The same with the number of taps known to the compiler: two whenever a crop is enlarged.
    fn along_fixed<const N: usize>(&self, row: &[f32], out: &mut [f32]) {
        for ((out, weights), &start) in out.iter_mut().zip(self.weights.as_chunks::<N>().0).zip(&self.starts) {
            let mut sum = 0.0;
            for (value, weight) in row[start..start + N].iter().zip(weights) {
                sum += value * weight;
            }
            *out = sum;
        }
    }

    /// Rows of one plane blended to output rows, `width` values each.
    fn across(&self, plane: &[f32], width: usize, out: &mut [f32]) {
        let weights = self.weights.chunks_exact(self.n);
        for ((out, weights), &start) in out.chunks_exact_mut(width).zip(weights).zip(&self.starts) {
            let mut rows = plane[start * width..].chunks_exact(width).zip(weights);
            out.fill(0.0);
            for (row, &weight) in rows.by_ref() {
                for (out, value) in out.iter_mut().zip(row) {
                    *out += value * weight;
                }
            }
        }
    }
}

/// Fills `target` with the wanted window of the whole source, resampled.
pub fn resize(source: &Map, target: &mut Map, wanted: Resampled, memory: &mut Resampling) {
    let window = wanted.window;
    target.reshape(window.width, window.height);
    memory.horizontal.plan(source.width, wanted.width, window.left, window.width);
    memory.vertical.plan(source.height, wanted.height, window.top, window.height);
    memory.rows.resize(3 * source.height * window.width, 0.0);
    let rows = source.values.chunks_exact(source.width).zip(memory.rows.chunks_exact_mut(window.width));
    rows.for_each(|(row, out)| memory.horizontal.along(row, out));
    let planes = memory.rows.chunks_exact(source.height * window.width);
    for (plane, out) in planes.zip(target.values.chunks_exact_mut(window.height * window.width)) {
        memory.vertical.across(plane, window.width, out);
    }
}

/// The shorter side brought to `side`, the longer in proportion (rounded down), then the centre (torchvision's `Resize` and
/// `CenterCrop`; an odd margin is halved to the even neighbour).
pub fn fit(width: usize, height: usize, side: usize) -> Resampled {
    let shorter = width.min(height);
    let scaled = |length: usize| side * length / shorter;
    let margin = |length: usize| {
        let half = (length - side) / 2;
        half + ((length - side) % 2) * (half % 2)
    };
    let (width, height) = (scaled(width), scaled(height));
    Resampled { width, height, window: Window { top: margin(height), left: margin(width), height: side, width: side } }
}
