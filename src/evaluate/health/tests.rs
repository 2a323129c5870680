//! Health against NumPy and PyTorch, at its edges, and on any number of threads.

use serde::Deserialize;

use super::*;
use crate::evaluate::nearest_neighbours;
use crate::experiment::recipe::{Knn, Metric, Vote};
use crate::ops::nt_xent::golden::{values, values_f32};

#[derive(Deserialize)]
struct Golden {
    health: Vec<Case>,
    majority: Majority,
}

#[derive(Deserialize)]
struct Case {
    seed: u64,
    n: usize,
    width: usize,
    rank: usize,
    rankme: f64,
    feature_std: f64,
    alignment: f64,
    uniformity: f64,
}

#[derive(Deserialize)]
struct Majority {
    n_bank: usize,
    n_query: usize,
    width: usize,
    n_classes: usize,
    k: u32,
    prediction: Vec<u16>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../tests/golden/health.json")).expect("what `health.py` wrote")
}

fn features(values: Vec<f32>, width: usize) -> Features {
    let n = values.len() / width;
    Features { values, width, labels: vec![0; n] }
}

/// As `health.py` makes them.
fn drawn(seed: u64, n: usize, width: usize, rank: usize) -> Features {
    if rank == 0 {
        let all = values_f32(seed, n * width, 1.0);
        return features(all.iter().enumerate().map(|(i, x)| x / (1.0 + (i % width) as f32)).collect(), width);
    }
    let single = |seed, n| values(seed, n, 1.0).into_iter().map(|x| f64::from(x as f32)).collect::<Vec<f64>>();
    let (left, right) = (single(seed, n * rank), single(seed + 1, rank * width));
    let element = |i: usize, j: usize| (0..rank).map(|k| left[i * rank + k] * right[k * width + j]).sum::<f64>() as f32;
    features((0..n).flat_map(|i| (0..width).map(move |j| (i, j))).map(|(i, j)| element(i, j)).collect(), width)
}

#[test]
fn agrees_with_numpy_and_pytorch() {
    let cases = golden().health;
    assert_eq!(cases.len(), 5);
    for case in cases {
        let of = |seed| drawn(seed, case.n, case.width, case.rank);
        let (plain, views) = (of(case.seed), [of(case.seed + 2), of(case.seed + 4)]);
        let found = measure(&plain, &views, &Pool::new(1)).expect("a measure");
        let check = |name: &str, found: f64, wanted: f64, bound: f64| {
            let what = format!("{name} of {} × {}", case.n, case.width);
            assert!((found - wanted).abs() <= bound * wanted.abs(), "{what}: {found}, {wanted} wanted");
        };
        // What f32 adds to a matrix that lacks ranks is below what a Gram matrix in f64 tells from 0.
        check("rankme", found.rankme, case.rankme, if case.rank > 0 { 1e-3 } else { 1e-9 });
        check("feature_std", found.feature_std, case.feature_std, 1e-6);
        check("alignment", found.alignment, case.alignment, 1e-6);
        check("uniformity", found.uniformity, case.uniformity, 1e-6);
        for threads in [2, 3] {
            assert_eq!(measure(&plain, &views, &Pool::new(threads)), Ok(found));
        }
    }
}

/// More rows than a tile of uniformity and columns than a task of the Gram matrix have.
#[test]
fn threads_change_no_bit_of_many_features() {
    let views = [drawn(10, 700, 40, 0), drawn(11, 700, 40, 0)];
    let plain = drawn(12, 700, 40, 0);
    let one = measure(&plain, &views, &Pool::new(1)).expect("a measure");
    assert!(one.rankme > 10.0 && one.uniformity < -1.0);
    for threads in [2, 3] {
        assert_eq!(measure(&plain, &views, &Pool::new(threads)), Ok(one));
    }
}

#[test]
fn collapse_is_seen() {
    let limits = recipe::Health::DEFAULT;
    let same = features([0.6f32, 0.8, 0.0].repeat(50), 3);
    let found = measure(&same, &[same.clone(), same.clone()], &Pool::new(1)).expect("a measure");
    assert!((found.rankme - 1.0).abs() < 1e-5, "{found:?}");
    assert!(found.feature_std < 1e-6 && found.alignment == 0.0 && found.uniformity.abs() < 1e-6, "{found:?}");
    assert_eq!(found.alarms(&limits).len(), 2);
    assert!(found.alarms(&limits)[0].contains("RankMe is 1.0000, below 8"), "{:?}", found.alarms(&limits));
    let zeros = features(vec![0.0; 30], 3);
    let found = measure(&zeros, &[zeros.clone(), zeros.clone()], &Pool::new(1)).expect("a measure");
    let (rankme, feature_std, alignment, uniformity) = (1.0, 0.0, 0.0, 0.0);
    assert_eq!(found, Health { rankme, feature_std, alignment, uniformity });
    let spread = drawn(7, 200, 20, 20);
    let found = measure(&spread, &[spread.clone(), spread.clone()], &Pool::new(1)).expect("a measure");
    assert_eq!(found.alarms(&limits), Vec::<String>::new(), "{found:?}");
    assert_eq!(found.alarms(&recipe::Health { rankme_min: 1e9, ..limits }).len(), 1);
}

#[test]
fn one_image_and_one_column_have_a_health() {
    let single = features(vec![1.0, 2.0, 3.0], 3);
    let found = measure(&single, &[single.clone(), single.clone()], &Pool::new(1)).expect("a measure");
    assert!((found.rankme - 1.0).abs() < 1e-5 && found.feature_std == 0.0 && found.uniformity == 0.0, "{found:?}");
    let column = features(vec![1.0, -2.0, 3.0], 1);
    let found = measure(&column, &[column.clone(), column.clone()], &Pool::new(1)).expect("a measure");
    assert!((found.rankme - 1.0).abs() < 1e-5 && found.feature_std > 0.5, "{found:?}");
}

#[test]
fn what_has_no_health_is_refused() {
    let good = drawn(1, 10, 3, 0);
    let refused = |plain: &Features, view: &Features| {
        measure(plain, &[view.clone(), plain.clone()], &Pool::new(1)).expect_err("no features to measure").to_string()
    };
    let mut broken = good.clone();
    broken.values[4] = f32::NAN;
    assert!(refused(&good, &broken).contains("feature 1 of image 1 of the queries is NaN"));
    assert!(refused(&features(vec![], 3), &good).contains("no features in the queries"));
    assert!(refused(&good, &drawn(1, 10, 4, 0)).contains("3 wide and the queries' 4"));
}

/// scikit-learn's `KNeighborsClassifier` with the cosine metric, whose ties go to the lower class.
#[test]
fn a_majority_vote_agrees_with_scikit_learn() {
    let Majority { n_bank, n_query, width, n_classes, k, prediction } = golden().majority;
    let centres = values_f32(700, n_classes * width, 1.0);
    let around = |seed: u64, n: usize| {
        let noise = values_f32(seed, n * width, 2.0).into_iter().enumerate();
        let centre = |index: usize| centres[index / width % n_classes * width + index % width];
        let values = noise.map(|(index, noise)| noise + centre(index)).collect();
        Features { values, width, labels: (0..n).map(|row| (row % n_classes) as u32).collect() }
    };
    let knn = Knn { k, metric: Metric::Cosine, vote: Vote::Majority, ..Knn::DEFAULT };
    let (bank, queries) = (around(701, n_bank), around(702, n_query));
    let found = nearest_neighbours::classify(&bank, &queries, n_classes, &knn, &Pool::new(2));
    assert_eq!(found.iter().map(crate::evaluate::Ranking::first).collect::<Vec<u16>>(), prediction);
    let weighted = Knn { vote: Vote::Weighted, temperature: 0.05, ..knn };
    let other = nearest_neighbours::classify(&bank, &queries, n_classes, &weighted, &Pool::new(2));
    assert_ne!(found, other, "weights make a difference");
}
