use super::*;
use crate::report::statistics::correction::holm;
use crate::report::statistics::paired::Difference;
use crate::report::statistics::predictions::{PredictionsError, mcnemar};
use crate::report::statistics::sign_flip::{p_two_sided, smallest_p};

/// SciPy's numbers; `tests/golden/statistics.py` writes them.
fn golden() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../tests/golden/statistics.json")).unwrap()
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[track_caller]
fn assert_close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1e-3), "{what}: {found} is not {expected}");
}

fn ends(interval: Option<(f64, f64)>) -> [f64; 2] {
    interval.map(|(low, high)| [low, high]).unwrap()
}

#[test]
fn means_and_intervals_are_scipys() {
    let golden = golden();
    for (name, sample) in golden["samples"].as_object().unwrap() {
        let values = numbers(&sample["values"]);
        let summary = summarize(&values, IntervalMethod::StudentT).unwrap();
        assert_close(summary.mean, sample["mean"].as_f64().unwrap(), name);
        assert_close(summary.std.unwrap(), sample["std"].as_f64().unwrap(), name);
        let interval = summary.interval.unwrap();
        assert_eq!(interval.method, IntervalMethod::StudentT);
        for (found, expected) in [interval.low, interval.high].into_iter().zip(numbers(&sample["t"])) {
            assert_close(found, expected, name);
        }
        let of_resamples = bootstrap::bias_corrected_accelerated(&values, numbers(&sample["bca"]["means"]));
        for (found, expected) in ends(of_resamples).into_iter().zip(numbers(&sample["bca"]["interval"])) {
            assert_close(found, expected, name);
        }
    }
}

#[test]
fn the_normal_quantile_is_scipys() {
    for entry in golden()["normal"].as_array().unwrap() {
        let (p, expected) = (entry["p"].as_f64().unwrap(), entry["z"].as_f64().unwrap());
        assert_close(normal::quantile(p), expected, &format!("p = {p}"));
        assert_close(normal::cdf(normal::quantile(p)), p, &format!("Φ at p = {p}"));
    }
}

#[test]
fn summaries_of_few_and_odd_values() {
    let of = |values: &[f64]| summarize(values, IntervalMethod::StudentT);
    assert_eq!(of(&[]), None);
    let one = of(&[0.7]).unwrap();
    assert_eq!((one.n, one.mean, one.std, one.interval), (1, 0.7, None, None));
    for method in IntervalMethod::ALL {
        let equal = summarize(&[2.0, 2.0, 2.0], method).unwrap();
        let point = Interval { low: 2.0, high: 2.0, method };
        assert_eq!((equal.mean, equal.std, equal.interval), (2.0, Some(0.0), Some(point)));
        let odd = summarize(&[1.0, f64::NAN], method).unwrap();
        assert!(odd.mean.is_nan() && odd.interval.is_none());
        assert_eq!(summarize(&[1.0, f64::INFINITY], method).unwrap().interval, None);
    }
    let extremes = of(&[0.5, -3.0, 8.0]).map(|summary| (summary.min, summary.max));
    assert_eq!(extremes, Some((-3.0, 8.0)));
}

/// scipy 1.17.1: `bootstrap((values,), mean, n_resamples=999_999, method="BCa", rng=0)` of the values below.
const SCIPY_BCA: [f64; 2] = [0.607762, 0.615912];

/// SciPy draws other resamples; over ten thousand the ends agree as far as resampling scatters.
#[test]
fn the_whole_bootstrap_is_near_scipys_and_repeats_itself() {
    let values = [0.6123, 0.6187, 0.6011, 0.6144, 0.6098, 0.6202, 0.6075, 0.6151];
    let found = ends(bootstrap::interval(&values));
    for (found, expected) in found.into_iter().zip(SCIPY_BCA) {
        assert!((found - expected).abs() < 2e-4, "{found} is not near {expected}");
    }
    assert_eq!(found, ends(bootstrap::interval(&values)));
    // The order of the seeds changes which resample is which, and little else.
    let mut turned = values;
    turned.reverse();
    for (found, turned) in found.into_iter().zip(ends(bootstrap::interval(&turned))) {
        assert!((found - turned).abs() < 4e-4, "{found} is not near {turned}");
    }
}

#[test]
fn sign_flip_p_values_are_scipys() {
    for (name, entry) in golden()["sign_flip"].as_object().unwrap() {
        let found = p_two_sided(&numbers(&entry["differences"])).unwrap();
        assert_close(found, entry["p"].as_f64().unwrap(), name);
    }
    assert_eq!((p_two_sided(&[]), p_two_sided(&[0.1, f64::NAN])), (None, None));
    assert_eq!(p_two_sided(&[0.1]), Some(1.0));
}

#[test]
fn no_p_is_below_the_smallest() {
    for n in 1..=20usize {
        let same_sign: Vec<f64> = (1..=n).map(|index| index as f64).collect();
        let p = p_two_sided(&same_sign).unwrap();
        // Beyond, how many of the drawn flips are as extreme is chance.
        assert!(p == smallest_p(n) || n > sign_flip::N_PAIRS_EXACT && p >= smallest_p(n), "{n} pairs: {p}");
    }
    assert_eq!([3, 5, 6].map(smallest_p), [0.25, 0.0625, 0.03125]);
    assert_eq!([0, 1].map(smallest_p), [1.0, 1.0]);
}

/// Seventeen pairs are drawn, and the same with one more pair of no difference are tried out: p is that of sixteen.
#[test]
fn drawn_flips_come_near_all_flips() {
    let mut differences: Vec<f64> = (0..16).map(|index| f64::from(index % 5) - 1.7).collect();
    let exact = p_two_sided(&differences).unwrap();
    differences.push(0.0);
    let drawn = p_two_sided(&differences).unwrap();
    // Five standard deviations of a share of 99,999 draws.
    assert!((drawn - exact).abs() < 5.0 * (exact * (1.0 - exact) / 99_999.0).sqrt(), "{drawn} is not near {exact}");
    assert_eq!(p_two_sided(&differences), Some(drawn));
}

#[test]
fn holm_corrects_as_defined() {
    for entry in golden()["holm"].as_array().unwrap() {
        let p_values: Vec<Option<f64>> = numbers(&entry["p"]).into_iter().map(Some).collect();
        for (found, expected) in holm(&p_values).into_iter().zip(numbers(&entry["adjusted"])) {
            assert_close(found.unwrap(), expected, "holm");
        }
    }
    assert_eq!(holm(&[Some(0.02), None, Some(0.5)]), [Some(0.04), None, Some(0.5)]);
    assert_eq!(holm(&[]), []);
}

#[test]
fn mcnemars_p_is_the_exact_binomial() {
    for entry in golden()["mcnemar"].as_array().unwrap() {
        let [first, second] = ["only_first", "only_second"].map(|name| entry[name].as_u64().unwrap() as usize);
        // The label is 1: those both know, those only one knows, those none knows.
        let right = |spans: [(usize, u16); 4]| spans.map(|(n, class)| vec![class; n]).concat();
        let a = right([(3, 1), (first, 1), (second, 0), (2, 0)]);
        let b = right([(3, 1), (first, 2), (second, 1), (2, 2)]);
        let found = mcnemar(&a, &b, &vec![1; a.len()]).unwrap();
        assert_eq!((found.only_first_right as usize, found.only_second_right as usize), (first, second));
        assert_eq!(found.n_images, a.len());
        assert_close(found.p, entry["p"].as_f64().unwrap(), &format!("{first} against {second}"));
    }
}

#[test]
fn mcnemar_counts_images_and_refuses_other_lists() {
    let found = mcnemar(&[1, 1, 0], &[0, 1, 1], &[1, 1, 2]).unwrap();
    assert_eq!((found.n_images, found.only_first_right, found.only_second_right), (3, 1, 0));
    assert_eq!(mcnemar(&[1], &[1, 0], &[1]), Err(PredictionsError::Length { first: 1, second: 2 }));
    for labels in [&[1, 1][..], &[]] {
        let expected = PredictionsError::Labels { labels: labels.len(), predictions: 1 };
        assert_eq!(mcnemar(&[1], &[0], labels), Err(expected));
    }
    assert_eq!(mcnemar(&[], &[], &[]).map(|found| found.p), Ok(1.0));
}

#[test]
fn a_difference_says_what_its_pairs_say() {
    assert_eq!(Difference::of(&[], IntervalMethod::StudentT), None);
    let one = Difference::of(&[0.1], IntervalMethod::StudentT).unwrap();
    assert_eq!((one.n_pairs, one.std, one.interval, one.sign_flip_p, one.smallest_p), (1, None, None, Some(1.0), 1.0));
    let six = Difference::of(&[0.061, 0.048, 0.074, 0.055, 0.066, 0.059], IntervalMethod::StudentT).unwrap();
    assert_eq!((six.sign_flip_p, six.smallest_p, six.adjusted_p), (Some(0.03125), 0.03125, None));
    assert!(six.interval.unwrap().excludes_zero());
    let same = Difference::of(&[0.0, 0.0], IntervalMethod::BootstrapBca).unwrap();
    assert_eq!((same.mean, same.sign_flip_p), (0.0, Some(1.0)));
    assert!(!same.interval.unwrap().excludes_zero());
}
