mod edges_tests;

use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Address, Element, Gpu, loaded, stored};
use crate::experiment::recipe::BatchNormScope;
use crate::model::plan::{Activation, Shape};
use crate::ops::batch::Batch;
use crate::ops::batch_norm::cpu::{self, Affine, Derivative};
use crate::ops::batch_norm::cuda::{self, Backward, Norm, Parts, SOURCE};
use crate::ops::batch_norm::input_gradient::{self, InputGradient};
use crate::ops::batch_norm::partition::Partition;
use crate::ops::batch_norm::{EPSILON, Normalization, Statistics};
use crate::ops::kernels::Delivery;
use crate::random::{self, Purpose, Stream};

const HEIGHT: usize = 2;

fn draw(n: usize, salt: u32) -> Vec<f32> {
    let mut stream = Stream::new(7, random::Address { example: salt, ..random::Address::of(Purpose::View) });
    (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect()
}

/// Which places of `dx` and `d_residual` coincide with that of dy, and what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outlet {
    /// dx to a place of its own; the residual's not asked for.
    Apart,
    /// dx over dy, the residual's apart.
    InputOverDy,
    /// The residual's over dy, dx apart.
    ResidualOverDy,
    /// Both added to ones.
    Added,
    /// Both to one place: the input is the residual.
    Together,
    /// Only the gradients of scale and shift.
    ParametersOnly,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    norm: Norm,
    partition: Partition,
    has_residual: bool,
    outlet: Outlet,
    /// Numbers by which every map lies behind a multiple of 16 bytes.
    shifted: usize,
}

/// Numbers as the device stores them.
struct Inputs {
    x: Vec<f32>,
    residual: Vec<f32>,
    dy: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// The results, in one order: y, mean, inverse deviation, running mean, running variance, dscale, dshift, dx, dresidual.
type Results<T> = [Vec<T>; 9];
const NAMES: [&str; 9] = ["y", "mean", "inverse", "running mean", "running var", "dscale", "dshift", "dx", "dresidual"];

impl Case {
    fn new(images: usize, positions: usize, channels: usize, element: Element) -> Case {
        let norm = Norm { images, positions, channels, groups: 2, element, activation: Activation::Relu };
        let partition = Partition::cut(images / 2 * positions, 1, 64);
        Case { norm, partition, has_residual: false, outlet: Outlet::Apart, shifted: 0 }
    }

    fn len(&self) -> usize {
        self.norm.images * self.norm.positions * self.norm.channels
    }

    fn rows(&self) -> usize {
        self.norm.images * self.norm.positions / self.norm.groups
    }

    fn inputs(&self) -> Inputs {
        let Norm { channels, element, .. } = self.norm;
        let half = self.len() / 2;
        let kept = |values: Vec<f32>| loaded(&stored(&values, element), element);
        let x = draw(self.len(), 1).into_iter().enumerate();
        Inputs {
            // Views and channels differ, so that a wrong group or a careless variance shows.
            x: kept(x.map(|(at, x)| x + if at < half { 3.0 } else { -2.0 } + (at % channels % 5) as f32).collect()),
            residual: kept(draw(self.len(), 2)),
            dy: kept(draw(self.len(), 3)),
            scale: draw(channels, 4).iter().map(|scale| scale + 1.5).collect(),
            shift: draw(channels, 5),
        }
    }

    /// Everything on the emulated device.
    fn run(&self, inputs: &Inputs, order: Order) -> Results<f32> {
        let Norm { channels, element, .. } = self.norm;
        let mut gpu = Emulator::with(order, &[SOURCE], element);
        let pad = vec![0.0; self.shifted];
        let mut map = |values: &[f32]| {
            let address = gpu.place_stored(&[&pad[..], values].concat(), element);
            address.offset(self.shifted * element.bytes())
        };
        let [x, residual, dy] = [&inputs.x, &inputs.residual, &inputs.dy].map(|values| map(values));
        let ones = vec![1.0; self.len()];
        let [y, dx, d_residual] = [map(&ones), map(&ones), map(&ones)];
        let saved = vec![f32::NAN; self.norm.saved_len()];
        let mut flat = |values: &[f32]| gpu.place_f32(values);
        let parts = Parts {
            scale: flat(&inputs.scale),
            shift: flat(&inputs.shift),
            mean: flat(&saved),
            inverse_deviation: flat(&saved),
            scratch: flat(&vec![f32::NAN; self.norm.scratch_len_of(self.partition.parts)]),
        };
        let running = [flat(&vec![0.5; channels]), flat(&vec![2.0; channels])];
        let [d_scale, d_shift] = [flat(&vec![f32::NAN; channels]), flat(&vec![f32::NAN; channels])];
        let has_residual = self.has_residual;
        let places = [Some(x), has_residual.then_some(residual), Some(y)];
        let nodes = cuda::forward_in(self.partition, &self.norm, &parts, places, Some(running));
        gpu.run(&nodes).expect("forward");
        let (dx, d_residual) = match self.outlet {
            Outlet::Apart => (Delivery::Write(dx), Delivery::Skip),
            Outlet::InputOverDy => (Delivery::Write(dy), Delivery::Write(d_residual)),
            Outlet::ResidualOverDy => (Delivery::Write(dx), Delivery::Write(dy)),
            Outlet::Added => (Delivery::Accumulate(dx), Delivery::Accumulate(d_residual)),
            Outlet::Together => (Delivery::Accumulate(dx), Delivery::Write(dx)),
            Outlet::ParametersOnly => (Delivery::Skip, Delivery::Skip),
        };
        let when = |condition: bool, place: Address| if condition { place } else { Address::NONE };
        let backward = Backward {
            x,
            y: when(has_residual && self.norm.activation == Activation::Relu, y),
            residual: when(has_residual && self.norm.activation == Activation::Silu, residual),
            has_residual,
            dy,
            dx,
            d_residual,
            d_scale,
            d_shift,
        };
        gpu.run(&cuda::backward_in(self.partition, &self.norm, &parts, &backward)).expect("backward");
        let mut read = |place: Address, n: usize, element| match place {
            Address::NONE => Vec::new(),
            place => gpu.read(place, n, element),
        };
        [
            read(y, self.len(), element),
            read(parts.mean, self.norm.saved_len(), Element::F32),
            read(parts.inverse_deviation, self.norm.saved_len(), Element::F32),
            read(running[0], channels, Element::F32),
            read(running[1], channels, Element::F32),
            read(d_scale, channels, Element::F32),
            read(d_shift, channels, Element::F32),
            read(dx.address(), self.len(), element),
            read(d_residual.address(), self.len(), element),
        ]
    }

    /// The formulas in f64.
    fn expected(&self, inputs: &Inputs) -> Results<f64> {
        let (channels, groups, rows) = (self.norm.channels, self.norm.groups, self.rows());
        let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
        let [x, residual, dy] = [&inputs.x, &inputs.residual, &inputs.dy].map(|values| wide(values));
        let mut out: Results<f64> = Default::default();
        let before = if self.outlet == Outlet::Added { 1.0 } else { 0.0 };
        for (which, (len, value)) in [(x.len(), 0.0), (groups * channels, 0.0), (groups * channels, 0.0)]
            .into_iter()
            .chain([
                (channels, 0.5),
                (channels, 2.0),
                (channels, 0.0),
                (channels, 0.0),
                (x.len(), before),
                (x.len(), before),
            ])
            .enumerate()
        {
            out[which] = vec![value; len];
        }
        for column in 0..groups * channels {
            let (group, channel) = (column / channels, column % channels);
            let at = |row: usize| (group * rows + row) * channels + channel;
            let n = rows as f64;
            let mean = (0..rows).map(|row| x[at(row)]).sum::<f64>() / n;
            let var = (0..rows).map(|row| (x[at(row)] - mean).powi(2)).sum::<f64>() / n;
            let inverse = 1.0 / (var + EPSILON).sqrt();
            let (scale, shift) = (f64::from(inputs.scale[channel]), f64::from(inputs.shift[channel]));
            (out[1][column], out[2][column]) = (mean, inverse);
            out[3][channel] += 0.1 * (mean - out[3][channel]);
            out[4][channel] += 0.1 * (var * n / (n - 1.0).max(1.0) - out[4][channel]);
            let normal = |row: usize| (x[at(row)] - mean) * inverse;
            let mut dz = vec![0.0; rows];
            for (row, dz) in dz.iter_mut().enumerate() {
                let added = if self.has_residual { residual[at(row)] } else { 0.0 };
                let z = scale * normal(row) + shift + added;
                let sigmoid = 1.0 / (1.0 + (-z).exp());
                let (value, slope) = match self.norm.activation {
                    Activation::Identity => (z, 1.0),
                    Activation::Relu => (z.max(0.0), f64::from(z > 0.0)),
                    Activation::Silu => (z * sigmoid, sigmoid * (1.0 + z * (1.0 - sigmoid))),
                };
                out[0][at(row)] = value;
                *dz = dy[at(row)] * slope;
            }
            let (sum, product) =
                dz.iter().enumerate().fold((0.0, 0.0), |(s, p), (row, dz)| (s + dz, p + dz * normal(row)));
            out[5][channel] += product;
            out[6][channel] += sum;
            for (row, dz) in dz.iter().enumerate() {
                out[7][at(row)] += scale * inverse * (dz - sum / n - normal(row) * product / n);
                out[8][at(row)] += dz;
            }
        }
        let [.., dx, dz] = &mut out;
        match self.outlet {
            Outlet::InputOverDy | Outlet::ResidualOverDy | Outlet::Added => {}
            Outlet::Apart => dz.clear(),
            Outlet::ParametersOnly => {
                dx.clear();
                dz.clear();
            }
            Outlet::Together => {
                dx.iter_mut().zip(&*dz).for_each(|(dx, dz)| *dx += dz);
                dz.clone_from(dx);
            }
        }
        out
    }

    /// Against the formulas, and every order to the bit.
    fn check(&self) -> Results<f32> {
        let inputs = self.inputs();
        let results = self.run(&inputs, Order::FORWARD);
        for order in &Order::SEVERAL[1..] {
            assert_same_bits(&results, &self.run(&inputs, *order), &format!("{order:?} {self:?}"));
        }
        for ((name, got), expected) in NAMES.iter().zip(&results).zip(&self.expected(&inputs)) {
            let is_stored = ["y", "dx", "dresidual"].contains(name);
            // dz is stored before it is summed, so its rounding reaches the parameters' gradients.
            let is_summed = name.starts_with('d') && self.norm.activation == Activation::Silu;
            let tolerance = match self.norm.element {
                Element::Bf16 if is_stored || is_summed => 1.0 / 256.0,
                Element::F32 | Element::Bf16 if name.starts_with('d') || is_stored => 2e-6,
                Element::F32 | Element::Bf16 => 3e-7,
            };
            let error = relative(got, expected);
            assert!(error <= tolerance, "{name} is off by {error:e}: {self:?}");
        }
        results
    }
}

fn assert_same_bits(left: &Results<f32>, right: &Results<f32>, what: &str) {
    for (name, (left, right)) in NAMES.iter().zip(left.iter().zip(right)) {
        let same = left.len() == right.len() && left.iter().zip(right).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{name}: {what}");
    }
}

/// |got − expected| / |expected|, Euclidean norms.
fn relative(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let difference = got.iter().zip(expected).map(|(got, expected)| (f64::from(*got) - expected).powi(2)).sum::<f64>();
    let norm = expected.iter().map(|expected| expected * expected).sum::<f64>();
    if norm == 0.0 { difference.sqrt() } else { (difference / norm).sqrt() }
}

fn check_every_outlet(activation: Activation) {
    for (has_residual, outlet) in [
        (false, Outlet::Apart),
        (false, Outlet::ParametersOnly),
        (true, Outlet::InputOverDy),
        (true, Outlet::ResidualOverDy),
        (true, Outlet::Added),
        (true, Outlet::Together),
    ] {
        let mut case = Case::new(6, 6, 19, Element::F32);
        case.norm.activation = activation;
        (case.has_residual, case.outlet) = (has_residual, outlet);
        case.check();
    }
}

#[test]
fn no_activation() {
    check_every_outlet(Activation::Identity);
}

#[test]
fn relu() {
    check_every_outlet(Activation::Relu);
}

#[test]
fn silu() {
    check_every_outlet(Activation::Silu);
}

#[test]
fn bf16_is_rounded_once() {
    for activation in [Activation::Identity, Activation::Relu, Activation::Silu] {
        for (has_residual, outlet, channels) in
            [(false, Outlet::InputOverDy, 16), (true, Outlet::ResidualOverDy, 11), (true, Outlet::Added, 16)]
        {
            let mut case = Case::new(8, 6, channels, Element::Bf16);
            case.norm.activation = activation;
            (case.has_residual, case.outlet) = (has_residual, outlet);
            case.check();
        }
    }
}

/// Parts that do not divide the rows, merged by every block or folded before.
#[test]
fn parts_are_merged_here_or_folded_before() {
    for (folded, element) in [(false, Element::F32), (true, Element::F32), (true, Element::Bf16)] {
        let mut case = Case::new(6, 21, 8, element);
        case.partition = Partition { folded, ..Partition::cut(case.rows(), 6, 32) };
        (case.has_residual, case.outlet) = (true, Outlet::ResidualOverDy);
        case.check();
    }
}

/// More parts than a fold has slices, all images together.
#[test]
fn many_parts_in_one_group() {
    let mut case = Case::new(6, 12, 3, Element::F32);
    case.norm.groups = 1;
    case.partition = Partition { folded: true, ..Partition::cut(72, 36, 64) };
    assert_eq!(case.partition.parts, 36);
    case.check();
}

/// More than one tile of channels; a fold without a second pass behind it.
#[test]
fn tiles() {
    let mut case = Case::new(2, 35, 72, Element::F32);
    case.outlet = Outlet::ParametersOnly;
    case.check();
    case.outlet = Outlet::InputOverDy;
    case.check();
}

#[test]
fn a_place_between_16_bytes_gives_the_same_bits() {
    for element in [Element::F32, Element::Bf16] {
        let mut case = Case::new(6, 10, 24, element);
        case.outlet = Outlet::InputOverDy;
        let inputs = case.inputs();
        let aligned = case.run(&inputs, Order::FORWARD);
        case.shifted = 1;
        assert_same_bits(&aligned, &case.run(&inputs, Order::FORWARD), "scalar access");
    }
}

#[test]
fn vectors_in_the_default_cut() {
    let mut case = Case::new(520, 1, 12, Element::F32);
    case.partition = Partition::of(260, 2);
    assert_eq!(case.partition.parts, 3);
    case.check();
}
