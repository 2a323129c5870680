//! Evaluations with the `cuda` executor on an emulated device: where they are computed, and what a failure is called.

use super::evaluation_failure;
use crate::device::Pool;
use crate::device::emulator::Emulator;
use crate::device::gpu::GpuError;
use crate::evaluate::cuda::LoadedKernels;
use crate::evaluate::{self, EvaluateError, Features, evaluated};
use crate::executor::cpu::tests::build::resnet18;
use crate::executor::cuda::CudaExecutor;
use crate::executor::{ExecutorError, Resident, Setting};
use crate::experiment::recipe::{BatchNormScope, Classification, DecayScope, Knn, LinearProbe, Loss, Metric, Numerics};
use crate::experiment::recipe::{Optimizer, Stem};
use crate::record::FailureKind;

const N_CLASSES: u32 = 3;

/// An executor on a device of as much memory, or of as little as it says it needs.
fn executor(memory_bytes: Option<u64>) -> CudaExecutor {
    let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0, decay: DecayScope::All };
    let setting = Setting {
        batch: 2,
        n_views: 2,
        micro_batch: None,
        loss: Loss::NT_XENT,
        temperature: 0.5,
        batch_norm_scope: BatchNormScope::View,
        optimizer,
        numerics: Numerics::Bf16,
        threads: 1,
        device: 0,
    };
    let of = |memory_bytes: u64| {
        let gpu = Box::new(Emulator::with_memory(memory_bytes));
        CudaExecutor::new(gpu, resnet18(Stem::Cifar, 8, 8, 8, 8), &setting)
    };
    match of(memory_bytes.unwrap_or(0)) {
        Ok(executor) => executor,
        Err(ExecutorError::OutOfGpuMemory { needed_bytes, .. }) => of(needed_bytes).expect("memory as asked for"),
        Err(error) => panic!("{error}"),
    }
}

/// Classes in three corners, and images between them.
fn features(n: usize) -> Features {
    let row =
        |row: usize| [(row % 3) as f32, (row * row % 7) as f32 * 0.3, 1.0 - (row % 3) as f32 * 0.7 + row as f32 * 0.01];
    Features {
        values: (0..n).flat_map(row).collect(),
        width: 3,
        labels: (0..n).map(|row| (row % 3 + usize::from(row.is_multiple_of(4))) as u32 % N_CLASSES).collect(),
    }
}

fn every_evaluation() -> [Classification; 3] {
    let knn = |metric| Classification::Knn(Knn { k: 5, temperature: 0.1, metric, ..Knn::DEFAULT });
    let probe = LinearProbe { epochs: 2, batch: 16, learning_rate: 0.4, seed: 1, ..LinearProbe::DEFAULT };
    [knn(Metric::Cosine), knn(Metric::Euclidean), Classification::LinearProbe(probe)]
}

#[test]
fn a_resident_executor_evaluates_on_its_device() {
    let (features, pool) = ([features(40), features(25)], Pool::new(1));
    let (mut executor, mut kernels) = (executor(Some(1 << 30)), LoadedKernels::default());
    for evaluation in every_evaluation() {
        let [bank, queries] = &features;
        let wanted = evaluate::evaluate(&evaluation, bank, queries, N_CLASSES, &pool, None);
        assert!(wanted.is_ok());
        let found =
            evaluated(&evaluation, [&features[0], &features[1]], N_CLASSES, &pool, (&mut executor, &mut kernels));
        assert_eq!(found, wanted, "{evaluation:?}");
    }
}

#[test]
fn a_full_device_is_out_of_memory_and_other_words_of_it_are_not() {
    let (features, pool) = ([features(40), features(25)], Pool::new(1));
    let (mut executor, mut kernels) = (executor(None), LoadedKernels::default());
    let gpu = executor.gpu();
    let free_bytes = gpu.properties().free_bytes as usize;
    gpu.allocate(free_bytes).expect("what is free");
    for evaluation in every_evaluation() {
        let found =
            evaluated(&evaluation, [&features[0], &features[1]], N_CLASSES, &pool, (&mut executor, &mut kernels));
        let failure = evaluation_failure(&found.expect_err("no memory is left"));
        assert_eq!(failure.kind, FailureKind::OutOfMemory, "{evaluation:?}: {}", failure.message);
        assert!(failure.message.contains("bytes of the device's memory, 0 are free"), "{}", failure.message);
    }
    let lost = EvaluateError::Gpu(GpuError::Call { call: "synchronize", reason: "the device is lost".to_owned() });
    let failure = evaluation_failure(&lost);
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Other, "synchronize failed: the device is lost")
    );
}
