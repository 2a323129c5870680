use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Address, Element, Gpu, Node, loaded, stored};
use crate::model::plan::{Activation, Shape};
use crate::ops::activation::cuda::{self, SOURCE};
use crate::ops::activation::{cpu, silu};
use crate::ops::batch::Batch;
use crate::ops::kernels::Delivery;

/// Not a multiple of eight, two blocks, both signs, 0 among them.
const N: usize = 2051;

fn numbers(step: usize, element: Element) -> Vec<f32> {
    let values: Vec<f32> = (0..N).map(|i| ((i * step) % N) as f32 / 64.0 - 16.0).collect();
    loaded(&stored(&values, element), element)
}

/// Runs nodes over places of these numbers, in every order, and reads one of them back.
fn read_after(element: Element, maps: &[&[f32]], read: usize, nodes: impl Fn(&[Address]) -> Vec<Node>) -> Vec<f32> {
    let mut results = Order::SEVERAL.map(|order| {
        let mut gpu = Emulator::with(order, &[SOURCE], element);
        let places: Vec<Address> = maps.iter().map(|map| gpu.place_stored(map, element)).collect();
        gpu.run(&nodes(&places)).expect("kernels");
        gpu.read(places[read], maps[read].len(), element)
    });
    assert!(results.iter().all(|result| result.iter().zip(&results[0]).all(|(a, b)| a.to_bits() == b.to_bits())));
    std::mem::take(&mut results[0])
}

fn close(got: &[f32], expected: &[f32], element: Element, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let tolerance = if element == Element::F32 { 1e-6 } else { 1.0 / 256.0 };
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= tolerance * expected.abs() + 1e-7, "{what}: {got} for {expected}");
    }
}

#[test]
fn agrees_with_the_processor() {
    let batch = Batch::new(Shape::Vector { width: N }, 1, 1);
    for element in [Element::F32, Element::Bf16] {
        let (x, dy) = (numbers(1, element), numbers(7, element));
        for activation in [Activation::Identity, Activation::Relu, Activation::Silu] {
            let what = format!("{activation:?} {element:?}");
            let mut expected = vec![f32::NAN; N];
            cpu::forward(&batch, activation, &x, &mut expected);
            let blank = vec![f32::NAN; N];
            let y = read_after(element, &[&x, &blank], 1, |p| cuda::forward(N, element, activation, p[0], p[1]));
            close(&y, &expected, element, &what);
            let mut slopes = dy.clone();
            cpu::backward(&batch, activation, &x, &expected, &mut slopes);
            let ones = vec![1.0; N];
            let maps: [&[f32]; 4] = [&x, &y, &dy, &ones];
            for read in [2, 3] {
                let got = read_after(element, &maps, read, |p| {
                    cuda::backward(N, element, activation, p[0], p[1], p[2], Delivery::Write(p[read]))
                });
                close(&got, &slopes, element, &format!("{what} to {read}"));
            }
            let added = read_after(element, &maps, 3, |p| {
                cuda::backward(N, element, activation, p[0], p[1], p[2], Delivery::Accumulate(p[3]))
            });
            let expected: Vec<f32> = slopes.iter().map(|slope| slope + 1.0).collect();
            close(&added, &expected, element, &what);
        }
    }
}

/// Within what f32 can hold of the formula, over the whole range of the exponential.
#[test]
fn silu_is_the_formula() {
    let x: Vec<f32> = (-1000..1000).map(|i| i as f32 * 0.11).collect();
    let blank = vec![0.0; x.len()];
    let y = read_after(Element::F32, &[&x, &blank], 1, |p| {
        cuda::forward(x.len(), Element::F32, Activation::Silu, p[0], p[1])
    });
    for (x, y) in x.iter().zip(&y) {
        let expected = f64::from(*x) / (1.0 + (-f64::from(*x)).exp());
        assert!((f64::from(*y) - expected).abs() <= 1e-6 * expected.abs() + 1e-30, "{y} for {expected} at {x}");
        assert!((y - silu(*x)).abs() <= 1e-6 * y.abs() + 1e-30);
    }
}

#[test]
fn what_is_not_a_number_stays_and_relu_is_flat_at_zero() {
    let x = [f32::NAN, 0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY];
    for element in [Element::F32, Element::Bf16] {
        for activation in [Activation::Relu, Activation::Silu] {
            let y = read_after(element, &[&x, &[9.0; 5]], 1, |p| cuda::forward(5, element, activation, p[0], p[1]));
            assert!(y[0].is_nan() && y[1] == 0.0 && y[2] == 0.0 && y[3] == f32::INFINITY, "{activation:?}: {y:?}");
        }
        let slope = read_after(element, &[&[0.0, 1.0, 0.0], &[3.0; 3]], 1, |p| {
            cuda::backward(3, element, Activation::Relu, Address::NONE, p[0], p[1], Delivery::Write(p[1]))
        });
        assert_eq!(slope, [0.0, 3.0, 0.0]);
    }
}

#[test]
fn sums_at_any_place() {
    for element in [Element::F32, Element::Bf16] {
        let (left, right) = (numbers(3, element), numbers(5, element));
        let expected: Vec<f32> = left.iter().zip(&right).map(|(left, right)| left + right).collect();
        let blank = vec![0.0; N];
        let maps: [&[f32]; 3] = [&left, &right, &blank];
        let sum = read_after(element, &maps, 2, |p| cuda::add(N, element, p[0], p[1], p[2]));
        close(&sum, &expected, element, "a sum");
        let sum = read_after(element, &maps, 0, |p| cuda::accumulate(N, element, p[1], p[0]));
        close(&sum, &expected, element, "a sum in place");
        // One number further on, no 16 bytes lie together.
        let behind = element.bytes();
        let sum = read_after(element, &maps, 2, |p| {
            cuda::add(N - 1, element, p[0].offset(behind), p[1].offset(behind), p[2].offset(behind))
        });
        assert_eq!(sum[0], 0.0);
        close(&sum[1..], &expected[1..], element, "a shifted sum");
    }
}

#[test]
fn nothing_to_do_is_no_node() {
    let (here, there) = (Address(256), Address(512));
    assert!(cuda::add(0, Element::F32, here, here, there).is_empty());
    assert!(cuda::forward(0, Element::F32, Activation::Identity, here, there).is_empty());
    assert!(cuda::forward(4, Element::F32, Activation::Identity, here, here).is_empty());
    let copied = Node::Copy { from: here, to: there, bytes: 8 };
    assert_eq!(cuda::forward(4, Element::Bf16, Activation::Identity, here, there), [copied]);
    for activation in [Activation::Identity, Activation::Relu] {
        assert!(cuda::backward(4, Element::F32, activation, here, here, here, Delivery::Skip).is_empty());
    }
}
