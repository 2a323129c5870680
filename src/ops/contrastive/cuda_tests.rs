//! The kernels of every loss on the emulated device against the processor, the recorded values and the formula in f64.

use super::cuda::{
    Loss as Task, Places, SOURCE, bank_bytes, bank_from_device, bank_on_device, nodes, nodes_cut, scratch_bytes,
    scratch_bytes_cut,
};
use super::exact::Exact;
use super::golden_tests::golden;
use super::tests::{bank_of, far, pairs, widened};
use super::*;
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Address, Element, Gpu};
use crate::ops::nt_xent::cuda as nt_xent_cuda;
use crate::ops::nt_xent::tiles::Tiling;

/// One of everything that is no NT-Xent.
const LOSSES: [Loss; 9] = [
    Loss::NtXentMemoryBank { size: 37 },
    Loss::Dcl,
    Loss::Dclw { sigma: 0.5 },
    Loss::NtLogistic { semi_hard: false },
    Loss::NtLogistic { semi_hard: true },
    Loss::MarginTriplet { margin: 0.4, semi_hard: false },
    Loss::MarginTriplet { margin: 0.8, semi_hard: true },
    Loss::MarginTriplet { margin: 1.6, semi_hard: false },
    Loss::MarginTriplet { margin: 0.05, semi_hard: true },
];

const N_LOSSES: usize = 3;
/// Its place in the ring is 1.
const STEP: u64 = (1 << 40) + 3;

/// Everything at its smallest: three parts of every sum as soon as there are three tiles.
const FINE: Tiling = Tiling { tile_rows: 32, sum_tiles: 1, panel_rows: 64, gradient_tiles: 1 };
/// Tall tiles, parts of two tiles, panels of which the last is shorter.
const TALL: Tiling = Tiling { tile_rows: 64, sum_tiles: 2, panel_rows: 128, gradient_tiles: 2 };

fn emulator(order: Order, element: Element) -> Emulator {
    Emulator::with(order, &[nt_xent_cuda::SOURCE, SOURCE], element)
}

fn task(recipe: Loss, projections: &[f32], width: usize, temperature: f32) -> Task {
    Task { recipe, n_views: projections.len() / width, width, temperature }
}

/// Loss and gradient.
fn compute(projections: &[f32], task: &Task, tiling: Option<&Tiling>, emulator: &mut Emulator) -> (f32, Vec<f32>) {
    let (loss, gradient, _) = compute_with(&bank_of(task.recipe, task.width), projections, task, tiling, emulator);
    (loss, gradient)
}

/// The same, and the bank as it is then, from scratch full of NaN.
fn compute_with(
    bank: &[f32],
    projections: &[f32],
    task: &Task,
    tiling: Option<&Tiling>,
    emulator: &mut Emulator,
) -> (f32, Vec<f32>, Vec<f32>) {
    let scratch = tiling.map_or_else(|| scratch_bytes(task), |tiling| scratch_bytes_cut(task, tiling));
    let shared = nt_xent_cuda::Places {
        projections: emulator.place_f32(projections),
        gradient: emulator.place_f32(&vec![f32::NAN; projections.len()]),
        anchor_losses: emulator.place(&vec![0xff; 8 * task.n_views]),
        losses: emulator.place_f32(&[-1.0; N_LOSSES]),
        losses_len: N_LOSSES,
        step: emulator.place(&STEP.to_le_bytes()),
        scratch: emulator.place(&vec![0xff; scratch]),
    };
    let rows = bank_on_device(task, bank);
    assert_eq!(4 * rows.len(), bank_bytes(task));
    let places = Places {
        shared,
        bank: if rows.is_empty() { Address::NONE } else { emulator.place_f32(&rows) },
        labels: Address::NONE,
        n_images: task.n_views / 2,
    };
    let nodes = match tiling {
        None => nodes(task, &places),
        Some(tiling) => nodes_cut(task, &places, tiling),
    };
    emulator.run(&nodes).expect("kernels of these sources");
    let losses = emulator.read_f32(shared.losses, N_LOSSES);
    assert_eq!([losses[0], losses[2]], [-1.0; 2], "other places of the ring");
    let bank = if rows.is_empty() { Vec::new() } else { emulator.read_f32(places.bank, rows.len()) };
    let gradient = emulator.read_f32(shared.gradient, projections.len());
    (losses[1], gradient, bank_from_device(task, &bank))
}

fn emulated(loss: Loss, projections: &[f32], width: usize, temperature: f32) -> (f32, Vec<f32>) {
    let task = task(loss, projections, width, temperature);
    compute(projections, &task, None, &mut emulator(Order::FORWARD, Element::F32))
}

fn on_the_processor(loss: Loss, projections: &[f32], width: usize, temperature: f32) -> (f32, Vec<f32>) {
    let mut objective = Objective::new(loss, temperature, projections.len() / width, width);
    objective.load_bank(&bank_of(loss, width));
    let mut gradient = vec![f32::NAN; projections.len()];
    let value = objective.forward_backward((0, &[]), projections, &mut gradient, &Pool::new(1));
    (value, gradient)
}

fn exactly(loss: Loss, projections: &[f32], width: usize, temperature: f32) -> (f64, Vec<f64>) {
    Exact::new(loss, f64::from(temperature), width, &bank_of(loss, width)).forward_backward(&widened(projections))
}

#[test]
fn agrees_with_the_processor_and_the_formula() {
    let mut emulator = emulator(Order::FORWARD, Element::F32);
    for loss in LOSSES {
        for (n, width) in [(2, 4), (3, 5), (32, 8), (75, 20), (66, 70)] {
            for temperature in [0.5, 0.1, 0.01] {
                let projections = pairs(2, n, width, 1.0);
                let task = task(loss, &projections, width, temperature);
                let (wanted, of_processor) = on_the_processor(loss, &projections, width, temperature);
                let (true_loss, true_gradient) = exactly(loss, &projections, width, temperature);
                let tilings = if n > 32 { [Some(&FINE), Some(&TALL)].as_slice() } else { &[None] };
                for &tiling in tilings {
                    let (found, gradient) = compute(&projections, &task, tiling, &mut emulator);
                    let name = format!("{loss:?} N {n} D {width} T {temperature} {tiling:?}");
                    // Logits of f32 numbers are uncertain by some 1e-7/T, their mean by less.
                    let bound = 1e-6 * true_loss.abs() + 2e-8 / f64::from(temperature);
                    for wanted in [f64::from(wanted), true_loss] {
                        assert!((f64::from(found) - wanted).abs() < bound, "{name}: {found}, {wanted} wanted");
                    }
                    let error = far(&gradient, &true_gradient);
                    let of_processor = far(&of_processor, &true_gradient);
                    assert!(error < 1e-5, "{name}: gradient off by {error}, the processor's by {of_processor}");
                }
            }
        }
    }
}

#[test]
fn wide_projections() {
    for loss in LOSSES {
        let projections = pairs(3, 5, 1030, 1.0);
        let (true_loss, true_gradient) = exactly(loss, &projections, 1030, 0.1);
        let (found, gradient) = emulated(loss, &projections, 1030, 0.1);
        let apart = (f64::from(found) - true_loss).abs();
        assert!(apart < 2e-6 * true_loss.abs().max(0.1), "{loss:?}: {found}, {true_loss} wanted");
        assert!(far(&gradient, &true_gradient) < 1e-5, "{loss:?}");
    }
}

#[test]
fn bits_depend_on_neither_order_nor_storage() {
    let projections = pairs(5, 75, 35, 1.0);
    for loss in LOSSES {
        for tiling in [FINE, TALL] {
            let task = task(loss, &projections, 35, 0.1);
            let run = |order, element| {
                let (bank, mut emulator) = (bank_of(loss, 35), emulator(order, element));
                let (value, gradient, bank) = compute_with(&bank, &projections, &task, Some(&tiling), &mut emulator);
                gradient.into_iter().chain(bank).chain([value]).map(f32::to_bits).collect::<Vec<u32>>()
            };
            let first = run(Order::FORWARD, Element::F32);
            for order in Order::SEVERAL {
                assert!(run(order, Element::F32) == first, "{loss:?} {order:?} {tiling:?}");
            }
            assert!(run(Order::FORWARD, Element::Bf16) == first, "{loss:?} bf16 {tiling:?}");
        }
    }
}

#[test]
fn agrees_with_lightly_and_pytorch() {
    let mut n_checked = 0;
    for case in golden() {
        let loss = case.recipe();
        if LOSSES.iter().all(|known| std::mem::discriminant(known) != std::mem::discriminant(&loss)) {
            continue;
        }
        let (projections, mut emulator) = (case.projections(), emulator(Order::FORWARD, Element::F32));
        let task = task(loss, &projections, case.d, case.temperature as f32);
        let (found, gradient, bank) = compute_with(&case.bank(), &projections, &task, None, &mut emulator);
        assert_eq!(bank.len(), bank_len(loss, case.d));
        case.check("emulated", found.into(), &widened(&gradient), 1e-5);
        n_checked += 1;
    }
    assert!(n_checked > 20, "{n_checked} recorded values");
}

/// Opposite, equal and orthogonal vectors, zeros, the smallest and the largest; every similarity is tied with others.
#[test]
fn finite_at_the_edges() {
    let opposite = vec![1.0, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0];
    let orthogonal = vec![1.0, 0.0, 0.0, 2.0, 1.0, 0.0, 0.0, 3.0];
    let crossed = vec![1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0];
    let small = pairs(3, 2, 2, 1e-30);
    let large = pairs(3, 2, 2, 1e17);
    for loss in LOSSES {
        for projections in [&opposite, &orthogonal, &crossed, &vec![0.25; 8], &vec![0.0; 8], &small, &large] {
            for temperature in [0.01, 0.5, 100.0] {
                let (found, gradient) = emulated(loss, projections, 2, temperature);
                let (wanted, _) = exactly(loss, projections, 2, temperature);
                let (_, of_processor) = on_the_processor(loss, projections, 2, temperature);
                let name = format!("{loss:?} T {temperature} {projections:?}");
                assert!((f64::from(found) - wanted).abs() <= 1e-5 * wanted.abs().max(1.0), "{name}: {found}, {wanted}");
                // Next to the smallest norms a gradient is as large as 1/‖x‖.
                let largest = of_processor.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
                for (found, wanted) in gradient.iter().zip(&of_processor) {
                    assert!((found - wanted).abs() <= 1e-4 * largest, "{name}: {gradient:?}, {of_processor:?} wanted");
                }
            }
        }
        let many = vec![0.25; 2 * 100 * 3];
        let ((found, gradient), (wanted, _)) = (emulated(loss, &many, 3, 0.01), on_the_processor(loss, &many, 3, 0.01));
        assert!((found - wanted).abs() <= 1e-5 * wanted.abs().max(1.0), "{loss:?}: {found}, {wanted} wanted");
        // All are equal, but a bank is not.
        assert!(gradient.iter().all(|value| value.abs() < 1e-3) || bank_len(loss, 1) > 0, "{loss:?}");
    }
}

#[test]
fn what_is_not_finite_makes_the_loss_nan() {
    let of_device = f32::from_bits(0x7fff_ffff);
    for loss in LOSSES {
        for value in [f32::NAN, of_device, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for index in [0, 7, 11] {
                let mut projections = pairs(4, 3, 2, 1.0);
                projections[index] = value;
                assert!(emulated(loss, &projections, 2, 0.5).0.is_nan(), "{loss:?}: {value} at {index}");
            }
        }
    }
}

/// Of equals the first counts, also where they stand in different lanes, tiles and splits; a negative that is as similar as
/// the positive is none that is semi-hard.
#[test]
fn the_first_of_equal_negatives_is_chosen() {
    let (n, width) = (75, 6);
    let mut projections = pairs(8, n, width, 1.0);
    // Second views of many images are one vector, near the first views of all; its gradient goes to the first of them.
    let (first, second) = projections.split_at_mut(n * width);
    for row in first.chunks_mut(width) {
        row[0] += 4.0;
    }
    for image in [9, 11, 12, 40, 64, 70, 74] {
        second[image * width..][..width].copy_from_slice(&[1.0, 0.1, 0.0, 0.0, 0.0, 0.0]);
        first[image * width..][..width].copy_from_slice(&[1.0, 0.1, 0.0, 0.0, 0.0, 0.0]);
    }
    let mut emulator = emulator(Order::FORWARD, Element::F32);
    for loss in [Loss::NtLogistic { semi_hard: true }, Loss::MarginTriplet { margin: 0.8, semi_hard: true }] {
        let (wanted, of_processor) = on_the_processor(loss, &projections, width, 0.2);
        for tiling in [FINE, TALL] {
            let (found, gradient) =
                compute(&projections, &task(loss, &projections, width, 0.2), Some(&tiling), &mut emulator);
            assert!((found - wanted).abs() < 1e-6, "{loss:?}: {found}, {wanted} wanted");
            assert!(far(&gradient, &widened(&of_processor)) < 1e-5, "{loss:?} {tiling:?}");
        }
    }
}

/// As on the processor from step to step, in banks of fewer and of more rows than a batch; the rest stays what it was.
#[test]
fn a_step_moves_the_bank_as_on_the_processor() {
    let mut emulator = emulator(Order::FORWARD, Element::F32);
    for (n, size, width) in [(4, 3, 5), (5, 12, 20), (70, 150, 9), (70, 70, 9)] {
        let loss = Loss::NtXentMemoryBank { size };
        let projections = pairs(9, n, width, 1.0);
        let mut objective = Objective::new(loss, 0.1, 2 * n, width);
        let before = bank_of(loss, width);
        objective.load_bank(&before);
        let mut wanted = vec![f32::NAN; projections.len()];
        let value = objective.forward_backward((STEP, &[]), &projections, &mut wanted, &Pool::new(1));
        let task = task(loss, &projections, width, 0.1);
        for tiling in [None, Some(&FINE), Some(&TALL)] {
            let (found, gradient, bank) = compute_with(&before, &projections, &task, tiling, &mut emulator);
            assert!((found - value).abs() < 2e-6 * value.max(0.1), "{n} in {size}: {found}, {value} wanted");
            assert!(far(&gradient, &widened(&wanted)) < 1e-5, "{n} in {size}");
            assert!(far(&bank, &widened(objective.bank())) < 1e-7, "{n} in {size}: the bank");
            let written = bank::rows_of_step(STEP, size as usize, n);
            for (row, (found, old)) in bank.chunks(width).zip(before.chunks(width)).enumerate() {
                assert_eq!(found == old, !written.contains(&row), "row {row} of {size}");
            }
        }
    }
}

#[test]
fn memory_is_never_views_by_views() {
    for loss in LOSSES {
        for (n_views, width) in [(4, 1), (512, 128), (8192, 128), (1 << 16, 2048)] {
            let bytes = scratch_bytes(&Task { recipe: loss, n_views, width, temperature: 0.1 });
            let rows = n_views.next_multiple_of(64);
            let unit = rows * width.next_multiple_of(16) * 4;
            let of_rows = rows * (48 + 16 * (rows / 64).div_ceil(if n_views > 4096 { 16 } else { 1 }));
            assert!(bytes <= unit + of_rows + (96 << 20) + 4096, "{loss:?}: {bytes} bytes for {n_views} views");
        }
    }
}
