use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Address, Element, Gpu};
use crate::model::plan::{Shape, Window};
use crate::ops::batch::Batch;
use crate::ops::kernels::Delivery;
use crate::ops::pool2d::cpu;
use crate::ops::pool2d::cuda::{self, Pooling, SOURCE};
use crate::random::{self, Purpose, Stream};

fn pooling(images: usize, (in_height, in_width): (usize, usize), channels: usize, window: [usize; 3]) -> Pooling {
    let [kernel, stride, padding] = window;
    let out = |side: usize| (side + 2 * padding - kernel) / stride + 1;
    let (out_height, out_width) = (out(in_height), out(in_width));
    let element = Element::F32;
    Pooling { images, in_height, in_width, channels, out_height, out_width, kernel, stride, padding, element }
}

/// The processor's maps are height × images × width × channels.
fn images_first<T: Copy>(batch: &Batch, rows: &[T]) -> Vec<T> {
    let starts = (0..batch.images).flat_map(|image| (0..batch.height).map(move |row| (row, image)));
    starts.flat_map(|(row, image)| &rows[batch.offset(row, image)..][..batch.row_len()]).copied().collect()
}

/// y, winners, dx, dx + 1 of max-pooling, then y, dx, dx + 1 of average-pooling.
type Results = (Vec<Vec<f32>>, Vec<u8>);

fn on_the_processor(pooling: &Pooling, x: &[f32], dy: &[f32]) -> Results {
    let Pooling { images, in_height, in_width, channels, out_height, out_width, kernel, stride, padding, .. } =
        *pooling;
    let input = Batch::new(Shape::Map { channels, height: in_height, width: in_width }, images, 1);
    let output = Batch::new(Shape::Map { channels, height: out_height, width: out_width }, images, 1);
    let window = Window { kernel, stride, padding };
    let shapes = crate::ops::pool2d::Pooling { input, output, window };
    let rows_first = |batch: &Batch, images: &[f32]| {
        let mut out = vec![f32::NAN; batch.len()];
        batch.from_images(images, &mut out);
        out
    };
    let (x, dy) = (rows_first(&input, x), rows_first(&output, dy));
    let (mut max, mut winners, mut average) = (vec![0.0; dy.len()], vec![0; dy.len()], vec![0.0; dy.len()]);
    cpu::max_forward(&shapes, &x, &mut max, &mut winners);
    cpu::average_forward(&shapes, &x, &mut average);
    let mut maps = [(); 4].map(|()| vec![1.0; x.len()]);
    for (accumulate, [max, average]) in [false, true].into_iter().zip(maps.as_chunks_mut::<2>().0) {
        cpu::max_backward(&shapes, &dy, &winners, max, accumulate);
        cpu::average_backward(&shapes, &dy, average, accumulate);
    }
    let [d_max, d_average, d_max_added, d_average_added] = maps.map(|map| images_first(&input, &map));
    let [max, average] = [max, average].map(|map| images_first(&output, &map));
    (vec![max, d_max, d_max_added, average, d_average, d_average_added], images_first(&output, &winners))
}

fn on_the_device(pooling: &Pooling, x: &[f32], dy: &[f32], order: Order) -> Results {
    let element = pooling.element;
    let mut gpu = Emulator::with(order, &[SOURCE], element);
    let from = gpu.place_stored(x, element);
    let gradient = gpu.place_stored(dy, element);
    let [max, average] = [(); 2].map(|()| gpu.place_stored(&vec![1.0; dy.len()], element));
    let winners = gpu.place(&vec![7; dy.len()]);
    let inputs = [(); 4].map(|()| gpu.place_stored(&vec![1.0; x.len()], element));
    let nodes = [
        cuda::max_forward(pooling, from, max, winners),
        cuda::average_forward(pooling, from, average),
        cuda::max_backward(pooling, gradient, winners, Delivery::Write(inputs[0])),
        cuda::max_backward(pooling, gradient, winners, Delivery::Accumulate(inputs[1])),
        cuda::average_backward(pooling, gradient, Delivery::Write(inputs[2])),
        cuda::average_backward(pooling, gradient, Delivery::Accumulate(inputs[3])),
    ];
    gpu.run(&nodes.concat()).expect("kernels");
    let mut read = |place: Address, n: usize| gpu.read(place, n, element);
    let outputs = [max, average].map(|place| read(place, dy.len()));
    let inputs = inputs.map(|place| read(place, x.len()));
    let mut bytes = vec![0; dy.len()];
    gpu.download(winners, &mut bytes).expect("a place of that size");
    let ([max, average], [a, b, c, d]) = (outputs, inputs);
    (vec![max, a, b, average, c, d], bytes)
}

fn check(pooling: &Pooling) {
    let (inputs, outputs) = (pooling.in_height * pooling.in_width, pooling.out_height * pooling.out_width);
    let map = pooling.images * pooling.channels;
    let mut stream = Stream::new(5, random::Address::of(Purpose::View));
    // Few distinct values, so that windows hold equal maxima; every sum of theirs is exact in bf16 too.
    let x: Vec<f32> = (0..map * inputs).map(|_| stream.below(5) as f32 - 2.0).collect();
    let dy: Vec<f32> = (0..map * outputs).map(|_| stream.below(16) as f32 - 8.0).collect();
    let (expected, winners) = on_the_processor(pooling, &x, &dy);
    for element in [Element::F32, Element::Bf16] {
        let pooling = Pooling { element, ..*pooling };
        let results = Order::SEVERAL.map(|order| on_the_device(&pooling, &x, &dy, order));
        assert!(results.iter().all(|result| *result == results[0]), "{pooling:?}");
        let (got, got_winners) = &results[0];
        assert_eq!(*got_winners, winners, "{pooling:?}");
        assert_eq!(got[..3], expected[..3], "{pooling:?}");
        let tolerance = if element == Element::F32 { 1e-6 } else { 1.0 / 256.0 };
        for (got, expected) in got[3..].iter().flatten().zip(expected[3..].iter().flatten()) {
            assert!((got - expected).abs() <= tolerance * expected.abs() + 1e-6, "{got} for {expected}: {pooling:?}");
        }
    }
}

#[test]
fn agrees_with_the_processor() {
    check(&pooling(3, (9, 6), 16, [3, 2, 1]));
    check(&pooling(2, (5, 7), 11, [3, 2, 1]));
    check(&pooling(5, (7, 7), 1, [2, 2, 0]));
    check(&pooling(2, (1, 1), 8, [3, 1, 1]));
    check(&pooling(2, (6, 6), 24, [3, 3, 0]));
    check(&pooling(2, (9, 9), 2, [1, 2, 0]));
    check(&pooling(1, (4, 4), 2056, [2, 1, 0]));
}

#[test]
fn negative_values_and_not_a_number_win_over_padding() {
    for channels in [1, 8] {
        let pooling = pooling(2, (1, 2), channels, [3, 1, 1]);
        let x: Vec<f32> = [f32::NEG_INFINITY, f32::NEG_INFINITY, 1.0, f32::NAN]
            .into_iter()
            .flat_map(|value| vec![value; channels])
            .collect();
        let (maps, winners) = on_the_device(&pooling, &x, &vec![1.0; x.len()], Order::FORWARD);
        for (at, (y, winner)) in maps[0].iter().zip(&winners).enumerate() {
            let expected = [(false, 4), (false, 3), (true, 5), (true, 4)][at / channels];
            assert_eq!((y.is_nan(), *winner), expected, "at {at}");
            assert!(y.is_nan() || *y == f32::NEG_INFINITY);
        }
    }
}

#[test]
fn nothing_to_do_is_no_node() {
    let pooling = pooling(2, (4, 4), 8, [2, 2, 0]);
    let (here, there) = (Address(256), Address(512));
    assert!(cuda::max_backward(&pooling, here, there, Delivery::Skip).is_empty());
    assert!(cuda::average_forward(&Pooling { images: 0, ..pooling }, here, there).is_empty());
}
