//! Every operation of a Plan as plain f64 loops, maps stored n × channels × height × width.

use crate::model::plan::{Activation, Op, ParameterId, Plan, PoolKind, Shape, ValueId, Window};
use crate::model::window::output_side;

/// Sizes of a batch of maps.
#[derive(Debug, Clone, Copy)]
pub struct Maps {
    pub n: usize,
    pub channels: usize,
    pub side: usize,
}

impl Maps {
    pub fn len(self) -> usize {
        self.n * self.channels * self.side * self.side
    }

    fn at(self, image: usize, channel: usize, y: usize, x: usize) -> usize {
        ((image * self.channels + channel) * self.side + y) * self.side + x
    }
}

/// The inputs of a window along one axis: (tap, input coordinate), padding left out.
fn taps(window: Window, out: usize, side: usize) -> Vec<(usize, usize)> {
    let place = |tap: usize| (out * window.stride + tap).checked_sub(window.padding).map(|place| (tap, place));
    (0..window.kernel).filter_map(place).filter(|&(_, place)| place < side).collect()
}

fn over_windows(
    maps: Maps,
    channels: usize,
    window: Window,
    value: impl Fn(usize, usize, usize, usize) -> f64,
) -> Vec<f64> {
    let side = output_side(maps.side, window.kernel, window.stride, window.padding);
    let mut output = Vec::new();
    for image in 0..maps.n {
        for channel in 0..channels {
            for y in 0..side {
                output.extend((0..side).map(|x| value(image, channel, y, x)));
            }
        }
    }
    output
}

pub fn conv2d(input: &[f64], weight: &[f64], maps: Maps, filters: usize, window: Window) -> Vec<f64> {
    let kernel = window.kernel;
    over_windows(maps, filters, window, |image, filter, out_y, out_x| {
        let mut sum = 0.0;
        for channel in 0..maps.channels {
            for (tap_y, y) in taps(window, out_y, maps.side) {
                for (tap_x, x) in taps(window, out_x, maps.side) {
                    let tap = ((filter * maps.channels + channel) * kernel + tap_y) * kernel + tap_x;
                    sum += weight[tap] * input[maps.at(image, channel, y, x)];
                }
            }
        }
        sum
    })
}

pub fn pool2d(input: &[f64], maps: Maps, window: Window, kind: PoolKind) -> Vec<f64> {
    over_windows(maps, maps.channels, window, |image, channel, out_y, out_x| {
        let mut values = Vec::new();
        for (_, y) in taps(window, out_y, maps.side) {
            values.extend(taps(window, out_x, maps.side).iter().map(|&(_, x)| input[maps.at(image, channel, y, x)]));
        }
        match kind {
            PoolKind::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            PoolKind::Average => values.iter().sum::<f64>() / (window.kernel * window.kernel) as f64,
        }
    })
}

/// Mean and biased variance of every channel.
pub fn statistics(input: &[f64], maps: Maps) -> (Vec<f64>, Vec<f64>) {
    let area = maps.side * maps.side;
    let mean_of = |term: &dyn Fn(f64) -> f64, channel: usize| {
        let of_channel = |i: &usize| i / area % maps.channels == channel;
        (0..maps.len()).filter(of_channel).map(|i| term(input[i])).sum::<f64>() / (maps.n * area) as f64
    };
    let means: Vec<f64> = (0..maps.channels).map(|channel| mean_of(&|x| x, channel)).collect();
    let variances = (0..maps.channels).map(|channel| mean_of(&|x| (x - means[channel]).powi(2), channel)).collect();
    (means, variances)
}

pub fn normalise(
    input: &[f64],
    maps: Maps,
    (means, variances): &(Vec<f64>, Vec<f64>),
    affine: [&[f64]; 2],
) -> Vec<f64> {
    let [scale, shift] = affine;
    let value = |(i, x): (usize, &f64)| {
        let channel = i / (maps.side * maps.side) % maps.channels;
        scale[channel] * (x - means[channel]) / (variances[channel] + 1e-5).sqrt() + shift[channel]
    };
    input.iter().enumerate().map(value).collect()
}

pub fn linear(input: &[f64], weight: &[f64], bias: &[f64], in_width: usize) -> Vec<f64> {
    let row = |x: &[f64]| -> Vec<f64> {
        let dot = |w: &[f64]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        weight.chunks(in_width).zip(bias).map(|(w, bias)| dot(w) + bias).collect()
    };
    input.chunks(in_width).flat_map(row).collect()
}

pub fn global_average_pool(input: &[f64], maps: Maps) -> Vec<f64> {
    let area = maps.side * maps.side;
    input.chunks(area).map(|map| map.iter().sum::<f64>() / area as f64).collect()
}

pub fn activate(x: f64, activation: Activation) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
    }
}

/// Every value of a Plan in training mode, for one batch of n views.
pub fn run(plan: &Plan, parameters: &[f64], views: &[f64], n: usize) -> Vec<Vec<f64>> {
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); plan.values.len()];
    values[plan.input.0] = views.to_vec();
    let maps = |value: ValueId| match plan.shape(value) {
        Shape::Map { channels, height, width } => {
            assert_eq!(height, width);
            Maps { n, channels, side: height }
        }
        Shape::Vector { width } => Maps { n, channels: width, side: 1 },
    };
    let tensor = |id: ParameterId| &parameters[plan.parameters[id.0].range()];
    for op in &plan.ops {
        let read = |value: ValueId| &values[value.0][..];
        let result: Vec<f64> = match *op {
            Op::Conv2d { input, output, weight, window } => {
                conv2d(read(input), tensor(weight), maps(input), plan.shape(output).channels(), window)
            }
            Op::BatchNorm { input, residual, scale, shift, activation, .. } => {
                let statistics = statistics(read(input), maps(input));
                let normal = normalise(read(input), maps(input), &statistics, [tensor(scale), tensor(shift)]);
                let added = |(i, x): (usize, f64)| x + residual.map_or(0.0, |residual| read(residual)[i]);
                normal.into_iter().enumerate().map(added).map(|x| activate(x, activation)).collect()
            }
            Op::Activate { input, activation, .. } => read(input).iter().map(|&x| activate(x, activation)).collect(),
            Op::Add { left, right, .. } => read(left).iter().zip(read(right)).map(|(a, b)| a + b).collect(),
            Op::Pool2d { input, window, kind, .. } => pool2d(read(input), maps(input), window, kind),
            Op::GlobalAveragePool { input, .. } => global_average_pool(read(input), maps(input)),
            Op::Linear { input, output, weight, bias } => {
                let zeros = vec![0.0; plan.shape(output).len()];
                let bias = match bias {
                    Some(bias) => tensor(bias),
                    None => &zeros,
                };
                linear(read(input), tensor(weight), bias, plan.shape(input).len())
            }
        };
        assert_eq!(result.len(), n * plan.shape(op.output()).len(), "{op:?}");
        values[op.output().0] = result;
    }
    values
}
