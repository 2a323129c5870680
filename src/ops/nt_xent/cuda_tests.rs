//! The kernels on the emulated device against the processor, the recorded values and the formula in f64.

use super::cuda::{
    Loss, MetricsPlaces, Places, SOURCE, metrics_nodes, metrics_nodes_cut, nodes, nodes_cut, scratch_bytes,
};
use super::golden::{Case, values_f32};
use super::tiles::Tiling;
use super::*;
use crate::device::Pool;
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Address, Element, Gpu};

const LOSSES: usize = 3;
/// Its place in the ring is 1.
const STEP: u64 = (1 << 40) + 3;

/// Everything at its smallest: three parts of every sum as soon as there are three tiles.
const FINE: Tiling = Tiling { tile_rows: 32, sum_tiles: 1, panel_rows: 64, gradient_tiles: 1 };
/// Tall tiles, parts of two tiles, panels of which the last is shorter.
const TALL: Tiling = Tiling { tile_rows: 64, sum_tiles: 2, panel_rows: 128, gradient_tiles: 2 };

#[derive(Debug, Clone, PartialEq)]
struct Found {
    loss: f32,
    gradient: Vec<f32>,
    anchor_losses: Vec<f64>,
}

impl Found {
    fn bits(&self) -> Vec<u64> {
        let losses = self.anchor_losses.iter().map(|loss| loss.to_bits());
        losses.chain(self.gradient.iter().chain([&self.loss]).map(|value| value.to_bits().into())).collect()
    }
}

fn read_f64(emulator: &mut Emulator, address: Address, n: usize) -> Vec<f64> {
    let mut bytes = vec![0; 8 * n];
    emulator.download(address, &mut bytes).expect("a place of that size");
    bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
}

fn loss_of(projections: &[f32], width: usize, temperature: f32) -> Loss {
    Loss {
        n_views: projections.len() / width,
        width,
        inverse_temperature: 1.0 / temperature,
        normalize: true,
        scale: 1.0,
    }
}

/// Scratch full of NaN, as large as any cut needs that keeps all weights.
fn scratch(emulator: &mut Emulator, loss: &Loss) -> Address {
    let padded = loss.n_views.next_multiple_of(64);
    let partials = padded / 64 * padded * (loss.width + 16);
    emulator.place(&vec![0xff; scratch_bytes(loss) + 4 * partials])
}

fn compute(projections: &[f32], loss: &Loss, tiling: Option<&Tiling>, emulator: &mut Emulator) -> Found {
    let places = Places {
        projections: emulator.place_f32(projections),
        gradient: emulator.place_f32(&vec![f32::NAN; projections.len()]),
        anchor_losses: emulator.place(&vec![0xff; 8 * loss.n_views]),
        losses: emulator.place_f32(&[-1.0; LOSSES]),
        losses_len: LOSSES,
        step: emulator.place(&STEP.to_le_bytes()),
        scratch: scratch(emulator, loss),
    };
    let nodes = match tiling {
        None => nodes(loss, &places),
        Some(tiling) => nodes_cut(loss, &places, tiling),
    };
    emulator.run(&nodes).expect("kernels of this source");
    let losses = emulator.read_f32(places.losses, LOSSES);
    assert_eq!([losses[0], losses[2]], [-1.0; 2], "other places of the ring");
    let gradient = emulator.read_f32(places.gradient, projections.len());
    Found { loss: losses[1], gradient, anchor_losses: read_f64(emulator, places.anchor_losses, loss.n_views) }
}

fn emulated(projections: &[f32], width: usize, temperature: f32) -> Found {
    let mut emulator = Emulator::with(Order::FORWARD, &[SOURCE], Element::F32);
    compute(projections, &loss_of(projections, width, temperature), None, &mut emulator)
}

fn on_the_processor(projections: &[f32], width: usize, temperature: f32) -> Found {
    let mut gradient = vec![f32::NAN; projections.len()];
    let mut workspace = Workspace::new(projections.len() / width, width);
    let loss = forward_backward(projections, width, temperature, &mut gradient, &mut workspace, &Pool::new(1));
    Found { loss, gradient, anchor_losses: workspace.anchor_losses().collect() }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// ‖found − wanted‖ / ‖wanted‖.
fn relative_error(found: &[f32], wanted: &[f64]) -> f64 {
    let difference = norm(found.iter().zip(wanted).map(|(&found, wanted)| f64::from(found) - wanted));
    difference / norm(wanted.iter().copied())
}

/// Loss and gradient as the formula says, in f64.
fn in_f64(projections: &[f32], width: usize, temperature: f32) -> (f64, Vec<f64>) {
    let scale = f64::from(1.0 / temperature);
    let rows: Vec<Vec<f64>> =
        projections.chunks_exact(width).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect();
    let norms: Vec<f64> = rows.iter().map(|row| norm(row.iter().copied())).collect();
    let unit: Vec<Vec<f64>> =
        rows.iter().zip(&norms).map(|(row, norm)| row.iter().map(|x| x / norm).collect()).collect();
    let n_views = rows.len();
    let logit = |i: usize, j: usize| unit[i].iter().zip(&unit[j]).map(|(x, y)| x * y).sum::<f64>() * scale;
    let mut loss = 0.0;
    let mut of_unit = vec![vec![0.0; width]; n_views];
    for i in 0..n_views {
        let logits: Vec<f64> = (0..n_views).map(|j| if j == i { f64::NEG_INFINITY } else { logit(i, j) }).collect();
        let maximum = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - maximum).exp()).sum();
        let positive = positive_of(i, n_views);
        loss += (maximum + sum.ln() - logits[positive]) / n_views as f64;
        for j in (0..n_views).filter(|&j| j != i) {
            let share = (logits[j] - maximum).exp() / sum - f64::from(u8::from(j == positive));
            for d in 0..width {
                of_unit[i][d] += share * unit[j][d] * scale / n_views as f64;
                of_unit[j][d] += share * unit[i][d] * scale / n_views as f64;
            }
        }
    }
    let through = |i: usize| {
        let along: f64 = of_unit[i].iter().zip(&unit[i]).map(|(g, z)| g * z).sum();
        (0..width).map(|d| (of_unit[i][d] - along * unit[i][d]) / norms[i]).collect::<Vec<f64>>()
    };
    (loss, (0..n_views).flat_map(through).collect())
}

/// Second views near the first ones, as training makes them, so that small temperatures have something to tell apart.
fn pairs(seed: u64, n: usize, width: usize, noise: f32) -> Vec<f32> {
    let first = values_f32(seed, n * width, 1.0);
    let moved = values_f32(seed + 1, n * width, 1.0);
    let second: Vec<f32> = first.iter().zip(&moved).map(|(x, y)| x + noise * y).collect();
    [first, second].concat()
}

#[test]
fn agrees_with_the_processor_and_the_formula() {
    let mut emulator = Emulator::with(Order::FORWARD, &[SOURCE], Element::F32);
    for (n, width) in [(2, 4), (3, 5), (16, 16), (32, 8), (75, 20), (66, 70)] {
        for (temperature, noise) in [(0.5, 2.0), (0.1, 1.0), (0.01, 2.5)] {
            let projections = pairs(2, n, width, noise);
            let loss = loss_of(&projections, width, temperature);
            let wanted = on_the_processor(&projections, width, temperature);
            let (true_loss, true_gradient) = in_f64(&projections, width, temperature);
            let tilings = if n > 32 { [Some(&FINE), Some(&TALL)].as_slice() } else { &[None] };
            for &tiling in tilings {
                let found = compute(&projections, &loss, tiling, &mut emulator);
                let name = format!("N {n} D {width} T {temperature} {tiling:?}");
                // Logits of f32 numbers are uncertain by some 1e-7/T, their mean by less.
                let bound = 1e-6 * true_loss + 1e-8 / f64::from(temperature);
                for wanted in [f64::from(wanted.loss), true_loss] {
                    assert!((f64::from(found.loss) - wanted).abs() < bound, "{name}: {}, {wanted} wanted", found.loss);
                }
                for (found, wanted) in found.anchor_losses.iter().zip(&wanted.anchor_losses) {
                    assert!((found - wanted).abs() < 2e-7 * (1.0 / f64::from(temperature) + wanted), "{name}");
                }
                let error = relative_error(&found.gradient, &true_gradient);
                let of_processor = relative_error(&wanted.gradient, &true_gradient);
                assert!(error < 1e-5, "{name}: gradient off by {error}, the processor's by {of_processor}");
            }
        }
    }
}

#[test]
fn products_and_scales_agree_with_the_processor() {
    let mut emulator = Emulator::with(Order::FORWARD, &[SOURCE], Element::F32);
    for (n, width) in [(2, 4), (33, 9), (75, 20)] {
        let projections: Vec<f32> = pairs(2, n, width, 1.0).iter().map(|x| 3.0 * x).collect();
        for (temperature, normalize, scale) in [(10.0, false, 1.0), (0.5, false, 0.5), (0.1, true, 2.0)] {
            let recipe = crate::experiment::recipe::Loss::NtXent { normalize, scale };
            let mut objective = crate::ops::contrastive::Objective::new(recipe, temperature, 2 * n, width);
            let mut gradient = vec![f32::NAN; projections.len()];
            let wanted = objective.forward_backward((0, &[]), &projections, &mut gradient, &Pool::new(1));
            let loss = Loss { normalize, scale, ..loss_of(&projections, width, temperature) };
            let found = compute(&projections, &loss, (n > 32).then_some(&FINE), &mut emulator);
            let name = format!("N {n} D {width} T {temperature} {normalize} {scale}");
            assert!((found.loss - wanted).abs() < 3e-6 * (1.0 + wanted), "{name}: {}, {wanted} wanted", found.loss);
            let gradient: Vec<f64> = gradient.iter().map(|&value| value.into()).collect();
            assert!(relative_error(&found.gradient, &gradient) < 2e-5, "{name}");
        }
    }
}

#[test]
fn wide_projections() {
    let mut emulator = Emulator::with(Order::FORWARD, &[SOURCE], Element::F32);
    for width in [1030, 2048] {
        let projections = pairs(3, 5, width, 4.0);
        let (true_loss, true_gradient) = in_f64(&projections, width, 0.1);
        let found = compute(&projections, &loss_of(&projections, width, 0.1), None, &mut emulator);
        assert!((f64::from(found.loss) / true_loss - 1.0).abs() < 1e-6, "{}, {true_loss} wanted", found.loss);
        assert!(relative_error(&found.gradient, &true_gradient) < 1e-5);
    }
}

/// A width of three slices: the second tile begins in the buffer that the first one ended in.
#[test]
fn bits_depend_on_neither_order_nor_storage() {
    let projections = pairs(5, 75, 35, 1.0);
    let loss = loss_of(&projections, 35, 0.1);
    for tiling in [FINE, TALL] {
        let run = |order, element| {
            let mut emulator = Emulator::with(order, &[SOURCE], element);
            compute(&projections, &loss, Some(&tiling), &mut emulator).bits()
        };
        let first = run(Order::FORWARD, Element::F32);
        for order in Order::SEVERAL {
            assert!(run(order, Element::F32) == first, "{order:?} {tiling:?}");
        }
        assert!(run(Order::FORWARD, Element::Bf16) == first, "bf16 {tiling:?}");
    }
}

#[test]
fn agrees_with_lightly() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/golden/nt_xent.json")).unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let n_values = case.n * case.d;
        let mut projections = values_f32(case.seed_view0, n_values, case.scale);
        projections.extend(values_f32(case.seed_view1, n_values, case.scale));
        let Found { loss, gradient, .. } = emulated(&projections, case.d, case.temperature as f32);
        let name = format!("N {} D {} T {} scale {}", case.n, case.d, case.temperature, case.scale);
        let (loss_bound, norm_bound) = if case.scale < 0.1 { (1e-4, 1e-3) } else { (1e-5, 1e-4) };
        assert!((f64::from(loss) / case.loss - 1.0).abs() < loss_bound, "{name}: loss {loss}, {} wanted", case.loss);
        let (first, second) = gradient.split_at(n_values);
        for (gradient, probe) in [(first, &case.grad_view0), (second, &case.grad_view1)] {
            let found = norm(gradient.iter().map(|&x| f64::from(x)));
            assert!((found / probe.norm - 1.0).abs() < norm_bound, "{name}: norm {found}, {} wanted", probe.norm);
            let sum: f64 = gradient.iter().map(|&x| f64::from(x)).sum();
            assert!((sum - probe.sum).abs() < norm_bound * probe.norm, "{name}: sum {sum}, {} wanted", probe.sum);
            for (&index, &value) in probe.index.iter().zip(&probe.value) {
                let error = (f64::from(gradient[index]) - value).abs();
                assert!(error < norm_bound * probe.norm, "{name}: entry {index} off by {error}");
            }
        }
    }
}

const THREE_PAIRS: [f32; 12] = [1.0, 0.0, 0.0, 2.0, 3.0, 4.0, 1.0, 1.0, -1.0, 2.0, 4.0, 3.0];

#[test]
fn finite_at_the_edges() {
    let check = |projections: &[f32], width: usize, temperature: f32, expected: f64| {
        let found = emulated(projections, width, temperature);
        assert!((f64::from(found.loss) - expected).abs() <= 1e-6 * expected, "{}, {expected} wanted", found.loss);
        assert!(found.gradient.iter().all(|value| value.is_finite()), "{:?}", found.gradient);
    };
    check(&[1.0, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0], 2, 0.01, 200.0);
    check(&[1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0], 2, 0.01, 100.0);
    check(&[0.0; 24], 4, 0.5, 5f64.ln());
    for (exponent, expected) in [(30, 1.236667839688), (-10, 1.236667839688), (-30, 5f64.ln())] {
        check(&THREE_PAIRS.map(|x| x * 10f32.powi(exponent)), 2, 0.5, expected);
    }
    let axes: Vec<f32> = (0..16).map(|index| if index % 5 == 0 { 2.0 } else { 0.0 }).collect();
    check(&[axes.clone(), axes].concat(), 4, 0.02, 6.0 * (-50f64).exp());
    for n in [3, 100] {
        let found = emulated(&vec![0.25; 2 * n * 3], 3, 0.01);
        assert!((loss_ratio(found.loss.into(), 2 * n) - 1.0).abs() < 1e-6, "{}", found.loss);
        assert!(norm(found.gradient.iter().map(|&x| f64::from(x))) < 1e-4);
    }
}

#[test]
fn a_zero_row_gets_the_gradient_of_the_clamped_norm() {
    let mut projections = THREE_PAIRS;
    projections[..2].fill(0.0);
    let (found, wanted) = (emulated(&projections, 2, 0.5), on_the_processor(&projections, 2, 0.5));
    assert!(found.gradient[1].abs() > 1e10);
    for (found, wanted) in found.gradient.iter().zip(&wanted.gradient) {
        assert!((found - wanted).abs() <= 1e-5 * wanted.abs().max(0.1), "{found}, {wanted} wanted");
    }
}

/// Every anchor is compared with it. Also the NaN that devices make, whose bits are all ones behind the sign.
#[test]
fn what_is_not_finite_makes_every_loss_nan() {
    let of_device = f32::from_bits(0x7fff_ffff);
    for value in [f32::NAN, of_device, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for index in [0, 7, 11] {
            let mut projections = THREE_PAIRS;
            projections[index] = value;
            let found = emulated(&projections, 2, 0.5);
            assert!(found.loss.is_nan(), "{value} at {index}");
            assert!(found.anchor_losses.iter().all(|loss| loss.is_nan()), "{value} at {index}: {found:?}");
        }
    }
}

fn emulated_metrics(projections: &[f32], width: usize, tiling: Option<&Tiling>, order: Order) -> Metrics {
    let mut emulator = Emulator::with(order, &[SOURCE], Element::F32);
    let loss = loss_of(projections, width, 1.0);
    let places = MetricsPlaces {
        projections: emulator.place_f32(projections),
        metrics: emulator.place(&[0xff; 24]),
        scratch: scratch(&mut emulator, &loss),
    };
    let nodes = match tiling {
        None => metrics_nodes(&loss, &places),
        Some(tiling) => metrics_nodes_cut(&loss, &places, tiling),
    };
    emulator.run(&nodes).expect("kernels of this source");
    let [alignment, uniformity, contrastive_top1] = read_f64(&mut emulator, places.metrics, 3)[..] else {
        panic!("three numbers");
    };
    Metrics { alignment, uniformity, contrastive_top1 }
}

#[test]
fn metrics_agree_with_the_processor() {
    for (n, width) in [(1, 3), (2, 1), (75, 20), (97, 33)] {
        let projections = pairs(9, n, width, 1.5);
        let wanted = measure(&projections, width, &Pool::new(1));
        for tiling in [None, Some(&FINE), Some(&TALL)] {
            let found = emulated_metrics(&projections, width, tiling, Order::FORWARD);
            let name = format!("{found:?}, {wanted:?} wanted for N {n} D {width}");
            assert!((found.alignment - wanted.alignment).abs() <= 1e-7 * wanted.alignment, "{name}");
            assert!((found.uniformity - wanted.uniformity).abs() < 1e-6, "{name}");
            assert_eq!(found.contrastive_top1, wanted.contrastive_top1, "{name}");
        }
    }
}

#[test]
fn bits_of_metrics_do_not_depend_on_order() {
    let projections = pairs(5, 75, 20, 1.0);
    let run = |order| emulated_metrics(&projections, 20, Some(&FINE), order);
    let first = run(Order::FORWARD);
    assert!(Order::SEVERAL.into_iter().all(|order| run(order) == first));
}

/// Ties count as wrong: the same views give the same bits wherever they stand.
#[test]
fn metrics_of_known_embeddings() {
    let check = |projections: &[f32], width: usize, alignment: f64, uniformity: f64, top1: f64| {
        let found = emulated_metrics(projections, width, None, Order::FORWARD);
        assert!((found.alignment - alignment).abs() < 1e-6, "{found:?}, {alignment} wanted");
        assert!((found.uniformity - uniformity).abs() < 1e-6, "{found:?}, {uniformity} wanted");
        assert_eq!(found.contrastive_top1, top1);
    };
    check(&[0.5; 12], 3, 0.0, 0.0, 0.0);
    let crossed = [1.0, 0.0, 0.0, 1.0, 0.0, 2.0, 3.0, 0.0];
    check(&crossed, 2, 2.0, ((4.0 * (-4f64).exp() + 2.0) / 6.0).ln(), 0.0);
    let paired = [1.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0];
    check(&paired, 2, 0.0, ((4.0 * (-4f64).exp() + 2.0) / 6.0).ln(), 1.0);
    let repeated = [values_f32(3, 40, 1.0), values_f32(3, 40, 1.0)].concat().repeat(2);
    assert_eq!(emulated_metrics(&repeated, 20, None, Order::FORWARD).contrastive_top1, 0.0);
}

#[test]
fn every_size_is_cut_into_whole_parts_and_bounded_memory() {
    for n_views in (4..=1200).step_by(2).chain((1202..=1 << 16).step_by(202)).chain([8192, 1 << 16]) {
        for width in [1, 64, 128, 2048] {
            let loss = Loss { n_views, width, inverse_temperature: 1.0, normalize: true, scale: 1.0 };
            let Tiling { tile_rows, sum_tiles, panel_rows, gradient_tiles } = loss.tiling();
            let tiles = n_views.div_ceil(64);
            assert!(tile_rows == 32 || tile_rows == 64);
            assert!((1..=16).contains(&sum_tiles) && (1..=tiles).contains(&gradient_tiles), "{loss:?}");
            assert!(panel_rows.is_multiple_of(64) && (64..=tiles * 64).contains(&panel_rows), "{loss:?}");
            let unit = tiles * 64 * width.next_multiple_of(16) * 4;
            let rows = tiles * 64 * (40 + 8 * tiles.div_ceil(sum_tiles));
            assert!(scratch_bytes(&loss) <= unit + rows + (64 << 20) + (32 << 20) + 2560, "{loss:?}");
        }
    }
    let of = |n_views: usize| loss_of(&vec![0.0; n_views * 128], 128, 1.0).tiling();
    assert_eq!(of(512), Tiling { tile_rows: 32, sum_tiles: 1, panel_rows: 512, gradient_tiles: 1 });
    assert_eq!(of(8192), Tiling { tile_rows: 64, sum_tiles: 16, panel_rows: 2048, gradient_tiles: 32 });
    assert_eq!(of(1 << 16), Tiling { tile_rows: 64, sum_tiles: 16, panel_rows: 256, gradient_tiles: 64 });
}
