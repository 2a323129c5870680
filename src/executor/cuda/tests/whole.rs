use super::{SGD, bits, distance, emulated, kinds, norm, on_cpu, setting, smooth, start, views};
use crate::data::Images;
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::GpuError;
use crate::executor::cpu::tests::build::resnet18;
use crate::executor::cuda::memory::refusal;
use crate::executor::cuda::{CudaExecutor, planned_bytes};
use crate::executor::{Executor, ExecutorError, Feed, Resident, Setting};
use crate::experiment::recipe::{BatchNormScope, DecayScope, LarsFlavour, Numerics, Optimizer, Stem};
use crate::model::plan::Plan;
use crate::views::Pipeline;

/// Both stems: at side 32 the ImageNet stem ends in maps of one pixel, at side 16 the CIFAR stem in maps of 2 × 2.
fn networks() -> [Plan; 2] {
    [smooth(Stem::ImageNet, 32), smooth(Stem::Cifar, 16)]
}

#[test]
fn one_step_in_f32_agrees_with_the_cpu() {
    for plan in networks() {
        for scope in [BatchNormScope::View, BatchNormScope::Joint] {
            let setting = Setting { batch_norm_scope: scope, ..setting(6, Numerics::F32) };
            let (mut found, mut expected) = (emulated(&plan, &setting, Order::FORWARD), on_cpu(&plan, &setting));
            let views = views(&plan, 6, 1);
            let losses = [&mut found as &mut dyn Executor, &mut expected].map(|executor| {
                let loss = executor.forward_backward(&views).expect("views fit");
                executor.update(0.05);
                loss
            });
            assert!((losses[0] - losses[1]).abs() < 1e-5 * losses[1], "{losses:?}");
            let far = distance(&found.gradients(), &expected.gradients());
            assert!(far < 3e-5, "gradients {far:e}");
            let far = distance(&found.projections(), &expected.projections());
            assert!(far < 1e-5, "projections {far:e}");
            let (found_state, expected_state) = (found.save(), expected.save());
            assert_eq!(found_state.step, 1);
            let far = distance(&found_state.buffers, &expected_state.buffers);
            assert!(far < 1e-5, "running statistics {far:e}");
            let far = distance(&found_state.parameters, &expected_state.parameters);
            assert!(far < 1e-5, "parameters {far:e}");
            expected.load(&found_state);
            let images = &views[..2 * plan.shape(plan.input).len()];
            let features = [found.features(images), expected.features(images)].map(|features| features.expect("fit"));
            let far = distance(&features[0], &features[1]);
            assert!(norm(&features[1]) > 0.0 && far < 1e-5, "features {far:e}");
        }
    }
}

/// ReLU, its mask from the output where there is a residual: two executors round differently next to a kink, so the bounds
/// are those the processor's two executors keep to each other.
#[test]
fn one_step_with_relu_agrees_with_the_cpu() {
    let plan = resnet18(Stem::Cifar, 16, 8, 16, 8);
    let setting = setting(6, Numerics::F32);
    let (mut found, mut expected) = (emulated(&plan, &setting, Order::FORWARD), on_cpu(&plan, &setting));
    let views = views(&plan, 6, 3);
    let losses = [&mut found as &mut dyn Executor, &mut expected]
        .map(|executor| executor.forward_backward(&views).expect("views fit"));
    assert!((losses[0] - losses[1]).abs() < 1e-5 * losses[1], "{losses:?}");
    let far = distance(&found.gradients(), &expected.gradients());
    assert!(far < 2e-3, "gradients {far:e}");
}

#[test]
fn every_optimizer_moves_as_on_the_cpu() {
    let plan = smooth(Stem::Cifar, 16);
    let lars = Optimizer::Lars {
        flavour: LarsFlavour::Google,
        momentum: 0.9,
        weight_decay: 1e-4,
        trust_coefficient: 1e-3,
        decay: DecayScope::Weights,
    };
    let adam = Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-6, decay: DecayScope::All };
    for (optimizer, rate) in [(SGD, 0.05), (lars, 0.5), (adam, 1e-3)] {
        let setting = Setting { optimizer, ..setting(6, Numerics::F32) };
        let (mut found, mut expected) = (emulated(&plan, &setting, Order::FORWARD), on_cpu(&plan, &setting));
        for step in 0..2 {
            let views = views(&plan, 6, step);
            let norms = [&mut found as &mut dyn Executor, &mut expected].map(|executor| {
                executor.forward_backward(&views).expect("views fit");
                executor.update_measured(rate)
            });
            // Adam's first steps take the sign of a gradient, which next to 0 is anybody's.
            let bound = if optimizer == adam { 2e-3 } else { 1e-4 };
            let near = |a: f64, b: f64| (a - b).abs() <= bound * b;
            let [found, expected] = norms;
            assert!(near(found.gradient, expected.gradient), "{optimizer:?}: {norms:?}");
            assert!(near(found.parameter, expected.parameter), "{optimizer:?}: {norms:?}");
            assert!(near(found.update, expected.update), "{optimizer:?}: {norms:?}");
        }
        let (found, expected) = (found.save(), expected.save());
        let moved: Vec<f32> =
            expected.parameters.iter().zip(start(&plan, &setting).parameters).map(|(a, b)| a - b).collect();
        let wrong: Vec<f32> = expected.parameters.iter().zip(&found.parameters).map(|(a, b)| a - b).collect();
        let bound = if optimizer == adam { 0.05 } else { 1e-4 };
        assert!(norm(&wrong) < bound * norm(&moved), "{optimizer:?}: {} of {}", norm(&wrong), norm(&moved));
    }
}

/// On maps of one pixel a toy batch's statistics rest on six numbers and magnify every rounding; so the network is the one
/// that ends in maps of 2 × 2.
#[test]
fn bf16_stays_near_f32() {
    let plan = smooth(Stem::Cifar, 16);
    let setting = setting(6, Numerics::Bf16);
    let (mut found, mut expected) = (emulated(&plan, &setting, Order::FORWARD), on_cpu(&plan, &setting));
    let views = views(&plan, 6, 2);
    let losses = [&mut found as &mut dyn Executor, &mut expected]
        .map(|executor| executor.forward_backward(&views).expect("views fit"));
    let (a, b) = (found.gradients(), expected.gradients());
    let dot: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let cosine = dot / (norm(&a) * norm(&b));
    assert!((losses[0] - losses[1]).abs() < 0.02 * losses[1] && cosine > 0.95, "{losses:?}, cosine {cosine}");
}

#[test]
fn orders_never_change_a_bit() {
    let plan = resnet18(Stem::ImageNet, 32, 8, 16, 8);
    for numerics in kinds() {
        let run = |order| {
            let mut executor = emulated(&plan, &setting(3, *numerics), order);
            let mut losses = Vec::new();
            for step in 0..2 {
                losses.push(executor.forward_backward(&views(&plan, 3, step)).expect("views fit").to_bits());
                executor.update(0.1);
            }
            (losses, bits(&executor.save()))
        };
        let forward = run(Order::FORWARD);
        assert!(Order::SEVERAL[1..3].iter().all(|order| run(*order) == forward), "{numerics:?}");
    }
}

#[test]
fn too_little_memory_names_the_largest_batch() {
    let plan = resnet18(Stem::Cifar, 16, 8, 16, 8);
    let build = |batch: usize, memory_bytes: u64| {
        CudaExecutor::new(Box::new(Emulator::with_memory(memory_bytes)), plan.clone(), &setting(batch, Numerics::F32))
    };
    let memory_bytes = 48 << 20;
    let Err(ExecutorError::OutOfGpuMemory { needed_bytes, available_bytes, largest_batch }) = build(4096, memory_bytes)
    else {
        panic!("4096 images do not fit");
    };
    assert!(needed_bytes > available_bytes && available_bytes == memory_bytes);
    assert!((2..4096).contains(&largest_batch), "{largest_batch}");
    let needed = |batch| crate::executor::cuda::memory::needed_bytes(&plan, &setting(batch, Numerics::F32)) as u64;
    assert!(needed(largest_batch) <= memory_bytes && needed(largest_batch + 1) > memory_bytes);
    let Err(error) = build(4096, 1 << 20) else { panic!("nothing fits") };
    assert!(error.to_string().contains("no batch of this model fits"), "{error}");
}

/// What is known once the training's own block is there: here the data set, on a device also the libraries' workspace.
#[test]
fn too_little_memory_beside_the_training_names_the_largest_batch_too() {
    let plan = smooth(Stem::Cifar, 16);
    let setting = setting(64, Numerics::F32);
    let needed = |batch| planned_bytes(&plan, &Setting { batch, ..setting.clone() }).expect("a sound setting");
    let own_bytes = needed(64);
    let gpu = Box::new(Emulator::with_memory(own_bytes + 5000));
    let mut executor = CudaExecutor::new(gpu, plan.clone(), &setting).expect("it fits by itself");
    let mut images = Images::default();
    (0..64).for_each(|_| images.push(16, 16, &[0; 768]));
    let pipeline = Pipeline::new(&[], 16, 0);
    let feed = Feed { images: &images, labels: &[], pipeline: &pipeline, steps_per_epoch: 1, learning_rates: &[0.1] };
    let free_bytes = |executor: &mut CudaExecutor| executor.device().properties().free_bytes;
    let Err(ExecutorError::OutOfGpuMemory { needed_bytes, largest_batch, .. }) = executor.attach(&feed) else {
        panic!("the images do not fit");
    };
    assert_eq!((needed_bytes, free_bytes(&mut executor)), (own_bytes + 64 * 768, 5000), "what was placed is released");
    assert!((2..64).contains(&largest_batch), "{largest_batch}");
    assert!(needed(largest_batch) + 64 * 768 <= own_bytes + 5000, "{largest_batch}");
    let refused = executor.features_of(&images, &pipeline, &mut || true);
    assert!(matches!(refused, Err(ExecutorError::OutOfGpuMemory { .. })), "{refused:?}");
    assert_eq!(free_bytes(&mut executor), 5000);
    let full = Emulator::with_memory(own_bytes - 1);
    let error = refusal(&plan, &setting, 0, GpuError::OutOfMemory { needed_bytes: own_bytes, free_bytes: 9 });
    assert!(error.to_string().contains("no batch of this model fits"), "{error}");
    assert!(CudaExecutor::new(Box::new(full), plan.clone(), &setting).is_err());
}

#[test]
fn wrong_input_is_refused() {
    let plan = resnet18(Stem::Cifar, 16, 8, 16, 8);
    let mut executor = emulated(&plan, &setting(2, Numerics::F32), Order::FORWARD);
    assert!(executor.forward_backward(&[0.0; 5]).is_err());
    assert!(executor.features(&[0.0; 5]).is_err());
    assert_eq!(executor.features(&[]), Ok(Vec::new()));
    for (batch, micro_batch) in [(1, None), (4, Some(3)), (4, Some(0))] {
        let setting = Setting { micro_batch, ..setting(batch, Numerics::F32) };
        assert!(CudaExecutor::new(Box::new(Emulator::new(Order::FORWARD)), plan.clone(), &setting).is_err());
    }
}
