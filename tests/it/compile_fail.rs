//! Models that do not fit together do not compile, and the compiler says why in our words.
//!
//! Each file of `tests/compile_fail` goes through `rustc` against the library this test was built with. Only our own
//! sentence is looked for, so that the compiler may word the rest as it likes.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The newest build of the library beside this test.
fn library() -> PathBuf {
    let beside = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libablate-") && name.ends_with(".rlib")
    };
    let files = std::fs::read_dir(&beside).unwrap().map(|entry| entry.unwrap().path());
    let newest = files.filter(is_library).max_by_key(|path| path.metadata().unwrap().modified().unwrap());
    newest.expect("cargo puts the library beside its tests")
}

/// Whether the file compiles, and all that the compiler says.
fn compile(file: &str) -> (bool, String) {
    let library = library();
    let output_folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--out-dir"])
        .arg(output_folder.path())
        .arg("--extern")
        .arg(format!("ablate={}", library.display()))
        .arg("-L")
        .arg(format!("dependency={}", library.parent().unwrap().display()))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail").join(file))
        .output()
        .expect("rustc can be run");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_fitting_model_compiles() {
    let (compiles, messages) = compile("fitting_model.rs");
    assert!(compiles, "{messages}");
}

#[test]
fn models_that_do_not_fit_are_refused_in_our_words() {
    let check = |file: &str, sentence: &str| {
        let (compiles, messages) = compile(file);
        assert!(!compiles, "{file} compiles");
        assert!(messages.contains(sentence), "{file}: no `{sentence}` in\n{messages}");
    };
    check("head_of_another_width.rs", "the layer `UnbiasedLinear<256, 128>` does not fit its input of shape `(");
    check("residual_of_two_shapes.rs", "the branches of a residual differ: one gives");
    check(
        "side_without_a_place.rs",
        "Const<33>` pixels has no place in the table of 7×7 windows of stride 2 and padding 3",
    );
}
