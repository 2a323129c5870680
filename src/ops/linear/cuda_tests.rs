use super::cuda::{self, Layer};
use super::{Layer as Sizes, cpu};
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Element, Gpu, Node, bytes_of_f32, loaded, stored};
use crate::ops::kernels::Delivery;
use crate::random::{Address, Purpose, Stream};

fn draw(n: usize, salt: u32, element: Element) -> Vec<f32> {
    let mut stream = Stream::new(4, Address { example: salt, ..Address::of(Purpose::View) });
    let values: Vec<f32> = (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect();
    loaded(&stored(&values, element), element)
}

/// y, dx, dx added, dw, dbias.
type Outcome = [Vec<f32>; 5];

struct Start {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    dy: Vec<f32>,
    before: Vec<f32>,
}

fn start(layer: &Layer, with_bias: bool) -> Start {
    let (Sizes { images, inputs, outputs }, element) = (layer.sizes, layer.element);
    Start {
        x: draw(images * inputs, 1, element),
        weight: draw(outputs * inputs, 2, element),
        bias: with_bias.then(|| draw(outputs, 3, layer.y_element())),
        dy: draw(images * outputs, 4, element),
        before: draw(images * inputs, 5, element),
    }
}

fn on_processor(layer: &Layer, start: &Start) -> Outcome {
    let Sizes { images, inputs, outputs } = layer.sizes;
    let mut y = vec![0.0; images * outputs];
    cpu::forward(&layer.sizes, &start.x, &start.weight, start.bias.as_deref(), &mut y);
    let (mut dx, mut added) = (vec![0.0; images * inputs], start.before.clone());
    cpu::backward_input(&layer.sizes, &start.dy, &start.weight, &mut dx, false);
    cpu::backward_input(&layer.sizes, &start.dy, &start.weight, &mut added, true);
    let (mut dw, mut d_bias) = (vec![0.0; outputs * inputs], vec![0.0; outputs]);
    cpu::backward_weight(&layer.sizes, &start.x, &start.dy, &mut dw);
    cpu::backward_bias(&layer.sizes, &start.dy, &mut d_bias);
    [y, dx, added, dw, d_bias]
}

fn on_device(layer: &Layer, start: &Start, order: Order) -> Outcome {
    let (Sizes { images, inputs, outputs }, element) = (layer.sizes, layer.element);
    let mut emulator = Emulator::with(order, &[cuda::SOURCE], element);
    // NaN in the padding of the rows: nothing may read it.
    let row = |row: &[f32]| [row, &vec![f32::NAN; inputs.next_multiple_of(8) - inputs]].concat();
    let weight: Vec<f32> = start.weight.chunks_exact(inputs).flat_map(row).collect();
    let weight = emulator.place_stored(&weight, element);
    let (x, dy) = (emulator.place_stored(&start.x, element), emulator.place_stored(&start.dy, element));
    let bias = start.bias.as_ref().map(|bias| emulator.place_f32(bias));
    let y = emulator.place_stored(&vec![f32::NAN; images * outputs], layer.y_element());
    let dx = emulator.place_stored(&vec![f32::NAN; images * inputs], element);
    let added = emulator.place_stored(&start.before, element);
    let dw = emulator.place_f32(&vec![f32::NAN; outputs * inputs]);
    let d_bias = emulator.place_f32(&vec![f32::NAN; outputs]);
    let nodes: Vec<Node> = [
        cuda::forward(layer, x, weight, bias, y),
        cuda::input_gradient(layer, dy, weight, Delivery::Skip),
        cuda::input_gradient(layer, dy, weight, Delivery::Write(dx)),
        cuda::input_gradient(layer, dy, weight, Delivery::Accumulate(added)),
        cuda::weight_gradient(layer, x, dy, dw),
        cuda::bias_gradient(layer, dy, d_bias),
    ]
    .concat();
    emulator.run(&nodes).expect("the nodes");
    [
        emulator.read(y, images * outputs, layer.y_element()),
        emulator.read(dx, images * inputs, element),
        emulator.read(added, images * inputs, element),
        emulator.read_f32(dw, outputs * inputs),
        emulator.read_f32(d_bias, outputs),
    ]
}

fn assert_close(got: &[f32], expected: &[f32], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let norm = expected.iter().map(|e| f64::from(*e).powi(2)).sum::<f64>().sqrt();
    let error = got.iter().zip(expected).map(|(g, e)| (f64::from(*g) - f64::from(*e)).powi(2)).sum::<f64>().sqrt();
    assert!(error <= tolerance * norm, "{what}: {error:e} of {norm:e}");
}

fn check(images: usize, inputs: usize, outputs: usize, with_bias: bool) {
    for (element, y_in_f32) in [(Element::F32, false), (Element::Bf16, false), (Element::Bf16, true)] {
        let layer = Layer { sizes: Sizes { images, inputs, outputs }, element, y_in_f32 };
        let start = start(&layer, with_bias);
        let (expected, got) = (on_processor(&layer, &start), on_device(&layer, &start, Order::FORWARD));
        let rounding = |element: Element| if element == Element::F32 { 1e-5 } else { 1.0 / 256.0 };
        let tolerances = [rounding(layer.y_element()), rounding(element), rounding(element), 1e-5, 1e-7];
        for (index, name) in ["y", "dx", "dx added", "dw", "dbias"].into_iter().enumerate() {
            assert_close(&got[index], &expected[index], tolerances[index], &format!("{name} of {layer:?}"));
        }
        let bits = |outcome: &Outcome| outcome.each_ref().map(|values| bytes_of_f32(values));
        for order in Order::SEVERAL {
            assert_eq!(bits(&on_device(&layer, &start, order)), bits(&got), "{order:?}, {layer:?}");
        }
    }
}

#[test]
fn agrees_with_the_processor() {
    check(12, 16, 40, true);
    check(70, 24, 8, false);
}

#[test]
fn widths_that_are_no_multiples_of_eight() {
    check(1, 1, 1, true);
    check(67, 13, 37, true);
    check(3, 5, 33, false);
    check(2, 3, 259, true);
}

#[test]
fn the_bias_gradient_keeps_what_cancels() {
    // Each column adds up to 64 · 2⁻²⁴, which plain f32 sums beside ±1 lose.
    let (images, outputs) = (4 * 64, 3);
    let tiny = 2.0f32.powi(-24);
    let value = |image: usize| [1.0, tiny, -1.0, 0.0][image / 64];
    let dy: Vec<f32> = (0..images).flat_map(|image| [value(image); 3]).collect();
    let layer = Layer { sizes: Sizes { images, inputs: 1, outputs }, element: Element::F32, y_in_f32: false };
    for order in Order::SEVERAL {
        let mut emulator = Emulator::with(order, &[cuda::SOURCE], Element::F32);
        let (dy, d_bias) = (emulator.place_f32(&dy), emulator.place_f32(&[f32::NAN; 3]));
        emulator.run(&cuda::bias_gradient(&layer, dy, d_bias)).expect("a kernel");
        assert_eq!(emulator.read_f32(d_bias, outputs), [64.0 * tiny; 3]);
    }
}
