use crate::model::plan::Shape;
use crate::ops::batch::Batch;
use crate::ops::global_average_pool::cpu;

fn check(images: usize, height: usize, width: usize, channels: usize) {
    let batch = Batch::new(Shape::Map { channels, height, width }, images, 2);
    let x: Vec<f32> = (0..batch.len()).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    let mut y = vec![f32::NAN; images * channels];
    cpu::forward(&batch, &x, &mut y);
    let dy: Vec<f32> = (0..y.len()).map(|i| ((i * 53) % 97) as f32 - 48.0).collect();
    let mut dx = vec![f32::NAN; x.len()];
    cpu::backward(&batch, &dy, &mut dx, false);
    let mut twice = dx.clone();
    cpu::backward(&batch, &dy, &mut twice, true);
    let area = (height * width) as f64;
    for image in 0..images {
        for c in 0..channels {
            let places = (0..height).flat_map(|h| (0..width).map(move |w| (h, w)));
            let at = |(h, w)| batch.offset(h, image) + w * channels + c;
            let mean = places.clone().map(|place| f64::from(x[at(place)])).sum::<f64>() / area;
            assert!((f64::from(y[image * channels + c]) - mean).abs() < 1e-6);
            let expected = f64::from(dy[image * channels + c]) / area;
            for place in places {
                assert!((f64::from(dx[at(place)]) - expected).abs() <= 1e-6 * expected.abs());
                assert_eq!(twice[at(place)], 2.0 * dx[at(place)]);
            }
        }
    }
}

#[test]
fn means_and_their_gradients() {
    check(2, 1, 1, 5);
    check(6, 4, 4, 16);
    check(140, 7, 7, 3);
    check(0, 2, 2, 3);
}
