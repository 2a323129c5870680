//! Every cell in full, from its runs and their records.

use crate::commands::report::evidence::Evidence;
use crate::content::Key;
use crate::experiment::run::Run;
use crate::experiment::{Experiment, asked_names};
use crate::explain::code::date;
use crate::explain::{Meaning, changes, units};
use crate::record::{Record, Stage};
use crate::report::page::grid::{Grid, Quantity};
use crate::report::page::{CellDetails, FailureDetails, Metrics, StageDetails};
use crate::report::row::{EncoderKind, Row};
use crate::report::table::Unit;

/// In the order of the experiment's cells.
pub fn cells(experiment: &Experiment, grid: &Grid, evidence: &Evidence) -> Vec<CellDetails> {
    let baseline = grid.baseline.and_then(|place| evidence.runs[grid.cells[place].index].first());
    let mut rows: Vec<Vec<&Row>> = vec![Vec::new(); experiment.cells.len()];
    for row in &evidence.rows {
        rows[row.cell as usize].push(row);
    }
    let cell = |(runs, rows): (&Vec<&Run>, &Vec<&Row>)| CellDetails {
        settings: runs.first().map(|run| settings(run)).unwrap_or_default(),
        differences: runs.first().zip(baseline).map(|(run, from)| differences(from, run)).unwrap_or_default(),
        metrics: metrics(runs, rows),
        stages: runs.iter().flat_map(|run| stages(run, evidence)).collect(),
    };
    evidence.runs.iter().zip(&rows).map(cell).collect()
}

/// What a file would say of a run, its evaluations last; without the seed, which a cell has several of.
fn settings(run: &Run) -> Vec<(String, String)> {
    let read = |preimage: &str| Meaning::read(preimage).map(|meaning| meaning.settings()).unwrap_or_default();
    let mut settings = read(&run.pretrain_preimage());
    settings.retain(|(path, value)| path != "seed" && !(path == "smoke" && value == "false"));
    for evaluation in &run.evaluate {
        let of_evaluation = read(&run.evaluation_preimage(evaluation)).into_iter();
        settings.extend(of_evaluation.filter(|(path, _)| path == "evaluate"));
    }
    settings
}

fn differences(from: &Run, to: &Run) -> Vec<String> {
    let mut pairs = vec![(from.pretrain_preimage(), to.pretrain_preimage())];
    let evaluations = from.evaluate.iter().zip(&to.evaluate);
    pairs.extend(evaluations.map(|(a, b)| (from.evaluation_preimage(a), to.evaluation_preimage(b))));
    let mut told: Vec<String> = Vec::new();
    for (a, b) in pairs {
        let (Some(a), Some(b)) = (Meaning::read(&a), Meaning::read(&b)) else { continue };
        for change in changes(&a, &b) {
            if change.path != "seed" && !told.contains(&change.text) {
                told.push(change.text);
            }
        }
    }
    told
}

fn metrics(runs: &[&Run], rows: &[&Row]) -> Metrics {
    let mut names: Vec<String> = Vec::new();
    for row in rows.iter().filter(|row| row.encoder != EncoderKind::Snapshot) {
        let name = row.full_metric();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // Evaluations are what was asked for; the training's own numbers come after them.
    names.sort_by_key(|name| name.starts_with("pretrain."));
    let quantity = |name: &String| {
        let unit = rows.iter().filter(|row| row.full_metric() == *name).find_map(|row| row.unit.as_deref());
        Quantity::of(name, Unit::of_record(unit))
    };
    let quantities: Vec<Quantity> = names.iter().map(quantity).collect();
    let of_seed = |run: &&Run| {
        let value = |name: &String| {
            let mut own = rows.iter().filter(|row| row.seed == run.seed && row.is_of(name));
            own.find_map(|row| row.value)
        };
        let texts = names.iter().zip(&quantities).map(|(name, of)| value(name).map(|value| of.text(value)));
        (run.seed, texts.collect())
    };
    let of_seeds = runs.iter().map(of_seed).collect();
    Metrics { names: quantities.into_iter().map(|quantity| quantity.name).collect(), of_seeds }
}

fn stages(run: &Run, evidence: &Evidence) -> Vec<StageDetails> {
    let keys = run.keys();
    let mut stages = vec![stage(run.seed, "training".to_owned(), keys.pretrain, evidence)];
    let named = asked_names(run).into_iter().zip(keys.evaluations);
    stages.extend(named.map(|(name, key)| stage(run.seed, name, key, evidence)));
    stages
}

/// Short stages in tenths of a second, long ones in words.
fn took(seconds: f64) -> String {
    if seconds < 60.0 { format!("{seconds:.1} s") } else { units::duration(seconds) }
}

fn stage(seed: u64, name: String, key: Key, evidence: &Evidence) -> StageDetails {
    let blank =
        StageDetails { seed, name, key: key.to_string(), state: "missing".to_owned(), ..StageDetails::default() };
    let Some(Record { stage, provenance, .. }) = evidence.records.get(&key) else { return blank };
    let mut details: Vec<(String, String)> =
        provenance.details.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    details.push(("threads".to_owned(), provenance.threads.to_string()));
    details.push(("ablate".to_owned(), provenance.ablate_version.clone()));
    // Where the program lay is nobody's business who reads the page elsewhere.
    let (program, rest) = provenance.command.split_once(' ').unwrap_or((&provenance.command, ""));
    let program = program.rsplit('/').next().unwrap_or(program);
    details.push(("command".to_owned(), format!("{program} {rest}")));
    let failure = match stage {
        Stage::Pretrain(_) | Stage::Evaluation(_) => None,
        Stage::Failure(failure) => Some(FailureDetails {
            kind: failure.kind.words().to_owned(),
            message: match failure.step {
                Some(step) => format!("{} (step {step})", failure.message),
                None => failure.message.clone(),
            },
            log: failure.log.clone(),
        }),
    };
    StageDetails {
        state: if failure.is_some() { "failed" } else { "done" }.to_owned(),
        device: provenance.device.trim().to_owned(),
        host: provenance.host.clone(),
        begun: date(provenance.started_unix_s),
        took: took(provenance.seconds),
        code: provenance.code.chars().take(12).collect(),
        details,
        failure,
        ..blank
    }
}
