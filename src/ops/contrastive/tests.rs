//! Every loss against Lightly 1.6 and PyTorch 2.15 (`tests/golden/losses.json`, made by `losses.py` beside it), its formula
//! in f64, finite differences and closed forms.

use proptest::prelude::*;

use super::exact::Exact;
use super::golden_tests::golden;
use super::*;
use crate::ops::nt_xent::golden::{values, values_f32};
use crate::ops::nt_xent::{dot, normalize};

const BANK: usize = 37;

/// One of everything.
const LOSSES: [Loss; 10] = [
    Loss::NtXent { normalize: true, scale: 2.0 },
    Loss::NtXent { normalize: false, scale: 1.0 },
    Loss::NtXent { normalize: false, scale: 0.25 },
    Loss::NtXentMemoryBank { size: BANK as u32 },
    Loss::Dcl,
    Loss::Dclw { sigma: 0.5 },
    Loss::NtLogistic { semi_hard: false },
    Loss::NtLogistic { semi_hard: true },
    Loss::MarginTriplet { margin: 0.4, semi_hard: false },
    Loss::MarginTriplet { margin: 0.8, semi_hard: true },
];

/// Unit vectors; empty for a loss without a bank.
pub(super) fn bank_of(loss: Loss, width: usize) -> Vec<f32> {
    unit(&values_f32(77, bank_len(loss, width), 1.0), width)
}

pub(super) fn unit(rows: &[f32], width: usize) -> Vec<f32> {
    let mut unit = vec![0.0; rows.len()];
    for (row, unit) in rows.chunks(width).zip(unit.chunks_mut(width)) {
        normalize(row, unit);
    }
    unit
}

fn run_with(
    bank: &[f32],
    loss: Loss,
    projections: &[f32],
    width: usize,
    temperature: f32,
    threads: usize,
) -> (f32, Vec<f32>) {
    let mut objective = Objective::new(loss, temperature, projections.len() / width, width);
    objective.load_bank(bank);
    let mut gradient = vec![f32::NAN; projections.len()];
    let value = objective.forward_backward((0, &[]), projections, &mut gradient, &Pool::new(threads));
    (value, gradient)
}

fn run(loss: Loss, projections: &[f32], width: usize, temperature: f32) -> (f32, Vec<f32>) {
    run_with(&bank_of(loss, width), loss, projections, width, temperature, 1)
}

fn exact(loss: Loss, width: usize, temperature: f32) -> Exact {
    Exact::new(loss, f64::from(temperature), width, &bank_of(loss, width))
}

pub(super) fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

pub(super) fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// ‖found − wanted‖ / ‖wanted‖.
pub(super) fn far(found: &[f32], wanted: &[f64]) -> f64 {
    let difference: Vec<f64> = found.iter().zip(wanted).map(|(&x, y)| f64::from(x) - y).collect();
    norm(&difference) / norm(wanted).max(1e-30)
}

/// Second views near the first ones, as training makes them.
pub(super) fn pairs(seed: u64, n: usize, width: usize, scale: f64) -> Vec<f32> {
    let (first, own) = (values(seed, n * width, scale), values(seed + 1, n * width, scale));
    let second = first.iter().zip(&own).map(|(x, y)| 0.6 * x + y);
    first.iter().copied().chain(second).map(|value| value as f32).collect()
}

#[test]
fn agrees_with_lightly_and_pytorch() {
    for case in golden() {
        let (loss, temperature, bank) = (case.recipe(), case.temperature as f32, case.bank());
        let projections = case.projections();
        let mut objective = Objective::new(loss, temperature, 2 * case.n, case.d);
        objective.load_bank(&bank);
        let mut gradient = vec![f32::NAN; projections.len()];
        let found = objective.forward_backward((0, &[]), &projections, &mut gradient, &Pool::new(1));
        case.check("fast", found.into(), &widened(&gradient), 1e-5);
        let (found, gradient) =
            Exact::new(loss, case.temperature, case.d, &bank).forward_backward(&widened(&projections));
        // The bank's rows are rounded to f32 on either side.
        case.check("exact", found, &gradient, if bank.is_empty() { 1e-12 } else { 1e-7 });
        let sum: f64 = widened(objective.bank()).iter().sum();
        assert!((sum - case.bank_sum.unwrap_or(0.0)).abs() < 1e-4, "{loss:?}: bank {sum}, {:?} wanted", case.bank_sum);
    }
}

/// Central differences of the formula's value; DCLW's weights stay as they are, since no gradient goes through them.
#[test]
fn the_exact_gradient_is_the_slope() {
    let (n, width) = (5, 4);
    for loss in LOSSES {
        for temperature in [0.1, 0.7] {
            let start = widened(&pairs(31, n, width, 1.5));
            let mut exact = exact(loss, width, temperature);
            if let Loss::Dclw { sigma } = loss {
                exact.weights = Some(dclw_weights(&start, width, sigma));
            }
            let (_, gradient) = exact.forward_backward(&start);
            for index in 0..start.len() {
                let at = |step: f64| {
                    let mut moved = start.clone();
                    moved[index] += step;
                    exact.forward_backward(&moved).0
                };
                let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
                let apart = (slope - gradient[index]).abs();
                assert!(
                    apart < 1e-7 * norm(&gradient).max(1.0),
                    "{loss:?} T {temperature}: {slope}, {}",
                    gradient[index]
                );
            }
        }
    }
}

fn dclw_weights(projections: &[f64], width: usize, sigma: f64) -> Vec<f64> {
    let rows: Vec<&[f64]> = projections.chunks(width).collect();
    let cosine = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>() / norm(x) / norm(y);
    let similarities: Vec<Vec<f64>> = rows.iter().map(|x| rows.iter().map(|y| cosine(x, y)).collect()).collect();
    exact::weights(&similarities, sigma)
}

/// Several tiles and blocks, the last of each incomplete.
#[test]
fn agrees_with_the_formula_over_tiles() {
    for (n, width) in [(2, 3), (33, 3), (150, 7), (161, 20), (40, 1030)] {
        for loss in LOSSES {
            let projections = pairs(7, n, width, 1.0);
            let (found, gradient) = run(loss, &projections, width, 0.2);
            let (wanted, of_formula) = exact(loss, width, 0.2).forward_backward(&widened(&projections));
            let name = format!("{loss:?} N {n} D {width}");
            assert!(
                (f64::from(found) - wanted).abs() < 2e-6 * (1.0 + wanted.abs()),
                "{name}: {found}, {wanted} wanted"
            );
            assert!(far(&gradient, &of_formula) < 2e-5, "{name}: gradient off by {}", far(&gradient, &of_formula));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn agrees_with_the_formula(
        (n, width) in (2usize..7, 2usize..9),
        temperature in 0.05f32..1.5,
        seed in 0u64..1000,
        which in 0..LOSSES.len(),
    ) {
        let projections = pairs(seed, n, width, 1.0);
        prop_assume!(projections.chunks_exact(width).all(|row| dot(row, row) > 0.01));
        let (found, gradient) = run(LOSSES[which], &projections, width, temperature);
        let (wanted, of_formula) = exact(LOSSES[which], width, temperature).forward_backward(&widened(&projections));
        prop_assert!((f64::from(found) - wanted).abs() < 3e-6 * (1.0 + wanted.abs()), "{} and {}", found, wanted);
        let apart = far(&gradient, &of_formula) * norm(&of_formula);
        prop_assert!(apart < 1e-4 * norm(&of_formula).max(0.01), "{:?}: {:?} and {:?}", LOSSES[which], gradient, of_formula);
    }
}

fn softplus(x: f64) -> f64 {
    x.exp().ln_1p()
}

/// What every loss is where all similarities of negatives are `negative` and all of positives `positive`, at 1/T = 2.
fn of_two_similarities(loss: Loss, n: usize, positive: f64, negative: f64) -> f64 {
    let (logit, others) = (2.0 * positive, 2.0 * negative);
    let n_others = (2 * n - 2) as f64;
    let is_semi_hard = negative < positive;
    match loss {
        Loss::NtXent { scale, .. } => scale * (n_others.ln() + others - logit).exp().ln_1p(),
        Loss::NtXentMemoryBank { .. } => ((BANK as f64).ln() + others - logit).exp().ln_1p(),
        // All pairs are alike, so that every weight is 1.
        Loss::Dcl | Loss::Dclw { .. } => n_others.ln() + others - logit,
        Loss::NtLogistic { semi_hard: false } => softplus(-logit) + softplus(others),
        Loss::NtLogistic { semi_hard: true } => softplus(-logit) + if is_semi_hard { softplus(others) } else { 0.0 },
        Loss::MarginTriplet { margin, semi_hard: false } => (negative - positive + margin).max(0.0),
        Loss::MarginTriplet { margin, semi_hard: true } => {
            if is_semi_hard {
                (negative - positive + margin).max(0.0)
            } else {
                0.0
            }
        }
        Loss::CrossEntropy { .. } => unreachable!("it is none of these losses"),
    }
}

#[test]
fn equal_and_orthogonal_embeddings() {
    let wide =
        [Loss::MarginTriplet { margin: 1.6, semi_hard: false }, Loss::MarginTriplet { margin: 1.6, semi_hard: true }];
    for loss in LOSSES.into_iter().chain(wide) {
        for n in [2, 5, 64, 131] {
            let axis: Vec<f32> = (0..n + 1).map(|index| f32::from(u8::from(index == n))).collect();
            let equal = axis.repeat(2 * n);
            let (found, gradient) = run_with(&axis.repeat(bank_len(loss, 1)), loss, &equal, n + 1, 0.5, 1);
            let wanted = of_two_similarities(loss, n, 1.0, 1.0);
            assert!(
                (f64::from(found) - wanted).abs() < 1e-6 * (1.0 + wanted.abs()),
                "{loss:?} N {n}: {found}, {wanted} wanted"
            );
            assert!(gradient.iter().all(|value| value.is_finite()));
            let axes: Vec<f32> =
                (0..n * (n + 1)).map(|index| f32::from(u8::from(index % (n + 1) == index / (n + 1)))).collect();
            let orthogonal = [axes.clone(), axes].concat();
            let (found, gradient) = run_with(&axis.repeat(bank_len(loss, 1)), loss, &orthogonal, n + 1, 0.5, 1);
            let wanted = of_two_similarities(loss, n, 1.0, 0.0);
            assert!(
                (f64::from(found) - wanted).abs() < 1e-6 * (1.0 + wanted.abs()),
                "{loss:?} N {n}: {found}, {wanted} wanted"
            );
            assert!(gradient.iter().all(|value| value.is_finite()));
        }
    }
}

/// One anchor's semi-hard negative by hand: cosines to first views (1, 0), (0.6, 0.8), (0, 1), (−1, 0).
#[test]
fn the_semi_hard_negative_is_the_nearest_behind_the_positive() {
    let first = [1.0, 0.0, 0.6, 0.8, 0.0, 1.0, -1.0, 0.0];
    // Second view of the first image: similar by 0.8, 0.96, 0.6 and −0.8 to the four first ones.
    let second = [0.8, 0.6, 0.6, 0.8, 0.0, 1.0, -1.0, 0.0];
    let projections: Vec<f32> = [first, second].concat();
    // Each view is 0.8, 1, 1, 1 like its positive; the most similar of what is less so:
    // 0.6, 0.96, 0.8, 0 of the first views; 0.6 (0.96 is more similar than the positive), 0.8, 0.8, 0 of the second ones.
    let triples = [(0.8, 0.6), (1.0, 0.96), (1.0, 0.8), (1.0, 0.0), (0.8, 0.6), (1.0, 0.8), (1.0, 0.8), (1.0, 0.0)];
    let mean = |term: &dyn Fn(f64, f64) -> f64| triples.iter().map(|&(p, v)| term(p, v)).sum::<f64>() / 8.0;
    for margin in [0.1, 0.3, 1.5] {
        let (found, _) = run(Loss::MarginTriplet { margin, semi_hard: true }, &projections, 2, 0.5);
        let wanted = mean(&|positive, negative| (negative - positive + margin).max(0.0));
        assert!((f64::from(found) - wanted).abs() < 1e-6, "{margin}: {found}, {wanted} wanted");
    }
    let (found, _) = run(Loss::NtLogistic { semi_hard: true }, &projections, 2, 0.5);
    let wanted = mean(&|positive, negative| softplus(-2.0 * positive) + softplus(2.0 * negative));
    assert!((f64::from(found) - wanted).abs() < 1e-6, "{found}, {wanted} wanted");
}

#[test]
fn finite_at_the_edges() {
    let opposite = [1.0, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0];
    let zeros = [0.0; 8];
    let small = pairs(3, 2, 2, 1e-30);
    let large = pairs(3, 2, 2, 1e17);
    for loss in LOSSES {
        for projections in [&opposite[..], &zeros, &small, &large] {
            for temperature in [0.01, 0.5, 100.0] {
                let (found, gradient) = run(loss, projections, 2, temperature);
                let (wanted, _) = exact(loss, 2, temperature).forward_backward(&widened(projections));
                let name = format!("{loss:?} T {temperature} {projections:?}");
                assert!((f64::from(found) - wanted).abs() <= 1e-5 * wanted.abs().max(1.0), "{name}: {found}, {wanted}");
                assert!(gradient.iter().all(|value| value.is_finite()), "{name}: {gradient:?}");
            }
        }
        for (index, value) in [(0, f32::NAN), (7, f32::NAN), (3, f32::INFINITY), (5, f32::NEG_INFINITY)] {
            let mut projections = pairs(4, 2, 2, 1.0);
            projections[index] = value;
            assert!(run(loss, &projections, 2, 0.5).0.is_nan(), "{loss:?}: {value} at {index}");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let projections = pairs(5, 150, 40, 1.0);
    for loss in LOSSES {
        let bits = |threads| {
            let (value, gradient) = run_with(&bank_of(loss, 40), loss, &projections, 40, 0.1, threads);
            std::iter::once(value).chain(gradient).map(f32::to_bits).collect::<Vec<u32>>()
        };
        assert!(bits(1) == bits(2) && bits(1) == bits(3), "{loss:?}");
    }
}

/// A loss of one view's anchors aside, no loss knows which views came first.
#[test]
fn exchanging_the_views_exchanges_the_gradients() {
    let (n, width) = (37, 24);
    let projections = pairs(3, n, width, 1.0);
    let (first, second) = projections.split_at(n * width);
    for loss in LOSSES {
        let (value, gradient) = run(loss, &projections, width, 0.1);
        let (other, exchanged) = run(loss, &[second, first].concat(), width, 0.1);
        let (left, right) = exchanged.split_at(n * width);
        let is_same =
            (value - other).abs() <= 1e-5 * value.abs() && far(&gradient, &widened(&[right, left].concat())) < 1e-5;
        assert_eq!(is_same, bank_len(loss, 1) == 0, "{loss:?}: {value} and {other}");
    }
}

#[test]
fn a_scale_multiplies_loss_and_gradient_and_1_changes_no_bit() {
    let projections = pairs(6, 20, 12, 1.0);
    let mut gradient = vec![0.0; projections.len()];
    let mut workspace = nt_xent::Workspace::new(40, 12);
    let loss = nt_xent::forward_backward(&projections, 12, 0.1, &mut gradient, &mut workspace, &Pool::new(1));
    assert_eq!(run(Loss::NT_XENT, &projections, 12, 0.1), (loss, gradient.clone()));
    for normalize in [true, false] {
        let of = |scale| run(Loss::NtXent { normalize, scale }, &projections, 12, 0.1);
        let doubled: Vec<f32> = of(1.0).1.iter().map(|value| 2.0 * value).collect();
        assert_eq!(of(2.0), (2.0 * of(1.0).0, doubled));
    }
    assert_eq!(loss_ratio(Loss::NtXent { normalize: true, scale: 2.0 }, 2.0 * 7f64.ln(), 8), Some(1.0));
    assert_eq!(loss_ratio(Loss::Dcl, 1.0, 8), None);
}
