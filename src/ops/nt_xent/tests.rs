//! NT-Xent against Lightly 1.6 on PyTorch 2.15 (`tests/golden/nt_xent.json`), closed forms, and the formula in f64.

use proptest::prelude::*;

use super::golden::{Case, values_f32};
use super::*;
use crate::device::Pool;

fn run(projections: &[f32], width: usize, temperature: f32, threads: usize) -> (f32, Vec<f32>) {
    let mut gradient = vec![f32::NAN; projections.len()];
    let mut workspace = Workspace::new(projections.len() / width, width);
    let pool = Pool::new(threads);
    let loss = forward_backward(projections, width, temperature, &mut gradient, &mut workspace, &pool);
    (loss, gradient)
}

fn norm(values: &[f32]) -> f64 {
    dot(values, values).sqrt()
}

/// The formula as it is written, in f64: the loss of every anchor.
fn anchor_losses(projections: &[f64], width: usize, temperature: f64) -> Vec<f64> {
    let rows: Vec<Vec<f64>> = projections
        .chunks_exact(width)
        .map(|row| {
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
            row.iter().map(|x| x / norm).collect()
        })
        .collect();
    let logit = |i: usize, j: usize| rows[i].iter().zip(&rows[j]).map(|(x, y)| x * y).sum::<f64>() / temperature;
    let anchors = 0..rows.len();
    anchors
        .map(|i| {
            let others = || (0..rows.len()).filter(move |&j| j != i).map(|j| logit(i, j));
            let maximum = others().fold(f64::NEG_INFINITY, f64::max);
            maximum + others().map(|x| (x - maximum).exp()).sum::<f64>().ln() - logit(i, positive_of(i, rows.len()))
        })
        .collect()
}

fn true_loss(projections: &[f64], width: usize, temperature: f64) -> f64 {
    let losses = anchor_losses(projections, width, temperature);
    losses.iter().sum::<f64>() / losses.len() as f64
}

/// Central differences of the f64 formula, step 1e-6 of each value's row norm.
fn true_gradient(projections: &[f32], width: usize, temperature: f64) -> Vec<f64> {
    let mut moved: Vec<f64> = projections.iter().map(|&x| f64::from(x)).collect();
    let mut gradient = Vec::new();
    for index in 0..moved.len() {
        let row = &projections[index / width * width..][..width];
        let (kept, step) = (moved[index], 1e-6 * norm(row));
        moved[index] = kept + step;
        let above = true_loss(&moved, width, temperature);
        moved[index] = kept - step;
        let below = true_loss(&moved, width, temperature);
        moved[index] = kept;
        gradient.push((above - below) / (2.0 * step));
    }
    gradient
}

#[test]
fn agrees_with_lightly() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/golden/nt_xent.json")).unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let n_values = case.n * case.d;
        let mut projections = values_f32(case.seed_view0, n_values, case.scale);
        projections.extend(values_f32(case.seed_view1, n_values, case.scale));
        let (loss, gradient) = run(&projections, case.d, case.temperature as f32, 1);
        let name = format!("N {} D {} T {} scale {}", case.n, case.d, case.temperature, case.scale);
        let (loss_bound, norm_bound) = if case.scale < 0.1 { (1e-4, 1e-3) } else { (1e-5, 1e-4) };
        assert!((f64::from(loss) / case.loss - 1.0).abs() < loss_bound, "{name}: loss {loss}, {} wanted", case.loss);
        let (first, second) = gradient.split_at(n_values);
        for (gradient, probe) in [(first, &case.grad_view0), (second, &case.grad_view1)] {
            let found = norm(gradient);
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

/// Worked out by hand in f64 from the paper's formula; the same as PyTorch-based peers give.
#[test]
fn three_pairs_in_the_plane() {
    let table = [
        (0.05, 1.773104040719),
        (0.1, 1.218874600502),
        (0.2, 1.095071152300),
        (0.5, 1.236667839688),
        (1.0, 1.379419974432),
    ];
    for (temperature, expected) in table {
        let (loss, _) = run(&THREE_PAIRS, 2, temperature as f32, 1);
        assert!((f64::from(loss) - expected).abs() < 1e-6, "T {temperature}: {loss}, {expected} wanted");
        let exact: Vec<f64> = THREE_PAIRS.iter().map(|&x| f64::from(x)).collect();
        assert!((true_loss(&exact, 2, temperature) - expected).abs() < 1e-9, "the f64 formula at T {temperature}");
    }
    let mut workspace = Workspace::new(6, 2);
    let mut gradient = [0.0; 12];
    forward_backward(&THREE_PAIRS, 2, 0.5, &mut gradient, &mut workspace, &Pool::new(1));
    let losses = [1.210110, 1.174819, 1.290120, 1.788238, 0.708453, 1.248267];
    for (found, wanted) in workspace.anchor_losses().zip(losses) {
        assert!((found - wanted).abs() < 1e-6, "an anchor's loss {found}, {wanted} wanted");
    }
    let expected = [
        0.0,
        -0.08806913,
        0.24181193,
        0.0,
        -0.02995070,
        0.02246302,
        -0.26189227,
        0.26189227,
        0.02446062,
        0.01223031,
        0.00937582,
        -0.01250110,
    ];
    for (found, wanted) in gradient.iter().zip(expected) {
        assert!((f64::from(*found) - wanted).abs() < 1e-7, "gradient {gradient:?}");
    }
}

#[test]
fn equal_embeddings_give_ln_of_the_others() {
    for (n, expected) in
        [(2, 1.098612289), (3, 1.609437912), (256, 6.236369590), (512, 6.930494766), (1024, 7.624130586)]
    {
        for temperature in [0.01, 0.5] {
            let (loss, gradient) = run(&vec![0.25; 2 * n * 3], 3, temperature, 1);
            assert!((f64::from(loss) / expected - 1.0).abs() < 1e-6, "N {n} T {temperature}: {loss}");
            assert!((loss_ratio(loss.into(), 2 * n) - 1.0).abs() < 1e-6);
            assert!(norm(&gradient) < 1e-4, "N {n} T {temperature}: gradient of norm {}", norm(&gradient));
        }
    }
}

/// z = z′ = the axes: ln(1 + 2(N − 1)·exp(−1/T)), down to losses far below f32's step at 1.
#[test]
fn orthogonal_pairs() {
    let table =
        [(4, 0.5, 0.594437664), (512, 0.5, 4.936720756), (512, 0.1, 0.045354486), (4, 0.02, 6.0 * (-50f64).exp())];
    for (n, temperature, expected) in table {
        let axes: Vec<f32> = (0..n * n).map(|index| if index % (n + 1) == 0 { 2.0 } else { 0.0 }).collect();
        let (loss, gradient) = run(&[axes.clone(), axes].concat(), n, temperature as f32, 1);
        assert!((f64::from(loss) / expected - 1.0).abs() < 3e-6, "N {n} T {temperature}: {loss}, {expected} wanted");
        assert!(gradient.iter().all(|value| value.is_finite()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn agrees_with_the_formula_in_f64(
        (n, width) in (2usize..7, 2usize..9),
        temperature in 0.05f64..1.5,
        seed in 0u64..1000,
        exponent in -3i32..4,
    ) {
        let projections = values_f32(seed, 2 * n * width, 10f64.powi(exponent));
        prop_assume!(projections.chunks_exact(width).all(|row| norm(row) > 0.1 * 10f64.powi(exponent)));
        let (loss, gradient) = run(&projections, width, temperature as f32, 1);
        let exact: Vec<f64> = projections.iter().map(|&x| f64::from(x)).collect();
        let expected = true_loss(&exact, width, f64::from(temperature as f32));
        prop_assert!((f64::from(loss) - expected).abs() < 2e-6 * (1.0 + expected), "{} and {}", loss, expected);
        let expected = true_gradient(&projections, width, f64::from(temperature as f32));
        let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        for (found, wanted) in gradient.iter().zip(&expected) {
            let bound = 2e-5 * largest.max(1e-3 / 10f64.powi(exponent));
            prop_assert!((f64::from(*found) - wanted).abs() < bound, "{:?} and {:?}", gradient, expected);
        }
    }
}

/// The formula in f64 over several tiles and blocks, the last of each incomplete.
#[test]
fn agrees_with_the_formula_over_tiles() {
    for (n, width) in [(33, 3), (150, 1), (161, 20), (40, 1030)] {
        let projections = values_f32(7, 2 * n * width, 1.0);
        let exact: Vec<f64> = projections.iter().map(|&x| f64::from(x)).collect();
        let (loss, _) = run(&projections, width, 0.2, 1);
        let expected = true_loss(&exact, width, f64::from(0.2f32));
        assert!((f64::from(loss) / expected - 1.0).abs() < 1e-6, "N {n} D {width}: {loss}, {expected} wanted");
    }
}

#[test]
fn finite_at_the_edges() {
    let check = |projections: &[f32], width: usize, temperature: f32, expected: f64| {
        let (loss, gradient) = run(projections, width, temperature, 1);
        assert!((f64::from(loss) - expected).abs() <= 2e-6 * expected.abs(), "{loss}, {expected} wanted");
        assert!(gradient.iter().all(|value| value.is_finite()), "{gradient:?}");
    };
    let opposite = [1.0, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0];
    check(&opposite, 2, 0.01, 200.0);
    let orthogonal = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0];
    check(&orthogonal, 2, 0.01, 100.0);
    check(&[0.0; 24], 4, 0.5, 5f64.ln());
    let huge: Vec<f32> = THREE_PAIRS.iter().map(|x| x * 1e30).collect();
    check(&huge, 2, 0.5, 1.236667839688);
    let small: Vec<f32> = THREE_PAIRS.iter().map(|x| x * 1e-10).collect();
    check(&small, 2, 0.5, 1.236667839688);
    let tiny: Vec<f32> = THREE_PAIRS.iter().map(|x| x * 1e-30).collect();
    check(&tiny, 2, 0.5, 5f64.ln());
    let (loss, _) = run(&[&[f32::NAN], &THREE_PAIRS[1..]].concat(), 2, 0.5, 1);
    assert!(loss.is_nan());
    let (loss, _) = run(&[&[f32::INFINITY], &THREE_PAIRS[1..]].concat(), 2, 0.5, 1);
    assert!(loss.is_nan());
}

/// Below the smallest norm x/1e-12 is linear, so the gradient is the plain one over 1e-12.
#[test]
fn a_zero_vector_gets_the_gradient_of_the_clamped_norm() {
    let mut projections = THREE_PAIRS;
    projections[..2].fill(0.0);
    let (_, gradient) = run(&projections, 2, 0.5, 1);
    let exact: Vec<f64> = projections.iter().map(|&x| f64::from(x)).collect();
    for index in 0..2 {
        let at = |x: f64| {
            let mut moved = exact.clone();
            moved[index] = x;
            true_loss(&moved, 2, 0.5)
        };
        let expected = (at(1e-14) - at(-1e-14)) / 2e-14;
        assert!((f64::from(gradient[index]) / expected - 1.0).abs() < 1e-2, "{} and {expected}", gradient[index]);
    }
}

#[test]
fn exchanging_the_views_exchanges_the_gradients() {
    let (n, width) = (37, 24);
    let projections = values_f32(3, 2 * n * width, 1.0);
    let (first, second) = projections.split_at(n * width);
    let (loss, gradient) = run(&projections, width, 0.1, 1);
    let (exchanged_loss, exchanged) = run(&[second, first].concat(), width, 0.1, 1);
    assert!((loss - exchanged_loss).abs() <= 1e-6 * loss);
    let (left, right) = exchanged.split_at(n * width);
    for (x, y) in gradient.iter().zip(right.iter().chain(left)) {
        assert!((f64::from(*x) - f64::from(*y)).abs() < 1e-6 * norm(&gradient));
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let projections = values_f32(5, 2 * 150 * 40, 1.0);
    let (loss, gradient) = run(&projections, 40, 0.1, 1);
    let metrics = measure(&projections, 40, &Pool::new(1));
    for threads in [2, 3] {
        let (other_loss, other) = run(&projections, 40, 0.1, threads);
        assert_eq!(loss.to_bits(), other_loss.to_bits());
        assert!(gradient.iter().zip(&other).all(|(x, y)| x.to_bits() == y.to_bits()), "{threads} threads");
        assert_eq!(metrics, measure(&projections, 40, &Pool::new(threads)));
    }
}

/// Loss and gradient over several tiles and pieces of the inner length, bit for bit.
#[test]
fn the_bits_are_pinned() {
    let projections = values_f32(13, 2 * 150 * 600, 1.0);
    let (loss, gradient) = run(&projections, 600, 0.1, 2);
    let bytes = std::iter::once(&loss).chain(&gradient).flat_map(|value| value.to_le_bytes());
    assert_eq!(&blake3::hash(&bytes.collect::<Vec<u8>>()).to_hex()[..16], "c862a905b1a0f86c");
}

#[test]
fn metrics_of_known_embeddings() {
    let check = |projections: &[f32], width: usize, alignment: f64, uniformity: f64, top1: f64| {
        let found = measure(projections, width, &Pool::new(1));
        assert!((found.alignment - alignment).abs() < 1e-6, "{found:?}, {alignment} wanted");
        assert!((found.uniformity - uniformity).abs() < 1e-6, "{found:?}, {uniformity} wanted");
        assert_eq!(found.contrastive_top1, top1);
    };
    check(&[0.5; 12], 3, 0.0, 0.0, 0.0);
    let crossed = [1.0, 0.0, 0.0, 1.0, 0.0, 2.0, 3.0, 0.0];
    check(&crossed, 2, 2.0, ((4.0 * (-4f64).exp() + 2.0) / 6.0).ln(), 0.0);
    let paired = [1.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0];
    check(&paired, 2, 0.0, ((4.0 * (-4f64).exp() + 2.0) / 6.0).ln(), 1.0);
    let half = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, -1.0];
    let expected = ((1.0 + (-8f64).exp() + 4.0 * (-4f64).exp()) / 6.0).ln();
    check(&half, 2, 2.0, expected, 0.5);
}

/// The definitions over all pairs in f64, over several tiles.
#[test]
fn metrics_agree_with_their_definitions() {
    let (n, width) = (150, 12);
    let projections = values_f32(9, 2 * n * width, 1.0);
    let rows: Vec<Vec<f64>> =
        projections.chunks_exact(width).map(|row| row.iter().map(|&x| f64::from(x) / norm(row)).collect()).collect();
    let squared = |i: usize, j: usize| rows[i].iter().zip(&rows[j]).map(|(x, y)| (x - y).powi(2)).sum::<f64>();
    let alignment = (0..n).map(|i| squared(i, i + n)).sum::<f64>() / n as f64;
    let pairs = (0..2 * n).flat_map(|i| (0..i).map(move |j| (i, j)));
    let mean = pairs.map(|(i, j)| (-2.0 * squared(i, j)).exp()).sum::<f64>() / (n * (2 * n - 1)) as f64;
    let is_right = |i: usize| {
        (0..2 * n).filter(|&j| j != i).min_by(|&a, &b| squared(i, a).total_cmp(&squared(i, b)))
            == Some((i + n) % (2 * n))
    };
    let top1 = (0..2 * n).filter(|&i| is_right(i)).count() as f64 / (2 * n) as f64;
    let found = measure(&projections, width, &Pool::new(2));
    assert!((found.alignment - alignment).abs() < 1e-6 && (found.uniformity - mean.ln()).abs() < 1e-6, "{found:?}");
    assert_eq!(found.contrastive_top1, top1);
}
