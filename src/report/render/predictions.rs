//! Cells and the baseline image by image, as a table below the table.

use serde_json::{Value, json};

use crate::report::paired_predictions::PairedPredictions;
use crate::report::render::grid::Grid;
use crate::report::statistics::correction;
use crate::report::table::AblationTable;
use crate::report::verdict::{name, p_words};

/// Absent without a pair.
pub fn of(table: &AblationTable, pairs: &[PairedPredictions]) -> Option<Grid> {
    let baseline = name(table.baseline().filter(|_| !pairs.is_empty())?);
    let images = match pairs.iter().filter_map(|pair| pair.outcome.as_ref().ok()).map(|test| test.n_images).max() {
        Some(n) => format!("all {n} test images"),
        None => "no test images".to_owned(),
    };
    let headers = ["seed", "only it right", "only baseline right", "p", "p (Holm)"];
    Some(Grid {
        title: format!("predictions behind {} beside those of the baseline {baseline}", table.metric),
        label_headers: table.axes().map(str::to_owned).collect(),
        number_headers: headers.map(str::to_owned).to_vec(),
        rows: pairs.iter().map(row).collect(),
        notes: vec![
            format!("McNemar's exact test, two-sided, on {images}; corrected by {}", correction::NAME),
            "it speaks of two trained encoders, not of their settings: another seed may say otherwise".to_owned(),
        ],
    })
}

fn row(pair: &PairedPredictions) -> Vec<String> {
    let numbers = match &pair.outcome {
        Ok(test) => [
            test.only_first_right.to_string(),
            test.only_second_right.to_string(),
            p_words(test.p),
            pair.adjusted_p.map_or(String::new(), p_words),
        ],
        Err(problem) => [problem.clone(), String::new(), String::new(), String::new()],
    };
    pair.labels.iter().cloned().chain([pair.seed.to_string()]).chain(numbers).collect()
}

/// One object a pair.
pub fn as_json(table: &AblationTable, pairs: &[PairedPredictions]) -> Value {
    let pair = |pair: &PairedPredictions| {
        let labels = table.axes().zip(&pair.labels).map(|(path, label)| (path.to_owned(), json!(label)));
        let test = pair.outcome.as_ref().ok();
        json!({
            "labels": labels.collect::<serde_json::Map<_, _>>(),
            "seed": pair.seed,
            "n_images": test.map(|test| test.n_images),
            "only_this_right": test.map(|test| test.only_first_right),
            "only_baseline_right": test.map(|test| test.only_second_right),
            "mcnemar_p": test.map(|test| test.p),
            "adjusted_p": pair.adjusted_p,
            "problem": pair.outcome.as_ref().err(),
        })
    };
    pairs.iter().map(pair).collect()
}
