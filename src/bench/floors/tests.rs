use std::collections::BTreeMap;

use crate::bench::floors::{Peaks, Work, of_node};
use crate::bench::parity::LOSSES;
use crate::bench::{kernels, plans, setting};
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Element, Node};
use crate::executor::Setting;
use crate::executor::cuda::CudaExecutor;
use crate::experiment::recipe::{Loss, Numerics};

const BATCH: usize = 3;
/// Numbers of a map of 8 × 8 with 8 channels of all views.
const MAP: f64 = (2 * BATCH * 8 * 8 * 8) as f64;

fn executor(name: &str, numerics: Numerics) -> CudaExecutor {
    let plans = plans::operations(8);
    let (_, plan) = plans.into_iter().find(|(known, _)| known == name).expect("a plan of that name");
    let gpu = Box::new(Emulator::strict(Order::FORWARD));
    CudaExecutor::new(gpu, plan, &setting(BATCH, numerics, 1, 0)).expect("a plan for the emulation")
}

/// Works of a step by name, those of one name in order.
fn works(name: &str, numerics: Numerics, element: Element) -> BTreeMap<String, Vec<Work>> {
    of_executor(executor(name, numerics), element)
}

/// Behind one small network with projections 16 wide.
fn of_a_loss(loss: Loss) -> BTreeMap<String, Vec<Work>> {
    let gpu = Box::new(Emulator::strict(Order::FORWARD));
    let setting = Setting { loss, ..setting(BATCH, Numerics::F32, 1, 0) };
    of_executor(CudaExecutor::new(gpu, plans::for_a_loss(8), &setting).expect("a plan for the emulation"), Element::F32)
}

fn of_executor(executor: CudaExecutor, element: Element) -> BTreeMap<String, Vec<Work>> {
    let mut works: BTreeMap<String, Vec<Work>> = BTreeMap::new();
    for node in executor.timed_nodes() {
        if let Some((what, work)) = of_node(&node, element, 1000) {
            works.entry(what).or_default().push(work);
        }
    }
    works
}

fn bytes(works: &BTreeMap<String, Vec<Work>>, kernel: &str) -> Vec<f64> {
    works[kernel].iter().map(|work| work.bytes.expect("bytes are known")).collect()
}

#[test]
fn kernels_move_what_their_operations_are_given() {
    for (numerics, element) in [(Numerics::F32, Element::F32), (Numerics::Bf16, Element::Bf16)] {
        let stored = element.bytes() as f64;
        let norm = works("batch norm with a residual, Relu", numerics, element);
        assert_eq!(bytes(&norm, "batch_norm_moments"), [MAP * stored]);
        assert_eq!(bytes(&norm, "batch_norm_apply"), [3.0 * MAP * stored]);
        // x, y for the sign, dy; the residual's gradient takes over its place, and dx is written.
        assert_eq!(bytes(&norm, "batch_norm_gradient_sums"), [4.0 * MAP * stored]);
        assert_eq!(bytes(&norm, "batch_norm_gradient_apply"), [3.0 * MAP * stored]);
        let features = (2 * BATCH * 8) as f64;
        assert_eq!(bytes(&norm, "global_average_pool_forward"), [(MAP + features) * stored]);
        assert_eq!(bytes(&norm, "global_average_pool_backward"), [(MAP + features) * stored]);
        // Momentum is read and written.
        assert_eq!(bytes(&norm, "optimizer_descend"), [1000.0 * 20.0]);
        assert_eq!(bytes(&norm, "linear_bias_gradient"), [(2 * BATCH * 16) as f64 * stored]);
        let views = (2 * BATCH) as f64;
        assert_eq!(norm["nt_xent_sums"][0].flop, Some(2.0 * views * views * 16.0));
        assert_eq!((norm["nt_xent_sums"][0].element, norm["nt_xent_sums"][0].bytes), (Some(Element::F32), None));
        let pool = works("max-pool 3x3 s2", numerics, element);
        let (before, after) = (4.0 * MAP, MAP);
        assert_eq!(bytes(&pool, "pool2d_max_forward"), [before * stored + after * (stored + 1.0)]);
        assert_eq!(bytes(&pool, "pool2d_max_backward"), [before * stored + after * (stored + 1.0)]);
        let pool = works("average pool 2x2", numerics, element);
        assert_eq!(bytes(&pool, "pool2d_average_forward"), [(MAP + MAP / 4.0) * stored]);
        assert_eq!(bytes(&pool, "pool2d_average_backward"), [(MAP + MAP / 4.0) * stored]);
        let silu = works("activation, Silu", numerics, element);
        assert_eq!(bytes(&silu, "activation_forward"), [2.0 * MAP * stored]);
        assert_eq!(bytes(&silu, "activation_backward"), [3.0 * MAP * stored]);
        let sum = works("addition", numerics, element);
        assert_eq!(bytes(&sum, "activation_add"), [3.0 * MAP * stored]);
    }
}

/// A kernel that is new must say what it moves, or be named here as one that moves next to nothing.
#[test]
fn kernels_without_a_floor_are_few() {
    const SMALL: [&str; 3] = ["nt_xent_mean", "precision_pad", "decoupled_spread"];
    let check = |name: &str, works: BTreeMap<String, Vec<Work>>| {
        for (what, works) in works {
            let has_floor = works.iter().all(|work| work.bytes.or(work.flop).is_some_and(|work| work > 0.0));
            assert!(has_floor != SMALL.contains(&what.as_str()), "{what} of {name}");
        }
    };
    for (name, _) in plans::operations(8) {
        check(&name, works(&name, Numerics::Bf16, Element::Bf16));
    }
    for loss in LOSSES {
        check(&format!("{loss:?}"), of_a_loss(loss));
    }
}

#[test]
fn losses_multiply_and_move_what_they_are_given() {
    let (views, width) = ((2 * BATCH) as f64, 16.0);
    let margin = of_a_loss(Loss::MarginTriplet { margin: 0.4, semi_hard: false });
    assert_eq!(margin["triples_margins"][0].flop, Some(2.0 * views * views * width));
    assert_eq!(bytes(&margin, "triples_positives"), [views * width * 4.0]);
    let logistic = of_a_loss(Loss::NtLogistic { semi_hard: false });
    assert_eq!(logistic["triples_softplus"][0].flop, Some(2.0 * views * views * width));
    let labelled = of_a_loss(Loss::CrossEntropy { label_smoothing: 0.1 });
    assert_eq!(bytes(&labelled, "cross_entropy_views"), [2.0 * views * width * 4.0]);
    let bank = of_a_loss(Loss::NtXentMemoryBank { size: 100 });
    assert_eq!(bytes(&bank, "bank_enqueue"), [2.0 * BATCH as f64 * width * 4.0]);
}

#[test]
fn floors_are_the_longer_of_arithmetic_and_bytes() {
    let peaks = Peaks { gb_per_s: 2.0, f32_gflop_per_s: 1.0, bf16_gflop_per_s: 4.0 };
    let work = |flop, bytes, element| peaks.floor_us(&Work { flop, bytes, element });
    assert_eq!(work(Some(8000.0), Some(2000.0), Some(Element::F32)), Some(8.0));
    assert_eq!(work(Some(8000.0), Some(20_000.0), Some(Element::Bf16)), Some(10.0));
    assert_eq!(work(Some(8000.0), None, Some(Element::Bf16)), Some(2.0));
    assert_eq!(work(None, None, None), None);
}

#[test]
fn a_step_is_taken_apart_and_timed_on_the_emulated_device() {
    let mut executor = executor("convolution 3x3 on 4x4", Numerics::Bf16);
    let nodes = executor.timed_nodes();
    let free_bytes = executor.device().properties().free_bytes;
    let peaks = Peaks::measure(executor.device(), 4096, 8).expect("copies and products");
    assert!(peaks.gb_per_s > 0.0 && peaks.f32_gflop_per_s > 0.0 && peaks.bf16_gflop_per_s > 0.0, "{peaks:?}");
    assert_eq!(executor.device().properties().free_bytes, free_bytes, "what was copied is released");
    let step = kernels::time(executor.device(), &nodes, peaks, (Element::Bf16, 1000)).expect("a step");
    let n_told: usize = step.kernels.iter().map(|kernel| kernel.count).sum();
    assert_eq!(n_told, nodes.iter().filter(|node| !matches!(node, Node::Join)).count());
    assert!(step.step_us > 0.0 && step.kernels.iter().all(|kernel| kernel.total_us > 0.0), "{step:?}");
    assert!(step.kernels.windows(2).all(|pair| pair[0].total_us >= pair[1].total_us), "{step:?}");
    let convolution = step.kernels.iter().find(|kernel| kernel.what.starts_with("convolution")).expect("there is one");
    assert_eq!(convolution.share, convolution.floor_us.map(|floor_us| floor_us / convolution.total_us));
    assert!(convolution.flop.is_some() && convolution.bytes.is_some());
}
