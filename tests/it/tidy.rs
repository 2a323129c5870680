//! The gate that is code: layers, unsafe sites, forbidden words, sizes, what every file says of itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layer table: a module imports only from lower rows, and only what its row names.
const LAYERS: &[(&str, u8, &[&str])] = &[
    ("content", 0, &[]),
    ("random", 0, &[]),
    ("device", 0, &[]),
    ("experiment", 1, &["content"]),
    ("history", 2, &["content"]),
    ("record", 2, &["content"]),
    ("store", 2, &["content"]),
    ("data", 2, &["experiment", "content", "random"]),
    ("checkpoint", 3, &["record"]),
    ("results", 3, &["content", "experiment", "record", "store"]),
    ("model", 3, &["experiment", "random"]),
    ("views", 3, &["experiment", "data", "random", "device"]),
    ("explain", 4, &["content", "record", "results", "store"]),
    ("ops", 4, &["experiment", "model", "device"]),
    ("executor", 5, &["experiment", "data", "views", "model", "ops", "device"]),
    (
        "train",
        6,
        &[
            "experiment",
            "history",
            "record",
            "checkpoint",
            "data",
            "views",
            "model",
            "ops",
            "executor",
            "random",
            "device",
        ],
    ),
    ("evaluate", 6, &["experiment", "record", "data", "views", "model", "ops", "executor", "random", "device"]),
    ("bench", 7, &["experiment", "data", "views", "model", "ops", "executor", "random", "device"]),
    ("report", 7, &["content", "experiment", "history", "random", "record", "results", "store"]),
    ("verify", 7, &["content", "experiment", "record", "results", "store"]),
    (
        "runner",
        7,
        &[
            "content",
            "experiment",
            "record",
            "results",
            "store",
            "data",
            "views",
            "model",
            "ops",
            "executor",
            "train",
            "evaluate",
            "device",
        ],
    ),
    (
        "commands",
        8,
        &[
            "bench",
            "content",
            "data",
            "device",
            "experiment",
            "explain",
            "history",
            "record",
            "report",
            "results",
            "runner",
            "store",
            "train",
            "verify",
            "views",
        ],
    ),
    ("cli", 9, &["commands"]),
];

/// Numerics modules share the vocabulary of a recipe with the rest, and nothing else of an experiment.
const RECIPE_ONLY: &[&str] = &["views", "model", "ops", "executor"];

/// The files that may hold `unsafe`, each with its safety argument.
const UNSAFE_FILES: &[&str] = &[
    "src/device/cuda/compile.rs",
    "src/device/cuda/cublaslt.rs",
    "src/device/cuda/cudnn.rs",
    "src/device/cuda/driver.rs",
    "src/device/cuda/libraries.rs",
    "src/device/emulator/library.rs",
];

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a readable source folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&root().join(folder), &mut files);
    files.sort();
    let named = files.into_iter().map(|path| {
        let text = fs::read_to_string(&path).expect("a readable source file");
        let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
        (name, text)
    });
    named.collect()
}

fn module_of(file: &str) -> &str {
    let inner = file.strip_prefix("src/").expect("a source file");
    inner.split(['/', '.']).next().expect("a name")
}

fn is_test_file(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/") || file.ends_with("_tests.rs")
}

/// Source without the `#[cfg(test)]` module at its end.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().expect("split gives at least one part")
}

#[test]
fn modules_import_only_from_below() {
    let table: BTreeMap<&str, &[&str]> = LAYERS.iter().map(|(name, _, allowed)| (*name, *allowed)).collect();
    let rows: BTreeMap<&str, u8> = LAYERS.iter().map(|(name, row, _)| (*name, *row)).collect();
    for (name, row, allowed) in LAYERS {
        for other in *allowed {
            assert!(rows[other] < *row, "{name} (row {row}) may not use {other} (row {})", rows[other]);
        }
    }
    let mut wrong = Vec::new();
    for (file, text) in rust_files("src").iter().filter(|(file, _)| !is_test_file(file)) {
        let module = module_of(file);
        if ["lib", "main", "build"].contains(&module) {
            continue;
        }
        let allowed =
            table.get(module).unwrap_or_else(|| panic!("{file}: module `{module}` is not in the layer table"));
        for used in without_tests(text).split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if used != module && !allowed.contains(&used.as_str()) && rows.contains_key(used.as_str()) {
                wrong.push(format!("{file}: {module} imports {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn numerics_know_recipes_only() {
    for (file, text) in rust_files("src") {
        if RECIPE_ONLY.contains(&module_of(&file)) && !is_test_file(&file) {
            for used in without_tests(&text).split("crate::experiment::").skip(1) {
                assert!(used.starts_with("recipe"), "{file} uses more of `experiment` than `recipe`");
            }
        }
    }
}

#[test]
fn unsafe_lives_in_named_files() {
    for (file, text) in rust_files("src") {
        let has = text.lines().any(|line| {
            !line.trim_start().starts_with("//") && line.contains("unsafe {") || line.contains("allow(unsafe_code)")
        });
        assert_eq!(
            has,
            UNSAFE_FILES.contains(&file.as_str()),
            "{file}: unsafe code and the list of files that may hold it disagree"
        );
        let blocks = text.matches("unsafe {").count();
        let reasons = text.matches("// SAFETY:").count();
        assert!(blocks <= reasons, "{file}: {blocks} unsafe blocks, {reasons} safety arguments");
    }
}

#[test]
fn no_forbidden_words() {
    // Written apart so that this file does not find itself.
    let words = [
        "todo!".to_owned(),
        ["dbg", "!("].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
        ["unimpl", "emented!"].concat(),
    ];
    let files = rust_files("src")
        .into_iter()
        .chain(rust_files("tests").into_iter().filter(|(file, _)| file != "tests/it/tidy.rs"));
    for (file, text) in files {
        for word in &words {
            assert!(!text.contains(word.as_str()), "{file} contains `{word}`");
        }
    }
    for (file, _) in rust_files("src") {
        let name = Path::new(&file).file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(
            !["utils", "util", "common", "helpers", "prelude", "misc"].contains(&name.as_str()),
            "{file}: name the concept"
        );
    }
}

#[test]
fn files_say_what_they_are_and_stay_small() {
    let mut wrong = Vec::new();
    for (file, text) in rust_files("src") {
        if !text.starts_with("//!") && !is_test_file(&file) {
            wrong.push(format!("{file} does not open with its purpose"));
        }
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{file} has {lines} lines, the limit is {FILE_LINES_MAX}"));
        }
        for (start, length) in functions(&text) {
            if length > FUNCTION_LINES_MAX {
                wrong.push(format!(
                    "{file}:{start} has a function of {length} lines, the limit is {FUNCTION_LINES_MAX}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// (first line, number of lines) of every function, by the indentation rustfmt gives its closing brace.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let opens = [
            "fn ",
            "pub fn ",
            "pub(crate) fn ",
            "pub(super) fn ",
            "const fn ",
            "pub const fn ",
            "unsafe fn ",
            "pub unsafe fn ",
        ];
        if opens.iter().any(|open| code.starts_with(open)) && !code.ends_with(';') && !code.ends_with('}') {
            let end = lines[index..].iter().position(|line| line.len() == indent + 1 && line.ends_with('}'));
            found.extend(end.map(|end| (index + 1, end + 1)));
        }
    }
    found
}

#[test]
fn the_project_speaks_of_itself_alone() {
    let mut files: Vec<(String, String)> = rust_files("src");
    files.extend(rust_files("tests").into_iter().filter(|(file, _)| file != "tests/it/tidy.rs"));
    for name in ["README.md", "CHANGELOG.md", "justfile", ".ci/run", ".github/workflows/ci.yml", "Cargo.toml"] {
        files.push((
            name.to_owned(),
            fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}")),
        ));
    }
    for folder in ["/home/", "/root/", "/work/", "/Users/"] {
        for (file, text) in &files {
            assert!(!text.contains(folder), "{file} names an absolute path below {folder}");
        }
    }
}
