//! The best encoder of a run: of the final one and the snapshots, whichever an evaluation gives the highest number.

use crate::experiment::recipe::Evaluation;
use crate::experiment::run::Run;
use crate::experiment::{Encoder, best_names, evaluation_names, metrics_of_best, protocol_of};
use crate::record::Metric;
use crate::report::collect::{Outcome, Stem};
use crate::report::row::{EncoderKind, Row};

/// Two rows a metric whose best epoch is looked for: its number, and the epoch it was reached at. `stems` are those of the
/// run's encoders.
pub fn best_stems(run: &Run, stems: &[Stem]) -> Vec<Stem> {
    let of_evaluation = |(name, evaluation): (&String, &Evaluation)| {
        let mut encoders: Vec<&Stem> = stems.iter().filter(|stem| stem.row.evaluation == *name).collect();
        encoders.sort_by_key(|stem| stem.row.encoder_step);
        let metrics = metrics_of_best(evaluation).iter();
        metrics.filter_map(|metric| best_stem(run, evaluation, &encoders, metric)).collect::<Vec<_>>()
    };
    evaluation_names(&run.evaluate).iter().zip(&run.evaluate).flat_map(of_evaluation).collect()
}

/// `encoders` from the earliest to the final one. What is missing or failed of one of them makes the best missing or failed:
/// the best of fewer is another number.
fn best_stem(run: &Run, evaluation: &Evaluation, encoders: &[&Stem], metric: &str) -> Option<Stem> {
    let last = *encoders.last()?;
    let [value_name, epoch_name] = best_names(metric);
    let mut best: Option<(&Stem, &Metric)> = None;
    let (mut failed, mut is_missing) = (None, false);
    for stem in encoders {
        match &stem.outcome {
            Outcome::Done(metrics) => match metrics.iter().find(|found| found.name == metric) {
                // Of equals the earlier one stays.
                Some(found) if best.is_none_or(|(_, best)| found.value > best.value) => best = Some((stem, found)),
                Some(_) => {}
                None => is_missing = true,
            },
            Outcome::Failed(message) => failed = failed.or(Some(message.clone())),
            Outcome::Missing => is_missing = true,
        }
    }
    let mut row = Row {
        encoder: EncoderKind::Best,
        encoder_step: None,
        encoder_epoch: None,
        protocol: Some(protocol_of(run, evaluation, Encoder::Best)),
        ..last.row.clone()
    };
    let outcome = match (failed, best) {
        (Some(message), _) => Outcome::Failed(message),
        (None, Some((stem, found))) if !is_missing => {
            row.evaluation_key = stem.row.evaluation_key;
            (row.encoder_step, row.encoder_epoch) = (stem.row.encoder_step, stem.row.encoder_epoch);
            let epoch = stem.row.encoder_epoch.unwrap_or_default();
            Outcome::Done(vec![
                Metric { name: value_name.clone(), ..found.clone() },
                Metric { name: epoch_name.clone(), value: epoch, unit: "epochs".to_owned() },
            ])
        }
        (None, _) => Outcome::Missing,
    };
    Some(Stem { row, outcome, metrics: Some([value_name, epoch_name]) })
}
