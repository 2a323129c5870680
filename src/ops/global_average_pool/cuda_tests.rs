use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Address, Element, Gpu, loaded, stored};
use crate::model::plan::Shape;
use crate::ops::batch::Batch;
use crate::ops::global_average_pool::cpu;
use crate::ops::global_average_pool::cuda::{self, SOURCE, Sizes};
use crate::ops::kernels::Delivery;

fn check(sizes: Sizes) {
    let Sizes { images, positions, channels, element } = sizes;
    let n = images * positions * channels;
    let kept = |values: Vec<f32>| loaded(&stored(&values, element), element);
    let x = kept((0..n).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect());
    let dy = kept((0..images * channels).map(|i| ((i * 53) % 97) as f32 / 8.0 - 6.0).collect());
    // One row a map: its layout is the same on both sides.
    let batch = Batch::new(Shape::Map { channels, height: 1, width: positions }, images, 1);
    let mut mean = vec![f32::NAN; images * channels];
    cpu::forward(&batch, &x, &mut mean);
    let mut slope = vec![f32::NAN; n];
    cpu::backward(&batch, &dy, &mut slope, false);
    let tolerance = if element == Element::F32 { 1e-6 } else { 1.0 / 256.0 };
    let close = |got: f32, expected: f32| {
        assert!((got - expected).abs() <= tolerance * expected.abs() + 1e-6, "{got} for {expected}: {sizes:?}");
    };
    let results = Order::SEVERAL.map(|order| {
        let mut gpu = Emulator::with(order, &[SOURCE], element);
        let (from, to) = (gpu.place_stored(&x, element), gpu.place_stored(&vec![f32::NAN; mean.len()], element));
        let gradient = gpu.place_stored(&dy, element);
        let (written, added) =
            (gpu.place_stored(&vec![f32::NAN; n], element), gpu.place_stored(&vec![2.0; n], element));
        gpu.run(&cuda::forward(&sizes, from, to)).expect("a kernel");
        gpu.run(&cuda::backward(&sizes, gradient, Delivery::Write(written))).expect("a kernel");
        gpu.run(&cuda::backward(&sizes, gradient, Delivery::Accumulate(added))).expect("a kernel");
        [gpu.read(to, mean.len(), element), gpu.read(written, n, element), gpu.read(added, n, element)]
    });
    assert!(results.iter().all(|result| *result == results[0]), "{sizes:?}");
    let [y, dx, added] = &results[0];
    y.iter().zip(&mean).for_each(|(got, expected)| close(*got, *expected));
    dx.iter().zip(&slope).for_each(|(got, expected)| close(*got, *expected));
    added.iter().zip(&slope).for_each(|(got, expected)| close(*got, expected + 2.0));
}

#[test]
fn means_and_their_gradients() {
    for element in [Element::F32, Element::Bf16] {
        for (images, positions, channels) in [(2, 1, 5), (6, 16, 24), (5, 49, 11), (40, 4, 72)] {
            check(Sizes { images, positions, channels, element });
        }
    }
}

#[test]
fn nothing_to_do_is_no_node() {
    let sizes = Sizes { images: 3, positions: 4, channels: 8, element: Element::F32 };
    assert!(cuda::backward(&sizes, Address(256), Delivery::Skip).is_empty());
    assert!(cuda::forward(&Sizes { images: 0, ..sizes }, Address(256), Address(512)).is_empty());
}
