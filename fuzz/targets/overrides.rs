//! Overrides of a sound file, one a line. Saying the same twice is saying it once.
#![no_main]

use ablate::experiment::{Experiment, load};
use ablate_fuzz::options;
use libfuzzer_sys::fuzz_target;

const FILE: &str = r#"Experiment(
    question: "q", dataset: Cifar10(root: "d"), train: (batch: 64, learning_rate: 0.1), evaluate: [Knn(k: 5)],
    seeds: [0], sweep: [Axis("train.temperature", [0.1, 0.5])], table: (rows: "train.temperature"),
)"#;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let once: Vec<String> = text.lines().take(6).map(str::to_owned).chain(["max_cells=200".to_owned()]).collect();
    let twice: Vec<String> = once.iter().flat_map(|line| [line.clone(), line.clone()]).collect();
    let first = load("x.ron", FILE, &options(&once, false));
    let second = load("x.ron", FILE, &options(&twice, false));
    match (first, second) {
        (Ok(first), Ok(second)) => assert_eq!(shown(&first), shown(&second)),
        (Err(first), Err(second)) => {
            assert!(!first.list().is_empty() && !second.list().is_empty());
            assert!(first.render(false).contains("error: "));
        }
        (Ok(_), Err(problems)) => panic!("refused when said twice: {problems}"),
        (Err(problems), Ok(_)) => panic!("accepted when said twice: {problems}"),
    }
});

fn shown(experiment: &Experiment) -> (String, Vec<String>) {
    let keys = experiment.cells.iter().take(20).flat_map(|cell| &cell.runs);
    (format!("{:?} {:?}", experiment.axes, experiment.table), keys.map(|run| format!("{:?}", run.keys())).collect())
}
