//! A checkpoint's safetensors: what is accepted has the sizes it says, finite numbers, and comes back when written.
#![no_main]

use ablate::checkpoint::{Content, Reader, Tensor, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(reader) = Reader::open(data) else { return };
    let shapes = reader.shapes();
    assert!(shapes.windows(2).all(|pair| pair[0].0 < pair[1].0), "a name twice");
    let mut numbers = Vec::new();
    let mut total = 0;
    for (name, shape) in &shapes {
        if let Ok(Some(bytes)) = reader.bytes(name) {
            assert_eq!(shape, &[bytes.len()]);
            total += bytes.len();
        }
        let Some(len) = shape.iter().try_fold(1usize, |len, side| len.checked_mul(*side)) else { continue };
        if len > data.len() {
            assert!(reader.numbers(name, shape, &mut [0.0; 3]).is_err(), "more numbers than there are bytes");
            continue;
        }
        let mut values = vec![0.0; len];
        if reader.numbers(name, shape, &mut values).is_ok() {
            assert!(values.iter().all(|value| value.is_finite()));
            assert!(reader.numbers(name, shape, &mut vec![0.0; len + 1]).is_err());
            assert!(reader.numbers(name, &[shape.as_slice(), &[1]].concat(), &mut values.clone()).is_err());
            total += len * 4;
            numbers.push((name.clone(), shape.clone(), values));
        }
    }
    assert!(total <= data.len(), "{total} bytes of {}", data.len());
    let tensors: Vec<Tensor> = numbers
        .iter()
        .map(|(name, shape, values)| Tensor {
            name: name.clone(),
            shape: shape.clone(),
            content: Content::Numbers(values),
        })
        .collect();
    let written = write(&tensors, &reader.position).expect("what was read can be written");
    let again = Reader::open(&written).expect("what was written can be read");
    assert_eq!(again.position, reader.position);
    for (name, shape, values) in &numbers {
        let mut read = vec![0.0; values.len()];
        again.numbers(name, shape, &mut read).expect("what was written");
        assert!(read.iter().zip(values).all(|(one, other)| one.to_bits() == other.to_bits()));
    }
});
