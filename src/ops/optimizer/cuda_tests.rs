//! The optimizers' kernels on the emulation: against PyTorch and Lightly, against the processor's optimizers, in every
//! order of threads and blocks.

use serde::Deserialize;

use super::cuda::{self, Places, SOURCE, Update};
use super::tests::{lars, layout, sgd};
use super::{Step, Updater, slots};
use crate::device::Pool;
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Address, Element, Gpu, loaded, stored};
use crate::experiment::recipe::{DecayScope, LarsFlavour, Optimizer};
use crate::model::plan::{Parameter, ParameterKind};
use crate::ops::nt_xent::golden::values_f32;

/// Everything an update reads and writes, on an emulated device.
struct Bench {
    emulator: Emulator,
    update: Update,
    places: Places,
    n: usize,
    element: Element,
}

impl Bench {
    fn new(optimizer: &Optimizer, layout: &[Parameter], start: &[f32], rates: &[f64], order: Order) -> Bench {
        Bench::on(Emulator::with(order, &[SOURCE], Element::F32), Element::F32, optimizer, (layout, start), rates)
    }

    fn on(
        mut emulator: Emulator,
        element: Element,
        optimizer: &Optimizer,
        (layout, start): (&[Parameter], &[f32]),
        rates: &[f64],
    ) -> Bench {
        let update = Update::new(optimizer, layout);
        let zeros = vec![0.0; start.len()];
        let mut slot = |kept: bool| if kept { emulator.place_f32(&zeros) } else { Address::NONE };
        let slots = [slot(update.n_slots() > 0), slot(update.n_slots() > 1)];
        let rates = (0..).zip(rates).flat_map(|(number, &learning_rate)| update.rate(Step { number, learning_rate }));
        let rates: Vec<u8> = rates.collect();
        let places = Places {
            parameters: emulator.place_f32(start),
            gradients: emulator.place_f32(&zeros),
            slots,
            copies: match element {
                Element::F32 => Address::NONE,
                Element::Bf16 => emulator.place(&vec![0; start.len() * 2]),
            },
            rates: emulator.place(&rates),
            step: emulator.place(&[0; 8]),
            table: emulator.place(&update.table()),
            scratch: emulator.place(&vec![0xff; update.scratch_bytes()]),
        };
        Bench { emulator, update, places, n: start.len(), element }
    }

    /// One step; the parameters after it.
    fn step(&mut self, gradients: &[f32]) -> Vec<f32> {
        let bytes = stored(gradients, Element::F32);
        self.emulator.upload(self.places.gradients, &bytes).expect("a place of that size");
        let mut nodes = cuda::nodes(&self.update, &self.places);
        nodes.push(cuda::advance(self.places.step));
        self.emulator.run(&nodes).expect("an update");
        self.parameters()
    }

    fn parameters(&mut self) -> Vec<f32> {
        self.emulator.read_f32(self.places.parameters, self.n)
    }

    fn slots(&mut self) -> Vec<Vec<f32>> {
        let kept = self.places.slots.into_iter().take(self.update.n_slots());
        kept.map(|slot| self.emulator.read_f32(slot, self.n)).collect()
    }

    fn copies(&mut self) -> Vec<f32> {
        self.emulator.read(self.places.copies, self.n, self.element)
    }
}

fn adam(weight_decay: f64, decay: DecayScope) -> Optimizer {
    Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay, decay }
}

const FLAVOURS: [LarsFlavour; 5] = [
    LarsFlavour::Google,
    LarsFlavour::Popular,
    LarsFlavour::Lightly,
    LarsFlavour::SoloLearn,
    LarsFlavour::SoloLearnClipped,
];

/// Those whose every operation is the processor's.
fn elementwise() -> Vec<Optimizer> {
    let weights = Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 1e-2, decay: DecayScope::Weights };
    let adams = [adam(1e-2, DecayScope::All), adam(1e-2, DecayScope::Weights)];
    [sgd(0.0, false, 1e-3), sgd(0.0, true, 0.0), sgd(0.9, true, 1e-3), weights].into_iter().chain(adams).collect()
}

fn every_lars() -> Vec<Optimizer> {
    let decayed = FLAVOURS.map(|flavour| lars(flavour, 1e-2, 0.02));
    let plain = FLAVOURS.map(|flavour| lars(flavour, 0.0, 0.02));
    let unstopped = Optimizer::Lars {
        flavour: LarsFlavour::Popular,
        momentum: 0.0,
        weight_decay: 1e-2,
        trust_coefficient: 0.02,
        decay: DecayScope::All,
    };
    decayed.into_iter().chain(plain).chain([unstopped]).collect()
}

/// Odd lengths, so that most tensors lie on no multiple of 16 bytes; one of more than a chunk; one of zeros; one whose
/// gradient is 0.
fn tensors() -> Vec<Parameter> {
    layout(&[
        (8, ParameterKind::ConvWeight),
        (5, ParameterKind::NormScale),
        (4107, ParameterKind::ConvWeight),
        (1, ParameterKind::LinearBias { fan_in: 9 }),
        (37, ParameterKind::LinearWeight),
        (66, ParameterKind::ConvWeight),
        (3, ParameterKind::NormShift),
    ])
}
const ZERO_TENSOR: usize = 4;
const IDLE_TENSOR: usize = 5;

/// Start and gradients of `tensors`, tiny and huge ones among the gradients.
fn problem(layout: &[Parameter], n_steps: u64) -> (Vec<f32>, Vec<Vec<f32>>) {
    let n = layout.iter().map(Parameter::len).sum();
    let mut start = values_f32(1, n, 1.0);
    start[layout[ZERO_TENSOR].range()].fill(0.0);
    let gradients = (2..2 + n_steps).map(|seed| {
        let mut gradient = values_f32(seed, n, 0.1);
        gradient[layout[IDLE_TENSOR].range()].fill(0.0);
        gradient[layout[0].range()].iter_mut().for_each(|value| *value *= 1e-25);
        gradient
    });
    let gradients = gradients.collect();
    (start, gradients)
}

/// Parameters and slots of the processor after every step.
type Trace = Vec<(Vec<f32>, Vec<Vec<f32>>)>;

fn on_the_processor(optimizer: &Optimizer, layout: &[Parameter], start: &[f32], gradients: &[Vec<f32>]) -> Trace {
    let (mut parameters, mut kept) = (start.to_vec(), slots(optimizer, start.len()));
    let pool = Pool::new(1);
    let mut updater = Updater::new(optimizer, layout);
    let mut trace = Vec::new();
    for (number, gradient) in (0..).zip(gradients) {
        let step = Step { number, learning_rate: rate(number) };
        updater.update(&mut parameters, gradient, &mut kept, step, &pool);
        trace.push((parameters.clone(), kept.iter().map(|(_, values)| values.clone()).collect()));
    }
    trace
}

fn rate(number: u64) -> f64 {
    0.3 / (number + 1) as f64
}

fn rates(n_steps: usize) -> Vec<f64> {
    (0..n_steps as u64).map(rate).collect()
}

fn on_the_device(
    optimizer: &Optimizer,
    layout: &[Parameter],
    start: &[f32],
    gradients: &[Vec<f32>],
    order: Order,
) -> Trace {
    let mut bench = Bench::new(optimizer, layout, start, &rates(gradients.len()), order);
    gradients.iter().map(|gradient| (bench.step(gradient), bench.slots())).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[derive(Deserialize)]
struct Case {
    name: String,
    seed_parameter: u64,
    seed_gradients: Vec<u64>,
    gradient_scale: f64,
    after_step: Vec<Vec<f64>>,
}

#[test]
fn agrees_with_pytorch_and_lightly() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/golden/optimizers.json")).unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let (optimizer, rate) = match case.name.as_str() {
            "sgd" => (sgd(0.0, false, 0.0), 0.06),
            "sgd_momentum_wd" => (sgd(0.9, false, 1e-3), 0.1),
            "sgd_nesterov" => (sgd(0.9, true, 1e-3), 0.1),
            "lars" => (lars(LarsFlavour::Lightly, 1e-6, 1e-3), 4.8),
            "lars_excluded" => (lars(LarsFlavour::Lightly, 0.0, 1e-3), 4.8),
            "adam" => (adam(1e-6, DecayScope::All), 3e-4),
            other => panic!("no optimizer for `{other}`"),
        };
        let layout = layout(&[(35, ParameterKind::LinearWeight)]);
        let start = values_f32(case.seed_parameter, 35, 1.0);
        let rates = vec![rate; case.seed_gradients.len()];
        let mut bench = Bench::new(&optimizer, &layout, &start, &rates, Order::FORWARD);
        for (&seed, expected) in case.seed_gradients.iter().zip(&case.after_step) {
            let found = bench.step(&values_f32(seed, 35, case.gradient_scale));
            for (found, wanted) in found.iter().zip(expected) {
                assert!((f64::from(*found) - wanted).abs() < 1e-6, "{}: {found}, {wanted} wanted", case.name);
            }
        }
    }
}

#[test]
fn sgd_and_adam_have_the_processors_bits_in_every_order() {
    let layout = tensors();
    let (start, gradients) = problem(&layout, 5);
    for optimizer in elementwise() {
        let wanted = on_the_processor(&optimizer, &layout, &start, &gradients);
        for order in Order::SEVERAL {
            let found = on_the_device(&optimizer, &layout, &start, &gradients, order);
            for (step, ((parameters, slots), (found, found_slots))) in wanted.iter().zip(&found).enumerate() {
                assert_eq!(bits(parameters), bits(found), "{optimizer:?}, step {step}, {order:?}");
                let (slots, found_slots) = (slots.concat(), found_slots.concat());
                assert_eq!(bits(&slots), bits(&found_slots), "{optimizer:?}, step {step}, {order:?}");
            }
        }
    }
}

/// The order of its sums is another, but they are exact enough for every ratio here to round to the same f32.
#[test]
fn lars_has_the_processors_bits() {
    let layout = tensors();
    let (start, gradients) = problem(&layout, 5);
    for optimizer in every_lars() {
        let wanted = on_the_processor(&optimizer, &layout, &start, &gradients);
        let found = on_the_device(&optimizer, &layout, &start, &gradients, Order::FORWARD);
        for ((parameters, slots), (found, found_slots)) in wanted.iter().zip(&found) {
            for tensor in &layout {
                let (found, wanted) = (bits(&found[tensor.range()]), bits(&parameters[tensor.range()]));
                assert_eq!(found, wanted, "{optimizer:?}, {}", tensor.name);
            }
            assert_eq!(bits(&found_slots.concat()), bits(&slots.concat()), "{optimizer:?}");
        }
    }
}

#[test]
fn lars_has_the_same_bits_in_every_order() {
    let layout = tensors();
    let (start, gradients) = problem(&layout, 2);
    for flavour in FLAVOURS {
        let optimizer = lars(flavour, 1e-2, 0.02);
        let forward = on_the_device(&optimizer, &layout, &start, &gradients, Order::FORWARD);
        for order in &Order::SEVERAL[1..] {
            let found = on_the_device(&optimizer, &layout, &start, &gradients, *order);
            assert_eq!(forward, found, "{flavour:?}, {order:?}");
        }
    }
}

/// More chunks of a tensor than a warp has lanes, more chunks in all than a block has threads.
#[test]
fn many_chunks() {
    let long = layout(&[(3, ParameterKind::NormShift), (34 * 4096 + 1, ParameterKind::ConvWeight)]);
    let many = layout(&[(1, ParameterKind::LinearWeight); 300]);
    for layout in [long, many] {
        let n = layout.iter().map(Parameter::len).sum();
        // The last chunk counts.
        let mut gradient = values_f32(8, n, 0.1);
        gradient[n - 1] = 100.0;
        let (start, gradient) = (values_f32(7, n, 1.0), [gradient]);
        let optimizer = lars(LarsFlavour::SoloLearn, 1e-2, 0.02);
        let wanted = on_the_processor(&optimizer, &layout, &start, &gradient);
        let (after, norms) = measured(&optimizer, &layout, &start, &gradient[0], Order::FORWARD);
        assert_eq!(bits(&after), bits(&wanted[0].0));
        assert_norms(&norms, &gradient[0], &start, &after);
    }
}

/// Where a tensor lies, on 16 bytes or not, is no part of its update.
#[test]
fn tensors_do_not_touch_each_other() {
    let kind = ParameterKind::ConvWeight;
    let (start, gradient) = (values_f32(3, 4300, 1.0), values_f32(4, 4300, 0.1));
    for optimizer in [sgd(0.9, true, 1e-3), adam(1e-3, DecayScope::All), lars(LarsFlavour::Google, 1e-2, 0.02)] {
        let after = |before: usize| {
            let layout = layout(&[(before, ParameterKind::NormScale), (4300, kind)]);
            let place = |values: &[f32]| [&vec![1.0; before], values].concat();
            let trace = on_the_device(&optimizer, &layout, &place(&start), &[place(&gradient)], Order::FORWARD);
            trace[0].0[before..].to_vec()
        };
        let aligned = after(4);
        assert!(aligned != start);
        assert_eq!(aligned, after(0), "{optimizer:?}");
        assert_eq!(aligned, after(3), "{optimizer:?}");
    }
}

/// Squares of these numbers lie outside f32, their ratio does not.
#[test]
fn lars_survives_tiny_and_huge_numbers() {
    let layout = layout(&[(300, ParameterKind::ConvWeight)]);
    for (weights, gradients) in [(1.0, 1e-30), (1e12, 1e-25), (1e-41, 1.0), (1e-3, 3e38), (3e38, 1e10)] {
        let (start, gradient) = (values_f32(5, 300, weights), values_f32(6, 300, gradients));
        for optimizer in [lars(LarsFlavour::Popular, 0.0, 1e-3), lars(LarsFlavour::SoloLearn, 1e-6, 1e-3)] {
            let wanted = on_the_processor(&optimizer, &layout, &start, std::slice::from_ref(&gradient));
            let found = on_the_device(&optimizer, &layout, &start, std::slice::from_ref(&gradient), Order::FORWARD);
            assert_eq!(bits(&found[0].0), bits(&wanted[0].0), "{weights:e}, {gradients:e}");
            assert_eq!(bits(&found[0].1[0]), bits(&wanted[0].1[0]), "{weights:e}, {gradients:e}");
        }
    }
}

/// One measured step: the parameters after it and the three norms.
fn measured(
    optimizer: &Optimizer,
    layout: &[Parameter],
    start: &[f32],
    gradient: &[f32],
    order: Order,
) -> (Vec<f32>, Vec<f64>) {
    let mut bench = Bench::new(optimizer, layout, start, &rates(1), order);
    bench.emulator.upload(bench.places.gradients, &stored(gradient, Element::F32)).expect("a place of that size");
    let norms = bench.emulator.place(&[0xff; 24]);
    let nodes = cuda::measured_nodes(&bench.update, &bench.places, norms);
    bench.emulator.run(&nodes).expect("an update");
    let mut bytes = [0; 24];
    bench.emulator.download(norms, &mut bytes).expect("three numbers");
    let norms = bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    (bench.parameters(), norms)
}

/// As `executor::UpdateNorms` has them.
fn assert_norms(found: &[f64], gradient: &[f32], before: &[f32], after: &[f32]) {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let gradient = norm(&mut gradient.iter().copied());
    let parameter = norm(&mut after.iter().copied());
    let update = norm(&mut after.iter().zip(before).map(|(new, old)| new - old));
    for (found, wanted) in found.iter().zip([gradient, parameter, update]) {
        assert!((found / wanted - 1.0).abs() < 1e-12, "{found}, {wanted} wanted");
    }
}

#[test]
fn norms_are_the_processors_and_measuring_changes_nothing() {
    let layout = tensors();
    let (start, gradients) = problem(&layout, 1);
    for optimizer in [sgd(0.0, false, 1e-3), adam(1e-3, DecayScope::All), lars(LarsFlavour::Popular, 1e-2, 0.02)] {
        let unmeasured = on_the_device(&optimizer, &layout, &start, &gradients, Order::FORWARD);
        let (after, norms) = measured(&optimizer, &layout, &start, &gradients[0], Order::FORWARD);
        assert_eq!(after, unmeasured[0].0);
        assert_norms(&norms, &gradients[0], &start, &after);
        for order in &Order::SEVERAL[1..] {
            let found = measured(&optimizer, &layout, &start, &gradients[0], *order);
            assert_eq!(found, (after.clone(), norms.clone()), "{optimizer:?}, {order:?}");
        }
    }
}

#[test]
fn copies_follow_the_parameters() {
    let layout = tensors();
    let (start, gradients) = problem(&layout, 2);
    for optimizer in [sgd(0.9, false, 1e-3), adam(1e-3, DecayScope::All), lars(LarsFlavour::Google, 1e-2, 0.02)] {
        let emulator = Emulator::with(Order::FORWARD, &[SOURCE], Element::Bf16);
        let mut bench = Bench::on(emulator, Element::Bf16, &optimizer, (&layout, &start), &rates(2));
        let rounded = |values: &[f32]| loaded(&stored(values, Element::Bf16), Element::Bf16);
        let nodes = cuda::copy_nodes(&bench.update, &bench.places);
        bench.emulator.run(&nodes).expect("a copy");
        assert_eq!(bench.copies(), rounded(&start));
        let exact = on_the_device(&optimizer, &layout, &start, &gradients, Order::FORWARD);
        for (gradient, (parameters, _)) in gradients.iter().zip(&exact) {
            assert_eq!(&bench.step(gradient), parameters);
            assert_eq!(bench.copies(), rounded(parameters));
        }
    }
}

#[test]
fn lists_of_launches_are_as_short_as_they_can_be() {
    let layout = tensors();
    let places = Bench::new(&adam(0.1, DecayScope::All), &layout, &[0.0; 4227], &[1.0], Order::FORWARD).places;
    let count = |optimizer: Optimizer| cuda::nodes(&Update::new(&optimizer, &layout), &places).len();
    assert_eq!(count(sgd(0.9, true, 0.1)), 1);
    assert_eq!(count(adam(0.1, DecayScope::All)), 1);
    assert_eq!(count(lars(LarsFlavour::Google, 0.0, 0.1)), 3);
    assert_eq!(count(lars(LarsFlavour::Lightly, 0.0, 0.1)), 1);
    assert!(cuda::nodes(&Update::new(&sgd(0.9, true, 0.1), &[]), &places).is_empty());
    let update = Update::new(&sgd(0.9, true, 0.1), &layout);
    assert_eq!(update.table().len(), (8 + 7) * 16);
}
