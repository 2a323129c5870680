use std::collections::HashMap;

use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};

use crate::checkpoint::{CheckpointError, Content, Position, Reader, Tensor, write};
use crate::record::EpochCost;

fn cost(epoch: u32) -> EpochCost {
    let [images_per_s, views_s, gradient_s, update_s, other_s] = [1.5, 0.25, 1e-9, 0.0, 3.0];
    EpochCost { epoch, steps: 2, images_per_s, views_s, gradient_s, update_s, other_s }
}

fn position() -> Position {
    Position { step: 7, slots: vec!["momentum"], epochs: vec![cost(0), cost(1)] }
}

fn numbers<'a>(name: &str, shape: &[usize], values: &'a [f32]) -> Tensor<'a> {
    Tensor { name: name.to_owned(), shape: shape.to_vec(), content: Content::Numbers(values) }
}

fn small() -> Vec<u8> {
    let history = Tensor { name: "history".to_owned(), shape: vec![3], content: Content::Bytes(b"abc") };
    write(&[numbers("w", &[2, 2], &[1.0, -0.0, f32::MIN_POSITIVE, f32::MAX]), history], &position()).unwrap()
}

/// A safetensors file with this header text and data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn with_metadata(ablate: &str) -> Vec<u8> {
    let tensors: Vec<(&str, TensorView)> = Vec::new();
    safetensors::serialize(tensors, Some(HashMap::from([("ablate".to_owned(), ablate.to_owned())]))).unwrap()
}

#[test]
fn what_is_written_is_read() {
    let bytes = small();
    assert_eq!(bytes, small(), "the same state gives the same bytes");
    let reader = Reader::open(&bytes).unwrap();
    assert_eq!(reader.position, position());
    assert_eq!(reader.shapes(), [("history".to_owned(), vec![3]), ("w".to_owned(), vec![2, 2])]);
    let mut values = [9.0; 4];
    reader.numbers("w", &[2, 2], &mut values).unwrap();
    assert_eq!(values.map(f32::to_bits), [1.0, -0.0, f32::MIN_POSITIVE, f32::MAX].map(f32::to_bits));
    assert_eq!(reader.bytes("history").unwrap(), Some(b"abc".as_slice()));
    assert_eq!(reader.bytes("nothing").unwrap(), None);
}

#[test]
fn numbers_that_are_not_finite_are_refused_by_place() {
    let patterns = [0x7FC0_0000, 0xFFC0_0000, 0x7F80_0001, 0x7FFF_FFFF, 0x7F80_0000, 0xFF80_0000];
    for (index, bits) in patterns.into_iter().enumerate() {
        let mut values = [0.5; 8];
        values[index] = f32::from_bits(bits);
        let bytes = write(&[numbers("w", &[8], &values)], &position()).unwrap();
        let error = Reader::open(&bytes).unwrap().numbers("w", &[8], &mut [0.0; 8]).expect_err("not finite");
        let expected = format!("tensor `w` is {} at element {index}, expected finite numbers", f32::from_bits(bits));
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn another_shape_or_kind_is_refused() {
    let bytes = small();
    let reader = Reader::open(&bytes).unwrap();
    let check = |name: &str, shape: &[usize], expected: &str| {
        let len = shape.iter().product();
        let error = reader.numbers(name, shape, &mut vec![0.0; len]).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    };
    check("v", &[2, 2], "tensor `v` is missing");
    check("w", &[4], "tensor `w` is F32 [2, 2], expected F32 [4]");
    check("w", &[2, 3], "tensor `w` is F32 [2, 2], expected F32 [2, 3]");
    check("history", &[3], "tensor `history` is U8 [3], expected F32 [3]");
    assert!(reader.numbers("w", &[2, 2], &mut [0.0; 3]).is_err(), "a place of another length");
    let error = reader.bytes("w").expect_err("numbers").to_string();
    assert_eq!(error, "tensor `w` is F32 [2, 2], expected U8 of one dimension");
    assert!(write(&[numbers("w", &[3], &[1.0])], &position()).is_err(), "a shape of other numbers");
    let error = write(&[numbers("w", &[1], &[1.0]), numbers("w", &[1], &[2.0])], &position()).expect_err("twice");
    assert_eq!(error.to_string(), "tensor `w` is given twice");
}

#[test]
fn metadata_is_not_believed() {
    let check = |metadata: &str, expected: &str| {
        let error = Reader::open(&with_metadata(metadata)).expect_err(metadata).to_string();
        assert!(error.contains(expected), "{metadata}: {error}");
    };
    check("", "metadata entry `ablate` is missing or unreadable");
    check(r#"{"format":2,"step":0,"slots":[],"epochs":[]}"#, "format 2, this program reads 1");
    check(r#"{"format":1,"step":-1,"slots":[],"epochs":[]}"#, "invalid value: integer `-1`");
    check(r#"{"format":1,"step":0,"slots":[],"epochs":[],"x":1}"#, "unknown field `x`");
    check(r#"{"format":1,"step":0,"slots":["velocity"],"epochs":[]}"#, "unknown optimizer slot `velocity`");
    // Each slot takes as much memory as all parameters.
    let many = r#""momentum","#.repeat(100_000);
    let repeated = format!(r#"{{"format":1,"step":0,"slots":[{many}"momentum"],"epochs":[]}}"#);
    check(&repeated, "optimizer slot `momentum` is given twice");
    check(&"[".repeat(100_000), "metadata entry `ablate` is missing or unreadable");
    assert!(Reader::open(&with_metadata(r#"{"format":1,"step":0,"slots":[],"epochs":[]}"#)).is_ok());
}

#[test]
fn headers_that_lie_are_refused() {
    let ablate = r#""__metadata__":{"ablate":"{\"format\":1,\"step\":0,\"slots\":[],\"epochs\":[]}"}"#;
    let opened = |header: &str, data: &[u8]| Reader::open(&file(header, data)).map(|reader| reader.shapes());
    let tensor = |shape: &str, start: u64, end: u64| {
        format!(r#"{{{ablate},"w":{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}}}"#)
    };
    assert!(opened(&tensor("[1]", 0, 4), &[0; 4]).is_ok());
    for (shape, start, end, n_bytes) in [
        ("[1]", 0, 4, 3),
        ("[1]", 0, 4, 5),
        ("[1]", 4, 8, 8),
        ("[2]", 0, 4, 4),
        ("[1]", 4, 0, 4),
        ("[4611686018427387904]", 0, 0, 0),
        ("[4611686018427387904,4611686018427387904]", 0, 0, 0),
        ("[18446744073709551616]", 0, 4, 4),
        ("[-1]", 0, 4, 4),
        ("[4294967296]", 0, 17_179_869_184, 4),
    ] {
        assert!(opened(&tensor(shape, start, end), &vec![0; n_bytes]).is_err(), "{shape} {start}..{end} of {n_bytes}");
    }
    for length in [0, 1, 1 << 26, 1 << 32, u64::MAX - 7, u64::MAX] {
        let bytes = [length.to_le_bytes().as_slice(), b"{}"].concat();
        assert!(Reader::open(&bytes).is_err(), "a header of {length} bytes");
    }
    for header in ["{".repeat(200_000), "[".repeat(200_000), r#"{"a":"#.repeat(200_000)] {
        assert!(matches!(Reader::open(&file(&header, &[])), Err(CheckpointError::Safetensors(_))));
    }
}

/// Two tensors of one name: the later one counts, and the file is as long as both or it is refused.
#[test]
fn a_name_that_comes_twice_is_never_two_tensors() {
    let ablate = r#""__metadata__":{"ablate":"{\"format\":1,\"step\":0,\"slots\":[],\"epochs\":[]}"}"#;
    let both = |second: &str| {
        let first = r#""w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        format!(r#"{{{ablate},{first},"w":{{"dtype":"F32","shape":[1],"data_offsets":{second}}}}}"#)
    };
    assert!(Reader::open(&file(&both("[4,8]"), &[0; 8])).is_err());
    let bytes = file(&both("[0,4]"), &[0; 4]);
    assert_eq!(Reader::open(&bytes).map(|reader| reader.shapes().len()).unwrap_or(1), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_never_panics(at in any::<prop::sample::Index>(), put in prop::collection::vec(any::<u8>(), 0..9)) {
        let mut bytes = small();
        let at = at.index(bytes.len());
        let end = (at + put.len()).min(bytes.len());
        bytes.splice(at..end, put);
        if let Ok(reader) = Reader::open(&bytes) {
            for (name, shape) in reader.shapes() {
                // A shape may be of zero elements and still name huge sides.
                let len = shape.iter().try_fold(1usize, |len, side| len.checked_mul(*side)).unwrap_or(0).min(64);
                let mut values = vec![0.0; len];
                let is_read = reader.numbers(&name, &shape, &mut values).is_ok();
                prop_assert!(!is_read || values.iter().all(|value| value.is_finite()));
            }
        }
    }

    #[test]
    fn a_cut_file_is_refused(at in any::<prop::sample::Index>()) {
        let bytes = small();
        prop_assert!(Reader::open(&bytes[..at.index(bytes.len())]).is_err());
    }
}

#[test]
fn the_kinds_of_numbers_are_those_of_torch() {
    let bytes = small();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.tensor("w").unwrap().dtype(), Dtype::F32);
}
