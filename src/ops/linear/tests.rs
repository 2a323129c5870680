use crate::ops::linear::{Layer, cpu};
use crate::random::{Address, Purpose, Stream};

fn draw(n: usize, salt: u32) -> Vec<f32> {
    let mut stream = Stream::new(3, Address { example: salt, ..Address::of(Purpose::View) });
    (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect()
}

fn assert_close(got: &[f32], expected: impl Fn(usize) -> f64, what: &str) {
    let norm = (0..got.len()).map(|i| expected(i).powi(2)).sum::<f64>().sqrt();
    let error = (0..got.len()).map(|i| (f64::from(got[i]) - expected(i)).powi(2)).sum::<f64>().sqrt();
    assert!(error <= 1e-6 * norm, "{what}: {error:e} of {norm:e}");
}

fn check(images: usize, inputs: usize, outputs: usize, with_bias: bool) {
    let layer = Layer { images, inputs, outputs };
    let (x, w, b, dy) =
        (draw(images * inputs, 1), draw(outputs * inputs, 2), draw(outputs, 3), draw(images * outputs, 4));
    let product = |n: usize, term: &dyn Fn(usize) -> (f32, f32)| -> f64 {
        (0..n).map(term).map(|(a, b)| f64::from(a) * f64::from(b)).sum()
    };
    let mut y = vec![f32::NAN; images * outputs];
    cpu::forward(&layer, &x, &w, with_bias.then_some(&b[..]), &mut y);
    let bias = |o: usize| if with_bias { f64::from(b[o]) } else { 0.0 };
    let forward = |at: usize| {
        let (n, o) = (at / outputs, at % outputs);
        bias(o) + product(inputs, &|i| (x[n * inputs + i], w[o * inputs + i]))
    };
    assert_close(&y, forward, "y");

    let before = draw(images * inputs, 5);
    let backward = |at: usize| {
        let (n, i) = (at / inputs, at % inputs);
        product(outputs, &|o| (dy[n * outputs + o], w[o * inputs + i]))
    };
    for accumulate in [false, true] {
        let mut dx = before.clone();
        cpu::backward_input(&layer, &dy, &w, &mut dx, accumulate);
        assert_close(&dx, |at| backward(at) + if accumulate { f64::from(before[at]) } else { 0.0 }, "dx");
    }

    let mut dw = vec![f32::NAN; outputs * inputs];
    cpu::backward_weight(&layer, &x, &dy, &mut dw);
    let weight = |at: usize| product(images, &|n| (dy[n * outputs + at / inputs], x[n * inputs + at % inputs]));
    assert_close(&dw, weight, "dw");

    let mut d_bias = vec![f32::NAN; outputs];
    cpu::backward_bias(&layer, &dy, &mut d_bias);
    assert_close(&d_bias, |o| product(images, &|n| (dy[n * outputs + o], 1.0)), "dbias");
}

#[test]
fn agrees_with_plain_sums() {
    check(1, 1, 1, true);
    check(70, 33, 65, true);
    check(600, 20, 7, false);
    check(65, 700, 128, false);
}

#[test]
fn no_images_give_no_gradient() {
    let layer = Layer { images: 0, inputs: 2, outputs: 1 };
    let (mut dw, mut d_bias) = ([f32::NAN; 2], [f32::NAN; 1]);
    cpu::forward(&layer, &[], &[1.0; 2], None, &mut []);
    cpu::backward_input(&layer, &[], &[1.0; 2], &mut [], false);
    cpu::backward_weight(&layer, &[], &[], &mut dw);
    cpu::backward_bias(&layer, &[], &mut d_bias);
    assert_eq!((dw, d_bias), ([0.0; 2], [0.0; 1]));
}
