//! The kernels on the host emulation against the processor, bit by bit.

use super::{IMAGENET, blur, crop, everything, image, jitter, simclr};
use crate::data::Images;
use crate::device::Pool;
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Address, Argument, Element, Gpu, Launch, Node, Source, loaded, stored};
use crate::experiment::recipe::{Augmentation, BlurKind, Filter, HueKind};
use crate::views::Pipeline;
use crate::views::cuda::{DeviceImages, DeviceViews, Inputs, Largest, Output, SOURCE, TrainingStep};
use crate::views::exponential::exp;
use crate::views::rotate::sine_cosine;

/// Where and how a launch of a test runs.
#[derive(Clone, Copy)]
struct Device {
    order: Order,
    element: Element,
    channels: usize,
    /// Pretends to an image of this width, so that views do not fit in shared memory.
    wide: usize,
}

const PLAIN: Device = Device { order: Order::FORWARD, element: Element::F32, channels: 8, wide: 0 };

/// A training step: its number, the steps of an epoch, the examples of the epoch.
struct Step<'a> {
    number: u64,
    steps_per_epoch: usize,
    order: &'a [u32],
}

impl Step<'_> {
    fn batch(&self) -> usize {
        self.order.len() / self.steps_per_epoch
    }
}

fn placed(
    device: Device,
    pipeline: &Pipeline,
    images: &Images,
    views: usize,
) -> (Emulator, DeviceViews, Inputs, Output) {
    let mut emulator = Emulator::with(device.order, &[SOURCE], device.element);
    let on_device = DeviceImages::new(images);
    let largest = Largest { width: on_device.largest.width.max(device.wide), ..on_device.largest };
    let largest = Largest { height: largest.height.max(device.wide), ..largest };
    let made = DeviceViews::new(pipeline, largest);
    let scratch = match made.scratch_bytes(views) {
        0 => Address::NONE,
        bytes => emulator.allocate(bytes).expect("host memory"),
    };
    assert!(device.wide == 0 || scratch != Address::NONE, "pretended in vain");
    let inputs = Inputs {
        table: emulator.place(made.table()),
        pixels: emulator.place(&on_device.pixels),
        places: emulator.place(&on_device.places),
        scratch,
    };
    let nan = vec![f32::NAN; views * pipeline.side().pow(2) * device.channels];
    let out = Output { address: emulator.place_stored(&nan, device.element), channels: device.channels };
    (emulator, made, inputs, out)
}

/// Views × side × side × channels of a training step.
fn training(device: Device, pipeline: &Pipeline, images: &Images, step: &Step) -> Vec<f32> {
    let views = 2 * step.batch();
    let (mut emulator, made, inputs, out) = placed(device, pipeline, images, views);
    let order: Vec<u8> = step.order.iter().flat_map(|index| index.to_le_bytes()).collect();
    let training = TrainingStep {
        order: emulator.place(&order),
        step: emulator.place(&step.number.to_le_bytes()),
        steps_per_epoch: step.steps_per_epoch as u64,
        batch: step.batch(),
    };
    emulator.run(&[made.training(&inputs, &training, &out)]).expect("a launch");
    emulator.read(out.address, views * pipeline.side().pow(2) * device.channels, device.element)
}

fn evaluation(device: Device, pipeline: &Pipeline, images: &Images, first: usize, n: usize) -> Vec<f32> {
    let (mut emulator, made, inputs, out) = placed(device, pipeline, images, n);
    emulator.run(&[made.evaluation(&inputs, first, n, &out)]).expect("a launch");
    emulator.read(out.address, n * pipeline.side().pow(2) * device.channels, device.element)
}

/// The processor's views of the step, with the channels the device adds.
fn expected(pipeline: &Pipeline, images: &Images, step: &Step, channels: usize) -> Vec<f32> {
    let batch = step.batch();
    let now = (step.number % step.steps_per_epoch as u64) as usize * batch;
    let mut out = vec![0.0; 2 * batch * pipeline.view_len()];
    let epoch = (step.number / step.steps_per_epoch as u64) as u32;
    pipeline.batch(images, &step.order[now..now + batch], epoch, &Pool::new(1), &mut out);
    widened(&out, channels)
}

fn widened(interleaved: &[f32], channels: usize) -> Vec<f32> {
    let pixel = |pixel: &[f32]| [pixel, &vec![0.0; channels - 3]].concat();
    interleaved.chunks_exact(3).flat_map(pixel).collect()
}

fn check(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let differing = found.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let largest = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(differing == 0, "{what}: {differing} of {} values differ, by up to {largest}", found.len());
}

/// One image of each size.
fn mixed() -> Images {
    let mut all = Images::default();
    for (width, height) in [(32, 32), (37, 29), (64, 48), (29, 37)] {
        all.push(width as u32, height as u32, image(width, height, 5).get(0).pixels);
    }
    all
}

fn moco() -> Vec<Augmentation> {
    vec![
        Augmentation::RandomResizedCrop { scale: (0.2, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), filter: Filter::Bilinear },
        jitter(0.8, HueKind::Pillow),
        Augmentation::Grayscale { p: 0.2 },
        blur(0.5, BlurKind::PillowBoxes),
        Augmentation::HorizontalFlip { p: 0.5 },
        IMAGENET,
    ]
}

fn rotation() -> Vec<Augmentation> {
    vec![
        Augmentation::Rotate90 { p: 0.5 },
        crop(),
        Augmentation::Rotate { p: 0.9, degrees: (-180.0, 180.0) },
        Augmentation::VerticalFlip { p: 0.5 },
        blur(0.5, BlurKind::Gaussian),
        IMAGENET,
    ]
}

fn alone(name: &str, augmentations: &[Augmentation]) {
    let images = mixed();
    for (augmentation, side) in augmentations.iter().zip([32, 24].into_iter().cycle()) {
        let pipeline = Pipeline::new(std::slice::from_ref(augmentation), side, 0x0123_4567_89ab_cdef);
        let step = Step { number: 5, steps_per_epoch: 2, order: &[3, 3, 2, 0, 1, 2, 3, 1] };
        let found = training(PLAIN, &pipeline, &images, &step);
        check(&format!("{name} {augmentation:?}"), &found, &expected(&pipeline, &images, &step, 8));
    }
}

#[test]
fn crops_have_the_processors_bits() {
    let crop = |scale, ratio| Augmentation::RandomResizedCrop { scale, ratio, filter: Filter::Bilinear };
    alone(
        "crop",
        &[
            crop((0.08, 1.0), (0.75, 4.0 / 3.0)),
            crop((0.08, 1.0), (0.75, 4.0 / 3.0)),
            crop((0.9, 1.0), (0.5, 2.0)),
            // Never fits: the largest centred one, cut at either end of the ratio.
            crop((4.0, 4.0), (1.0, 1.0)),
            crop((4.0, 4.0), (1.9, 2.0)),
            crop((0.001, 0.002), (0.1, 10.0)),
        ],
    );
}

#[test]
fn bicubic_crops_have_the_processors_bits() {
    let crop = |scale, ratio| Augmentation::RandomResizedCrop { scale, ratio, filter: Filter::Bicubic };
    let narrow = crop((0.001, 0.002), (0.1, 10.0));
    alone("bicubic crop", &[crop((0.08, 1.0), (0.75, 4.0 / 3.0)), crop((0.9, 1.0), (0.5, 2.0)), narrow]);
    // Images smaller and much larger than the views, and a crop behind another operation.
    let solo_learn = [crop((0.08, 1.0), (0.75, 4.0 / 3.0)), jitter(0.8, HueKind::Pillow), IMAGENET];
    whole("bicubic", &solo_learn, 9);
    whole("bicubic", &solo_learn, 48);
    whole(
        "late bicubic",
        &[Augmentation::Rotate90 { p: 0.5 }, crop((0.3, 1.0), (0.5, 2.0)), crop((0.5, 0.6), (1.0, 1.0))],
        20,
    );
}

#[test]
fn mirrors_and_turns_have_the_processors_bits() {
    let p = 1.0;
    let rotate = |degrees| Augmentation::Rotate { p, degrees };
    let mirrors = [Augmentation::HorizontalFlip { p }, Augmentation::VerticalFlip { p }, Augmentation::Rotate90 { p }];
    alone("mirror", &mirrors);
    alone("turn", &[rotate((-30.0, 30.0)), rotate((90.0, 90.0)), rotate((-720.0, 720.0)), rotate((45.0, 135.0))]);
}

#[test]
fn colours_have_the_processors_bits() {
    let p = 1.0;
    let jitter = |amount, hue, hue_kind| Augmentation::ColorJitter {
        p,
        brightness: amount,
        contrast: amount,
        saturation: amount,
        hue,
        hue_kind,
    };
    alone(
        "colour",
        &[
            jitter(0.8, 0.2, HueKind::Float),
            jitter(0.4, 0.1, HueKind::Pillow),
            jitter(0.0, 0.5, HueKind::Float),
            jitter(0.0, 0.5, HueKind::Pillow),
            jitter(2.0, 0.0, HueKind::Float),
            Augmentation::Grayscale { p },
            Augmentation::Solarize { p, threshold: 0.5 },
            Augmentation::Solarize { p, threshold: 0.0 },
            IMAGENET,
        ],
    );
}

#[test]
fn blurs_have_the_processors_bits() {
    for kind in [BlurKind::Gaussian, BlurKind::PillowBoxes] {
        let blur = |sigma| Augmentation::GaussianBlur { p: 1.0, sigma, kind };
        alone("blur", &[blur((0.1, 2.0)), blur((0.1, 0.1)), blur((3.0, 20.0))]);
    }
}

/// Every pipeline in every order of threads and blocks, over steps of several epochs.
fn whole(name: &str, augmentations: &[Augmentation], side: usize) {
    let images = mixed();
    let pipeline = Pipeline::new(augmentations, side, 77);
    for (number, order) in [0, 3, 8, 1001].into_iter().zip(Order::SEVERAL) {
        let step = Step { number, steps_per_epoch: 4, order: &[2, 1, 0, 3] };
        let found = training(Device { order, ..PLAIN }, &pipeline, &images, &step);
        check(&format!("{name} side {side} step {number}"), &found, &expected(&pipeline, &images, &step, 8));
    }
    let step = Step { number: 6, steps_per_epoch: 2, order: &[2, 1, 0, 3] };
    for order in Order::SEVERAL {
        let found = training(Device { order, ..PLAIN }, &pipeline, &images, &step);
        check(&format!("{name} side {side} {order:?}"), &found, &expected(&pipeline, &images, &step, 8));
    }
}

#[test]
fn simclr_has_the_processors_bits() {
    whole("SimCLR", &simclr(), 32);
}

#[test]
fn moco_has_the_processors_bits() {
    whole("MoCo", &moco(), 24);
}

#[test]
fn rotations_have_the_processors_bits() {
    whole("rotation", &rotation(), 24);
}

#[test]
fn every_operation_at_once_has_the_processors_bits() {
    whole("everything", &everything(1.0), 24);
}

#[test]
fn a_second_crop_and_a_late_crop_have_the_processors_bits() {
    let late = [
        Augmentation::Rotate { p: 1.0, degrees: (10.0, 80.0) },
        Augmentation::Rotate90 { p: 0.5 },
        blur(1.0, BlurKind::Gaussian),
        jitter(1.0, HueKind::Float),
        crop(),
        Augmentation::Rotate90 { p: 0.5 },
        crop(),
    ];
    let images = mixed();
    for (augmentations, number) in [(&late[..], 0), (&late[4..], 1), (&late[1..2], 2), (&[][..], 3)] {
        let pipeline = Pipeline::new(augmentations, 20, 1 << 40);
        let step = Step { number, steps_per_epoch: 1, order: &[0, 1, 2, 3] };
        let found = training(PLAIN, &pipeline, &images, &step);
        check(&format!("step {number}"), &found, &expected(&pipeline, &images, &step, 8));
    }
}

#[test]
fn scratch_in_global_memory_gives_the_same_bits() {
    let images = mixed();
    let pipeline = Pipeline::new(&everything(0.5), 12, 3);
    let step = Step { number: 1, steps_per_epoch: 2, order: &[0, 1, 2, 3] };
    for order in Order::SEVERAL {
        let found = training(Device { order, wide: 2000, ..PLAIN }, &pipeline, &images, &step);
        check("scratch", &found, &expected(&pipeline, &images, &step, 8));
    }
}

/// Some blocks make two views: one drawn too early would change what the threads still at the first do.
#[test]
fn a_block_makes_one_view_after_another() {
    let (mut images, small) = (Images::default(), [image(2, 2, 1), image(3, 2, 2)]);
    for index in 0..260 {
        let image = small[usize::from(index % 20 == 3)].get(0);
        images.push(image.width as u32, image.height as u32, image.pixels);
    }
    let points = |p| [Augmentation::Grayscale { p }, Augmentation::Solarize { p, threshold: 0.5 }];
    let pipeline = Pipeline::new([0.5; 4].map(points).as_flattened(), 2, 3);
    let every: Vec<u32> = (130..260).collect();
    let step = Step { number: 0, steps_per_epoch: 1, order: &every };
    let device = Device { order: Order::SEVERAL[1], wide: 3000, channels: 3, ..PLAIN };
    check("training", &training(device, &pipeline, &images, &step), &expected(&pipeline, &images, &step, 3));
    let mut fitted = vec![0.0; 260 * pipeline.view_len()];
    pipeline.evaluation_batch(&images, 0..260, &Pool::new(1), &mut fitted);
    check("evaluation", &evaluation(device, &pipeline, &images, 0, 260), &fitted);
}

#[test]
fn bf16_is_the_rounded_f32_and_any_number_of_channels_will_do() {
    let images = mixed();
    let pipeline = Pipeline::new(&simclr(), 16, 8);
    let step = Step { number: 2, steps_per_epoch: 2, order: &[0, 1, 2, 3] };
    for channels in [3, 5, 8, 12, 16] {
        let plain = training(Device { channels, ..PLAIN }, &pipeline, &images, &step);
        check("channels", &plain, &expected(&pipeline, &images, &step, channels));
        let rounded = loaded(&stored(&plain, Element::Bf16), Element::Bf16);
        let half = Device { channels, element: Element::Bf16, ..PLAIN };
        check("bf16", &training(half, &pipeline, &images, &step), &rounded);
    }
}

#[test]
fn evaluations_have_the_processors_bits() {
    let images = mixed();
    for (augmentations, side) in [(simclr(), 32), (everything(0.5), 24), (vec![], 40), (simclr(), 5)] {
        let pipeline = Pipeline::new(&augmentations, side, 8);
        let mut plain = vec![0.0; 3 * pipeline.view_len()];
        pipeline.evaluation_batch(&images, 1..4, &Pool::new(1), &mut plain);
        for order in Order::SEVERAL {
            let found = evaluation(Device { order, ..PLAIN }, &pipeline, &images, 1, 3);
            check(&format!("evaluation at side {side}"), &found, &widened(&plain, 8));
        }
        let device = Device { element: Element::Bf16, wide: 3000, ..PLAIN };
        let rounded = loaded(&stored(&widened(&plain, 8), Element::Bf16), Element::Bf16);
        check("bf16 evaluation", &evaluation(device, &pipeline, &images, 1, 3), &rounded);
    }
}

#[test]
fn every_level_is_the_quotient() {
    let mut images = Images::default();
    let levels: Vec<u8> = (0..=255).flat_map(|level: u8| [level, 255 - level, level ^ 0x55]).collect();
    images.push(16, 16, &levels);
    let pipeline = Pipeline::new(&[], 16, 0);
    let quotients: Vec<f32> = levels.iter().map(|&level| f32::from(level) / 255.0).collect();
    check("levels", &evaluation(Device { channels: 3, ..PLAIN }, &pipeline, &images, 0, 1), &quotients);
}

#[test]
fn one_pixel_is_an_image_for_the_device_too() {
    let images = image(1, 1, 4);
    for (augmentations, side) in [(everything(1.0), 4), (everything(0.5), 1), (simclr(), 3)] {
        let pipeline = Pipeline::new(&augmentations, side, 0);
        let step = Step { number: 0, steps_per_epoch: 1, order: &[0] };
        check("one pixel", &training(PLAIN, &pipeline, &images, &step), &expected(&pipeline, &images, &step, 8));
    }
}

/// exp, sine and cosine of many numbers, which pixels show only where they round.
const PROBE: &str = r#"
extern "C" __global__ void views_probe(const float* x, float* out, int n) {
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    Stream stream = stream_at(7, i, 0, 0, 0);
    Operation always = {ROTATE, 0, 0, 1.0f, {x[i], x[i]}};
    Drawn drawn = rotate_draw(stream, always);
    out[3 * i] = views_exp(x[i]);
    out[3 * i + 1] = drawn.real[0];
    out[3 * i + 2] = drawn.real[1];
  }
}
KERNEL_EXPORT(views_probe)
"#;

#[test]
fn the_functions_of_draws_have_the_processors_bits() {
    let text = Box::leak(format!("{}{PROBE}", SOURCE.text).into_boxed_str());
    let mut emulator = Emulator::with(Order::FORWARD, &[Source { name: "views_probe", text }], Element::F32);
    let mut numbers: Vec<f32> = (-120_000..120_000).map(|step| step as f32 * 1.237e-3).collect();
    numbers.extend([0.0, -0.0, 1e-30, 89.0, -104.0, 45.0, -45.0, 90.0, 720.0, 1e9, f32::INFINITY]);
    let (x, n) = (emulator.place_f32(&numbers), numbers.len());
    let out = emulator.place_f32(&vec![f32::NAN; 3 * n]);
    let arguments = vec![Argument::Address(x), Argument::Address(out), Argument::I32(n as i32)];
    let launch = Launch { kernel: "views_probe", grid: [1; 3], block: [32, 1, 1], shared_bytes: 0, arguments };
    emulator.run(&[Node::Launch(launch)]).expect("a launch");
    let found = emulator.read_f32(out, 3 * n);
    for (&x, found) in numbers.iter().zip(found.as_chunks::<3>().0) {
        let (sine, cosine) = sine_cosine(x);
        let expected = [exp(x), sine, cosine].map(|value| if value.is_nan() { u32::MAX } else { value.to_bits() });
        let found = found.map(|value| if value.is_nan() { u32::MAX } else { value.to_bits() });
        assert_eq!(found, expected, "at {x}");
    }
}
