//! What the fault tests tried, for the page on reliability.

use std::io::Write;

/// Appends one line to the file that `ABLATE_TALLY` names, where it names one: what was promised, which test tried it, and
/// how often.
pub(crate) fn tally(promise: &str, test: &str, count: u64) {
    assert!(count > 0, "{test} tried nothing");
    let Some(path) = std::env::var_os("ABLATE_TALLY") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    // One write, so that lines of tests that run side by side do not mix.
    file.unwrap().write_all(format!("{promise}\t{test}\t{count}\n").as_bytes()).unwrap();
}
