use super::cuda::{self, Layer, sizes};
use super::small_maps::{Way, way};
use super::*;
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Address, Element, Gpu, Node, bytes_of_f32, loaded, stored};
use crate::model::plan::{Op, Parameter, ParameterId, ParameterKind, Plan, Shape, ValueId};
use crate::ops::compute_weights::{self, Layout, to_device_order, to_torch_order};
use crate::ops::kernels::Delivery;
use crate::random::{self, Purpose, Stream};

/// Stands wherever nothing may be read: in the padding of x.
const JUNK: f32 = 7.0;

#[derive(Debug, Clone, Copy)]
struct Case {
    images: usize,
    input: Shape,
    outputs: usize,
    window: Window,
}

fn case(images: usize, side: (usize, usize), channels: (usize, usize), window: (usize, usize, usize)) -> Case {
    let (kernel, stride, padding) = window;
    let input = Shape::Map { channels: channels.0, height: side.0, width: side.1 };
    Case { images, input, outputs: channels.1, window: Window { kernel, stride, padding } }
}

impl Case {
    fn plan(&self) -> Plan {
        let Window { kernel, .. } = self.window;
        let weight = Parameter {
            name: "weight".to_owned(),
            shape: vec![self.outputs, self.input.channels(), kernel, kernel],
            offset: 4,
            kind: ParameterKind::ConvWeight,
        };
        let unused = Parameter { name: "scale".to_owned(), shape: vec![4], offset: 0, kind: ParameterKind::NormScale };
        let output = self.cpu().output;
        let op = Op::Conv2d { input: ValueId(0), output: ValueId(1), weight: ParameterId(1), window: self.window };
        let y = Shape::Map { channels: output.channels, height: output.height, width: output.width };
        Plan {
            values: vec![self.input, y],
            ops: vec![op],
            parameters: vec![unused, weight],
            buffers: vec![],
            input: ValueId(0),
            features: ValueId(1),
            projection: ValueId(1),
        }
    }

    fn cpu(&self) -> Convolution {
        let shape = sizes(self.input, self.window, self.outputs, self.images, Element::F32);
        let y = Shape::Map { channels: self.outputs, height: shape.out_height(), width: shape.out_width() };
        let input = Batch::new(self.input, self.images, 1);
        Convolution { input, output: Batch::new(y, self.images, 1), window: self.window }
    }

    fn weight_len(&self) -> usize {
        self.cpu().weight_len()
    }
}

fn draw(n: usize, salt: u32, element: Element) -> Vec<f32> {
    let mut stream = Stream::new(9, random::Address { example: salt, ..random::Address::of(Purpose::View) });
    let values: Vec<f32> = (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect();
    loaded(&stored(&values, element), element)
}

/// What both sides compute, images × height × width × channels without padding; dw in torch's order.
struct Outcome {
    y: Vec<f32>,
    dx: Vec<f32>,
    dx_added: Vec<f32>,
    dw: Vec<f32>,
}

/// Values that both sides begin with.
struct Start {
    x: Vec<f32>,
    torch_weight: Vec<f32>,
    dy: Vec<f32>,
    before: Vec<f32>,
}

fn start(case: &Case, element: Element) -> Start {
    let Convolution { input, output, .. } = case.cpu();
    Start {
        x: draw(input.len(), 1, element),
        torch_weight: draw(case.weight_len(), 2, element),
        dy: draw(output.len(), 3, element),
        before: draw(input.len(), 4, element),
    }
}

fn to_images(batch: &Batch, rows: &[f32]) -> Vec<f32> {
    let row_len = batch.row_len();
    let row = |at: usize| (at % batch.height * batch.images + at / batch.height) * row_len;
    (0..batch.images * batch.height).flat_map(|at| rows[row(at)..row(at) + row_len].to_vec()).collect()
}

fn on_processor(case: &Case, start: &Start) -> Outcome {
    let convolution = case.cpu();
    let Convolution { input, output, window } = convolution;
    let by_rows = |batch: &Batch, images: &[f32]| {
        let mut rows = vec![0.0; images.len()];
        batch.from_images(images, &mut rows);
        rows
    };
    let (x, dy) = (by_rows(&input, &start.x), by_rows(&output, &start.dy));
    let mut weight = vec![0.0; case.weight_len()];
    from_torch(window.kernel, input.channels, output.channels, &start.torch_weight, &mut weight);
    let mut y = vec![0.0; output.len()];
    let (mut dx, mut dw) = (vec![0.0; input.len()], vec![0.0; weight.len()]);
    let mut scratch = vec![f32::NAN; cpu::scratch_len(&convolution)];
    let nothing = &mut vec![(); output.n_blocks()];
    cpu::forward(&convolution, &x, &weight, &mut scratch, &mut y, nothing, |_, _| ());
    cpu::backward_input(&convolution, &dy, &weight, &mut scratch, &mut dx, false);
    weight_gradient::backward_weight(&convolution, &x, &dy, &mut scratch, &mut dw);
    let mut torch_dw = vec![0.0; weight.len()];
    to_torch(window.kernel, input.channels, output.channels, &dw, &mut torch_dw);
    let dx = to_images(&input, &dx);
    let dx_added = dx.iter().zip(&start.before).map(|(dx, before)| dx + before).collect();
    Outcome { y: to_images(&output, &y), dx, dx_added, dw: torch_dw }
}

fn padded(values: &[f32], channels: usize, filler: f32) -> Vec<f32> {
    let width = channels.next_multiple_of(8);
    values.chunks_exact(channels).flat_map(|v| v.iter().copied().chain((channels..width).map(|_| filler))).collect()
}

/// Without the padding, in which there must be zeros.
fn unpadded(values: &[f32], channels: usize) -> Vec<f32> {
    let pixel = |pixel: &[f32]| {
        assert!(pixel[channels..].iter().all(|value| *value == 0.0), "a gradient in the padding");
        pixel[..channels].to_vec()
    };
    values.chunks_exact(channels.next_multiple_of(8)).flat_map(pixel).collect()
}

fn on_device(case: &Case, start: &Start, way: Way, element: Element, order: Order) -> Outcome {
    let (plan, channels) = (case.plan(), case.input.channels());
    let mut layer = Layer::new(case.input, case.window, case.outputs, case.images, element);
    layer.way = way;
    let layout = Layout::with_ways(&plan, element, |_| way);
    let mut emulator = Emulator::with(order, &[cuda::SOURCE, compute_weights::cuda::SOURCE], element);

    let parameters = [&[f32::NAN; 4], &start.torch_weight[..]].concat();
    let parameters = emulator.place_f32(&to_device_order(&plan, &parameters));
    let table = emulator.place(&layout.table());
    let weights = emulator.place(&vec![0xff; layout.bytes()]);
    let weight_gradients = emulator.place(&vec![0xff; layout.gradient_bytes()]);
    let gradients = emulator.place_f32(&vec![f32::NAN; 4 + case.weight_len()]);
    let x = emulator.place_stored(&padded(&start.x, channels, JUNK), element);
    let dy = emulator.place_stored(&start.dy, element);
    let y = emulator.place_stored(&vec![f32::NAN; start.dy.len()], element);
    let n_dx = start.x.len() / channels * channels.next_multiple_of(8);
    let dx = emulator.place_stored(&vec![f32::NAN; n_dx], element);
    let dx_added = emulator.place_stored(&padded(&start.before, channels, 0.0), element);
    let scratch = emulator.place(&vec![0xff; cuda::scratch_bytes(&layer)]);

    let weight = weights.offset(layout.place(ParameterId(1)).expect("a convolution's weight"));
    let target = layout.gradient_target(ParameterId(1), weight_gradients, gradients).expect("likewise");
    let nodes: Vec<Node> = [
        cuda::clear(&layer, gradients.offset(16)),
        compute_weights::cuda::spread(&layout, table, parameters, weights),
        cuda::forward(&layer, x, weight, y),
        cuda::input_gradient(&layer, dy, weight, Address::NONE, Delivery::Write(dx)),
        cuda::input_gradient(&layer, dy, weight, scratch, Delivery::Accumulate(dx_added)),
        cuda::weight_gradient(&layer, x, dy, target),
        compute_weights::cuda::gather(&layout, table, weight_gradients, gradients),
    ]
    .concat();
    emulator.run(&nodes).expect("the nodes");
    let dw = to_torch_order(&plan, &emulator.read_f32(gradients, 4 + case.weight_len()));
    assert!(dw[..4].iter().all(|value| value.is_nan()), "a gradient of another parameter");
    Outcome {
        y: emulator.read(y, start.dy.len(), element),
        dx: unpadded(&emulator.read(dx, n_dx, element), channels),
        dx_added: unpadded(&emulator.read(dx_added, n_dx, element), channels),
        dw: dw[4..].to_vec(),
    }
}

fn assert_close(got: &[f32], expected: &[f32], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let norm = expected.iter().map(|e| f64::from(*e).powi(2)).sum::<f64>().sqrt();
    let error = got.iter().zip(expected).map(|(g, e)| (f64::from(*g) - f64::from(*e)).powi(2)).sum::<f64>().sqrt();
    assert!(error <= tolerance * norm, "{what}: {error:e} of {norm:e}");
}

/// Taps that touch the input nowhere, as places in the window.
fn dead_taps(case: &Case) -> Vec<usize> {
    let Convolution { input, output, window } = case.cpu();
    let live = |tap: usize, outputs: usize, size: usize| {
        (0..outputs).any(|o| Taps::of_output(o, size, window).kernel.contains(&tap))
    };
    let is_live = |tap: &usize| {
        let (row, column) = (tap / window.kernel, tap % window.kernel);
        live(row, output.height, input.height) && live(column, output.width, input.width)
    };
    (0..window.kernel * window.kernel).filter(|tap| !is_live(tap)).collect()
}

fn check_way(case: &Case, way: Way, element: Element) {
    let what = format!("{way:?} of {case:?} in {element:?}");
    let start = start(case, element);
    let expected = on_processor(case, &start);
    let got = on_device(case, &start, way, element, Order::FORWARD);
    // At most half a unit in the last place of 8 bits, once for a result and once more for a sum with it.
    let (full, once) = (1e-5, if element == Element::F32 { 1e-5 } else { 1.0 / 256.0 });
    assert_close(&got.y, &expected.y, once, &format!("y, {what}"));
    assert_close(&got.dx, &expected.dx, once, &format!("dx, {what}"));
    assert_close(&got.dx_added, &expected.dx_added, 2.0 * once, &format!("dx added, {what}"));
    let dw_tolerance = if way == Way::Engine { once } else { full };
    assert_close(&got.dw, &expected.dw, dw_tolerance, &format!("dw, {what}"));
    let dead = dead_taps(case);
    let taps = case.window.kernel * case.window.kernel;
    let zero = |(at, value): (usize, &f32)| !dead.contains(&(at % taps)) || value.to_bits() == 0;
    assert!(got.dw.iter().enumerate().all(zero), "taps that touch nothing, {what}");
    for order in Order::SEVERAL {
        let again = on_device(case, &start, way, element, order);
        for (again, got) in [(&again.y, &got.y), (&again.dx, &got.dx), (&again.dx_added, &got.dx_added)] {
            assert_eq!(bytes_of_f32(again), bytes_of_f32(got), "{order:?}, {what}");
        }
        assert_eq!(bytes_of_f32(&again.dw), bytes_of_f32(&got.dw), "{order:?}, {what}");
    }
}

const THREE: (usize, usize, usize) = (3, 1, 1);
const HALVE: (usize, usize, usize) = (3, 2, 1);
const SKIP: (usize, usize, usize) = (1, 2, 0);

fn check(case: Case, expected: Way) {
    let shape = sizes(case.input, case.window, case.outputs, case.images, Element::Bf16);
    assert_eq!(way(&shape), expected, "{case:?}");
    for element in [Element::F32, Element::Bf16] {
        check_way(&case, expected, element);
    }
}

#[test]
fn centre_takes_the_only_tap() {
    check(case(5, (1, 1), (16, 24), THREE), Way::Centre);
    check(case(3, (1, 1), (5, 7), HALVE), Way::Centre);
    check(case(5, (1, 1), (8, 16), SKIP), Way::Centre);
    check(case(5, (2, 2), (16, 24), SKIP), Way::Centre);
    check(case(3, (2, 1), (11, 3), SKIP), Way::Centre);
}

#[test]
fn dense_joins_all_pixels() {
    check(case(5, (2, 2), (16, 24), THREE), Way::Dense);
    check(case(3, (2, 2), (5, 7), THREE), Way::Dense);
    check(case(5, (2, 2), (16, 24), HALVE), Way::Dense);
    check(case(3, (2, 2), (11, 3), HALVE), Way::Dense);
    check(case(3, (1, 2), (8, 8), THREE), Way::Dense);
    check(case(3, (2, 2), (8, 5), (3, 2, 2)), Way::Dense);
    check(case(3, (1, 3), (5, 3), (5, 2, 2)), Way::Dense);
    check(case(3, (2, 2), (3, 4), (2, 1, 0)), Way::Engine);
}

#[test]
fn engine_takes_the_rest() {
    check(case(3, (4, 4), (16, 8), THREE), Way::Engine);
    check(case(3, (4, 4), (8, 12), HALVE), Way::Engine);
    check(case(3, (4, 4), (8, 8), SKIP), Way::Engine);
    check(case(2, (8, 8), (3, 8), (7, 2, 3)), Way::Engine);
    check(case(2, (5, 3), (3, 5), THREE), Way::Engine);
    check(case(5, (8, 8), (8, 8), THREE), Way::Engine);
}

#[test]
fn the_ways_of_a_resnet() {
    let of = |side: usize, channels: (usize, usize), window: (usize, usize, usize)| {
        let case = case(512, (side, side), channels, window);
        way(&sizes(case.input, case.window, case.outputs, case.images, Element::Bf16))
    };
    let stem = [of(32, (3, 64), (7, 2, 3)), of(8, (64, 64), THREE), of(8, (64, 128), HALVE), of(8, (64, 128), SKIP)];
    assert_eq!(stem, [Way::Engine; 4]);
    assert_eq!([of(4, (128, 128), THREE), of(4, (128, 256), HALVE), of(4, (128, 256), SKIP)], [Way::Engine; 3]);
    assert_eq!([of(2, (256, 256), THREE), of(2, (256, 512), HALVE)], [Way::Dense; 2]);
    assert_eq!([of(2, (256, 512), SKIP), of(1, (512, 512), THREE)], [Way::Centre; 2]);
    assert_eq!(of(2, (256, 256), (1, 1, 0)), Way::Engine);
}

#[test]
fn products_give_what_an_engine_gives() {
    for case in [
        case(5, (2, 2), (16, 24), THREE),
        case(5, (2, 2), (5, 24), HALVE),
        case(5, (1, 1), (16, 8), THREE),
        case(5, (2, 2), (16, 8), SKIP),
    ] {
        let start = start(&case, Element::F32);
        let chosen = way(&sizes(case.input, case.window, case.outputs, case.images, Element::F32));
        let [product, engine] =
            [chosen, Way::Engine].map(|way| on_device(&case, &start, way, Element::F32, Order::FORWARD));
        assert_ne!(chosen, Way::Engine);
        assert_close(&product.y, &engine.y, 1e-6, "y");
        assert_close(&product.dx, &engine.dx, 1e-6, "dx");
        assert_close(&product.dx_added, &engine.dx_added, 1e-6, "dx added");
        assert_close(&product.dw, &engine.dw, 1e-6, "dw");
    }
}

#[test]
fn a_gradient_that_nobody_needs_takes_no_node() {
    for (side, window) in [(4, THREE), (2, THREE), (1, THREE)] {
        let case = case(2, (side, side), (8, 8), window);
        let layer = Layer::new(case.input, case.window, case.outputs, case.images, Element::F32);
        assert_eq!(cuda::input_gradient(&layer, Address(1), Address(2), Address::NONE, Delivery::Skip), []);
    }
}
