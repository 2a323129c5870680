//! Texts made to harm: each is refused with a reason that points at its place, in bounded time and memory.

use std::time::{Duration, Instant};

use super::{loaded, options};
use crate::experiment::{TEXT_BYTES_MAX, load};

/// What is wrong with an experiment of these further fields; told within seconds.
fn refused(fields: &str) -> String {
    refused_text(&format!("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), {fields})"), &[])
}

fn refused_text(text: &str, overrides: &[String]) -> String {
    let began = Instant::now();
    let problems = load("x.ron", text, &options(overrides)).expect_err("it must be refused");
    assert!(problems.render(false).contains("error: "));
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
    problems.list().iter().map(|problem| format!("{}\n", problem.message)).collect()
}

/// Axes of `n_values` values each; the product is counted, never built.
#[test]
fn products_are_counted_before_they_are_expanded() {
    let axis = |path: &str, n_values: usize| {
        let values: Vec<String> = (1..=n_values).map(|value| value.to_string()).collect();
        format!("Axis(\"{path}\", [{}])", values.join(","))
    };
    let paths =
        ["train.batch", "evaluate[0].k", "train.metrics_every", "train.seed_x", "dataset.a", "model.b", "split.c"];
    for (n_axes, n_values, expected) in
        [(2, 101, "30603"), (4, 1000, "3000000000000"), (7, 2000, "384000000000000000000000")]
    {
        let sweep: Vec<String> = paths[..n_axes].iter().map(|path| axis(path, n_values)).collect();
        let text = refused(&format!("sweep: [{}]", sweep.join(", ")));
        assert!(text.contains(&format!("{expected} runs are more than the limit of 10000\n")), "{text}");
    }
    // So many axes that the number of their cells fits no integer.
    let many: Vec<String> = (0..200).map(|index| axis(&format!("model.field{index}"), 20)).collect();
    let text = refused(&format!("sweep: [{}]", many.join(", ")));
    assert!(text.contains("340282366920938463463374607431768211455 runs are more than the limit of 10000"), "{text}");
    let seeds: Vec<String> = (0..20_000).map(|seed| seed.to_string()).collect();
    let text = refused(&format!("seeds: [{}]", seeds.join(",")));
    assert!(text.contains("20000 runs are more than the limit of 10000"), "{text}");
    for limit in ["0", "1000001", "18446744073709551615", "1e9", "-1"] {
        let text = refused(&format!("max_cells: {limit}"));
        assert!(text.contains(&format!("`{limit}`")), "{text}");
    }
    for range in ["seeds: 0..1000000000", "seeds: [0..1000000000]", "sweep: [Axis(\"train.batch\", 0..1000000000)]"] {
        assert!(!refused(range).is_empty(), "{range}");
    }
}

#[test]
fn numbers_out_of_reach_are_refused_where_they_stand() {
    let numbers = [
        "1e999",
        "-1e999",
        "1e-999",
        "inf",
        "-inf",
        "NaN",
        "-NaN",
        "+inf",
        "NaNf64",
        "inff32",
        "1e40",
        "1e-60",
        "340282366920938463463374607431768211456",
        "-170141183460469231731687303715884105729",
        "0x1p3",
        "--1",
        "99999999999999999999999999999999999999999999999999",
        "0xFFFFFFFFFFFFFFFFFF",
    ];
    for number in numbers {
        // Which of them RON itself refuses is RON's to say.
        for field in ["temperature: {}", "batch: {}", "learning_rate: {}", "length: Epochs({})"] {
            let field = field.replace("{}", number);
            let text = format!("Experiment(question: \"q\", dataset: Cifar10(root: \"d\"), train: ({field}))");
            let Err(problems) = loaded(&text) else { panic!("`{field}` was accepted") };
            assert!(!problems.list().is_empty());
            assert!(problems.render(false).contains("x.ron:1:"), "{}", problems.render(false));
        }
    }
    let long = "9".repeat(100_000);
    let text = refused(&format!("train: (batch: {long})"));
    assert!(text.len() < 400, "a number is shown in short: {} bytes", text.len());
    for huge in ["Epochs(1000000001)", "Steps(18446744073709551615)", "Examples(99999999999)"] {
        assert!(refused(&format!("train: (length: {huge})")).contains('`'), "{huge}");
    }
}

/// A path is taken step by step, one inside another: a long one must not exhaust the stack.
#[test]
fn long_paths_are_refused() {
    let long = format!("train{}", ".a".repeat(60_000));
    let indexed = format!("views{}", "[0]".repeat(60_000));
    for path in [&long, &indexed] {
        let text = refused(&format!("sweep: [Axis(\"{path}\", [1, 2])]"));
        assert!(text.contains("has more than 16 steps") && text.len() < 400, "{}", text.len());
        let text = refused_text("Experiment(question: \"q\", dataset: Builtin())", &[format!("{path}=1")]);
        assert!(text.contains("has more than 16 steps") && text.len() < 400, "{}", text.len());
    }
    // Paths that go on where another one ends do not add up either.
    let step = format!("train{}", ".a".repeat(15));
    let text = refused_text(
        "Experiment(question: \"q\", dataset: Builtin())",
        &[format!("{step}=(a: 1)"), format!("{step}.a=1")],
    );
    assert!(text.contains("has more than 16 steps"), "{text}");
}

#[test]
fn overrides_made_to_harm() {
    let text = "Experiment(question: \"q\", dataset: Builtin())";
    let check = |given: String, expected: &str| {
        let found = refused_text(text, std::slice::from_ref(&given));
        assert!(found.contains(expected) && found.len() < 1000, "{expected}: {} bytes, {:.200}", found.len(), found);
    };
    check("x".repeat(100_000), "has no `=`");
    check(format!("{}=1", "x".repeat(100_000)), "is not a path");
    check(format!("train.batch={}", "[".repeat(100_000)), "nested too deeply");
    check(format!("train.batch={}1{}", "(".repeat(40_000), ")".repeat(40_000)), "nested too deeply");
    check(format!("question=\"{}\"", "x".repeat(TEXT_BYTES_MAX)), "more than the limit of 262144");
    check("train.batch=1\0".to_owned(), "not valid RON");
    check("train.batch=\u{feff}1".to_owned(), "not valid RON");
    check("evaluate[99999999999999999999].k=1".to_owned(), "is not a path");
    check("evaluate[18446744073709551615].k=1".to_owned(), "there is no element 18446744073709551615");
    check("evaluate[0x0].k=1".to_owned(), "is not a path");
    check("=1".to_owned(), "is not a path");
    check("train.batch=".to_owned(), "not valid RON");
    check("max_cells=99999999".to_owned(), "`99999999`");
}

/// As many problems as a file has room for.
#[test]
fn tens_of_thousands_of_problems_are_told_at_once() {
    let unknown: String = (0..25_000).map(|index| format!("f{index}:1,")).collect();
    assert!(refused(&unknown).lines().count() >= 25_000);
    let values: Vec<String> = (0..40_000).map(|_| "x".to_owned()).collect();
    assert!(!refused(&format!("seeds: [{}]", values.join(","))).is_empty());
    let twice = "seeds:[1],".repeat(25_000);
    assert!(refused(&twice).contains("field `seeds` is given twice"));
    let lines = "\n".repeat(100_000);
    assert!(!refused(&format!("{lines}batch: 1, {lines} batches: 2")).is_empty());
    let keys: String = (0..20_000).map(|index| format!("\"k{index}\": 1,")).collect();
    assert!(!refused(&format!("sweep: [Variants(\"train.batch\", {{{keys}}})]")).is_empty());
    let long = "a".repeat(200_000);
    for fields in [format!("{long}: 1"), format!("model: {long}"), format!("model: {long}(1)")] {
        let text = refused(&fields);
        assert!(text.contains("a name of 200000 bytes") && text.len() < 1000, "{text:.200}");
    }
    assert!(refused(&format!("seeds: [{}]", "1,".repeat(120_000))).contains("seed `1` is given twice"));
}

#[test]
fn bytes_that_are_no_text_of_ron() {
    let sound = "Experiment(question: \"q\", dataset: Builtin())";
    assert!(loaded(sound).is_ok());
    for accepted in
        [format!("\u{feff}{sound}"), sound.replace(' ', "\r\n"), format!("{sound}\r\n\r\n"), format!("\t{sound} ")]
    {
        assert_eq!(loaded(&accepted).expect("sound").cells, loaded(sound).expect("sound").cells);
    }
    for refused in [
        format!("\u{feff}\u{feff}{sound}"),
        format!("{sound}\0"),
        format!("\0{sound}"),
        sound.replace("question", "quest\0ion"),
        sound.replace("question", "quest\u{200b}ion"),
        sound.replace('"', "\u{201c}"),
        String::new(),
        "\u{feff}".to_owned(),
        "/*".repeat(50_000),
        "r####".repeat(20_000),
        "\"\\u{110000}\"".to_owned(),
        format!("r{}\"", "#".repeat(200_000)),
        "1".repeat(TEXT_BYTES_MAX),
        "-".repeat(TEXT_BYTES_MAX),
        " ".repeat(TEXT_BYTES_MAX + 1),
    ] {
        assert!(!refused_text(&refused, &[]).is_empty());
    }
    // What a name holds reaches the terminal escaped by its renderer, or not at all.
    let problems = loaded("Experiment(question: \"q\", dataset: Builtin(), \x1B[2J: 1)").expect_err("no name");
    assert!(!problems.render(false).contains('\x1B'), "{:?}", problems.render(false));
}
