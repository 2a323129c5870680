use super::cuda::{SOURCE, gather, spread};
use super::*;
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Gpu, bytes_of_f32, loaded, stored};
use crate::model::plan::{Parameter, ParameterKind, Shape, ValueId, Window};

/// A convolution for every way, odd widths among them, linear layers and parameters that no layer multiplies.
fn plan() -> Plan {
    let map = |channels, side| Shape::Map { channels, height: side, width: side };
    let window = |kernel, stride, padding| Window { kernel, stride, padding };
    let layers = [
        (map(3, 9), 8, Some(window(3, 2, 1))),
        (map(8, 5), 10, Some(window(3, 2, 1))),
        (map(10, 3), 24, Some(window(3, 2, 1))),
        (map(24, 2), 12, Some(window(3, 1, 1))),
        (map(12, 2), 16, Some(window(3, 2, 1))),
        (map(16, 1), 13, Some(window(3, 1, 1))),
        (Shape::Vector { width: 13 }, 16, None),
        (Shape::Vector { width: 16 }, 5, None),
    ];
    let (mut parameters, mut ops, mut offset) = (Vec::new(), Vec::new(), 0);
    let mut add = |shape: Vec<usize>, kind| {
        let parameter = Parameter { name: parameters.len().to_string(), shape, offset, kind };
        offset += parameter.len();
        parameters.push(parameter);
        ParameterId(parameters.len() - 1)
    };
    for (index, (shape, outputs, window)) in layers.into_iter().enumerate() {
        let (input, output) = (ValueId(index), ValueId(index + 1));
        ops.push(match window {
            Some(window) => {
                let shape = vec![outputs, shape.channels(), window.kernel, window.kernel];
                Op::Conv2d { input, output, weight: add(shape, ParameterKind::ConvWeight), window }
            }
            None => {
                let weight = add(vec![outputs, shape.len()], ParameterKind::LinearWeight);
                let fan_in = shape.len();
                Op::Linear { input, output, weight, bias: Some(add(vec![5], ParameterKind::LinearBias { fan_in })) }
            }
        });
    }
    let mut values: Vec<Shape> = layers.iter().map(|(shape, _, _)| *shape).collect();
    values.push(Shape::Vector { width: 5 });
    let (input, features, projection) = (ValueId(0), ValueId(6), ValueId(8));
    Plan { values, ops, parameters, buffers: vec![], input, features, projection }
}

const ELEMENTS: [Element; 2] = [Element::F32, Element::Bf16];

/// Numbers that bf16 holds and that differ from their neighbours.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 251) as f32 - 100.0 + if i % 2 == 0 { 0.0 } else { 0.5 }).map(rounded).collect()
}

fn rounded(value: f32) -> f32 {
    loaded(&stored(&[value], Element::Bf16), Element::Bf16)[0]
}

fn spread_weights(layout: &Layout, plan: &Plan, element: Element, order: Order) -> Vec<f32> {
    let mut emulator = Emulator::with(order, &[SOURCE], element);
    let table = emulator.place(&layout.table());
    let parameters = emulator.place_f32(&numbers(plan.n_parameters()));
    let weights = emulator.place(&vec![0; layout.bytes()]);
    emulator.run(&spread(layout, table, parameters, weights)).expect("a kernel");
    emulator.read(weights, layout.bytes() / element.bytes(), element)
}

fn weights_of<'a>(layout: &Layout, weights: &'a [f32], parameter: usize, element: Element) -> &'a [f32] {
    let tensor = layout.tensor(ParameterId(parameter)).expect("a layer's weight");
    let start = layout.place(ParameterId(parameter)).expect("likewise") / element.bytes();
    &weights[start..start + tensor.matrix_len()]
}

/// Every number of the matrix is the one that the definition of the window puts there.
fn check_matrix(weights: &[f32], flat: &[f32], shape: &Convolution, channels: usize) {
    let (pixels, out_columns) = (shape.height * shape.width, shape.out_width());
    let at = |row: usize, pixel: usize, i: usize| weights[(row * pixels + pixel) * shape.inputs + i];
    for row in 0..shape.out_height() * out_columns * shape.outputs {
        let (out_pixel, output) = (row / shape.outputs, row % shape.outputs);
        for pixel in 0..pixels {
            let tap = |input: usize, out: usize| {
                let tap = (input + shape.padding).checked_sub(out * shape.stride)?;
                (tap < shape.kernel).then_some(tap)
            };
            let rows = tap(pixel / shape.width, out_pixel / out_columns);
            let tap = rows.zip(tap(pixel % shape.width, out_pixel % out_columns));
            for i in 0..shape.inputs {
                let expected = tap
                    .filter(|_| i < channels)
                    .map_or(0.0, |(kh, kw)| flat[((output * shape.kernel + kh) * shape.kernel + kw) * channels + i]);
                assert_eq!(at(row, pixel, i), expected, "{row} {pixel} {i} of {shape:?}");
            }
        }
    }
}

#[test]
fn every_way_finds_its_taps() {
    let plan = plan();
    for element in ELEMENTS {
        let layout = Layout::new(&plan, element);
        let weights = spread_weights(&layout, &plan, element, Order::FORWARD);
        let flat = numbers(plan.n_parameters());
        let mut ways = Vec::new();
        for op in &plan.ops {
            let Op::Conv2d { input, weight, window, .. } = *op else { continue };
            let parameter = &plan.parameters[weight.0];
            let layer = Layer::new(plan.shape(input), window, parameter.shape[0], 1, element);
            let (weights, flat) = (weights_of(&layout, &weights, weight.0, element), &flat[parameter.range()]);
            ways.push(layer.way);
            match layer.way {
                Way::Engine => {
                    // A layer from the window to one pixel.
                    let side = window.kernel;
                    let shape = Convolution { height: side, width: side, padding: 0, stride: 1, ..layer.shape };
                    check_matrix(weights, flat, &shape, layer.channels);
                }
                Way::Centre | Way::Dense => check_matrix(weights, flat, &layer.shape, layer.channels),
            }
        }
        assert_eq!(ways[..3], [Way::Engine; 3]);
        assert_eq!(ways[3..], [Way::Dense, Way::Dense, Way::Centre]);
        for (parameter, inputs) in [(6, 13), (8, 16)] {
            let own = &flat[plan.parameters[parameter].range()];
            let rows = weights_of(&layout, &weights, parameter, element).chunks_exact(16);
            let expected = own.chunks_exact(inputs).map(|row| [row, &vec![0.0; 16 - inputs]].concat());
            assert!(rows.eq(expected), "linear layer {parameter}");
        }
    }
}

#[test]
fn places_are_apart_and_aligned() {
    let plan = plan();
    for element in ELEMENTS {
        let layout = Layout::new(&plan, element);
        let mut end = 0;
        for tensor in &layout.tensors {
            assert!(tensor.place >= end && tensor.place.is_multiple_of(16));
            end = tensor.place + tensor.matrix_len() * element.bytes();
        }
        assert!(end <= layout.bytes());
        let mut end = 0;
        for gathered in layout.tensors.iter().filter_map(|tensor| tensor.gathered.map(|place| (place, tensor))) {
            let (Gathered { place, element }, tensor) = gathered;
            assert!(place >= end && place.is_multiple_of(16));
            end = place + tensor.matrix_len() * element.bytes();
        }
        assert!(end <= layout.gradient_bytes());
        let (bias, centre) = (ParameterId(7), ParameterId(5));
        let target = |parameter| layout.gradient_target(parameter, Address(1 << 20), Address(1 << 30));
        assert_eq!((layout.place(bias), target(bias)), (None, None));
        assert_eq!(target(centre), Some(Address((1 << 30) + 4 * plan.parameters[5].offset as u64)));
        assert_eq!(target(ParameterId(0)), Some(Address(1 << 20)));
    }
}

/// What `gather` makes of `weight_gradients` that are the weights as they were spread.
fn gathered(layout: &Layout, plan: &Plan, element: Element, order: Order) -> Vec<f32> {
    let weights = spread_weights(layout, plan, element, order);
    let mut bytes = vec![0xff; layout.gradient_bytes()];
    for tensor in &layout.tensors {
        let Some(Gathered { place, element: gradient }) = tensor.gathered else { continue };
        let start = tensor.place / element.bytes();
        let gradient = stored(&weights[start..start + tensor.matrix_len()], gradient);
        bytes[place..place + gradient.len()].copy_from_slice(&gradient);
    }
    let mut emulator = Emulator::with(order, &[SOURCE], element);
    let (table, weight_gradients) = (emulator.place(&layout.table()), emulator.place(&bytes));
    let gradients = emulator.place_f32(&vec![f32::NAN; plan.n_parameters()]);
    emulator.run(&gather(layout, table, weight_gradients, gradients)).expect("a kernel");
    emulator.read_f32(gradients, plan.n_parameters())
}

/// In how many places a tap stands in a matrix.
fn places_of(tensor: &Tensor, tap: usize) -> usize {
    let pairs = &tensor.pairs;
    let along = |tap: usize, outs: usize, size: usize, padding: usize| {
        (0..outs).filter(|out| (out * pairs.stride + tap).checked_sub(padding).is_some_and(|at| at < size)).count()
    };
    let (row, column) = (tap / pairs.kernel, tap % pairs.kernel);
    along(row, pairs.out_rows, pairs.rows, pairs.row_padding)
        * along(column, pairs.out_columns, pairs.columns, pairs.column_padding)
}

#[test]
fn gathering_what_was_spread_counts_the_places() {
    let plan = plan();
    let flat = numbers(plan.n_parameters());
    for element in ELEMENTS {
        let layout = Layout::new(&plan, element);
        let got = gathered(&layout, &plan, element, Order::FORWARD);
        for (index, parameter) in plan.parameters.iter().enumerate() {
            let tensor = layout.tensor(ParameterId(index)).filter(|tensor| tensor.gathered.is_some());
            let Some(tensor) = tensor else {
                assert!(got[parameter.range()].iter().all(|value| value.is_nan()), "parameter {index}");
                continue;
            };
            let taps = tensor.pairs.kernel * tensor.pairs.kernel;
            for (at, (got, own)) in got[parameter.range()].iter().zip(&flat[parameter.range()]).enumerate() {
                let places = places_of(tensor, at / tensor.channels % taps);
                assert_eq!(*got, own * places as f32, "{at} of parameter {index} in {element:?}");
            }
        }
        // 3×3 with stride 2 from 2×2: five taps touch nothing.
        let halving = layout.tensor(ParameterId(4)).expect("a layer");
        assert_eq!((0..9).map(|tap| places_of(halving, tap)).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 1, 0, 1, 1]);
        let three = layout.tensor(ParameterId(3)).expect("a layer");
        assert_eq!((0..9).map(|tap| places_of(three, tap)).collect::<Vec<_>>(), [1, 2, 1, 2, 4, 2, 1, 2, 1]);
    }
}

#[test]
fn no_order_changes_a_bit() {
    let plan = plan();
    for element in ELEMENTS {
        let layout = Layout::new(&plan, element);
        let run = |order| {
            let spread = spread_weights(&layout, &plan, element, order);
            [bytes_of_f32(&spread), bytes_of_f32(&gathered(&layout, &plan, element, order))]
        };
        let expected = run(Order::FORWARD);
        assert!(Order::SEVERAL.iter().all(|order| run(*order) == expected), "{element:?}");
    }
}

#[test]
fn chunks_cover_every_group_once() {
    let plan = plan();
    let layout = Layout::new(&plan, Element::Bf16);
    let (tensors, table) = (layout.tensors.len(), layout.table());
    let groups: usize = layout.tensors.iter().map(|tensor| (tensor.matrix_len() / 8).div_ceil(512)).sum();
    let gathered = layout.tensors.iter().filter(|tensor| tensor.gathered.is_some());
    let gathered: usize = gathered.map(|tensor| (tensor.window_len() / 8).div_ceil(512)).sum();
    assert_eq!(table.len(), tensors * 72 + (groups + gathered) * 8);
    assert!(groups > tensors, "some tensor has several chunks");
}

#[test]
fn torch_order_and_back() {
    let plan = plan();
    let torch: Vec<f32> = (0..plan.n_parameters()).map(|i| i as f32).collect();
    let device = to_device_order(&plan, &torch);
    // Parameter 1, 10 × 8 × 3 × 3: o = 2, i = 5, kh = 1, kw = 2.
    let start = plan.parameters[1].offset;
    assert_eq!(device[start + ((2 * 3 + 1) * 3 + 2) * 8 + 5], torch[start + ((2 * 8 + 5) * 3 + 1) * 3 + 2]);
    assert_eq!(device[plan.parameters[6].range()], torch[plan.parameters[6].range()]);
    assert_eq!(to_torch_order(&plan, &device), torch);
}

#[test]
fn a_plan_without_layers_takes_no_node() {
    let plan = Plan { ops: vec![], ..plan() };
    let layout = Layout::new(&plan, Element::Bf16);
    assert_eq!((layout.table(), layout.bytes(), layout.gradient_bytes()), (vec![], 0, 0));
    assert_eq!(spread(&layout, Address(1), Address(2), Address(3)), []);
    assert_eq!(gather(&layout, Address(1), Address(2), Address(3)), []);
}
