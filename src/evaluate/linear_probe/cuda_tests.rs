//! The probe on the emulation of a GPU against the processor's.

use super::cuda::{self, SOURCE};
use super::{Classifier, Features};
use crate::device::Pool;
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Element, Gpu, GpuError};
use crate::evaluate::EvaluateError;
use crate::experiment::recipe::LinearProbe;
use crate::ops::nt_xent::golden::values_f32;

/// Noise around one centre a class, one feature that is constant.
fn clusters(seed: u64, n: usize, width: usize, n_classes: usize) -> Features {
    let centres = values_f32(77, n_classes * width, 1.0);
    let mut values = values_f32(seed, n * width, 2.0);
    let labels: Vec<u32> = (0..n).map(|row| (row * row + row / 3) as u32 % n_classes as u32).collect();
    for (values, &label) in values.chunks_exact_mut(width).zip(&labels) {
        let centre = &centres[label as usize * width..][..width];
        values.iter_mut().zip(centre).for_each(|(value, centre)| *value += centre);
        values[width / 2] = 0.25;
    }
    Features { values, width, labels }
}

fn probe(batch: u32) -> LinearProbe {
    LinearProbe {
        epochs: 3,
        batch,
        learning_rate: 0.5,
        momentum: 0.9,
        weight_decay: 1e-2,
        seed: 3,
        ..LinearProbe::DEFAULT
    }
}

fn emulator(order: Order) -> Emulator {
    let mut emulator = Emulator::strict(order);
    emulator.load(&[SOURCE], Element::F32).expect("the kernels compile");
    emulator
}

fn numbers(classifier: &Classifier) -> Vec<f32> {
    [classifier.weights.as_slice(), &classifier.bias].concat()
}

#[test]
fn weights_are_the_processors() {
    // The last batch is smaller, or the only one, or as large as the others; rows of every remainder by four; more classes
    // than lanes.
    for (n, width, n_classes, batch) in [(64, 8, 3, 24), (30, 7, 2, 100), (36, 5, 40, 12), (33, 6, 4, 10), (5, 1, 1, 2)]
    {
        let bank = clusters(5, n, width, n_classes);
        let wanted = super::train(&bank, n_classes, &probe(batch));
        let found = cuda::train(&mut emulator(Order::FORWARD), &bank, n_classes, &probe(batch)).expect("a training");
        let (found, wanted) = (numbers(&found), numbers(&wanted));
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!((found - wanted).abs() < 1e-5, "{n} × {width}, batch {batch}: {found}, {wanted} wanted");
        }
        assert!(n_classes == 1 || wanted.iter().any(|weight| weight.abs() > 1e-2));
    }
}

#[test]
fn rankings_are_the_processors_in_every_order() {
    let (bank, queries) = (clusters(5, 64, 8, 3), clusters(6, 50, 8, 3));
    let pool = Pool::new(1);
    let wanted = super::classify(&bank, &queries, 3, &probe(24), &pool).expect("a training");
    let n_right = wanted.iter().zip(&queries.labels).filter(|(found, label)| u32::from(found.first()) == **label);
    assert!((20..50).contains(&n_right.count()));
    for order in Order::SEVERAL {
        let found = cuda::classify(&mut emulator(order), &bank, &queries, 3, &probe(24), &pool);
        assert_eq!(found.as_ref(), Ok(&wanted), "{order:?}");
    }
}

#[test]
fn the_bits_are_the_same_in_every_order() {
    let bank = clusters(7, 40, 9, 5);
    let bits = |order: Order| {
        let classifier = cuda::train(&mut emulator(order), &bank, 5, &probe(16)).expect("a training");
        numbers(&classifier).into_iter().map(f32::to_bits).collect::<Vec<u32>>()
    };
    let forward = bits(Order::FORWARD);
    for order in &Order::SEVERAL[1..] {
        assert_eq!(forward, bits(*order), "{order:?}");
    }
}

/// More queries than go to the device at a time.
#[test]
fn every_query_is_ranked() {
    let (bank, queries) = (clusters(5, 20, 3, 2), clusters(6, 4500, 3, 2));
    let (pool, probe) = (Pool::new(1), probe(20));
    let found = cuda::classify(&mut emulator(Order::FORWARD), &bank, &queries, 2, &probe, &pool);
    assert_eq!(found, Ok(super::classify(&bank, &queries, 2, &probe, &pool).expect("a training")));
}

#[test]
fn the_devices_memory_is_given_back() {
    let (bank, pool) = (clusters(5, 20, 3, 2), Pool::new(1));
    let mut gpu = emulator(Order::FORWARD);
    let free = gpu.properties().free_bytes;
    let wild = LinearProbe { learning_rate: 1e300, ..probe(20) };
    let diverged = EvaluateError::Diverged { learning_rate: 1e300 };
    assert_eq!(cuda::classify(&mut gpu, &bank, &bank, 2, &wild, &pool), Err(diverged));
    assert_eq!(gpu.properties().free_bytes, free);
    assert!(cuda::classify(&mut gpu, &bank, &bank, 2, &probe(20), &pool).is_ok());
    assert_eq!(gpu.properties().free_bytes, free);
    let found = cuda::classify(&mut Emulator::with_memory(100), &bank, &bank, 2, &probe(20), &pool);
    assert!(matches!(found, Err(EvaluateError::Gpu(GpuError::OutOfMemory { free_bytes: 100, .. }))), "{found:?}");
}

#[test]
fn what_cannot_be_learned_is_refused() {
    let (good, pool) = (clusters(5, 20, 3, 2), Pool::new(1));
    let refused = |bank: &Features, queries: &Features, n_classes: usize| {
        let found = cuda::classify(&mut emulator(Order::FORWARD), bank, queries, n_classes, &probe(20), &pool);
        found.expect_err("features that do not fit").to_string()
    };
    let empty = Features { values: vec![], width: 3, labels: vec![] };
    assert!(refused(&empty, &good, 2).contains("no features in the bank"));
    assert!(refused(&good, &empty, 2).contains("no features in the queries"));
    assert!(refused(&good, &good, 1).contains("there are only 1 classes"));
    assert!(refused(&good, &clusters(5, 20, 4, 2), 2).contains("3 wide and the queries' 4"));
}
