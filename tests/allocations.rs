//! A training step on the processor allocates nothing: all its memory is there before the first.
//!
//! A program of its own, because every allocation of the process is counted.

use ablate::bench::{model, setting};
use ablate::executor::cpu::CpuExecutor;
use ablate::executor::{Executor, Setting, State};
use ablate::experiment::recipe::{BatchNormScope, DecayScope, LarsFlavour, Loss, Numerics, Optimizer, Stem};
use ablate::model::{initialize::initialize, registry};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const BATCH: usize = 4;

/// Beyond this a step is done as it will be ever after.
const STEPS_BEFORE: usize = 2;
const STEPS: usize = 4;

/// The queue that hands work to a pool of threads takes a block for every 63 pieces, so that one may fall into these steps.
const QUEUE_BLOCKS_MAX: u64 = 1;

/// On one thread, so that none meets its first product later than the others.
fn one_thread() -> Setting {
    setting(BATCH, Numerics::F32, 1, 0)
}

fn check(stem: Stem, setting: &Setting) {
    let plan = registry::plan(&model(stem)).expect("a compiled model");
    let (parameters, buffers) = initialize(&plan, model(stem).initialization, 0);
    let view_len = plan.shape(plan.input).len();
    let mut executor = CpuExecutor::new(plan, setting).expect("an executor");
    let state = State { parameters, buffers, ..executor.save() };
    executor.load(&state);
    let n_values = setting.n_views * BATCH * view_len;
    let views: Vec<f32> = (0..n_values).map(|index| (index * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
    let labels: Vec<u32> = if setting.loss.has_labels() { (0..BATCH as u32).collect() } else { Vec::new() };
    let mut steps = |n: usize| {
        for _ in 0..n {
            let loss = executor.forward_backward_labelled(&views, &labels).expect("a step");
            assert!(loss.is_finite(), "{setting:?}");
            executor.update(1e-4);
        }
    };
    steps(STEPS_BEFORE);
    let _profiler = dhat::Profiler::builder().testing().build();
    steps(STEPS);
    let counted = dhat::HeapStats::get();
    assert!(
        counted.total_blocks <= QUEUE_BLOCKS_MAX,
        "{} allocations of {} bytes in {STEPS} steps: {stem:?} {setting:?}",
        counted.total_blocks,
        counted.total_bytes
    );
}

#[test]
fn a_step_allocates_nothing() {
    let with_loss = |loss| Setting { loss, ..one_thread() };
    let with_optimizer = |optimizer| Setting { optimizer, ..one_thread() };
    let decay = DecayScope::Weights;
    for stem in [Stem::ImageNet, Stem::Cifar] {
        check(stem, &one_thread());
    }
    for loss in [
        Loss::NtXent { normalize: false, scale: 0.1 },
        Loss::NtXentMemoryBank { size: 16 },
        Loss::Dcl,
        Loss::Dclw { sigma: 0.5 },
        Loss::NtLogistic { semi_hard: true },
        Loss::MarginTriplet { margin: 0.5, semi_hard: true },
        Loss::MarginTriplet { margin: 0.5, semi_hard: false },
        Loss::CrossEntropy { label_smoothing: 0.1 },
    ] {
        check(Stem::ImageNet, &with_loss(loss));
    }
    for optimizer in [
        Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-4, decay },
        Optimizer::Lars {
            flavour: LarsFlavour::Google,
            momentum: 0.9,
            weight_decay: 1e-4,
            trust_coefficient: 1e-3,
            decay,
        },
    ] {
        check(Stem::ImageNet, &with_optimizer(optimizer));
    }
    let batch_norm_scope = BatchNormScope::MicroBatchView;
    check(Stem::ImageNet, &Setting { micro_batch: Some(2), batch_norm_scope, ..one_thread() });
}
