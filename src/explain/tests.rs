//! Meanings read back, compared and ranked.

use proptest::prelude::*;

use super::change::{Change, changes};
use super::code::{CodeCensus, age, date};
use super::features::leaves;
use super::index::Index;
use super::meaning::{Meaning, StageKind};
use super::nearest::nearest;
use super::units;
use crate::content::{Key, Value};
use crate::experiment::recipe::{Augmentation, Backend, Evaluation, Filter, HueKind, Knn, Loss, Metric, Optimizer};
use crate::experiment::run::Run;
use crate::report::sample;
use crate::store::{Lookup, Store};

const DOMAIN: &str = "ablate/pretrain/k1";

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i128>().prop_map(Value::Integer),
        (-1e300..1e300f64).prop_map(Value::float),
        "(?s).{0,6}".prop_map(Value::Text),
        any::<u64>().prop_map(|seed| Value::Key(Key::of_bytes(&seed.to_le_bytes()))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            (prop::sample::select(vec!["A", "AB", ""]), inner.clone(), inner)
                .prop_map(|(tag, a, b)| Value::Record(tag, vec![("a", a), ("ab", b)])),
        ]
    })
}

proptest! {
    #[test]
    fn reading_undoes_writing(a in any_value(), b in any_value()) {
        let text = format!("{}\n{}", a.preimage(DOMAIN), b.preimage("ablate/data/k1"));
        let meaning = Meaning::read(&text);
        prop_assert_eq!(meaning.as_ref().map(Meaning::write), Some(text.clone()));
        let meaning = meaning.expect("read above");
        prop_assert_eq!(changes(&meaning, &meaning), vec![]);
        prop_assert_eq!(meaning.parts.len(), 2);
    }

    /// A damaged text is refused or is another meaning's text; it is never taken for the first.
    #[test]
    fn damage_is_refused_or_told(value in any_value(), at in any::<prop::sample::Index>(), noise in "(?s).{0,3}") {
        let text = value.preimage(DOMAIN);
        let at = text.floor_char_boundary(at.index(text.len() + 1));
        let damaged = [&text[..at], &noise, &text[at..]].concat();
        if let Some(meaning) = Meaning::read(&damaged) {
            prop_assert_eq!(meaning.write(), damaged);
        }
    }

    /// Differences are found exactly where values differ.
    #[test]
    fn equal_meanings_have_no_changes(a in any_value(), b in any_value()) {
        let read = |value: &Value| Meaning::read(&value.preimage(DOMAIN)).expect("a meaning");
        let (first, second) = (read(&a), read(&b));
        prop_assert_eq!(changes(&first, &second).is_empty(), first == second);
    }
}

#[test]
fn what_is_no_meaning_is_refused() {
    let deep = format!("{DOMAIN}\n{} = 1\n", vec!["a"; 100].join("."));
    for wrong in
        ["", "x", "d\na\n", "d\na = 1\na = 2\n", "d\nx[1] = 2\n", "d\nx[7] = 2\n", "d\na.b = 1\na = 2\n", &deep]
    {
        assert_eq!(Meaning::read(wrong), None, "{wrong}");
    }
}

fn told(from: &Run, to: &Run) -> Vec<String> {
    let read = |run: &Run| Meaning::read(&run.pretrain_preimage()).expect("a meaning");
    changes(&read(from), &read(to)).into_iter().map(|change| change.text).collect()
}

/// Each row: what is changed in a run, and the differences in the words of a file.
#[test]
fn differences_are_told_in_the_words_of_a_file() {
    type Row = (fn(&mut Run), &'static [&'static str]);
    const ROWS: &[Row] = &[
        (|_| {}, &[]),
        (|run| run.train.temperature = 0.1, &["train.temperature 0.5 → 0.1"]),
        (|run| run.train.length_steps = 7, &["train.length Steps(100) → Steps(7)"]),
        (|run| run.seed = 9, &["seed 1 → 9"]),
        (|run| run.backend = Backend::Cuda, &["device cpu → cuda"]),
        (|run| run.smoke = true, &["smoke false → true"]),
        (|run| run.train.micro_batch = Some(4), &["train.micro_batch none → 4"]),
        (|run| run.train.loss = Loss::Dcl, &["train.loss NtXent → Dcl"]),
        (|run| run.facts.digest = Key::of_bytes(b"other"), &["data set: other content"]),
        (|run| run.plans = Some(Key::of_bytes(b"lock")), &["plan lock none → e73acfadf2de"]),
        (|run| run.code = Some(Key::of_bytes(b"x")), &["counts for this program's code alone (`--code strict`)"]),
        (
            |run| {
                run.train.optimizer =
                    Optimizer::Adam { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.0, decay: DECAY };
            },
            &["train.optimizer Sgd(momentum: 0.9, nesterov: false, weight_decay: 0.0001, decay: All) → \
               Adam(beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.0)"],
        ),
        (|run| run.views[0] = Augmentation::HorizontalFlip { p: 0.25 }, &["views[0].p 0.5 → 0.25"]),
        (
            |run| {
                let (scale, ratio, filter) = ((0.08, 1.0), (0.75, 1.5), Filter::Bilinear);
                run.views.insert(0, Augmentation::RandomResizedCrop { scale, ratio, filter });
            },
            &["views with RandomResizedCrop(scale: (0.08, 1.0), ratio: (0.75, 1.5))"],
        ),
        (|run| run.views.clear(), &["views without HorizontalFlip(p: 0.5)"]),
    ];
    for (change, expected) in ROWS {
        let from = sample::run(8, 1);
        let mut to = from.clone();
        change(&mut to);
        let found = told(&from, &to);
        assert_eq!(found, *expected);
    }
}

const DECAY: crate::experiment::recipe::DecayScope = crate::experiment::recipe::DecayScope::All;

#[test]
fn a_range_is_told_whole_and_a_view_stays_itself() {
    let jitter = |p| Augmentation::ColorJitter {
        p,
        brightness: 0.4,
        contrast: 0.4,
        saturation: 0.4,
        hue: 0.1,
        hue_kind: HueKind::Float,
    };
    let mut from = sample::run(8, 1);
    from.views = vec![
        jitter(0.8),
        Augmentation::RandomResizedCrop { scale: (0.08, 1.0), ratio: (0.75, 1.5), filter: Filter::Bilinear },
    ];
    let mut to = from.clone();
    to.views = vec![
        Augmentation::RandomResizedCrop { scale: (0.2, 1.0), ratio: (0.75, 1.5), filter: Filter::Bilinear },
        Augmentation::Grayscale { p: 0.2 },
    ];
    let found = told(&from, &to);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("views without ColorJitter(p: 0.8,"), "{found:?}");
    assert_eq!(found[1..], ["views[0].scale (0.08, 1.0) → (0.2, 1.0)", "views with Grayscale(p: 0.2)"]);
}

#[test]
fn versions_and_forms_of_keys_are_told() {
    let old = sample::run(8, 1).pretrain_preimage();
    let new = old.replacen("version = 2", "version = 3", 1).replacen("/k1", "/k2", 1);
    let read = |text: &str| Meaning::read(text).expect("a meaning");
    let found: Vec<Change> = changes(&read(&old), &read(&new));
    let texts: Vec<&str> = found.iter().map(|change| change.text.as_str()).collect();
    assert_eq!(
        texts,
        ["the form of keys ablate/pretrain/k1 → ablate/pretrain/k2", "training's version 2 → 3: its numbers changed"]
    );
    assert_eq!(StageKind::of_preimage(&new), Some(StageKind::Pretrain));
    // Where the data's part is gone, its key still tells.
    let without = |digit: &str| old.split("\n\n").next().map(|text| format!("{text}\n").replacen("data = ", digit, 1));
    let texts = [without("data = a"), without("data = b")].map(|text| read(&text.expect("a part")));
    let found = changes(&texts[0], &texts[1]);
    assert_eq!(found[0].text, "data set: another, whose record says no more");
}

#[test]
fn evaluations_differ_in_their_own_fields_and_in_their_training() {
    let run = sample::run(8, 1);
    let knn = |k| Evaluation::Knn(Knn { k, temperature: 0.1, metric: Metric::Cosine, ..Knn::DEFAULT });
    let read = |run: &Run, k| Meaning::read(&run.evaluation_preimage(&knn(k))).expect("a meaning");
    let texts = |from: &Meaning, to: &Meaning| -> Vec<String> {
        changes(from, to).into_iter().map(|change| change.text).collect()
    };
    assert_eq!(texts(&read(&run, 20), &read(&run, 5)), ["evaluate.k 20 → 5"]);
    let other = sample::run(16, 1);
    assert_eq!(texts(&read(&run, 20), &read(&other, 5)), ["evaluate.k 20 → 5", "train.batch 8 → 16"]);
}

/// A store of trainings without blobs.
fn stored(runs: &[Run]) -> (tempfile::TempDir, Store) {
    let shm = std::path::Path::new("/dev/shm");
    let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("a folder");
    let store = Store::open(&folder.path().join("store")).expect("a store");
    for run in runs {
        let Lookup::Miss(miss) = store.lookup(&run.pretrain_key()).expect("a lookup") else { panic!("stored twice") };
        miss.claim.commit("{}", &run.pretrain_preimage()).expect("a commit");
    }
    (folder, store)
}

#[test]
fn the_nearest_shares_the_most_leaves() {
    let with = |batch, seed, temperature| {
        let mut run = sample::run(batch, seed);
        run.train.temperature = temperature;
        run
    };
    let runs = [with(8, 1, 0.5), with(8, 2, 0.5), with(16, 3, 0.1), with(32, 4, 0.9)];
    let (_folder, store) = stored(&runs);
    let index = Index::build(&store).expect("an index");
    assert_eq!((index.len(), index.is_empty()), (4, false));
    let find = |run: &Run, except: Option<&Key>| nearest(&store, &index, &run.pretrain_preimage(), except, 4);
    let wanted = with(8, 2, 0.1);
    let found = find(&wanted, None);
    assert_eq!((found[0].key, found.len()), (runs[1].pretrain_key(), 4));
    assert_eq!(found[0].line(3), format!("train.temperature 0.5 → 0.1 (nearest {})", runs[1].pretrain_key().short()));
    assert!(found.windows(2).all(|pair| pair[0].shared_leaves >= pair[1].shared_leaves));
    let itself = find(&runs[0], None);
    assert_eq!((itself[0].key, itself[0].changes.len()), (runs[0].pretrain_key(), 0));
    assert_ne!(find(&runs[0], Some(&runs[0].pretrain_key()))[0].key, runs[0].pretrain_key());
    // An evaluation has no neighbour among trainings.
    let knn = Evaluation::Knn(Knn { k: 5, temperature: 0.1, metric: Metric::Cosine, ..Knn::DEFAULT });
    let evaluation = wanted.evaluation_preimage(&knn);
    assert!(nearest(&store, &index, &evaluation, None, 4).is_empty());
}

/// By plain counting over sets, the ranking of the index comes out.
#[test]
fn the_index_counts_as_plain_sets_do() {
    let runs: Vec<Run> = (0..40).map(|n| sample::run(8 + n % 5, u64::from(n))).collect();
    let (_folder, store) = stored(&runs);
    let index = Index::build(&store).expect("an index");
    let set = |run: &Run| -> std::collections::BTreeSet<u64> {
        leaves(&run.pretrain_preimage()).map(|leaf| leaf.hash()).collect()
    };
    for wanted in [sample::run(9, 100), sample::run(100, 3), sample::run(10, 7)] {
        let own = set(&wanted);
        let mut expected: Vec<_> = runs
            .iter()
            .map(|run| {
                let other = set(run);
                let shared = own.intersection(&other).count();
                (usize::MAX - shared, own.len() + other.len() - 2 * shared, run.pretrain_key())
            })
            .collect();
        expected.sort_unstable();
        let found: Vec<Key> = index.nearest(&wanted.pretrain_preimage(), None, 7).iter().map(|near| near.key).collect();
        assert_eq!(found, expected.iter().take(7).map(|(_, _, key)| *key).collect::<Vec<_>>());
    }
}

#[test]
fn a_view_is_the_same_leaf_wherever_it_stands() {
    let mut run = sample::run(8, 1);
    run.views.push(Augmentation::Grayscale { p: 0.2 });
    let mut turned = run.clone();
    turned.views.reverse();
    let hashes = |run: &Run| {
        let mut hashes: Vec<u64> = leaves(&run.pretrain_preimage()).map(|leaf| leaf.hash()).collect();
        hashes.sort_unstable();
        hashes
    };
    assert_eq!(hashes(&run), hashes(&turned));
    run.views[1] = Augmentation::Grayscale { p: 0.5 };
    assert_ne!(hashes(&run), hashes(&turned));
}

#[test]
fn foreign_and_damaged_records_are_left_out() {
    let run = sample::run(8, 1);
    let (_folder, store) = stored(std::slice::from_ref(&run));
    let foreign = Key::of_bytes(b"foreign");
    for (key, preimage) in
        [(foreign, "another/thing/k1\nx = 1\n"), (Key::of_bytes(b"twice"), "ablate/pretrain/k1\na = 1\na = 1\n")]
    {
        let Lookup::Miss(miss) = store.lookup(&key).expect("a lookup") else { panic!("stored") };
        miss.claim.commit("{}", preimage).expect("a commit");
    }
    let index = Index::build(&store).expect("an index");
    assert_eq!(index.len(), 2);
    let found = nearest(&store, &index, &sample::run(16, 1).pretrain_preimage(), None, 5);
    assert_eq!(found.iter().map(|near| near.key).collect::<Vec<_>>(), [run.pretrain_key()]);
}

#[test]
fn other_code_is_counted_and_told() {
    let mut census = CodeCensus::default();
    assert_eq!(census.note(0), None);
    census.add(("own", 5), "own");
    assert_eq!(census.note(100), None);
    census.add(("a1b2c3d4e5f60718", 1_000), "own");
    census.add(("older", 10), "own");
    let note = census.note(1_000 + 3 * 86_400).expect("a note");
    assert_eq!(
        note,
        "2 of 3 stored stages were computed by other code (a1b2c3d4e5f6, 3 days ago); their versions are the same, so they \
         count; `--code strict` computes again"
    );
}

#[test]
fn moments_times_and_sizes() {
    for (unix_s, expected) in [
        (0, "1970-01-01 00:00 UTC"),
        (951_782_400, "2000-02-29 00:00 UTC"),
        (1_735_689_599, "2024-12-31 23:59 UTC"),
        (4_107_542_400, "2100-03-01 00:00 UTC"),
    ] {
        assert_eq!(date(unix_s), expected);
    }
    for (seconds, expected) in [(0, "just now"), (60, "1 minute ago"), (7_200, "2 hours ago"), (200_000, "2 days ago")]
    {
        assert_eq!(age(seconds), expected);
    }
    for (seconds, expected) in [
        (0.2, "a second or less"),
        (2.34, "2.3 s"),
        (61.0, "61 s"),
        (600.0, "10 min"),
        (12_000.0, "3 h 20 min"),
        (400_000.0, "4 days 15 h"),
    ] {
        assert_eq!(units::duration(seconds), expected);
    }
    for (bytes, expected) in
        [(999, "999 B"), (1_100_000_000, "1.1 GB"), (44_800_000, "45 MB"), (9_990, "10 kB"), (u64::MAX, "18447 PB")]
    {
        assert_eq!(units::bytes(bytes), expected);
    }
}
