//! No text makes the reader panic, hang or stay silent.

use proptest::prelude::*;

use super::{loaded, options, sound};
use crate::experiment::load;

const FILE: &str = include_str!("../../../experiments/smoke.ron");

/// Loads, and where that fails renders every problem.
fn survives(text: &str, overrides: &[String]) {
    if let Err(problems) = load("x.ron", text, &options(overrides)) {
        assert!(!problems.list().is_empty(), "refused without a reason");
        assert!(problems.render(false).contains("error: "));
    }
}

/// The largest character boundary at or below `at`.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC{0,80}") {
        survives(&text, &[]);
        survives(&format!("Experiment({text})"), std::slice::from_ref(&text));
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        survives(&String::from_utf8_lossy(&bytes), &[]);
    }

    #[test]
    fn ron_like_text(parts in prop::collection::vec(prop::sample::select(vec![
        "Experiment", "(", ")", "[", "]", "{", "}", ":", ",", "\"", "r#\"", "\"#", "//", "/*", "*/", "\n", "é", "1", "-",
        "0x", ".", "..", "'", "b", "Some", "None", "true", "NaN", "inf", "train", "batch", "sweep", "Axis", "_", "#![enable(",
    ]), 0..24)) {
        survives(&parts.concat(), &[]);
    }

    #[test]
    fn a_damaged_file(start in 0..FILE.len(), length in 0..60usize, put in "\\PC{0,6}") {
        let start = boundary(FILE, start);
        let end = boundary(FILE, start + length).max(start);
        survives(&format!("{}{put}{}", &FILE[..start], &FILE[end..]), &[]);
    }

    #[test]
    fn any_override(path in "[a-z.\\[\\]0-9]{0,20}", value in "\\PC{0,20}") {
        survives(FILE, &[format!("{path}={value}"), path, format!("train.batch={value}")]);
    }
}

#[test]
fn deep_nesting_is_refused_at_once() {
    for (open, close) in [("[", "]"), ("(", ")"), ("{1:", "}"), ("Some(", ")"), ("A(a:", ")")] {
        for depth in [20, 60, 40_000] {
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let problems = loaded(&text).expect_err("too deep");
            assert!(problems.summary().contains("nested too deeply"), "{open}: {}", problems.summary());
        }
    }
}

#[test]
fn huge_texts_are_refused() {
    let problems = loaded(&format!("Experiment(question: \"{}\")", "x".repeat(1 << 18))).expect_err("too large");
    assert!(problems.summary().contains("more than the limit of 262144"), "{}", problems.summary());
}

#[test]
fn a_hundred_mistakes_are_counted() {
    let fields: String = (0..100).map(|n| format!("f{n}: 1,")).collect();
    let problems = loaded(&format!("Experiment({fields})")).expect_err("no such fields");
    assert_eq!(problems.list().len(), 102);
    assert!(problems.render(false).ends_with("... and 62 more"));
}

#[test]
fn everything_that_ron_allows_is_read() {
    sound(
        "#![enable(implicit_some)]
        /* first */ Experiment( // second
            r#sweep: [Axis(r#\"train.batch\"#, [6_4, 0x80, 0b1_0000_0000,],),], /* third: \" ( */
            question : \"a \\\"q\\\" // no comment ( \\u{e9}\",
            dataset: Builtin ( ) , model: ( ), views: [ RandomResizedCrop(), HorizontalFlip ], split: Official,
        ) // last",
    );
}
