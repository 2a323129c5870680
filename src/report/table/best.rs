//! The best encoder of each run beside its final one.

use std::collections::BTreeMap;

use crate::experiment::{Experiment, best_names, best_words, evaluation_names, is_chosen_on_test};
use crate::report::row::{EncoderKind, Row};
use crate::report::statistics::summarize;
use crate::report::table::{BestEncoder, SeedResult, TableCell, done_values, seed_result};
use crate::report::view::View;

/// What the second column of a table is of.
#[derive(Debug, Clone, PartialEq)]
pub struct BestMetric {
    /// `knn.top1_best`.
    pub name: String,
    /// The best is chosen on the images that it is told of.
    pub is_optimistic: bool,
    /// How the best was chosen, in a sentence.
    pub note: String,
}

/// Fills in the cells' best encoders, where there are rows of them.
pub fn fill(
    cells: &mut BTreeMap<usize, TableCell>,
    experiment: &Experiment,
    rows: &[Row],
    view: &View,
) -> Option<BestMetric> {
    let (evaluation, metric) = view.metric.rsplit_once('.')?;
    let [metric, _] = best_names(metric);
    let name = format!("{evaluation}.{metric}");
    let mut by_run: BTreeMap<(usize, u64), Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.encoder == EncoderKind::Best && row.is_named(&name)) {
        by_run.entry((row.cell as usize, row.seed)).or_default().push(row);
    }
    if by_run.is_empty() {
        return None;
    }
    for (index, cell) in cells.iter_mut() {
        let of_seed = |seed: &u64| by_run.get(&(*index, *seed)).map_or(&[][..], Vec::as_slice);
        let results: Vec<SeedResult> = experiment.seeds.iter().map(|seed| seed_result(of_seed(seed))).collect();
        let epochs = experiment.seeds.iter().map(|seed| of_seed(seed).iter().find_map(|row| row.encoder_epoch));
        let summary = summarize(&done_values(&results), view.interval);
        cell.best = Some(BestEncoder { epochs: epochs.collect(), results, summary });
    }
    let (is_optimistic, words) = chosen(experiment, evaluation);
    let note = format!("best epoch: {name}, each run's {words}; {} is of the final epoch", view.metric);
    Some(BestMetric { name, is_optimistic, note })
}

/// Whether a run's best is chosen on the test images, and how, in words; of several ways the first.
fn chosen(experiment: &Experiment, name: &str) -> (bool, String) {
    let mut ways: Vec<(bool, String)> = Vec::new();
    for run in experiment.cells.iter().filter_map(|cell| cell.runs.first()) {
        let names = evaluation_names(&run.evaluate);
        let Some(place) = names.iter().position(|known| known == name) else { continue };
        let way = (is_chosen_on_test(run, &run.evaluate[place]), best_words(run, &run.evaluate[place]));
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    let is_optimistic = ways.iter().any(|(is_optimistic, _)| *is_optimistic);
    let others = if ways.len() > 1 { " (cells differ)" } else { "" };
    let words = ways.into_iter().next().map_or_else(|| "best epoch".to_owned(), |(_, words)| words);
    (is_optimistic, format!("{words}{others}"))
}
