//! Whole steps on the emulated device: its own views, one graph a step, losses read back in between.

use super::{bits, distance, emulated, kinds, on_cpu, setting, smooth, start};
use crate::data::Images;
use crate::device::Pool;
use crate::device::emulator::Order;
use crate::executor::cuda::CudaExecutor;
use crate::executor::{Executor, Feed, Resident, Setting};
use crate::experiment::recipe::{Augmentation, Filter, HueKind, Loss, Numerics, Stem};
use crate::model::plan::Plan;
use crate::random::{Address, Purpose, Stream};
use crate::views::Pipeline;

const BATCH: usize = 5;
const STEPS_PER_EPOCH: usize = 2;
const SIDE: usize = 16;

fn images() -> Images {
    let mut images = Images::default();
    let mut stream = Stream::new(4, Address::of(Purpose::BuiltinData));
    for index in 0..STEPS_PER_EPOCH * BATCH + 1 {
        let (width, height) = (20 + index as u32, 18);
        // Smooth pictures: noise would leave nothing but its mean after a resize.
        let (a, b) = (stream.below(200), stream.below(50));
        let pixels: Vec<u8> = (0..width * height * 3).map(|i| (a + i % 5 * b / 5 + i / 97) as u8).collect();
        images.push(width, height, &pixels);
    }
    images
}

fn pipeline() -> Pipeline {
    let augmentations = [
        Augmentation::RandomResizedCrop { scale: (0.2, 1.0), ratio: (0.75, 4.0 / 3.0), filter: Filter::Bilinear },
        Augmentation::HorizontalFlip { p: 0.5 },
        Augmentation::ColorJitter {
            p: 0.8,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.1,
            hue_kind: HueKind::Float,
        },
        Augmentation::Grayscale { p: 0.2 },
        Augmentation::Normalize { mean: [0.5; 3], std: [0.25; 3] },
    ];
    Pipeline::new(&augmentations, SIDE, 11)
}

fn order(epoch: u32) -> Vec<u32> {
    let place = Address { epoch, ..Address::of(Purpose::Shuffle) };
    Stream::new(1, place).permutation((STEPS_PER_EPOCH * BATCH + 1) as u32)
}

fn plan() -> Plan {
    smooth(Stem::Cifar, SIDE)
}

const RATES: [f64; 4] = [0.01, 0.02, 0.015, 0.01];

/// Classes that the order of an epoch mixes.
fn labels() -> Vec<u32> {
    (0..(STEPS_PER_EPOCH * BATCH + 1) as u32).map(|image| image * image % 7).collect()
}

fn attach(executor: &mut CudaExecutor) {
    let (images, labels, pipeline) = (images(), labels(), pipeline());
    let feed = Feed {
        images: &images,
        labels: &labels,
        pipeline: &pipeline,
        steps_per_epoch: STEPS_PER_EPOCH as u64,
        learning_rates: &RATES,
    };
    executor.attach(&feed).expect("a data set that fits");
}

/// Steps from `first` on, cut at epochs, the last of all measured.
fn train(executor: &mut CudaExecutor, first: usize, end: usize) -> Vec<f32> {
    let mut losses = Vec::new();
    for step in first..end {
        let epoch = (step / STEPS_PER_EPOCH) as u32;
        let done = executor.steps(epoch, &order(epoch), 1, step + 1 == end).expect("steps");
        assert_eq!(done.detail.is_some(), step + 1 == end);
        losses.extend(done.losses);
    }
    losses
}

#[test]
fn a_training_agrees_with_the_cpu() {
    let (plan, setting) = (plan(), setting(BATCH, Numerics::F32));
    let mut found = emulated(&plan, &setting, Order::FORWARD);
    attach(&mut found);
    let losses = train(&mut found, 0, 4);
    let mut expected = on_cpu(&plan, &setting);
    let (images, pipeline, pool) = (images(), pipeline(), Pool::new(2));
    let mut views = vec![0.0; 2 * BATCH * 3 * SIDE * SIDE];
    for (step, rate) in RATES.iter().enumerate() {
        let epoch = (step / STEPS_PER_EPOCH) as u32;
        let at = step % STEPS_PER_EPOCH * BATCH;
        pipeline.batch(&images, &order(epoch)[at..at + BATCH], epoch, &pool, &mut views);
        let loss = expected.forward_backward(&views).expect("views fit");
        // Statistics of a few images a step make a difference grow by itself.
        let bound = if step < 3 { 1e-3 } else { 5e-3 };
        assert!((losses[step] - loss).abs() < bound * loss, "step {step}: {}, not {loss}", losses[step]);
        expected.update(*rate);
    }
    let far = distance(&found.save().buffers, &expected.save().buffers);
    assert!(far < 5e-3, "running statistics {far:e}");
    expected.load(&found.save());
    let features = found.features_of(&images, &pipeline, &mut || true).expect("images fit").expect("not interrupted");
    let mut inputs = vec![0.0; images.len() * 3 * SIDE * SIDE];
    pipeline.evaluation_batch(&images, 0..images.len(), &pool, &mut inputs);
    let far = distance(&features, &expected.features(&inputs).expect("images fit"));
    assert!(far < 1e-5, "features {far:e}");
    assert_eq!(found.features_of(&images, &pipeline, &mut || false), Ok(None));
}

/// The labels or the bank of every step are its own. Each begins where the device stands, so that no difference grows.
#[test]
fn every_step_on_labels_or_with_a_bank_agrees_with_the_cpu() {
    for loss in [Loss::CrossEntropy { label_smoothing: 0.1 }, Loss::NtXentMemoryBank { size: 13 }] {
        let (plan, setting) = (plan(), Setting { loss, ..setting(BATCH, Numerics::F32) });
        let (mut found, mut expected) = (emulated(&plan, &setting, Order::FORWARD), on_cpu(&plan, &setting));
        attach(&mut found);
        let (images, classes, pipeline, pool) = (images(), labels(), pipeline(), Pool::new(2));
        let mut views = vec![0.0; 2 * BATCH * 3 * SIDE * SIDE];
        for (step, rate) in RATES.iter().enumerate() {
            expected.load(&found.save());
            let (epoch, at) = ((step / STEPS_PER_EPOCH) as u32, step % STEPS_PER_EPOCH * BATCH);
            let order = order(epoch);
            let examples = &order[at..at + BATCH];
            pipeline.batch(&images, examples, epoch, &pool, &mut views);
            let labels: Vec<u32> = examples.iter().map(|&example| classes[example as usize]).collect();
            let wanted = expected.forward_backward_labelled(&views, &labels).expect("views fit");
            expected.update(*rate);
            let [loss_found] = found.steps(epoch, &order, 1, false).expect("a step").losses[..] else {
                panic!("one loss");
            };
            let name = format!("{loss:?}, step {step}");
            assert!((loss_found - wanted).abs() < 5e-4 * wanted, "{name}: {loss_found}, not {wanted}");
            let far = distance(&found.projections(), &expected.projections());
            assert!(far < 2e-4, "{name}: projections {far:e}");
            let (found, expected) = (found.save(), expected.save());
            let far = distance(&found.parameters, &expected.parameters);
            assert!(far < 2e-4, "{name}: parameters {far:e}");
            assert_eq!(found.bank.is_empty(), loss.has_labels());
            assert!(found.bank.is_empty() || distance(&found.bank, &expected.bank) < 1e-3, "{name}: the bank");
        }
    }
}

#[test]
fn interrupted_and_resumed_is_uninterrupted() {
    let labelled = Loss::CrossEntropy { label_smoothing: 0.0 };
    let others = [(Loss::NtXentMemoryBank { size: 13 }, Numerics::Bf16), (labelled, Numerics::Bf16)];
    let plain = kinds().iter().map(|numerics| (Loss::NT_XENT, *numerics));
    for (loss, numerics) in plain.chain(others) {
        let (plan, setting) = (plan(), Setting { loss, ..setting(BATCH, numerics) });
        let build = || {
            let mut executor = emulated(&plan, &setting, Order::FORWARD);
            attach(&mut executor);
            executor
        };
        let mut whole = build();
        let losses = train(&mut whole, 0, 4);
        let mut first = build();
        assert_eq!(train(&mut first, 0, 1), losses[..1]);
        let mut resumed = build();
        resumed.load(&first.save());
        assert_eq!(train(&mut resumed, 1, 4), losses[1..]);
        assert!(bits(&whole.save()) == bits(&resumed.save()) && whole.save().step == 4, "{loss:?} {numerics:?}");
    }
}

#[test]
fn several_steps_at_once_are_the_same_steps() {
    let (plan, setting) = (plan(), Setting { micro_batch: None, ..setting(BATCH, Numerics::Bf16) });
    let mut one = emulated(&plan, &setting, Order::FORWARD);
    attach(&mut one);
    let losses = train(&mut one, 0, 2);
    let mut both = emulated(&plan, &setting, Order::FORWARD);
    attach(&mut both);
    let done = both.steps(0, &order(0), 2, true).expect("steps");
    assert_eq!(done.losses, losses);
    assert!(bits(&one.save()) == bits(&both.save()));
    let (norms, embeddings) = done.detail.expect("the last step was to be measured");
    let moved = distance(&both.save().parameters, &start(&plan, &setting).parameters);
    assert!(moved > 0.0 && norms.update > 0.0 && norms.gradient > 0.0 && norms.parameter > 0.0);
    assert!((0.0..=4.0).contains(&embeddings.alignment) && embeddings.uniformity < 0.0);
}
