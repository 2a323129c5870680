//! `ablate diff KEY KEY`: two stored stages side by side. `ablate diff preset:Lightly FILE`: two recipes.

mod recipes;

use clap::Args;
use serde_json::json;

use crate::commands::arguments::PlaceArguments;
use crate::commands::error::CommandError;
use crate::commands::paragraph::paragraph;
use crate::commands::{Ending, lookup, open, print, print_json};
use crate::explain::comparison::{Blob, Numbers, Side, Words};
use crate::explain::{Change, Comparison, Meaning, StageKind, units};
use crate::results;
use crate::store::Store;

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// A key or its beginning, as `plan` prints it; or a recipe, `preset:Lightly` or an experiment file
    #[arg(value_name = "KEY")]
    pub a: String,
    /// The key, or the recipe, to compare it with
    #[arg(value_name = "OTHER")]
    pub b: String,
    #[command(flatten)]
    pub places: PlaceArguments,
    /// Look among the results of `--smoke`
    #[arg(long)]
    pub smoke: bool,
    /// Exit with 3 when settings, metrics or blobs differ
    #[arg(long)]
    pub exit_code: bool,
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    match [&arguments.a, &arguments.b].map(|argument| recipes::names_recipe(argument)) {
        [true, true] => return compare_recipes(arguments),
        [true, false] | [false, true] => {
            return Err(CommandError::Usage(format!(
                "`{}` and `{}` are not of one kind: compare two keys, or two recipes (`preset:Lightly`, `file.ron`)",
                arguments.a, arguments.b
            )));
        }
        [false, false] => {}
    }
    let store = open::existing_store(&arguments.places, arguments.smoke)?.ok_or_else(|| {
        CommandError::Usage("there is no store yet: run a sweep first, or name one with `--store DIR`".to_owned())
    })?;
    let (a, b) = (side(&store, &arguments.a)?, side(&store, &arguments.b)?);
    let kinds = [&a, &b].map(|side| StageKind::of_preimage(&side.entry.preimage));
    let [Some(kind), Some(other)] = kinds else {
        return Err(CommandError::Damaged("a record does not say which stage it is of".to_owned()));
    };
    if kind != other {
        return Err(CommandError::Usage(format!(
            "{} is the key of a {} and {} that of a {}: two stages of one kind can be compared; `ablate explain KEY` tells \
             what one is",
            a.entry.key.short(),
            kind.noun(),
            b.entry.key.short(),
            other.noun()
        )));
    }
    let comparison = Comparison::of(&a, &b);
    if arguments.json {
        let (a, b, is_equal) = (a.entry.key, b.entry.key, comparison.is_equal());
        print_json(&json!({ "a": a, "b": b, "stage": kind.noun(), "is_equal": is_equal, "differences": comparison }))?;
    } else {
        print(&as_text(kind, &a, &b, &comparison))?;
    }
    Ok(if arguments.exit_code && !comparison.is_equal() { Ending::Incomplete } else { Ending::Complete })
}

fn compare_recipes(arguments: &Arguments) -> Result<Ending, CommandError> {
    let (a, b) = (recipes::recipe(&arguments.a, arguments)?, recipes::recipe(&arguments.b, arguments)?);
    let differences = recipes::differences(&a, &b)?;
    let is_equal = differences.is_empty();
    if arguments.json {
        let (a, b) = (&a.name, &b.name);
        print_json(&json!({ "a": a, "b": b, "is_equal": is_equal, "differences": { "meaning": differences } }))?;
    } else {
        let mut text = format!("a: {}\nb: {}\n", a.name, b.name);
        settings_text(&differences, &mut text);
        print(&text)?;
    }
    Ok(if arguments.exit_code && !is_equal { Ending::Incomplete } else { Ending::Complete })
}

fn settings_text(changes: &[Change], text: &mut String) {
    text.push_str(if changes.is_empty() { "settings: equal\n" } else { "settings, a → b\n" });
    changes.iter().for_each(|change| text.push_str(&paragraph("  ", 6, &change.text)));
}

fn side(store: &Store, prefix: &str) -> Result<Side, CommandError> {
    let entry = lookup::entry(store, prefix)?;
    let record = results::parse(&entry).map_err(CommandError::Damaged)?;
    let meaning = Meaning::read(&entry.preimage)
        .ok_or_else(|| CommandError::Damaged(format!("the record of {} has no meaning that can be read", entry.key)))?;
    Ok(Side { entry, record, meaning })
}

fn as_text(kind: StageKind, a: &Side, b: &Side, comparison: &Comparison) -> String {
    let Comparison { meaning, metrics, outcome, blobs, provenance } = comparison;
    let noun = kind.noun();
    let mut text = format!("a: {noun} {}\nb: {noun} {}\n", a.entry.key.short(), b.entry.key.short());
    settings_text(meaning, &mut text);
    let differing: Vec<&Numbers> = metrics.iter().filter(|numbers| !numbers.is_equal()).collect();
    let equal = metrics.len() - differing.len();
    match (differing.is_empty(), equal) {
        (true, _) => text.push_str(&format!("metrics: all {equal} equal\n")),
        (false, 0) => text.push_str("metrics, a → b\n"),
        (false, equal) => text.push_str(&format!("metrics, a → b ({equal} more are equal)\n")),
    }
    differing.iter().for_each(|numbers| text.push_str(&paragraph("  ", 6, &numbers_text(numbers))));
    outcome.iter().for_each(|words| text.push_str(&paragraph("  ", 6, &words_text(words))));
    if !blobs.is_empty() {
        text.push_str("blobs\n");
    }
    for blob in blobs {
        text.push_str(&format!("  {:<12} {}\n", blob.name, blob_text(blob.a.as_ref(), blob.b.as_ref())));
    }
    text.push_str(if provenance.is_empty() { "provenance: equal\n" } else { "provenance, a → b\n" });
    provenance.iter().for_each(|words| text.push_str(&paragraph("  ", 6, &words_text(words))));
    text
}

fn numbers_text(numbers: &Numbers) -> String {
    let word = |number: Option<f64>| number.map_or("none".to_owned(), |number| number.to_string());
    let difference = numbers.difference().map(|difference| format!(" ({difference:+.4})")).unwrap_or_default();
    format!("{} {} → {}{difference}", numbers.name, word(numbers.a), word(numbers.b))
}

fn words_text(words: &Words) -> String {
    let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    format!("{} {} → {}", words.name, word(&words.a), word(&words.b))
}

fn blob_text(a: Option<&Blob>, b: Option<&Blob>) -> String {
    match (a, b) {
        (Some(a), Some(b)) if a == b => format!("equal ({})", units::bytes(a.bytes)),
        (Some(a), Some(b)) => format!("differs ({} and {})", units::bytes(a.bytes), units::bytes(b.bytes)),
        (Some(a), None) => format!("only in a ({})", units::bytes(a.bytes)),
        (None, Some(b)) => format!("only in b ({})", units::bytes(b.bytes)),
        (None, None) => "in neither".to_owned(),
    }
}
