use super::weight_gradient::backward_weight;
use super::*;
use crate::model::plan::Shape;
use crate::random::{Address, Purpose, Stream};

fn convolution(images: usize, side: (usize, usize), channels: (usize, usize), window: Window) -> Convolution {
    let out = |size: usize| (size + 2 * window.padding - window.kernel) / window.stride + 1;
    let map = |channels, height, width| Batch::new(Shape::Map { channels, height, width }, images, 2);
    Convolution { input: map(channels.0, side.0, side.1), output: map(channels.1, out(side.0), out(side.1)), window }
}

fn draw(n: usize, salt: u32) -> Vec<f32> {
    let mut stream = Stream::new(1, Address { example: salt, ..Address::of(Purpose::View) });
    (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect()
}

/// Winograd's points cost a digit; 2e-5 is what a convolution may be off.
fn bound(convolution: &Convolution) -> f64 {
    if winograd::pays(convolution) { 2e-5 } else { 2e-6 }
}

fn assert_close(got: &[f32], expected: &[f64], bound: f64, what: &str) {
    let norm = expected.iter().map(|e| e * e).sum::<f64>().sqrt();
    let error = got.iter().zip(expected).map(|(g, e)| (f64::from(*g) - e).powi(2)).sum::<f64>().sqrt();
    assert!(error <= bound * norm, "{what}: {error:e} of {norm:e}");
}

/// Calls `visit` with the index in x, in w and in y of every product of the definition, channels 0.
fn products(convolution: &Convolution, mut visit: impl FnMut(usize, usize, usize)) {
    let Convolution { input, output, window } = convolution;
    for (oh, ow) in (0..output.height).flat_map(|oh| (0..output.width).map(move |ow| (oh, ow))) {
        for (kh, kw) in (0..window.kernel).flat_map(|kh| (0..window.kernel).map(move |kw| (kh, kw))) {
            let (ih, iw) = (oh * window.stride + kh, ow * window.stride + kw);
            let rows = window.padding..window.padding + input.height;
            let columns = window.padding..window.padding + input.width;
            if !rows.contains(&ih) || !columns.contains(&iw) {
                continue;
            }
            let (ih, iw) = (ih - window.padding, iw - window.padding);
            for image in 0..input.images {
                let x = input.offset(ih, image) + iw * input.channels;
                let y = output.offset(oh, image) + ow * output.channels;
                visit(x, (kh * window.kernel + kw) * input.channels * output.channels, y);
            }
        }
    }
}

/// y, dx and dw by plain f64 sums.
fn reference(convolution: &Convolution, x: &[f32], w: &[f32], dy: &[f32]) -> [Vec<f64>; 3] {
    let (n_in, n_out) = (convolution.input.channels, convolution.output.channels);
    let wide = |data: &[f32]| data.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let (x, w, dy) = (wide(x), wide(w), wide(dy));
    let [mut y, mut dx, mut dw] = [dy.len(), x.len(), w.len()].map(|n| vec![0.0; n]);
    products(convolution, |at_x, at_w, at_y| {
        for i in 0..n_in {
            for o in 0..n_out {
                let at_w = at_w + i * n_out + o;
                y[at_y + o] += x[at_x + i] * w[at_w];
                dx[at_x + i] += dy[at_y + o] * w[at_w];
                dw[at_w] += x[at_x + i] * dy[at_y + o];
            }
        }
    });
    [y, dx, dw]
}

fn check(
    images: usize,
    side: (usize, usize),
    channels: (usize, usize),
    (kernel, stride, padding): (usize, usize, usize),
) {
    let convolution = convolution(images, side, channels, Window { kernel, stride, padding });
    let bound = bound(&convolution);
    let what = format!("{images} images {side:?} {channels:?} {:?}", convolution.window);
    let (x, w) = (draw(convolution.input.len(), 1), draw(convolution.weight_len(), 2));
    let dy = draw(convolution.output.len(), 3);
    let [y, dx, dw] = reference(&convolution, &x, &w, &dy);

    let mut got = vec![f32::NAN; y.len()];
    let mut seen = vec![0.0f64; convolution.output.n_blocks()];
    let mut scratch = vec![f32::NAN; cpu::scratch_len(&convolution)];
    cpu::forward(&convolution, &x, &w, &mut scratch, &mut got, &mut seen, |part, seen| {
        seen[0] = part.iter().map(|v| f64::from(*v)).sum();
    });
    assert_close(&got, &y, bound, &format!("y of {what}"));
    let total: f64 = got.iter().map(|v| f64::from(*v)).sum();
    assert!((seen.iter().sum::<f64>() - total).abs() < 1e-9 * (1.0 + total.abs()), "blocks of {what}");

    let before = draw(dx.len(), 4);
    let mut got = vec![f32::NAN; dx.len()];
    cpu::backward_input(&convolution, &dy, &w, &mut scratch, &mut got, false);
    assert_close(&got, &dx, bound, &format!("dx of {what}"));
    let mut got = before.clone();
    cpu::backward_input(&convolution, &dy, &w, &mut scratch, &mut got, true);
    let sum: Vec<f64> = dx.iter().zip(&before).map(|(d, b)| d + f64::from(*b)).collect();
    assert_close(&got, &sum, bound, &format!("dx onto another, of {what}"));

    // A second pass replaces the first; taps that never touch the input stay 0.
    let mut got = vec![0.0; dw.len()];
    backward_weight(&convolution, &x, &draw(dy.len(), 5), &mut scratch, &mut got);
    backward_weight(&convolution, &x, &dy, &mut scratch, &mut got);
    assert_close(&got, &dw, bound, &format!("dw of {what}"));
}

const THREE: (usize, usize, usize) = (3, 1, 1);
const HALVE: (usize, usize, usize) = (3, 2, 1);
const SKIP: (usize, usize, usize) = (1, 2, 0);

#[test]
fn every_window_of_a_resnet() {
    for side in [1, 2, 3, 4, 7, 8] {
        check(4, (side, side), (5, 6), THREE);
        check(4, (side, side), (5, 6), HALVE);
        check(4, (side, side), (5, 6), SKIP);
    }
    check(2, (32, 32), (3, 8), (7, 2, 3));
    check(2, (32, 32), (3, 8), THREE);
    check(2, (23, 16), (3, 8), (7, 2, 3));
}

#[test]
fn widths_of_a_resnet() {
    check(2, (4, 4), (64, 64), THREE);
    check(2, (4, 4), (64, 128), HALVE);
    check(2, (4, 4), (64, 128), SKIP);
    check(2, (2, 2), (256, 256), THREE);
    check(2, (1, 1), (512, 512), THREE);
    check(2, (2, 2), (256, 512), HALVE);
}

#[test]
fn every_shape_of_both_stems() {
    for (side, channels) in [(32, 64), (16, 128), (8, 256), (8, 64), (4, 128), (2, 256)] {
        check(2, (side, side), (channels, channels), THREE);
        check(2, (side, side), (channels, 2 * channels), HALVE);
        check(2, (side, side), (channels, 2 * channels), SKIP);
    }
    check(2, (32, 32), (3, 64), THREE);
    check(2, (32, 32), (3, 64), (7, 2, 3));
    check(2, (4, 4), (512, 512), THREE);
    check(2, (1, 1), (512, 512), THREE);
}

#[test]
fn winograd_tiles_over_the_edge() {
    for (height, width) in [(5, 7), (7, 7), (6, 14), (14, 9), (4, 13)] {
        check(6, (height, width), (16, 48), THREE);
    }
    check(134, (4, 5), (32, 16), THREE);
    check(70, (8, 4), (16, 80), THREE);
}

#[test]
fn winograd_pays_by_shape_alone() {
    let pays = |side, channels, window: (usize, usize, usize)| {
        let (kernel, stride, padding) = window;
        winograd::pays(&convolution(2, (side, side), channels, Window { kernel, stride, padding }))
    };
    for (side, expected) in
        [(1, false), (2, false), (3, false), (4, true), (5, false), (6, true), (7, true), (32, true)]
    {
        assert_eq!(pays(side, (64, 64), THREE), expected, "{side}");
    }
    assert!(pays(8, (16, 48), THREE) && !pays(8, (20, 48), THREE) && !pays(8, (16, 40), THREE));
    assert!(!pays(8, (64, 64), HALVE) && !pays(8, (64, 64), (1, 1, 0)) && !pays(8, (64, 64), (3, 1, 0)));
}

#[test]
fn registers_and_threads_change_no_bit() {
    use crate::ops::registers::forced;
    let map = |channels| Batch::new(Shape::Map { channels, height: 6, width: 7 }, 10, 2);
    for kernel in [1, 3] {
        let window = Window { kernel, stride: 1, padding: kernel / 2 };
        let convolution = Convolution { input: map(32), output: map(48), window };
        let (x, w) = (draw(convolution.input.len(), 1), draw(convolution.weight_len(), 2));
        let dy = draw(convolution.output.len(), 3);
        let run = |threads| {
            let [mut y, mut dx, mut dw] = [dy.len(), x.len(), w.len()].map(|n| vec![0.0f32; n]);
            let mut scratch = vec![f32::NAN; cpu::scratch_len(&convolution)];
            crate::device::Pool::new(threads).install(|| {
                let nothing = &mut vec![(); convolution.output.n_blocks()];
                cpu::forward(&convolution, &x, &w, &mut scratch, &mut y, nothing, |_, _| {});
                cpu::backward_input(&convolution, &dy, &w, &mut scratch, &mut dx, false);
                backward_weight(&convolution, &x, &dy, &mut scratch, &mut dw);
            });
            [y, dx, dw].concat().iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        };
        let expected = run(1);
        assert!(run(3) == expected, "kernel {kernel}, 3 threads");
        for (name, choice) in forced::choices() {
            let _registers = forced::force(choice);
            assert!(run(2) == expected, "kernel {kernel}, {name}");
        }
    }
}

#[test]
fn uneven_blocks_and_windows() {
    check(130, (3, 5), (2, 3), THREE);
    check(258, (2, 2), (3, 17), THREE);
    check(300, (1, 2), (64, 5), (1, 1, 0));
    check(2, (5, 9), (3, 4), (2, 3, 0));
    check(2, (4, 4), (20, 4), (5, 1, 2));
    check(2, (2, 2), (2, 2), (1, 1, 1));
    check(0, (4, 4), (3, 4), THREE);
}

#[test]
fn torch_layout_and_back() {
    let torch: Vec<f32> = (0..2 * 3 * 4).map(|i| i as f32).collect();
    let mut weight = vec![0.0; 24];
    from_torch(2, 3, 2, &torch, &mut weight);
    // o = 1, i = 2, kh = 1, kw = 0 lies at ((1·2 + 0)·3 + 2)·2 + 1 here and at ((1·3 + 2)·2 + 1)·2 + 0 in torch.
    assert_eq!(weight[17], torch[22]);
    let mut back = vec![0.0; 24];
    to_torch(2, 3, 2, &weight, &mut back);
    assert_eq!(back, torch);
}

#[test]
fn products_leave_padding_out() {
    let count = |side, window: (usize, usize, usize)| {
        let (kernel, stride, padding) = window;
        convolution(2, (side, side), (1, 1), Window { kernel, stride, padding }).products() / 2
    };
    assert_eq!([count(1, THREE), count(2, THREE), count(4, HALVE), count(4, SKIP)], [1, 16, 25, 4]);
}
