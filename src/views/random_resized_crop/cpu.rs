//! Resampling with antialias (Pillow's `BILINEAR` and `BICUBIC`, torchvision's `antialias=True`): a triangle or Keys' cubic,
//! widened by the factor of the reduction; first along rows, then along columns. A cubic overshoots; it is clipped to [0, 1]
//! behind either, as Pillow's 8 bits are.

use crate::experiment::recipe::Filter;
use crate::views::map::{Map, Window};

/// The outputs wanted: `window` of the source resampled to `width` × `height`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resampled {
    pub width: usize,
    pub height: usize,
    pub window: Window,
    pub filter: Filter,
}

impl Resampled {
    /// All of the source, brought to side × side.
    pub fn to_square(side: usize, filter: Filter) -> Resampled {
        Resampled { width: side, height: side, window: Window::whole(side, side), filter }
    }
}

/// Half the width of a filter that enlarges, in inputs.
fn radius(filter: Filter) -> f32 {
    match filter {
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
    }
}

/// What an input weighs at a distance in inputs, 0 or more (Keys, "Cubic convolution interpolation", 1981, with a = −½).
fn weight(filter: Filter, distance: f32) -> f32 {
    match filter {
        Filter::Bilinear => (1.0 - distance).max(0.0),
        Filter::Bicubic if distance < 1.0 => (1.5 * distance - 2.5) * distance * distance + 1.0,
        Filter::Bicubic if distance < 2.0 => (((distance - 5.0) * distance + 8.0) * distance - 4.0) * -0.5,
        Filter::Bicubic => 0.0,
    }
}

fn clip(filter: Filter, values: &mut [f32]) {
    match filter {
        Filter::Bilinear => {}
        Filter::Bicubic => values.iter_mut().for_each(|value| *value = value.clamp(0.0, 1.0)),
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
    /// t = max(s, 1), output x is centred on c = (x + ½) s and input i weighs w(|i + ½ − c| / t), normalised, with
    /// w(d) = max(0, 1 − d) for the triangle.
    fn plan(&mut self, filter: Filter, length_in: usize, length_out: usize, first: usize, count: usize) {
        let scale = length_in as f32 / length_out as f32;
        let widening = scale.max(1.0);
        let support = widening * radius(filter);
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
            let weigh = |input: usize| {
                let distance = ((input as f32 - centre(output) + 0.5) / widening).abs();
                if inputs.contains(&input) { weight(filter, distance) } else { 0.0 }
            };
            let placed = self.weights.len();
            self.weights.extend((start..start + self.n).map(weigh));
            let sum: f32 = self.weights[placed..].iter().sum();
            self.weights[placed..].iter_mut().for_each(|weight| *weight /= sum);
            self.starts.push(start);
        }
    }

    /// One output row from one input row.
    fn along(&self, row: &[f32], out: &mut [f32]) {
        match self.n {
            2 => return self.along_fixed::<2>(row, out),
            4 => return self.along_fixed::<4>(row, out),
            _ => {}
        }
        for ((out, weights), &start) in out.iter_mut().zip(self.weights.chunks_exact(self.n)).zip(&self.starts) {
            let mut sum = 0.0;
            for (value, weight) in row[start..start + self.n].iter().zip(weights) {
                sum += value * weight;
            }
            *out = sum;
        }
    }

    /// The same with the number of taps known to the compiler: two or four whenever a crop is enlarged.
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
    let Resampled { width, height, window, filter } = wanted;
    target.reshape(window.width, window.height);
    memory.horizontal.plan(filter, source.width, width, window.left, window.width);
    memory.vertical.plan(filter, source.height, height, window.top, window.height);
    memory.rows.resize(3 * source.height * window.width, 0.0);
    let rows = source.values.chunks_exact(source.width).zip(memory.rows.chunks_exact_mut(window.width));
    rows.for_each(|(row, out)| memory.horizontal.along(row, out));
    clip(filter, &mut memory.rows);
    let planes = memory.rows.chunks_exact(source.height * window.width);
    for (plane, out) in planes.zip(target.values.chunks_exact_mut(window.height * window.width)) {
        memory.vertical.across(plane, window.width, out);
    }
    clip(filter, &mut target.values);
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
    let window = Window { top: margin(height), left: margin(width), height: side, width: side };
    Resampled { width, height, window, filter: Filter::Bilinear }
}
