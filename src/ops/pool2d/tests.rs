use crate::model::plan::{Shape, Window};
use crate::ops::batch::Batch;
use crate::ops::pool2d::{Pooling, cpu};
use crate::random::{Address, Purpose, Stream};

fn pooling(images: usize, side: usize, channels: usize, window: Window) -> Pooling {
    let out = (side + 2 * window.padding - window.kernel) / window.stride + 1;
    let input = Batch::new(Shape::Map { channels, height: side, width: side }, images, 2);
    let output = Batch::new(Shape::Map { channels, height: out, width: out }, images, 2);
    Pooling { input, output, window }
}

/// Index in the input of every tap inside the map, row by row.
fn taps(pooling: &Pooling, image: usize, oh: usize, ow: usize, c: usize) -> Vec<usize> {
    let Pooling { input, window, .. } = pooling;
    let inside = |o: usize, k: usize, size: usize| {
        let at = o * window.stride + k;
        (at >= window.padding && at - window.padding < size).then(|| at - window.padding)
    };
    let pairs = (0..window.kernel).flat_map(|kh| (0..window.kernel).map(move |kw| (kh, kw)));
    pairs
        .filter_map(|(kh, kw)| inside(oh, kh, input.height).zip(inside(ow, kw, input.width)))
        .map(|(ih, iw)| input.offset(ih, image) + iw * input.channels + c)
        .collect()
}

fn check(images: usize, side: usize, channels: usize, (kernel, stride, padding): (usize, usize, usize)) {
    let pooling = pooling(images, side, channels, Window { kernel, stride, padding });
    let Pooling { input, output, .. } = pooling;
    let mut stream = Stream::new(5, Address::of(Purpose::View));
    // Few distinct values, so that windows hold equal maxima.
    let x: Vec<f32> = (0..input.len()).map(|_| stream.below(5) as f32 - 2.0).collect();
    let dy: Vec<f32> = (0..output.len()).map(|_| stream.below(64) as f32 - 32.0).collect();
    let (mut max, mut average) = (vec![f32::NAN; output.len()], vec![f32::NAN; output.len()]);
    let mut winners = vec![0; output.len()];
    cpu::max_forward(&pooling, &x, &mut max, &mut winners);
    cpu::average_forward(&pooling, &x, &mut average);
    let (mut d_max, mut d_average) = (vec![0.0; input.len()], vec![0.0; input.len()]);
    let area = (kernel * kernel) as f32;
    for image in 0..images {
        for at in 0..output.height * output.width * channels {
            let (oh, ow, c) = (at / channels / output.width, at / channels % output.width, at % channels);
            let place = output.offset(oh, image) + ow * channels + c;
            let taps = taps(&pooling, image, oh, ow, c);
            let first = taps.iter().copied().fold(taps[0], |best, tap| if x[tap] > x[best] { tap } else { best });
            assert_eq!(max[place], x[first]);
            assert!((average[place] - taps.iter().map(|tap| x[*tap]).sum::<f32>() / area).abs() < 1e-6);
            d_max[first] += dy[place];
            taps.iter().for_each(|tap| d_average[*tap] += dy[place] / area);
        }
    }
    let mut dx = vec![f32::NAN; input.len()];
    cpu::max_backward(&pooling, &dy, &winners, &mut dx, false);
    assert_eq!(dx, d_max);
    cpu::max_backward(&pooling, &dy, &winners, &mut dx, true);
    assert!(dx.iter().zip(&d_max).all(|(got, once)| *got == 2.0 * once));
    cpu::average_backward(&pooling, &dy, &mut dx, false);
    assert!(dx.iter().zip(&d_average).all(|(got, expected)| (got - expected).abs() < 1e-4));
}

#[test]
fn agrees_with_the_definition() {
    check(4, 16, 16, (3, 2, 1));
    check(130, 5, 3, (3, 2, 1));
    check(2, 7, 1, (2, 2, 0));
    check(2, 1, 2, (3, 1, 1));
    check(2, 6, 2, (3, 3, 0));
    check(2, 9, 2, (1, 2, 0));
    check(0, 4, 2, (2, 2, 0));
}

#[test]
fn negative_values_and_not_a_number_win_over_padding() {
    let pooling = pooling(2, 1, 1, Window { kernel: 3, stride: 1, padding: 1 });
    let (mut y, mut winners) = ([0.0; 2], [0; 2]);
    cpu::max_forward(&pooling, &[f32::NEG_INFINITY, f32::NAN], &mut y, &mut winners);
    assert!(y[0] == f32::NEG_INFINITY && y[1].is_nan());
    assert_eq!(winners, [4, 4]);
}
