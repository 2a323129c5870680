use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Element, Gpu, bf16_from_f32, f32_from_bf16};
use crate::ops::precision::cuda::{SOURCE, add, narrow, pad, widen};

fn rounded(values: &[f32], element: Element) -> Vec<f32> {
    match element {
        Element::F32 => values.to_vec(),
        Element::Bf16 => values.iter().map(|value| f32_from_bf16(bf16_from_f32(*value))).collect(),
    }
}

#[test]
fn there_and_back_is_a_rounding() {
    let values: Vec<f32> = (0..517).map(|i| (i as f32 - 250.0) * 0.013).collect();
    for element in [Element::F32, Element::Bf16] {
        let mut emulator = Emulator::with(Order::FORWARD, &[SOURCE], element);
        let (input, middle) = (emulator.place_f32(&values), emulator.place_stored(&[0.0; 517], element));
        let out = emulator.place_f32(&[0.0; 517]);
        emulator.run(&[narrow(middle, input, 517), widen(out, middle, 517), add(out, input, 517)]).expect("kernels");
        let expected: Vec<f32> = rounded(&values, element).iter().zip(&values).map(|(a, b)| a + b).collect();
        assert_eq!(emulator.read(middle, 517, element), rounded(&values, element));
        assert_eq!(emulator.read_f32(out, 517), expected);
    }
}

#[test]
fn padding_is_zero() {
    let values: Vec<f32> = (0..3 * 70).map(|i| i as f32).collect();
    let mut emulator = Emulator::with(Order::FORWARD, &[SOURCE], Element::F32);
    let (input, out) = (emulator.place_f32(&values), emulator.place_f32(&[f32::NAN; 8 * 70]));
    emulator.run(&[pad(out, input, 70, 3, 8)]).expect("a kernel");
    for (pixel, padded) in values.chunks(3).zip(emulator.read_f32(out, 8 * 70).chunks(8)) {
        assert_eq!((&padded[..3], &padded[3..]), (pixel, &[0.0; 5][..]));
    }
}
