use super::{A100, Candidate, Convolutions, H100, H200, RTX_4090, Target, description, fastest, is_sound};
use crate::device::cuda::convolution_plans::variant_pack;
use crate::device::cuda::cudnn;
use crate::device::cuda::plan_lock::{EngineChoice, PlanLock};
use crate::device::gpu::{Address, Convolution, ConvolutionCall, Element, GpuError, Pass};

/// Height and width, inputs, outputs, kernel, stride, padding of every different convolution of ResNet-18.
type Layer = (usize, usize, usize, usize, usize, usize);

const IMAGENET_STEM: &[Layer] = &[
    (32, 8, 64, 7, 2, 3),
    (8, 64, 64, 3, 1, 1),
    (8, 64, 128, 3, 2, 1),
    (8, 64, 128, 1, 2, 0),
    (4, 128, 128, 3, 1, 1),
    (4, 128, 256, 3, 2, 1),
    (4, 128, 256, 1, 2, 0),
    (2, 256, 256, 3, 1, 1),
    (2, 256, 512, 3, 2, 1),
    (2, 256, 512, 1, 2, 0),
    (1, 512, 512, 3, 1, 1),
];

const CIFAR_STEM: &[Layer] = &[
    (32, 8, 64, 3, 1, 1),
    (32, 64, 64, 3, 1, 1),
    (32, 64, 128, 3, 2, 1),
    (32, 64, 128, 1, 2, 0),
    (16, 128, 128, 3, 1, 1),
    (16, 128, 256, 3, 2, 1),
    (16, 128, 256, 1, 2, 0),
    (8, 256, 256, 3, 1, 1),
    (8, 256, 512, 3, 2, 1),
    (8, 256, 512, 1, 2, 0),
    (4, 512, 512, 3, 1, 1),
];

const PASSES: [Pass; 3] = [Pass::Forward, Pass::InputGradient, Pass::WeightGradient];

fn shape(layer: &Layer, images: usize, element: Element) -> Convolution {
    let (side, inputs, outputs, kernel, stride, padding) = *layer;
    Convolution { images, height: side, width: side, inputs, outputs, kernel, stride, padding, element }
}

/// The passes that a training needs of these layers; the pixels' gradient is nobody's.
fn needed(layers: &[Layer], element: Element) -> Vec<(Convolution, Pass)> {
    let all = layers.iter().flat_map(|layer| PASSES.map(|pass| (shape(layer, 512, element), pass)));
    all.filter(|(shape, pass)| !(shape.inputs == 8 && *pass == Pass::InputGradient)).collect()
}

/// Convolutions of a described H200; none, said aloud, where cuDNN is not there and need not be.
fn described() -> Option<Convolutions> {
    if !cudnn::preload() {
        assert!(std::env::var_os("ABLATE_REQUIRE_CUDNN").is_none(), "cuDNN is required and was not found");
        println!("skipped: cuDNN was not found in the folders of ABLATE_CUDA_PATH");
        return None;
    }
    Some(Convolutions::new(Target::Described(H200)).expect("a described H200"))
}

/// By cuDNN's remarks: not nondeterministic (4), no sums below f32 (2); in f32 no tensor cores (0), no rounded inputs
/// (1).
fn is_exact(notes: &[u32], element: Element) -> bool {
    let refused: &[u32] = match element {
        Element::Bf16 => &[2, 4],
        Element::F32 => &[0, 1, 2, 4],
    };
    refused.iter().all(|note| !notes.contains(note))
}

fn every_pass_has_a_plan(layers: &[Layer], element: Element) {
    let Some(mut convolutions) = described() else { return };
    for (shape, pass) in needed(layers, element) {
        convolutions.prepare(&shape, pass).expect("a deterministic plan");
        let plan = &convolutions.plans[&(shape, pass)];
        println!(
            "{}: engine {} knobs {:?} notes {:?} workspace {} KiB",
            description(&shape, pass),
            plan.choice.engine,
            plan.choice.knobs,
            plan.notes,
            plan.workspace_bytes.div_ceil(1024)
        );
        assert!(is_exact(&plan.notes, element), "{:?}", plan.notes);
    }
    let choices = convolutions.choices();
    assert_eq!(choices.len(), needed(layers, element).len());
    for (description, plan) in &choices {
        assert!(serde_json::from_str::<serde_json::Value>(plan).is_ok(), "{description}: {plan}");
    }
    let largest = convolutions.plans.values().map(|plan| plan.workspace_bytes).max();
    assert_eq!(Some(convolutions.workspace_bytes()), largest);
}

#[test]
fn the_imagenet_stem_has_plans_in_bf16() {
    every_pass_has_a_plan(IMAGENET_STEM, Element::Bf16);
}

#[test]
fn the_imagenet_stem_has_plans_in_f32() {
    every_pass_has_a_plan(IMAGENET_STEM, Element::F32);
}

#[test]
fn the_cifar_stem_has_plans_in_bf16() {
    every_pass_has_a_plan(CIFAR_STEM, Element::Bf16);
}

#[test]
fn the_cifar_stem_has_plans_in_f32() {
    every_pass_has_a_plan(CIFAR_STEM, Element::F32);
}

#[test]
fn other_devices_have_plans_too() {
    if described().is_none() {
        return;
    }
    for (name, device) in [("H100", H100), ("A100", A100), ("RTX 4090", RTX_4090)] {
        for element in [Element::Bf16, Element::F32] {
            let mut convolutions = Convolutions::new(Target::Described(device)).expect("a described device");
            for (shape, pass) in [needed(IMAGENET_STEM, element), needed(CIFAR_STEM, element)].concat() {
                let plan = convolutions.prepare(&shape, pass);
                assert_eq!(plan, Ok(()), "{name}");
                let plan = &convolutions.plans[&(shape, pass)];
                println!("{name} {}: engine {} notes {:?}", description(&shape, pass), plan.choice.engine, plan.notes);
                assert!(is_exact(&plan.notes, element), "{name}");
            }
            println!("{name} {element:?}: workspace {} KiB", convolutions.workspace_bytes().div_ceil(1024));
        }
    }
}

#[test]
fn odd_sizes_have_plans_too() {
    let Some(mut convolutions) = described() else { return };
    for element in [Element::Bf16, Element::F32] {
        for (inputs, outputs) in [(3, 5), (5, 12), (16, 10)] {
            for (kernel, stride, padding) in [(3, 1, 1), (3, 2, 1), (5, 1, 2), (1, 2, 0), (7, 2, 3)] {
                let shape =
                    Convolution { images: 6, height: 9, width: 7, inputs, outputs, kernel, stride, padding, element };
                for pass in PASSES {
                    assert_eq!(convolutions.prepare(&shape, pass), Ok(()));
                    let notes = &convolutions.plans[&(shape, pass)].notes;
                    assert!(is_exact(notes, element), "{}: {notes:?}", description(&shape, pass));
                }
            }
        }
    }
}

#[test]
fn a_machine_without_a_device_gives_an_error() {
    cudnn::preload();
    match Convolutions::new(Target::Current) {
        Ok(convolutions) => assert_eq!(convolutions.workspace_bytes(), 0),
        Err(GpuError::Library(text)) => assert!(text.contains("cuDNN"), "{text}"),
        Err(error) => assert!(matches!(error, GpuError::Call { call: "cudnnCreate", .. }), "{error}"),
    }
}

#[test]
fn the_first_candidate_is_taken_every_time() {
    let Some(mut convolutions) = described() else { return };
    let shape = shape(&CIFAR_STEM[4], 512, Element::Bf16);
    let candidates = convolutions.candidates(&shape, Pass::WeightGradient, 4).expect("candidates");
    assert_eq!(candidates.len(), 4);
    for (index, candidate) in candidates.iter().enumerate() {
        assert!(!candidates[..index].contains(candidate), "{candidate:?} twice");
    }
    convolutions.prepare(&shape, Pass::WeightGradient).expect("a plan");
    let chosen = convolutions.lock().choices[&description(&shape, Pass::WeightGradient)].clone();
    assert_eq!(chosen, candidates[0].choice);
    let again = described().expect("it was there").candidates(&shape, Pass::WeightGradient, 4);
    assert_eq!(again.expect("candidates"), candidates);
}

#[test]
fn a_lock_brings_back_exactly_its_plan() {
    let Some(mut convolutions) = described() else { return };
    for (layer, pass) in [(1, Pass::Forward), (2, Pass::InputGradient), (4, Pass::WeightGradient)] {
        for element in [Element::Bf16, Element::F32] {
            let shape = shape(&CIFAR_STEM[layer], 512, element);
            let candidates = convolutions.candidates(&shape, pass, 3).expect("candidates");
            let Some(Candidate { choice, workspace_bytes, notes }) = candidates.last() else { panic!("no candidate") };
            let name = description(&shape, pass);
            let lock = PlanLock { choices: [(name.clone(), choice.clone())].into() };
            convolutions.locked(&lock);
            convolutions.prepare(&shape, pass).expect("the locked plan");
            let plan = &convolutions.plans[&(shape, pass)];
            assert_eq!((&plan.choice, plan.workspace_bytes, &plan.notes), (choice, *workspace_bytes, notes), "{name}");
            assert_eq!(convolutions.lock(), lock);
        }
    }
}

#[test]
fn a_locked_engine_that_cannot_be_is_an_error_that_says_so() {
    let Some(mut convolutions) = described() else { return };
    let shape = shape(&CIFAR_STEM[1], 512, Element::Bf16);
    let name = description(&shape, Pass::Forward);
    let choice = EngineChoice { engine: 100_000, knobs: [].into() };
    convolutions.locked(&PlanLock { choices: [(name.clone(), choice)].into() });
    let refused = convolutions.prepare(&shape, Pass::Forward).expect_err("there is no such engine");
    let GpuError::NoPlan(text) = &refused else { panic!("{refused:?}") };
    assert!(text.starts_with(&format!("{name} by the locked engine 100000: ")), "{text}");
}

#[test]
fn a_lock_cannot_make_a_convolution_nondeterministic() {
    let Some(mut convolutions) = described() else { return };
    let shape = shape(&IMAGENET_STEM[1], 512, Element::F32);
    let name = description(&shape, Pass::WeightGradient);
    let mut refused = Vec::new();
    for engine in 0..80 {
        let choice = EngineChoice { engine, knobs: [].into() };
        convolutions.locked(&PlanLock { choices: [(name.clone(), choice)].into() });
        match convolutions.prepare(&shape, Pass::WeightGradient) {
            Ok(()) => {
                let notes = &convolutions.plans[&(shape, Pass::WeightGradient)].notes;
                assert!(is_exact(notes, Element::F32), "engine {engine}: {notes:?}");
            }
            Err(GpuError::NoPlan(text)) if text.contains("not deterministically") => refused.push(engine),
            Err(GpuError::NoPlan(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(!refused.is_empty(), "some engine of cuDNN is nondeterministic or uses the tensor cores");
}

#[test]
fn sizes_without_an_output_are_refused() {
    let good = shape(&CIFAR_STEM[1], 2, Element::F32);
    assert!(is_sound(&good));
    let bad = [
        Convolution { stride: 0, ..good },
        Convolution { images: 0, ..good },
        Convolution { height: 0, padding: 2, ..good },
        Convolution { kernel: 35, ..good },
        Convolution { outputs: usize::MAX, ..good },
    ];
    for shape in bad {
        assert!(!is_sound(&shape), "{shape:?}");
    }
    let Some(mut convolutions) = described() else { return };
    assert!(matches!(convolutions.prepare(&bad[0], Pass::Forward), Err(GpuError::NoPlan(_))));
    assert!(matches!(convolutions.candidates(&bad[3], Pass::Forward, 1), Err(GpuError::NoPlan(_))));
}

#[test]
fn a_described_device_executes_nothing() {
    let Some(mut convolutions) = described() else { return };
    let shape = shape(&IMAGENET_STEM[1], 2, Element::F32);
    convolutions.prepare(&shape, Pass::Forward).expect("a plan");
    let call = ConvolutionCall { shape, pass: Pass::Forward, x: Address(256), weight: Address(512), y: Address(768) };
    let refused = convolutions.execute(&call, Address(1024), std::ptr::null_mut()).expect_err("no device");
    assert!(refused.to_string().contains("only described"), "{refused}");
    variant_pack(&call, Address(1024)).expect("places are accepted");
    variant_pack(&call, Address::NONE).expect("a plan may need no workspace");
}

#[test]
fn a_device_that_is_not_described_well_is_an_error() {
    if described().is_none() {
        return;
    }
    assert!(matches!(Convolutions::new(Target::Described("{")), Err(GpuError::Call { .. })));
}

#[test]
fn sizes_and_pass_are_described_in_words() {
    let shape = shape(&CIFAR_STEM[2], 512, Element::Bf16);
    let text = "convolution 512x32x32x64 -> 128 3x3 s2 p1 bf16 weight gradient";
    assert_eq!(description(&shape, Pass::WeightGradient), text);
}

#[test]
fn the_first_of_the_fastest_is_taken() {
    let engines = [1, 2, 3, 4].map(|engine| EngineChoice { engine, knobs: [].into() });
    let timed = |times: [f64; 4]| times.into_iter().zip(&engines).collect::<Vec<_>>();
    assert_eq!(fastest(&timed([3.0, 2.0, 2.0, 5.0])).map(|choice| choice.engine), Some(2));
    assert_eq!(fastest(&timed([f64::NAN, 9.0, f64::INFINITY, 9.5])).map(|choice| choice.engine), Some(2));
    assert_eq!(fastest(&[]), None);
}
