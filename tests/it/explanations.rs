//! `plan`, `explain`, `diff` and `--code` on a small sweep, and how `plan` fares with ten thousand runs.

use std::path::Path;

use ablate::content::Key;
use ablate::store::{Lookup, Peek, Store};

use crate::harness::{MINIATURE, Said, Workplace};

fn assert_says(said: &Said, expected: &[&str]) {
    // Lines are cut at 80 columns, so words are looked for and not lines.
    let words = said.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in expected {
        assert!(words.contains(expected), "`{expected}` is not in\n{}", said.out);
    }
}

/// No line is longer than the terminal, but for one that is a single long word and its indent.
fn assert_fits(said: &Said) {
    for line in said.out.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}

/// The miniature with one seed: two trainings that differ in their temperature.
fn swept() -> Workplace {
    let place = Workplace::new();
    place.write("small.ron", &MINIATURE.replace("seeds: [0, 1]", "seeds: [0]"));
    place.ablate(&["sweep", "small.ron"]).success();
    place
}

fn keys(place: &Workplace) -> Vec<String> {
    let plan = place.ablate(&["plan", "small.ron", "--json"]).success().json();
    let runs = plan["runs"].as_array().expect("runs");
    runs.iter().map(|run| run["pretrain_key"].as_str().expect("a key").to_owned()).collect()
}

#[test]
fn a_sweep_is_explained() {
    let place = swept();
    plan_says_why_and_what_it_takes(&place);
    explain_says_it_field_by_field(&place);
    diff_tells_two_stages_apart(&place);
    code_counts_as_it_is_told_to(&place);
    damage_is_a_reason(&place);
}

fn plan_says_why_and_what_it_takes(place: &Workplace) {
    let many = "dataset=Builtin(n_classes: 10, train_per_class: 2000, test_per_class: 10, seed: 0)";
    let huge = ["plan", "small.ron", "train.batch=20000", "model.side=224", many];
    assert_says(&place.ablate(&huge).success(), &["it would be refused: the largest batch that fits is"]);
    let [first, second] = <[String; 2]>::try_from(keys(place)).expect("two runs");
    let said = place.ablate(&["plan", "small.ron", "seeds=[0, 7]"]).success();
    assert_fits(&said);
    let (first, second) = (&first[..12], &second[..12]);
    assert_says(
        &said,
        &[
            "cell 0: train.temperature = 0.1",
            &format!("seed 0 {first} stored"),
            &format!("to do: seed 0 → 7 (nearest {first})"),
            &format!("to do: seed 0 → 7 (nearest {second})"),
            "4 runs: 2 complete; to do: 2 trainings, 4 evaluations",
            "for 2 trainings and 4 evaluations (from 6 recorded stages on",
            "free disk space:",
            "memory of the largest training: ",
            "2 seeds: the smallest two-sided sign-flip p is 0.5; 6 seeds can reach p < 0.05",
        ],
    );
    let plan = place.ablate(&["plan", "small.ron", "seeds=[0, 7]", "--json"]).success().json();
    let missing = &plan["runs"][1]["training"];
    assert_eq!(missing["nearest"]["changes"][0]["path"], "seed");
    assert_eq!(
        (missing["state"].as_str(), plan["runs"][0]["training"]["state"].as_str()),
        (Some("to do"), Some("stored"))
    );
    // A checkpoint of equal size was recorded: what is kept is known, not guessed.
    let forecast = &plan["forecast"]["trainings"];
    let checkpoint = 3 * 4 * 11_176_512;
    assert!(forecast["bytes"].as_u64().is_some_and(|bytes| bytes > 2 * checkpoint), "{forecast}");
    assert_eq!(
        (forecast["n"].as_u64(), forecast["n_timed"].as_u64(), forecast["n_sized"].as_u64()),
        (Some(2), Some(2), Some(2))
    );
    let said =
        place.ablate(&["plan", "small.ron", "evaluate=[Knn(k: 3), LinearProbe(epochs: 2, batch: 16)]"]).success();
    assert_says(&said, &["training stored", "knn to do: evaluate.k 5 → 3 (nearest", "linear stored"]);
    let said = place.ablate(&["plan", "small.ron", "train.batch=4", "train.length=Steps(6)"]).success();
    assert_says(&said, &["train.length Steps(3) → Steps(6); train.batch 8 → 4"]);
}

#[test]
fn a_plan_of_nothing_stored_invents_nothing() {
    let place = Workplace::new();
    place.write("small.ron", MINIATURE);
    let seeds: Vec<String> = (0..60).map(|seed| seed.to_string()).collect();
    let said = place.ablate(&["plan", "small.ron", &format!("seeds=[{}]", seeds.join(", "))]).success();
    assert_fits(&said);
    assert_says(
        &said,
        &[
            "to do: nothing like it is stored",
            "and 70 runs not shown, 0 of them complete (`--all` shows them)",
            "how long 120 trainings and 240 evaluations will take is unknown: nothing of the kind is recorded",
        ],
    );
    assert!(!said.out.contains("about"), "{}", said.out);
    let all = place.ablate(&["plan", "small.ron", &format!("seeds=[{}]", seeds.join(", ")), "--all"]).success();
    assert_eq!(all.out.matches("nothing like it is stored").count(), 120);
    let said = place.ablate(&["explain", "0123abcd"]).code(2);
    assert!(said.err.contains("there is no file `0123abcd`, and no store"), "{}", said.err);
}

fn explain_says_it_field_by_field(place: &Workplace) {
    let [first, second] = <[String; 2]>::try_from(keys(place)).expect("two runs");
    let said = place.ablate(&["explain", "small.ron", "--cell", "1"]).success();
    assert_fits(&said);
    assert_says(
        &said,
        &["cell 1, seed 0: train.temperature = 0.5", &second[..12], "stored: computed", "by this program's code"],
    );
    assert!(!said.out.contains("cell 0"), "{}", said.out);
    let said = place.ablate(&["explain", "small.ron", "seeds=[7]", "train.learning_rate=0.01"]).success();
    assert_fits(&said);
    assert_says(&said, &["train.learning_rate.base 0.001 → 0.01 seed 0 → 7", "to do: follows its training"]);
    assert_eq!(said.out.matches("which shares").count(), 2, "{}", said.out);
    let json = place.ablate(&["explain", "small.ron", "--json"]).success().json();
    assert_eq!(json["runs"][0]["stages"][0]["by_this_code"], true);
    let of_key = place.ablate(&["explain", &first[..10]]).success();
    assert_fits(&of_key);
    assert_says(&of_key, &[&first, "train.temperature", "RandomResizedCrop(scale:", "train.temperature 0.5 → 0.1"]);
    assert!(of_key.err.contains(&format!("next: ablate diff {} {}", &second[..12], &first[..12])), "{}", of_key.err);
    let said = place.ablate(&["explain", "small.ron", "--cell", "2"]).code(2);
    assert!(said.err.contains("there is no cell `2`: the file has 2 cells"), "{}", said.err);
}

fn diff_tells_two_stages_apart(place: &Workplace) {
    let [first, second] = <[String; 2]>::try_from(keys(place)).expect("two runs");
    let said = place.ablate(&["diff", &first[..12], &second[..12]]).success();
    assert_fits(&said);
    assert_says(
        &said,
        &[
            "settings, a → b train.temperature 0.1 → 0.5 metrics, a → b (2 more are equal)",
            "loss_last_epoch",
            "checkpoint differs (",
        ],
    );
    place.ablate(&["diff", &first, &second, "--exit-code"]).code(3);
    let same = place.ablate(&["diff", &first, &first, "--exit-code"]).success();
    assert_says(&same, &["settings: equal", "metrics: all 5 equal", "checkpoint equal (", "provenance: equal"]);
    let plan = place.ablate(&["plan", "small.ron", "--json"]).success().json();
    let evaluation =
        |run: usize, name: &str| plan["runs"][run]["evaluation_keys"][name].as_str().expect("a key").to_owned();
    let (a, b) = (evaluation(0, "knn"), evaluation(1, "knn"));
    let json = place.ablate(&["diff", &a, &b, "--json"]).success().json();
    assert_eq!(json["differences"]["meaning"][0]["text"], "train.temperature 0.1 → 0.5");
    assert_eq!(json["differences"]["metrics"][0]["name"], "knn.top1");
    let said = place.ablate(&["diff", &first, &a]).code(2);
    assert!(said.err.contains("two stages of one kind"), "{}", said.err);
    let other_kind = place.ablate(&["diff", &a, &evaluation(0, "linear")]).success();
    assert_says(&other_kind, &["evaluate Knn(", "→ LinearProbe("]);
}

/// The same results under another store, as if other code had computed them.
fn store_of_other_code(place: &Workplace, folder: &str) {
    let from = Store::open(&place.path().join("results/store")).expect("a store");
    let to = Store::open(&place.path().join(folder)).expect("a new store");
    for key in from.keys().expect("readable keys") {
        let Peek::Hit(entry) = from.peek(&key).expect("a readable record") else { panic!("{key} is not whole") };
        let Lookup::Miss(mut miss) = to.lookup(&key).expect("a lookup") else { panic!("{key} is there already") };
        for (name, blob) in &entry.blobs {
            miss.claim.put_blob(name, &from.read_blob(blob).expect("a whole blob")).expect("a blob");
        }
        let mut record: serde_json::Value = serde_json::from_str(&entry.body).expect("JSON");
        record["provenance"]["code"] = "a1b2c3d4e5f60718".into();
        miss.claim.commit(&record.to_string(), &entry.preimage).expect("a commit");
    }
}

fn code_counts_as_it_is_told_to(place: &Workplace) {
    let note = "were computed by other code (a1b2c3d4e5f6, ";
    let own = place.ablate(&["table", "small.ron"]).success();
    assert!(!own.err.contains("other code"), "{}", own.err);
    store_of_other_code(place, "other");
    for command in ["plan", "table", "status", "explain", "sweep"] {
        let on_other = |extra: &[&str]| {
            let arguments = [&[command, "small.ron", "--store", "other", "--results", "again"], extra].concat();
            place.ablate(&arguments).success()
        };
        let said = on_other(&[]);
        assert!(said.err.contains(&format!("6 of 6 stored stages {note}")), "{command}: {}", said.err);
        let said = on_other(&["--code", "trust"]);
        assert!(!said.err.contains("other code"), "{command}: {}", said.err);
    }
    let plan = place.ablate(&["plan", "small.ron", "--code", "strict"]).success();
    assert_says(
        &plan,
        &["2 runs: 0 complete; to do: 2 trainings, 4 evaluations", "to do: counts for this program's code alone"],
    );
    let said = place.ablate(&["status", "small.ron", "--code", "strict"]).success();
    assert!(said.out.contains("nothing is stored yet"), "{}", said.out);
}

fn damage_is_a_reason(place: &Workplace) {
    let key: Key = keys(place)[0].parse().expect("a key");
    let store = Store::open(&place.path().join("results/store")).expect("a store");
    let Peek::Hit(entry) = store.peek(&key).expect("a readable record") else { panic!("no record") };
    std::fs::remove_file(store.blob_path(&entry.blobs["history"].digest)).expect("a removable file");
    let said = place.ablate(&["plan", "small.ron"]).success();
    assert_says(&said, &["training to do again: record", "names blob `history`", "is missing", "knn stored"]);
}

/// Ten thousand stored trainings with two evaluations each beside ten thousand wanted runs, none of them stored; behind the
/// switch. Prints how long `plan` takes and how much memory.
#[test]
fn ten_thousand_runs_are_planned() {
    if std::env::var_os("ABLATE_SLOW_TESTS").is_none() {
        println!("skipped: set ABLATE_SLOW_TESTS=1 to plan ten thousand runs");
        return;
    }
    let place = Workplace::new();
    let shm = Path::new("/dev/shm");
    let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("a folder");
    let temperatures: Vec<String> = (1..=100).map(|n| format!("{:?}", f64::from(n) / 100.0)).collect();
    let seeds: Vec<String> = (0..100).map(|seed| seed.to_string()).collect();
    let text = MINIATURE
        .replace("[0.1, 0.5]", &format!("[{}]", temperatures.join(", ")))
        .replace("seeds: [0, 1]", &format!("seeds: [{}]", seeds.join(", ")));
    place.write("small.ron", &MINIATURE.replace("seeds: [0, 1]", "seeds: [0]"));
    place.ablate(&["sweep", "small.ron"]).success();
    let store = folder.path().join("store");
    fill(&place, &store, &text);
    let store = store.to_str().expect("a name").to_owned();
    place.write("large.ron", &text);
    let runs = [
        ("all stored", vec!["plan", "large.ron", "--store", &store]),
        ("none stored, explained", vec!["plan", "large.ron", "train.length=Steps(6)", "--store", &store]),
        ("none stored, in JSON", vec!["plan", "large.ron", "train.length=Steps(6)", "--json", "--store", &store]),
    ];
    for (name, arguments) in runs {
        let begun = std::time::Instant::now();
        let mut child = place.command(&arguments);
        let mut child =
            child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("a child");
        let status = Path::new("/proc").join(child.id().to_string()).join("status");
        let mut peak_kib = 0_u64;
        let code = loop {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let peak =
                text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
            peak_kib = peak_kib.max(peak.unwrap_or(0));
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status.code();
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        println!("{name}: {:.2} s, {} MiB at most", begun.elapsed().as_secs_f64(), peak_kib / 1024);
        assert_eq!(code, Some(0), "{name}");
    }
}

/// Every run of `text`, with the records of one run that was computed and small blobs.
fn fill(place: &Workplace, folder: &Path, text: &str) {
    use ablate::experiment::recipe::Backend;
    use ablate::experiment::{LoadOptions, load};
    let facts = |dataset: &_, split| ablate::data::facts(dataset, split, None).map_err(|error| error.to_string());
    let options = LoadOptions {
        overrides: &[],
        smoke: false,
        backend: Backend::Cpu,
        data_root: None,
        ignore_sweep: false,
        facts: &facts,
    };
    let experiment = load("large.ron", text, &options).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let plan = place.ablate(&["plan", "small.ron", "--json"]).success().json();
    let real = Store::open(&place.path().join("results/store")).expect("a store");
    let body_of = |key: &serde_json::Value| -> serde_json::Value {
        let key: Key = key.as_str().expect("a key").parse().expect("a key");
        let Peek::Hit(entry) = real.peek(&key).expect("a readable record") else { panic!("no record") };
        serde_json::from_str(&entry.body).expect("JSON")
    };
    let training = body_of(&plan["runs"][0]["pretrain_key"]);
    let evaluations = ["knn", "linear"].map(|name| body_of(&plan["runs"][0]["evaluation_keys"][name]));
    let store = Store::open(folder).expect("a store");
    let put = |key: Key, preimage: &str, body: &serde_json::Value, blobs: &[&str]| -> Key {
        let Lookup::Miss(mut miss) = store.lookup(&key).expect("a lookup") else { panic!("{key} is there already") };
        let digests: Vec<Key> = blobs
            .iter()
            .map(|name| {
                miss.claim
                    .put_blob(name, format!("{name} of {}", &key.to_string()[..2]).as_bytes())
                    .expect("a blob")
                    .digest
            })
            .collect();
        let mut body = body.clone();
        body["key"] = key.to_string().into();
        miss.claim.commit(&body.to_string(), preimage).expect("a commit");
        digests[0]
    };
    for run in experiment.cells.iter().flat_map(|cell| &cell.runs) {
        let keys = run.keys();
        let checkpoint = put(keys.pretrain, &run.pretrain_preimage(), &training, &["checkpoint", "history", "views"]);
        for ((evaluation, key), body) in run.evaluate.iter().zip(keys.evaluations).zip(&evaluations) {
            let mut body = body.clone();
            body["stage"]["Evaluation"]["pretrain"] = keys.pretrain.to_string().into();
            body["stage"]["Evaluation"]["checkpoint"] = checkpoint.to_string().into();
            put(key, &run.evaluation_preimage(evaluation), &body, &["predictions"]);
        }
    }
}
