//! What `verify` found, in words and in JSON.

use comfy_table::{ContentArrangement, Table};
use serde_json::json;

use crate::commands::count;
use crate::commands::verify::{Outcome, Verified};
use crate::experiment::Experiment;
use crate::record::Provenance;
use crate::report::render::text::{STYLE, printable, wrap};
use crate::verify::{Choice, Comparison, Difference, Value, Verdict};

/// Digits of a code digest that are shown.
const CODE_DIGITS: usize = 12;

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Compared { comparison, .. } => match comparison.verdict() {
            Verdict::Equal => "equal",
            Verdict::Agrees => "agrees",
            Verdict::Diverged => "diverged",
        },
        Outcome::Failed(_) => "failed",
        Outcome::NotReached => "not computed",
    }
}

pub fn as_text(experiment: &Experiment, choice: &Choice, outcomes: &[Verified], tolerance: f64) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic);
    let axes = experiment.axes.iter().map(|axis| printable(&axis.path));
    table.set_header(axes.chain(["seed", "stage", "key", "again"].map(str::to_owned)));
    for Verified { run, stage, key, outcome } in outcomes {
        let labels = run.labels.iter().map(|label| printable(label));
        let rest = [run.seed.to_string(), (*stage).to_owned(), key.short(), word(outcome).to_owned()];
        table.add_row(labels.chain(rest));
    }
    let whole = count(choice.n_complete, "stored run");
    let mut text =
        format!("{}: computed {} of {whole} again\n{}\n", experiment.name, choice.runs.len(), table.trim_fmt());
    let detailed = outcomes.iter().filter_map(|verified| Some((verified, detail(verified)?)));
    for (Verified { stage, key, .. }, detail) in detailed {
        text.push_str(&format!("\n{stage} of {} {detail}", key.short()));
    }
    text.push_str(&format!("\n{}\n", closing(outcomes, tolerance)));
    text
}

/// What there is to say of a stage beyond its word.
fn detail(verified: &Verified) -> Option<String> {
    match &verified.outcome {
        Outcome::Failed(failure) => Some(format!("failed this time: {}\n", printable(&failure.message))),
        Outcome::NotReached => None,
        Outcome::Compared { comparison, kept } => match comparison.verdict() {
            Verdict::Equal => None,
            Verdict::Agrees => Some(format!("agrees within the tolerance:\n{}", differences(comparison))),
            Verdict::Diverged => {
                let kept = kept.as_ref().map(|path| format!("  kept as {}\n", path.display())).unwrap_or_default();
                Some(format!("diverged:\n{}{kept}", differences(comparison)))
            }
        },
    }
}

fn differences(comparison: &Comparison) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["", "stored", "again", "apart"]);
    for difference in &comparison.differences {
        let Difference { name, stored, again, decides } = difference;
        let sign = if *decides { "" } else { " (allowed)" };
        let apart = difference.distance().map_or(String::new(), |distance| format!("{distance:.4}"));
        table.add_row([printable(name), shown(stored), shown(again), apart + sign]);
    }
    let (stored, again) = (&comparison.stored, &comparison.again);
    let classes = if comparison.same_machine_class {
        vec![format!("  machines of one class: {}", stored.machine_class())]
    } else {
        vec![format!("  stored on {}", stored.machine_class()), format!("  again on {}", again.machine_class())]
    };
    let who = |provenance: &Provenance| {
        let Provenance { code, device, host, .. } = provenance;
        format!("code {} on {device}, host {host}", code.chars().take(CODE_DIGITS).collect::<String>())
    };
    let whose = [format!("  stored by {}", who(stored)), format!("  again by {}", who(again))];
    let lines = classes.iter().chain(&whose).flat_map(|line| wrap(&printable(line), "    "));
    let told: String = lines.map(|line| format!("  {}\n", line.trim_start())).collect();
    format!("{}\n{told}", table.trim_fmt())
}

fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => format!("{number}"),
        Value::Text(text) => printable(text),
        Value::Digest(digest) => digest.short(),
        Value::Absent => "–".to_owned(),
    }
}

/// The count of every word, and what to do next.
fn closing(outcomes: &[Verified], tolerance: f64) -> String {
    let words = ["equal", "agrees", "diverged", "failed", "not computed"];
    let counted =
        words.map(|word_| (word_, outcomes.iter().filter(|verified| word(&verified.outcome) == word_).count()));
    let parts: Vec<String> = counted.iter().filter(|(_, n)| *n > 0).map(|(word, n)| format!("{n} {word}")).collect();
    let mut text = format!("{}: {}", count(outcomes.len(), "stage"), parts.join(", "));
    let agrees = outcomes.iter().any(|verified| word(&verified.outcome) == "agrees");
    if agrees {
        text.push_str(&format!("; another class of machine, so bits may differ and metrics by {tolerance}"));
    }
    if let Some(first) = outcomes.iter().find(|verified| verified.outcome.diverged()) {
        text.push_str(&format!(
            "\nlookups answer with the first result as before. To see what may explain it:\n  \
             ablate show {key}\n  ablate check --read-data",
            key = first.key.short()
        ));
        text.push_str(other_code(outcomes));
    }
    text
}

/// The most common explanation of all.
fn other_code(outcomes: &[Verified]) -> &'static str {
    let codes_differ = outcomes.iter().any(|verified| match &verified.outcome {
        Outcome::Compared { comparison, .. } => {
            comparison.verdict() == Verdict::Diverged && comparison.stored.code != comparison.again.code
        }
        Outcome::Failed(_) | Outcome::NotReached => false,
    });
    if codes_differ {
        "\nthe two were computed by different program sources, so a stage may have changed without its version"
    } else {
        ""
    }
}

pub fn as_json(experiment: &Experiment, n_complete: usize, outcomes: &[Verified]) -> serde_json::Value {
    let stage = |Verified { run, stage, key, outcome }: &Verified| {
        let axes = experiment.axes.iter().zip(&run.labels);
        let labels: serde_json::Map<_, _> = axes.map(|(axis, label)| (axis.path.clone(), json!(label))).collect();
        let mut told = json!({ "axes": labels, "seed": run.seed, "stage": stage, "key": key, "again": word(outcome) });
        let more = match outcome {
            Outcome::Compared { comparison, kept } => json!({
                "same_machine_class": comparison.same_machine_class,
                "differences": comparison.differences.iter().map(difference_json).collect::<Vec<_>>(),
                "stored_by": provenance_json(&comparison.stored),
                "again_by": provenance_json(&comparison.again),
                "kept": kept,
            }),
            Outcome::Failed(failure) => json!({ "failure": failure }),
            Outcome::NotReached => json!({}),
        };
        if let (Some(told), serde_json::Value::Object(more)) = (told.as_object_mut(), more) {
            told.extend(more);
        }
        told
    };
    let diverged = outcomes.iter().filter(|verified| verified.outcome.diverged()).count();
    json!({
        "experiment": experiment.name,
        "stored_runs": n_complete,
        "stages": outcomes.iter().map(stage).collect::<Vec<_>>(),
        "diverged": diverged,
    })
}

fn difference_json(difference: &Difference) -> serde_json::Value {
    let Difference { name, stored, again, decides } = difference;
    json!({ "name": name, "stored": stored, "again": again, "apart": difference.distance(), "decides": decides })
}

fn provenance_json(provenance: &Provenance) -> serde_json::Value {
    let Provenance { code, device, host, ablate_version, .. } = provenance;
    json!({ "code": code, "device": device, "host": host, "ablate_version": ablate_version, "machine_class": provenance.machine_class() })
}
